//! How objects are locked in a bucket: in which mode, and until when. Nothing here asks a store.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Whom a lock holds off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// All but those whom the store permits to pass over it.
    Governance,
    /// Everybody, the owner of the bucket included.
    Compliance,
}

impl LockMode {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        }
    }
}

/// The lock of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRetention {
    /// Whom it holds off.
    pub mode: LockMode,
    /// Until when.
    pub until: Timestamp,
}

/// How what snapshots need is locked: `compliance:30d` in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedLockRule")]
pub struct LockRule {
    /// Whom it holds off.
    pub mode: LockMode,
    days: u32,
}

/// A rule as it stands in a vault, which may say anything.
#[derive(Deserialize)]
struct UncheckedLockRule {
    mode: LockMode,
    days: u32,
}

impl LockRule {
    /// Longest time, in days: as long as a snapshot may be kept.
    pub const MOST_DAYS: u32 = 3650;

    /// A lock for so many days; `None`: that is none, or too long.
    pub fn new(mode: LockMode, days: u32) -> Option<Self> {
        let fits = (1..=Self::MOST_DAYS).contains(&days);
        fits.then_some(Self { mode, days })
    }

    /// For how many days.
    pub fn days(self) -> u32 {
        self.days
    }

    /// For how long.
    pub fn time(self) -> SignedDuration {
        SignedDuration::from_hours(24 * i64::from(self.days))
    }
}

impl TryFrom<UncheckedLockRule> for LockRule {
    type Error = String;

    fn try_from(rule: UncheckedLockRule) -> Result<Self, String> {
        Self::new(rule.mode, rule.days).ok_or_else(too_long)
    }
}

fn too_long() -> String {
    format!("a lock is for 1 to {} days", LockRule::MOST_DAYS)
}

impl fmt::Display for LockRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}d", self.mode.word(), self.days)
    }
}

impl FromStr for LockRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "give the mode and the days, like compliance:30d or governance:30d";
        let (mode, time) = text.split_once(':').ok_or(form)?;
        let mode = match mode {
            "governance" => LockMode::Governance,
            "compliance" => LockMode::Compliance,
            _ => return Err(form.into()),
        };
        let days = time.strip_suffix('d').ok_or(form)?;
        let days = days.parse().map_err(|_| form)?;
        Self::new(mode, days).ok_or_else(too_long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_mode_and_days() {
        let rule: LockRule = "compliance:30d".parse().unwrap();
        assert_eq!((rule.mode, rule.days()), (LockMode::Compliance, 30));
        assert_eq!(rule.to_string(), "compliance:30d");
        assert_eq!(rule.time(), SignedDuration::from_hours(720));
        let text = serde_json::to_string(&rule).unwrap();
        assert_eq!(text, r#"{"mode":"compliance","days":30}"#);
        assert_eq!(serde_json::from_str::<LockRule>(&text).unwrap(), rule);
        for bad in [
            "",
            "compliance",
            "compliance:",
            "compliance:30",
            "compliance:0d",
            "off:1d",
            "governance:3651d",
            "governance:-1d",
            "governance:1h",
            "governance:99999999999d",
        ] {
            assert!(bad.parse::<LockRule>().is_err(), "{bad}");
        }
        for bad in [
            r#"{"mode":"compliance","days":0}"#,
            r#"{"mode":"compliance","days":3651}"#,
            r#"{"mode":"none","days":1}"#,
        ] {
            assert!(serde_json::from_str::<LockRule>(bad).is_err(), "{bad}");
        }
    }
}
