//! The name of a plan, and what tells it from an earlier one of that name. A name becomes that of a
//! file, of units and a label, so it must never lead elsewhere.

use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes.
const MOST: usize = 48;
/// Longest ID, in bytes; one that is made here is so long.
const MOST_ID: usize = 32;

/// A plan's name: small letters, digits, `-` and `_`, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanName(String);

impl PlanName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PlanName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_".contains(&c);
        let first = text.bytes().next();
        let starts_well = first.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if starts_well && text.len() <= MOST && text.bytes().all(is_inner) {
            return Ok(Self(text.to_owned()));
        }
        let what = format!("{text:?} is no name for a plan");
        Err(Error::new(ErrorKind::Usage, what).with_hint(
            "it becomes the name of a file and of units: small letters, digits, - and _, \
             a letter or digit first, 48 at most",
        ))
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What tells a plan from an earlier one of its name: each snapshot bears it, and `prune` asks by
/// it. So a plan deletes nothing that another one has taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanId(String);

impl PlanId {
    /// A new one, made by chance.
    pub fn generate() -> Self {
        Self(ObjectId::generate().to_string())
    }
}

impl FromStr for PlanId {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        match (1..=MOST_ID).contains(&text.len()) && text.bytes().all(is_inner) {
            true => Ok(Self(text.to_owned())),
            false => Err("small letters and digits are expected, 32 at most".into()),
        }
    }
}

impl TryFrom<String> for PlanId {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<PlanId> for String {
    fn from(id: PlanId) -> Self {
        id.0
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_by_chance_or_written() {
        let made = PlanId::generate();
        assert_eq!(made.to_string().parse(), Ok(made.clone()));
        assert_ne!(made, PlanId::generate());
        for good in ["a", "0123456789abcdef", &"x".repeat(32)] {
            assert!(good.parse::<PlanId>().is_ok());
        }
        for bad in ["", "A", "a=b", "a-b", "a b", "\u{e4}", &"x".repeat(33)] {
            assert!(bad.parse::<PlanId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["a", "daily", "every-6h", "0_x", &"x".repeat(48)] {
            assert_eq!(good.parse::<PlanName>().unwrap().as_str(), good);
        }
        for bad in [
            "", "-a", "_a", "A", "a.b", "a/b", "..", "a b", "ä", "a\n", "a%i", "a@b",
        ] {
            assert!(bad.parse::<PlanName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(49).parse::<PlanName>().is_err());
    }
}
