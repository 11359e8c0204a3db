//! How often a plan runs: so many minutes, hours, days or weeks.

use jiff::SignedDuration;
use std::fmt;
use std::str::FromStr;

/// What would be right.
const RIGHT: &str = "every 1m to 59m, 1h to 23h, 1d to 6d or 1w to 4w";

/// So many minutes, hours, days or weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    count: i64,
    unit: IntervalUnit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IntervalUnit {
    Minute,
    Hour,
    Day,
    Week,
}

/// How an interval is stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntervalStep {
    /// By so many seconds that pass, whatever clocks on walls show.
    Seconds(i64),
    /// By so many days of a calendar.
    Days(i64),
}

impl Interval {
    /// How it is stepped: minutes and hours pass, days and weeks are a calendar's.
    pub fn step(self) -> IntervalStep {
        match self.unit {
            IntervalUnit::Minute => IntervalStep::Seconds(self.count * 60),
            IntervalUnit::Hour => IntervalStep::Seconds(self.count * 3600),
            IntervalUnit::Day => IntervalStep::Days(self.count),
            IntervalUnit::Week => IntervalStep::Days(self.count * 7),
        }
    }

    /// About how long it is: a day has 24 hours here.
    pub fn length(self) -> SignedDuration {
        match self.step() {
            IntervalStep::Seconds(seconds) => SignedDuration::from_secs(seconds),
            IntervalStep::Days(days) => SignedDuration::from_hours(days * 24),
        }
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let (unit, most) = match unit {
            "m" => (IntervalUnit::Minute, 59),
            "h" => (IntervalUnit::Hour, 23),
            "d" => (IntervalUnit::Day, 6),
            "w" => (IntervalUnit::Week, 4),
            _ => return Err(RIGHT.into()),
        };
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=most).contains(count));
        let count = count.ok_or(RIGHT)?;
        Ok(Self { count, unit })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            IntervalUnit::Minute => "m",
            IntervalUnit::Hour => "h",
            IntervalUnit::Day => "d",
            IntervalUnit::Week => "w",
        };
        write!(f, "{}{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_that_are_told() {
        for good in ["1m", "59m", "1h", "23h", "1d", "6d", "1w", "4w"] {
            assert_eq!(good.parse::<Interval>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "0",
            "0h",
            "10000",
            "10000h",
            "60m",
            "24h",
            "7d",
            "5w",
            "1",
            "h",
            "1 h",
            "-1h",
            "1.5h",
            "1y",
            "99999999999999999999h",
        ] {
            assert_eq!(bad.parse::<Interval>(), Err(RIGHT.to_owned()), "{bad}");
        }
    }
}
