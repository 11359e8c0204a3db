//! How much is stored in a week, and when a disk will be full of it: by what listings show, and the
//! store's clock. It says nothing where there is too little to go by, and must never ask a manifest
//! how much there is.

use crate::model::Bytes;
use jiff::{SignedDuration, Timestamp};

/// The time that is looked back on.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(28 * 24);
/// Less than this tells nothing of a week.
const LEAST: SignedDuration = SignedDuration::from_hours(7 * 24);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Nobody plans further ahead than so many weeks.
const MOST_WEEKS: u64 = 52 * 100;

/// What is stored in a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The time that was looked at.
    pub from: Timestamp,
    /// Its end: now.
    pub to: Timestamp,
    /// Segments that were put in that time and are there, but for first full copies.
    pub segments: usize,
    /// Full copies of that time that are not their disk's first: what is theirs is counted.
    pub later_fulls: usize,
    /// How long these segments are, by the week.
    pub weekly: Bytes,
}

/// What was put in the time that is looked back on, as listings say.
#[derive(Clone, Copy, Debug)]
pub(super) struct GrowthCount {
    /// Where that time begins.
    pub(super) from: Timestamp,
    to: Timestamp,
    segments: usize,
    bytes: u128,
}

impl GrowthCount {
    /// Up to now, of a vault that was made then.
    pub(super) fn begin(created: Timestamp, now: Timestamp) -> Self {
        let from = now.checked_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
        Self {
            from: from.max(created),
            to: now,
            segments: 0,
            bytes: 0,
        }
    }

    /// Counts so much of a segment, if it was put in that time.
    pub(super) fn add(&mut self, put: Timestamp, bytes: Bytes) {
        if put >= self.from && bytes > Bytes(0) {
            self.segments += 1;
            self.bytes += u128::from(bytes.0);
        }
    }

    /// What that is in a week; `None`: the vault is younger than one.
    pub(super) fn end(self, later_fulls: usize) -> Option<Growth> {
        let span = self.to.duration_since(self.from);
        if span < LEAST {
            return None;
        }
        let weekly = self
            .bytes
            .saturating_mul(u128::from(WEEK.as_secs().unsigned_abs()))
            / u128::from(span.as_secs().unsigned_abs());
        Some(Growth {
            from: self.from,
            to: self.to,
            segments: self.segments,
            later_fulls,
            weekly: Bytes(u64::try_from(weekly).unwrap_or(u64::MAX)),
        })
    }
}

impl Growth {
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

    fn growth(created: i64, now: i64, put: &[(i64, u64)]) -> Option<Growth> {
        let mut count = GrowthCount::begin(at(created), at(now));
        put.iter()
            .for_each(|(day, bytes)| count.add(at(*day), Bytes(*bytes)));
        count.end(3)
    }

    #[test]
    fn a_week_is_what_was_put_in_the_last_four_and_is_there() {
        // One a day for sixty days; what is older than 28 days does not count.
        let put: Vec<_> = (0..60)
            .map(|day| (day, if day < 31 { 1 << 40 } else { 100 }))
            .collect();
        let growth = growth(0, 59, &put).unwrap();
        assert_eq!(
            (growth.from, growth.to, growth.segments, growth.later_fulls),
            (at(31), at(59), 29, 3)
        );
        assert_eq!(growth.weekly, Bytes(2900 / 4));
        assert_eq!(growth.full_at(Bytes(7250)), Some(at(59 + 70)));
    }

    #[test]
    fn a_young_vault_is_not_taken_for_an_old_one() {
        let put = [(3, 50), (9, 50)];
        assert_eq!(growth(0, 14, &put).unwrap().weekly, Bytes(50));
        // Whatever times a host's clock has told: a vault that is said to be old is looked back on
        // for four weeks.
        assert_eq!(growth(-20_000, 14, &put).unwrap().weekly, Bytes(25));
        assert!(growth(0, 7, &put).is_some());
        assert_eq!(growth(0, 6, &put), None);
        assert_eq!(growth(40, 14, &put), None);
    }

    #[test]
    fn what_nobody_can_foresee_is_not_told() {
        let none = growth(0, 14, &[]).unwrap();
        assert_eq!((none.weekly, none.full_at(Bytes(1))), (Bytes(0), None));
        let some = growth(0, 14, &[(9, 7)]).unwrap();
        assert_eq!(some.full_at(Bytes(u64::MAX)), None);
        assert_eq!(some.full_at(Bytes(0)), Some(at(14)));
        // A store's clock that is ahead, and numbers that cannot be, break nothing.
        let much = growth(0, 14, &[(0, u64::MAX), (1, u64::MAX), (4000, 5)]).unwrap();
        assert_eq!(much.segments, 3);
        assert_eq!(much.full_at(Bytes(1 << 40)), Some(at(14)));
    }
}
