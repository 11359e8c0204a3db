//! How much is stored in a week, and when a disk will be full of it. It says nothing where there is
//! too little to go by.

use crate::model::Bytes;
use jiff::{SignedDuration, Timestamp};

/// The time that is looked back on.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(28 * 24);
/// Less than this tells nothing of a week.
const LEAST: SignedDuration = SignedDuration::from_hours(7 * 24);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Nobody plans further ahead than so many weeks.
const MOST_WEEKS: u64 = 52 * 100;

/// What one snapshot has stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredThen {
    /// When it was cut, or when the store got it, whichever is earlier.
    pub(super) time: Timestamp,
    /// What its run put, without first copies of disks.
    pub(super) bytes: Bytes,
}

/// What is stored in a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The time that was looked at.
    pub from: Timestamp,
    /// Its end: now.
    pub to: Timestamp,
    /// Snapshots of that time.
    pub snapshots: usize,
    /// What their runs have stored, by the week.
    pub weekly: Bytes,
}

impl Growth {
    /// By these snapshots; `None`: they do not go back a week. Times that have not come yet are
    /// not believed.
    pub(super) fn of(all: &[StoredThen], now: Timestamp) -> Option<Self> {
        let believed = all.iter().filter(|one| one.time <= now);
        let oldest = believed.clone().map(|one| one.time).min()?;
        let from = oldest.max(now.checked_sub(LOOK_BACK).unwrap_or(Timestamp::MIN));
        let span = now.duration_since(from);
        if span < LEAST {
            return None;
        }
        let within: Vec<_> = believed.filter(|one| one.time >= from).collect();
        let stored: Bytes = within.iter().map(|one| one.bytes).sum();
        let weekly = u128::from(stored.0) * WEEK.as_secs().unsigned_abs() as u128
            / u128::from(span.as_secs().unsigned_abs());
        Some(Self {
            from,
            to: now,
            snapshots: within.len(),
            weekly: Bytes(u64::try_from(weekly).unwrap_or(u64::MAX)),
        })
    }

    /// When so much room will be full, if nothing is deleted and nobody else stores anything there;
    /// `None`: not within a hundred years.
    pub fn full_at(&self, free: Bytes) -> Option<Timestamp> {
        if self.weekly.0 == 0 || free.0 / self.weekly.0 >= MOST_WEEKS {
            return None;
        }
        let seconds =
            u128::from(free.0) * WEEK.as_secs().unsigned_abs() as u128 / u128::from(self.weekly.0);
        let seconds = i64::try_from(seconds).ok()?;
        self.to.checked_add(SignedDuration::from_secs(seconds)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24;

    fn at(days: i64) -> Timestamp {
        let start: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        start + SignedDuration::from_hours(days * DAY)
    }

    fn then(days: i64, bytes: u64) -> StoredThen {
        StoredThen {
            time: at(days),
            bytes: Bytes(bytes),
        }
    }

    #[test]
    fn a_week_is_what_the_last_four_have_stored() {
        // One a day for sixty days; what is older than 28 days does not count.
        let all: Vec<_> = (0..60)
            .map(|day| then(day, if day < 31 { 1 << 40 } else { 100 }))
            .collect();
        let growth = Growth::of(&all, at(59)).unwrap();
        assert_eq!(
            (growth.from, growth.to, growth.snapshots),
            (at(31), at(59), 29)
        );
        assert_eq!(growth.weekly, Bytes(2900 / 4));
        assert_eq!(growth.full_at(Bytes(7250)), Some(at(59 + 70)));
    }

    #[test]
    fn a_short_history_is_stretched_and_too_short_a_one_tells_nothing() {
        let all = [then(0, 0), then(3, 50), then(9, 50)];
        assert_eq!(Growth::of(&all, at(14)).unwrap().weekly, Bytes(50));
        assert!(Growth::of(&all, at(7)).is_some());
        assert_eq!(Growth::of(&all, at(6)), None);
        assert_eq!(Growth::of(&[], at(6)), None);
    }

    #[test]
    fn what_nobody_can_foresee_is_not_told() {
        let all = [then(0, 0), then(9, 7)];
        let none = Growth::of(&all[..1], at(14)).unwrap();
        assert_eq!((none.weekly, none.full_at(Bytes(1))), (Bytes(0), None));
        let some = Growth::of(&all, at(14)).unwrap();
        assert_eq!(some.full_at(Bytes(u64::MAX)), None);
        assert_eq!(some.full_at(Bytes(0)), Some(at(14)));
        // A clock that is ahead, and numbers that cannot be, break nothing.
        let all = [then(0, u64::MAX), then(1, u64::MAX), then(4000, 5)];
        let much = Growth::of(&all, at(14)).unwrap();
        assert_eq!(much.snapshots, 2);
        assert_eq!(much.full_at(Bytes(1 << 40)), Some(at(14)));
    }
}
