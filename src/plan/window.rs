//! The part of a day in which a plan may begin to run.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::fmt;
use std::str::FromStr;

/// From a time of the day until another; over midnight where the second is the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayWindow {
    from: Time,
    until: Time,
}

/// Within a shorter one nobody might look at the plan.
const LEAST: SignedDuration = SignedDuration::from_mins(30);

impl DayWindow {
    /// How long it is open on a day on which no clock is put forward or back.
    fn length(self) -> SignedDuration {
        let length = self.from.duration_until(self.until);
        match length > SignedDuration::ZERO {
            true => length,
            false => length + SignedDuration::from_hours(24),
        }
    }

    /// Whether a run may begin.
    pub fn contains(self, now: Timestamp, zone: &TimeZone) -> bool {
        let mut near = self.near(now, zone);
        near.any(|open| open.from <= now && now < open.until)
    }

    /// The first instant from `now` on at which a run may begin.
    pub fn opens(self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        if self.contains(now, zone) {
            return now;
        }
        let later = self.near(now, zone).map(|open| open.from);
        later.filter(|from| *from > now).min().unwrap_or(now)
    }

    /// The windows of the days around `now`.
    fn near(self, now: Timestamp, zone: &TimeZone) -> impl Iterator<Item = OpenWindow> {
        let today = now.to_zoned(zone.clone()).date();
        (-2..=2).filter_map(move |days| self.on(today.checked_add(days.days()).ok()?, zone))
    }

    /// The window that opens on a day.
    fn on(self, day: Date, zone: &TimeZone) -> Option<OpenWindow> {
        let instant = |day: Date, time: Time| {
            let shown = day.to_datetime(time);
            Some(shown.to_zoned(zone.clone()).ok()?.timestamp())
        };
        let last = match self.from < self.until {
            true => day,
            false => day.tomorrow().ok()?,
        };
        let (from, until) = (instant(day, self.from)?, instant(last, self.until)?);
        if from < until {
            return Some(OpenWindow { from, until });
        }
        // A clock that was put forward jumped over the opening and nearly all of it.
        let length = day
            .to_datetime(self.from)
            .duration_until(last.to_datetime(self.until));
        let until = from.checked_add(length).ok()?;
        Some(OpenWindow { from, until })
    }
}

/// From an instant on, until another.
#[derive(Clone, Copy)]
struct OpenWindow {
    from: Timestamp,
    until: Timestamp,
}

impl FromStr for DayWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let both = text.split_once('-').and_then(|(from, until)| {
            let time = |text: &str| text.trim().parse::<Time>().ok();
            Some((time(from)?, time(until)?))
        });
        match both {
            Some((from, until)) if from != until => {
                let window = Self { from, until };
                match window.length() < LEAST {
                    true => Err("a window is open for 30 minutes at least".into()),
                    false => Ok(window),
                }
            }
            _ => Err("a window looks like this: 01:00-05:00".into()),
        }
    }
}

impl fmt::Display for DayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_opens_each_day_also_over_midnight() {
        let window: DayWindow = "01:00-05:00".parse().unwrap();
        assert_eq!(window.to_string(), "01:00:00-05:00:00");
        let utc = &TimeZone::UTC;
        assert!(window.contains(at("2026-01-01T01:00:00Z"), utc));
        assert!(!window.contains(at("2026-01-01T05:00:00Z"), utc));
        assert_eq!(
            window.opens(at("2026-01-01T05:00:00Z"), utc),
            at("2026-01-02T01:00:00Z")
        );
        assert_eq!(
            window.opens(at("2026-01-01T00:59:59Z"), utc),
            at("2026-01-01T01:00:00Z")
        );
        assert_eq!(
            window.opens(at("2026-01-01T02:00:00Z"), utc),
            at("2026-01-01T02:00:00Z")
        );
        let night: DayWindow = "22:00-04:30".parse().unwrap();
        assert!(night.contains(at("2026-01-01T23:00:00Z"), utc));
        assert!(night.contains(at("2026-01-01T04:29:59Z"), utc));
        assert_eq!(
            night.opens(at("2026-01-01T12:00:00Z"), utc),
            at("2026-01-01T22:00:00Z")
        );
        for bad in [
            "",
            "01:00",
            "01:00-01:00",
            "25:00-26:00",
            "1-2-3",
            "01:00-01:29",
        ] {
            assert!(bad.parse::<DayWindow>().is_err(), "{bad}");
        }
    }

    /// A clock that jumps over the window, or over its opening, leaves one of the same length.
    #[test]
    fn a_window_in_a_gap_opens_after_it() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let before = at("2026-03-29T00:00:00Z");
        for (window, opens) in [
            ("02:15-02:45", "2026-03-29T01:15:00Z"),
            ("02:15-03:10", "2026-03-29T01:15:00Z"),
            ("02:15-04:00", "2026-03-29T01:15:00Z"),
        ] {
            let window: DayWindow = window.parse().unwrap();
            assert_eq!(window.opens(before, &zone), at(opens), "{window}");
            assert!(window.contains(at(opens), &zone), "{window}");
            assert!(
                window.contains(at("2026-03-29T01:39:00Z"), &zone),
                "{window}"
            );
            assert!(
                !window.contains(at("2026-03-29T02:30:00Z"), &zone),
                "{window}"
            );
        }
    }
}
