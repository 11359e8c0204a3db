//! The name of a plan. It becomes the name of a file, of units and a label, so it must never lead
//! elsewhere.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes.
const MOST: usize = 48;

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

#[cfg(test)]
mod tests {
    use super::*;

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
