//! At which instants a plan is to run: start + k × every, in whole steps. It asks no clock and no
//! file.
//!
//! Minutes and hours pass: between two of them lie as many seconds as the interval has, whatever
//! clocks on walls do. Days and weeks are those of the time zone: a daily run at 02:30 comes on
//! each day at 02:30 there. Where a clock is put forward over 02:30, it comes as much later as the
//! clock jumps (03:30). Where a clock is put back and shows 02:30 twice, it comes the first time. A
//! day that a zone leaves out has no run of its own: its instant is the next day's.

use super::interval::{Interval, IntervalStep};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

/// When it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The first time, as clocks of the zone show it.
    pub start: DateTime,
    /// The time zone.
    pub zone: TimeZone,
    /// How often.
    pub every: Interval,
}

impl Schedule {
    /// The latest instant that is not after `now`; `None` before the start.
    pub fn latest(&self, now: Timestamp) -> Option<Timestamp> {
        self.at(self.index(now)?)
    }

    /// The first instant after `now`; `None` beyond the end of the calendar.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let first = self.index(now).map_or(0, |index| index + 1);
        // Two of a zone that leaves out a day are one instant.
        let mut following = (first..first + 3).map_while(|index| self.at(index));
        following.find(|instant| *instant > now)
    }

    /// The instant after `index` steps.
    fn at(&self, index: i64) -> Option<Timestamp> {
        match self.every.step() {
            IntervalStep::Seconds(seconds) => {
                let passed = SignedDuration::from_secs(seconds.checked_mul(index)?);
                self.instant(self.start)?.checked_add(passed).ok()
            }
            IntervalStep::Days(days) => {
                let days = Span::new().try_days(days.checked_mul(index)?).ok()?;
                let date = self.start.date().checked_add(days).ok()?;
                self.instant(date.to_datetime(self.start.time()))
            }
        }
    }

    fn instant(&self, shown: DateTime) -> Option<Timestamp> {
        // "Compatible": after a gap, and before a fold.
        Some(shown.to_zoned(self.zone.clone()).ok()?.timestamp())
    }

    /// After how many steps the latest instant comes that is not after `now`.
    fn index(&self, now: Timestamp) -> Option<i64> {
        let about = match self.every.step() {
            IntervalStep::Seconds(seconds) => {
                let first = self.instant(self.start)?;
                now.as_second()
                    .checked_sub(first.as_second())?
                    .div_euclid(seconds)
            }
            IntervalStep::Days(days) => {
                let today = now.to_zoned(self.zone.clone()).date();
                let passed = self.start.date().until(today).ok()?;
                i64::from(passed.get_days()).div_euclid(days)
            }
        };
        // Clocks of zones jump by a day at most.
        let near = (about - 1..=about + 1).rev().filter(|index| *index >= 0);
        let mut near = near.filter_map(|index| Some((index, self.at(index)?)));
        near.find(|(_, instant)| *instant <= now)
            .map(|(index, _)| index)
    }
}
