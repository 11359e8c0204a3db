//! The name of a job.

use crate::error::{Error, ErrorKind, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use ulid::Ulid;

/// A job's name: a ULID, so that names sort by time. It is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Ulid);

impl JobId {
    /// A new name, for a job that begins now.
    ///
    /// # Errors
    /// The kernel gave no random numbers.
    pub fn generate(now: Timestamp) -> Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot draw a job's name").with_source(error)
        })?;
        let unix_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Ok(Self(Ulid::from_parts(unix_ms, u128::from_le_bytes(random))))
    }
}

impl FromStr for JobId {
    type Err = Error;

    /// Only as it is written by [`fmt::Display`]: a name is a part of a file's name.
    fn from_str(text: &str) -> Result<Self> {
        let id = Ulid::from_string(text).ok().map(Self);
        id.filter(|id| id.to_string() == text)
            .ok_or_else(|| Error::new(ErrorKind::Usage, format!("{text:?} is not a job's name")))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_text_and_sort_by_time() {
        let at = |ms| JobId::generate(Timestamp::from_millisecond(ms).unwrap()).unwrap();
        let id = at(1_700_000_000_000);
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert!(id < at(1_700_000_000_001));
        assert!(id.to_string().to_lowercase().parse::<JobId>().is_err());
        for bad in ["", "01K", "../../../etc/passwd", "latest"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }
}
