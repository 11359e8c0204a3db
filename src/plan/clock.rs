//! The times of a plan on one host: its schedule, later by a part of the jitter that is the host's
//! own and always the same. So a thousand hosts do not come at once, and yet each knows its next
//! times.

use super::file::SnapshotPlan;
use super::interval::Interval;
use super::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};

/// When a plan, or what follows a snapshot, runs on this host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostClock {
    schedule: Schedule,
    later: SignedDuration,
}

impl HostClock {
    /// Of a plan, on the host that `host` tells from others.
    pub fn of(plan: &SnapshotPlan, host: &str) -> Self {
        Self {
            schedule: plan.schedule.clone(),
            later: share(plan, host),
        }
    }

    /// By how much it is later than the schedule.
    pub fn later(&self) -> SignedDuration {
        self.later
    }

    /// The same beginning, another interval.
    pub fn every(&self, every: Interval) -> Self {
        let mut clock = self.clone();
        clock.schedule.every = every;
        clock
    }

    /// The latest time that is not after `now`.
    pub fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.checked_sub(self.later).ok()?;
        self.schedule.latest(now)?.checked_add(self.later).ok()
    }

    /// The first time after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.checked_sub(self.later).ok()?;
        self.schedule.next(now)?.checked_add(self.later).ok()
    }

    /// The times after `now`.
    pub fn following(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let next = |time: &Timestamp| self.next(*time);
        std::iter::successors(self.next(now), next)
    }

    /// The length of the interval, about.
    pub fn interval(&self) -> SignedDuration {
        self.schedule.every.length()
    }

    /// The time that is owed at `now`, where nothing up to `floor` is. A time that was served and
    /// has not come yet was served by a clock that was ahead: within one interval it counts, and
    /// beyond it says nothing.
    pub fn owed(&self, floor: Timestamp, now: Timestamp) -> Owed {
        let Some(latest) = self.latest(now) else {
            return Owed::Nothing;
        };
        match self.next(now) {
            Some(next) if floor > next => Owed::ClockWasAhead(latest),
            _ if latest > floor => Owed::Time(latest),
            _ => Owed::Nothing,
        }
    }

    /// How many times lie behind `floor` and before `latest`: they were missed; 1000 at most. Where
    /// nothing was ever served, and nobody knows since when the plan is there, none was.
    pub fn missed(&self, floor: Timestamp, latest: Timestamp) -> usize {
        if floor == Timestamp::MIN {
            return 0;
        }
        let between = self.following(floor).take_while(|time| *time < latest);
        between.take(1000).count()
    }
}

/// What is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// Nothing.
    Nothing,
    /// A run for this time.
    Time(Timestamp),
    /// The same; what was noted before is of a clock that was ahead.
    ClockWasAhead(Timestamp),
}

/// The part of the jitter that is this host's own.
fn share(plan: &SnapshotPlan, host: &str) -> SignedDuration {
    let mut hasher = blake3::Hasher::new();
    for part in [plan.name.as_str(), host] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let hash = hasher.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    let part = u64::from(u32::from_le_bytes([a, b, c, d]));
    // 12 hours at most, so this fits.
    let seconds = plan.jitter.as_secs().saturating_mul(part) >> 32;
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default())
}
