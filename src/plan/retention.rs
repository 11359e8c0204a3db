//! How long a plan's snapshots stay: for so many days, or by the rules of `prune`.

use crate::config::SettingKeys;
use crate::engine::RetentionRules;
use jiff::SignedDuration;

/// What a length of time looks like.
const RIGHT: &str = "1 to 3650 days, written like 30d, 8w, 12 months or 10y; a month is 30 days, \
                     and a year 365";
/// Most of each rule.
const MOST: u32 = 100_000;

/// How long snapshots stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanRetention {
    /// Each for so many days: it is kept until then, and pruned afterwards.
    Days(u32),
    /// As long as one of the rules keeps it.
    Rules(RetentionRules),
}

impl PlanRetention {
    /// Takes the key `retention` out of a plan's keys: a text, or a table of rules.
    pub(super) fn take(keys: &mut SettingKeys) -> Option<Self> {
        if !keys.is_table("retention") {
            return keys.parsed("retention", parse_days).map(Self::Days);
        }
        let mut rules = RetentionRules::default();
        keys.table("retention", |keys| {
            let mut some = |key| keys.number(key, 1..=MOST).unwrap_or(0);
            rules = RetentionRules {
                last: some("last"),
                hourly: some("hourly"),
                daily: some("daily"),
                weekly: some("weekly"),
                monthly: some("monthly"),
                yearly: some("yearly"),
                within: None,
            };
            rules.within = keys
                .parsed("within", parse_days)
                .map(|days| SignedDuration::from_hours(i64::from(days) * 24));
        })?;
        if rules.is_empty() {
            keys.missing("retention", "no rule stands in it");
            return None;
        }
        Some(Self::Rules(rules))
    }
}

/// So many days, from 1 to 3650.
pub fn parse_days(text: &str) -> Result<u32, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let days = match unit.trim() {
        "d" | "day" | "days" => 1,
        "w" | "week" | "weeks" => 7,
        "month" | "months" => 30,
        "y" | "year" | "years" => 365,
        _ => return Err(RIGHT.into()),
    };
    let all = count
        .parse::<u32>()
        .ok()
        .and_then(|count| count.checked_mul(days));
    all.filter(|all| (1..=3650).contains(all))
        .ok_or_else(|| RIGHT.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_up_to_ten_years() {
        for (text, days) in [
            ("1d", 1),
            ("30 days", 30),
            ("8w", 56),
            ("12 months", 360),
            ("10y", 3650),
        ] {
            assert_eq!(parse_days(text), Ok(days), "{text}");
        }
        for bad in [
            "",
            "0d",
            "3651d",
            "11y",
            "30",
            "1m",
            "d",
            "-1d",
            "99999999999w",
            "1.5y",
        ] {
            assert!(parse_days(bad).is_err(), "{bad}");
        }
    }
}
