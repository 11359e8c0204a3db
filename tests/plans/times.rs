//! Ten years of clock against another implementation, which knows no time zone library: rules of
//! daylight saving by hand, and sums.

use jiff::Timestamp;
use std::path::Path;
use stillpoint::plan::{PlanEdit, SnapshotPlan};

pub const DAY: i64 = 86_400;

/// Days since 1970 of a date (Howard Hinnant's `days_from_civil`).
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The nth Sunday of a month, or the last one.
fn sunday(year: i64, month: i64, nth: Option<i64>) -> i64 {
    let weekday = |day: i64| (day + 4).rem_euclid(7);
    match nth {
        Some(nth) => {
            let first = days(year, month, 1);
            first + (7 - weekday(first)).rem_euclid(7) + (nth - 1) * 7
        }
        None => {
            let last = days(year, month, 31);
            last - weekday(last)
        }
    }
}

/// A zone by hand.
#[derive(Clone, Copy, PartialEq)]
pub enum Hand {
    Utc,
    Berlin,
    NewYork,
}

impl Hand {
    pub fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Berlin => "Europe/Berlin",
            Self::NewYork => "America/New_York",
        }
    }

    fn standard(self) -> i64 {
        match self {
            Self::Utc => 0,
            Self::Berlin => 3600,
            Self::NewYork => -5 * 3600,
        }
    }

    fn offset(self, utc: i64) -> i64 {
        // All that is asked is within these years.
        let year = (2020..=2045)
            .rev()
            .find(|year| days(*year, 1, 1) * DAY <= utc)
            .unwrap();
        let (from, until) = match self {
            Self::Utc => return 0,
            Self::Berlin => (
                sunday(year, 3, None) * DAY + 3600,
                sunday(year, 10, None) * DAY + 3600,
            ),
            Self::NewYork => (
                sunday(year, 3, Some(2)) * DAY + 7 * 3600,
                sunday(year, 11, Some(1)) * DAY + 6 * 3600,
            ),
        };
        self.standard()
            + if (from..until).contains(&utc) {
                3600
            } else {
                0
            }
    }

    /// The instant at which clocks there show it.
    fn instant(self, shown: i64) -> i64 {
        let (summer, winter) = (shown - self.standard() - 3600, shown - self.standard());
        if self.offset(summer) == self.standard() + 3600 {
            // In summer, or the first of two.
            return summer;
        }
        // In winter, or never: then as much later as the clock jumps.
        winter
    }
}

/// What a case is made of.
pub struct Case {
    pub zone: Hand,
    /// Year, month, day, and the second of the day.
    pub start: [i64; 4],
    pub every: &'static str,
}

impl Case {
    pub const fn new(zone: Hand, start: [i64; 4], every: &'static str) -> Self {
        Self { zone, start, every }
    }

    pub fn plan(&self) -> SnapshotPlan {
        let mut edit = PlanEdit::new("p".parse().unwrap(), Path::new("/x"));
        let [year, month, day, second] = self.start;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        edit.set_text(
            "start",
            &format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"),
        );
        edit.set_text("zone", self.zone.name());
        edit.set_text("every", self.every);
        edit.plan(Timestamp::UNIX_EPOCH).unwrap()
    }

    /// All its instants within the years, one after another.
    pub fn by_hand(&self, years: i64) -> Vec<i64> {
        let (count, unit) = self.every.split_at(self.every.len() - 1);
        let count: i64 = count.parse().unwrap();
        let [year, month, day, second] = self.start;
        let first = days(year, month, day);
        let end = days(year + years, month, day) * DAY;
        let mut found = Vec::new();
        match unit {
            "m" | "h" => {
                let step = count * if unit == "m" { 60 } else { 3600 };
                let mut at = self.zone.instant(first * DAY + second);
                while at < end {
                    found.push(at);
                    at += step;
                }
            }
            _ => {
                let step = count * if unit == "d" { 1 } else { 7 };
                let mut day = first;
                while day * DAY < end {
                    found.push(self.zone.instant(day * DAY + second));
                    day += step;
                }
            }
        }
        found
    }
}

pub const HALF_PAST_TWO: i64 = 2 * 3600 + 1800;

pub const CASES: [Case; 11] = [
    Case::new(Hand::Utc, [2026, 12, 1, 0], "1d"),
    Case::new(Hand::Berlin, [2026, 12, 1, HALF_PAST_TWO], "1d"),
    Case::new(Hand::NewYork, [2026, 12, 1, HALF_PAST_TWO], "1d"),
    Case::new(Hand::NewYork, [2027, 3, 14, HALF_PAST_TWO], "1w"),
    Case::new(Hand::Berlin, [2026, 10, 25, HALF_PAST_TWO + 7], "4w"),
    Case::new(Hand::Berlin, [2028, 2, 29, 3600], "3d"),
    Case::new(Hand::NewYork, [2028, 2, 29, 1800], "6d"),
    Case::new(Hand::Berlin, [2026, 12, 1, HALF_PAST_TWO], "5h"),
    Case::new(Hand::NewYork, [2026, 12, 1, 59], "23h"),
    Case::new(Hand::Utc, [2026, 12, 31, 86_399], "1h"),
    Case::new(Hand::Berlin, [2026, 12, 1, 13], "59m"),
];

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn ten_years_of_times_are_those_of_another_implementation() {
    for case in &CASES {
        let schedule = case.plan().schedule;
        let by_hand = case.by_hand(10);
        assert!(by_hand.len() > 100);
        let shown = format!("{} {:?} {}", case.zone.name(), case.start, case.every);
        assert_eq!(schedule.latest(at(by_hand[0] - 1)), None, "{shown}");
        let mut time = Timestamp::from_second(by_hand[0] - 1).unwrap();
        for expected in &by_hand {
            time = schedule.next(time).unwrap();
            assert_eq!(time.as_second(), *expected, "{shown}");
        }
        for pair in by_hand.windows(2) {
            let &[from, until] = pair else { unreachable!() };
            assert!(from < until, "{shown}");
            for (now, expected) in [(from, from), (until - 1, from), ((from + until) / 2, from)] {
                assert_eq!(
                    schedule.latest(at(now)),
                    Some(at(expected)),
                    "{shown}: {now}"
                );
            }
        }
    }
}

/// Samoa had no 30 December 2011, and Lord Howe's clocks jump by half an hour.
#[test]
fn strange_zones_lose_and_double_nothing() {
    for (zone, start) in [
        ("Pacific/Apia", "2011-12-25T02:30:00"),
        ("Australia/Lord_Howe", "2026-09-28T02:15:00"),
        ("Asia/Kathmandu", "2026-01-01T00:00:01"),
    ] {
        let mut edit = PlanEdit::new("p".parse().unwrap(), Path::new("/x"));
        edit.set_text("start", start);
        edit.set_text("zone", zone);
        edit.set_text("every", "1d");
        let schedule = edit.plan(Timestamp::UNIX_EPOCH).unwrap().schedule;
        let first = schedule.next(Timestamp::UNIX_EPOCH).unwrap();
        let times: Vec<Timestamp> = std::iter::successors(Some(first), |time| schedule.next(*time))
            .take(400)
            .collect();
        for pair in times.windows(2) {
            let apart = pair[1].duration_since(pair[0]);
            let hours = apart.as_secs_f64() / 3600.0;
            assert!((23.0..=25.0).contains(&hours), "{zone}: {pair:?}");
            assert_eq!(schedule.latest(pair[1]), Some(pair[1]), "{zone}");
        }
    }
}

pub fn edited(set: impl FnOnce(&mut PlanEdit)) -> SnapshotPlan {
    let mut edit = PlanEdit::new("p".parse().unwrap(), Path::new("/x"));
    edit.set_text("start", "2026-12-01T02:30:00");
    edit.set_text("every", "1d");
    set(&mut edit);
    edit.plan(Timestamp::UNIX_EPOCH).unwrap()
}
