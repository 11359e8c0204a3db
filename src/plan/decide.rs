//! Whether a plan is to run now, and how it stands: values in, decisions with their reasons out. It
//! asks no clock, no file and no vault.

use super::clock::{HostClock, Owed};
use super::file::{FollowUp, SnapshotPlan};
use super::record::{PlanRecord, PlanTry, StepOutcome};
use jiff::{SignedDuration, Timestamp};

/// So many tries that were cut off or stopped are followed by another one at once: what takes the
/// machine down each time must not do so for ever.
pub const CUT_OFF_TRIES: u32 = 3;
/// The pause after the first try that failed; each one after it is twice as long.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(5);
/// The longest pause.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(6);
/// By how much a run may be late before it is called overdue: at least, and at most.
const LEAST_GRACE: SignedDuration = SignedDuration::from_mins(20);
const MOST_GRACE: SignedDuration = SignedDuration::from_hours(1);
/// A run that takes longer is called overdue, unless the interval is longer.
const LONG_RUN: SignedDuration = SignedDuration::from_hours(24);

/// Whether a plan is to run.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Now.
    Now(DueRun),
    /// Not yet.
    Later(PlanWait),
}

/// A run that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct DueRun {
    /// For which time.
    pub time: Timestamp,
    /// Which try for this time it is.
    pub number: u32,
    /// How many times before this one have passed without a snapshot.
    pub missed: usize,
    /// Whether what was noted before is of a clock that was ahead.
    pub clock_was_ahead: bool,
}

/// Why a plan does not run now.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanWait {
    /// When it does; `None`: not by itself.
    pub until: Option<Timestamp>,
    /// Why not now.
    pub reason: WaitReason,
}

/// Why a plan does not run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// Its next time has not come.
    NotYet,
    /// It failed, and pauses before it tries again.
    Pauses,
    /// It may begin in a part of the day only.
    OutsideWindow,
    /// It is held back.
    Suspended,
}

/// How a plan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanHealth {
    /// The last run did what it was to do.
    Good,
    /// It has not run yet, and need not have.
    New,
    /// It runs.
    Running,
    /// A run is owed, and not late enough to be called overdue.
    Due,
    /// A run is owed since this time.
    Overdue(Timestamp),
    /// The last try failed, or what followed the last snapshot.
    Failed,
    /// It did less than was asked, or what followed it did.
    Warned,
    /// It is held back.
    Suspended,
}

impl PlanHealth {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::New => "new",
            Self::Running => "running",
            Self::Due => "due",
            Self::Overdue(_) => "overdue",
            Self::Failed => "failed",
            Self::Warned => "warned",
            Self::Suspended => "suspended",
        }
    }

    /// Whether somebody must look at it.
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Overdue(_) | Self::Failed | Self::Warned)
    }
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct PlanCase<'a> {
    /// The plan.
    pub plan: &'a SnapshotPlan,
    /// What is noted of it, for the plan as it is ([`PlanRecord::for_plan`]).
    pub record: &'a PlanRecord,
    /// Its times.
    pub clock: &'a HostClock,
    /// When.
    pub now: Timestamp,
}

impl PlanCase<'_> {
    /// Whether the plan is to run.
    pub fn decide(&self) -> Decision {
        let Self {
            plan,
            record,
            clock,
            now,
        } = *self;
        let later = |until, reason| Decision::Later(PlanWait { until, reason });
        if plan.suspended {
            return later(None, WaitReason::Suspended);
        }
        let owed = clock.owed(record.floor(now), now);
        let (time, clock_was_ahead) = match owed {
            Owed::Nothing => return later(clock.next(now), WaitReason::NotYet),
            Owed::Time(time) => (time, false),
            Owed::ClockWasAhead(time) => (time, true),
        };
        let before = record.last.as_ref().filter(|last| last.time == Some(time));
        let number = before.map_or(1, |last| last.number.saturating_add(1));
        if let Some(last) = before.filter(|last| !last.is_good()) {
            let again = not_before(last);
            // A pause that is longer than one can be is of a clock that was ahead.
            if again > now && again.duration_since(now) <= LONGEST_PAUSE {
                // Its next time comes first, where that is sooner.
                let next = clock.next(now).unwrap_or(Timestamp::MAX);
                return later(Some(self.opens(again.min(next))), WaitReason::Pauses);
            }
        }
        let opens = self.opens(now);
        if opens > now {
            return later(Some(opens), WaitReason::OutsideWindow);
        }
        let missed = match clock_was_ahead {
            true => 0,
            false => clock.missed(record.floor(now), time),
        };
        Decision::Now(DueRun {
            time,
            number,
            missed,
            clock_was_ahead,
        })
    }

    /// The run that someone asks for: the one that is due, if one is owed.
    pub fn asked_for(&self) -> DueOrAsked {
        let record = self.record;
        match self.clock.owed(record.floor(self.now), self.now) {
            Owed::Nothing => DueOrAsked::Asked,
            Owed::Time(time) | Owed::ClockWasAhead(time) => DueOrAsked::Due(time),
        }
    }

    /// Whether what is owed after the last snapshot may be done now: it was cut off, and not again
    /// and again. After a try that has failed since nothing follows.
    pub fn catches_up(&self) -> bool {
        let record = self.record;
        let last_is_good = record.last.as_ref().is_some_and(PlanTry::is_good);
        let owed = self.plan.follow_ups();
        let owed = owed.iter().any(|one| record.owed.contains_key(one.name));
        let may = !self.plan.suspended && self.opens(self.now) <= self.now;
        owed && last_is_good && may && record.owed_tries < CUT_OFF_TRIES
    }

    /// For which time something that follows a snapshot is to be done now; `None`: not now.
    pub fn follow_up(&self, follow_up: &FollowUp) -> Option<FollowUpDue> {
        let Some(every) = follow_up.every else {
            return Some(FollowUpDue(None));
        };
        let served = self
            .record
            .steps
            .get(follow_up.name)
            .and_then(|step| step.served);
        let clock = self.clock.every(every);
        match clock.owed(served.unwrap_or(Timestamp::MIN), self.now) {
            Owed::Nothing => None,
            Owed::Time(time) | Owed::ClockWasAhead(time) => Some(FollowUpDue(Some(time))),
        }
    }

    /// How the plan stands; `running`: somebody runs it now.
    pub fn health(&self, running: bool) -> PlanHealth {
        if self.plan.suspended {
            return PlanHealth::Suspended;
        }
        let owed = self.owed_since();
        let late = owed.map(|since| self.now.duration_since(since));
        if let (Some(since), Some(late)) = (owed, late)
            && late > self.patience(running)
        {
            return PlanHealth::Overdue(since);
        }
        let last = self.record.last.as_ref();
        let failed = last.is_some_and(|last| !running && !last.is_good());
        let follow_ups = self.plan.follow_ups();
        let steps = follow_ups
            .iter()
            .filter_map(|one| self.record.steps.get(one.name));
        let steps: Vec<&StepOutcome> = steps.map(|step| &step.outcome).collect();
        let step_failed = steps.iter().any(|outcome| !outcome.is_good());
        let of_last = last.and_then(|last| last.outcome.as_ref());
        let mut all = of_last.into_iter().chain(steps.iter().copied());
        let owes = follow_ups.iter();
        let owes = owes.filter(|one| self.record.owed.contains_key(one.name));
        let warned = all.any(|outcome| !outcome.is_as_asked()) || owes.count() > 0;
        match (running, last) {
            (true, _) => PlanHealth::Running,
            _ if failed || step_failed => PlanHealth::Failed,
            _ if warned => PlanHealth::Warned,
            _ if owed.is_some() => PlanHealth::Due,
            (_, None) => PlanHealth::New,
            _ => PlanHealth::Good,
        }
    }

    /// Since when a run is owed that may begin.
    fn owed_since(&self) -> Option<Timestamp> {
        let Self {
            record, clock, now, ..
        } = *self;
        let first = match clock.owed(record.floor(now), now) {
            Owed::Nothing => return None,
            Owed::ClockWasAhead(time) => time,
            Owed::Time(time) => clock
                .next(record.floor(now))
                .filter(|first| *first <= time)
                .unwrap_or(time),
        };
        Some(self.opens(first)).filter(|since| *since <= now)
    }

    fn patience(&self, running: bool) -> SignedDuration {
        let interval = self.clock.interval();
        let grace = interval.clamp(LEAST_GRACE, MOST_GRACE);
        match running {
            true => interval.max(LONG_RUN) + grace,
            false => grace,
        }
    }

    fn opens(&self, from: Timestamp) -> Timestamp {
        let window = self.plan.window;
        window.map_or(from, |window| window.opens(from, &self.plan.schedule.zone))
    }
}

/// That something is to follow a snapshot, and for which time of its own, if it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowUpDue(pub Option<Timestamp>);

/// What a run that someone asks for is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueOrAsked {
    /// For a time that is owed.
    Due(Timestamp),
    /// For none.
    Asked,
}

/// When a try that failed may be followed by another one: after a signal, or if it was cut off, at
/// once, but not again and again.
fn not_before(last: &PlanTry) -> Timestamp {
    let ended = last.ended.unwrap_or(last.began);
    let cut_off = last.outcome.as_ref().is_none_or(StepOutcome::is_stopped);
    if cut_off && last.number < CUT_OFF_TRIES {
        return ended;
    }
    ended.checked_add(pause(last.number)).unwrap_or(ended)
}

/// The pause after so many tries that failed: 5 minutes, 10, 20, 40, 80, and so on to 6 hours.
fn pause(tries: u32) -> SignedDuration {
    let doubled = 1_i32.checked_shl(tries.saturating_sub(1).min(16));
    let pause = FIRST_PAUSE.checked_mul(doubled.unwrap_or(i32::MAX));
    pause.unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE)
}
