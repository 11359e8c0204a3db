//! Names of snapshots and stored objects. A name is never used twice.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use ulid::Ulid;

/// The latest time that a ULID can say, in milliseconds after 1970-01-01 UTC.
const MAX_MS: u64 = (1 << 48) - 1;
/// The bits in which names of one snapshot differ: the last six characters.
const FRESH: u128 = (1 << 30) - 1;

/// A snapshot's name: a ULID, so that names sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(Ulid);

impl SnapshotId {
    /// A new name, for a snapshot made at `unix_ms` milliseconds after 1970-01-01 UTC.
    pub fn generate(unix_ms: u64) -> Self {
        let mut random = [0; 16];
        fill_random(&mut random);
        Self(Ulid::from_parts(unix_ms, u128::from_le_bytes(random)))
    }

    /// A new name that sorts after `newest`, also when the clock stands before what that says:
    /// then it says one millisecond more, and so tells that it is the later one.
    pub fn after(newest: Option<Self>, unix_ms: u64) -> Self {
        let next = newest.map_or(0, |newest| newest.unix_ms() + 1);
        // A name that says the end of time has no successor.
        let next = if next <= MAX_MS { next } else { 0 };
        Self::generate(unix_ms.max(next))
    }

    /// Another name for the same snapshot, whose blocks have other places: it stands beside this
    /// one, before and after the same others.
    #[must_use]
    pub fn successor(self) -> Self {
        let own = u128::from(self.0);
        loop {
            let mut random = [0; 16];
            fill_random(&mut random);
            let random = u128::from_le_bytes(random) & FRESH;
            let next = (own & !FRESH) | random;
            if next != own {
                return Self(next.into());
            }
        }
    }

    /// Whether both are names of one snapshot, as far as names tell: the time and 50 random bits.
    pub fn is_akin_to(self, other: Self) -> bool {
        self.common_part() == other.common_part()
    }

    /// The least name that is [like](Self::is_akin_to) this one.
    #[must_use]
    pub fn common_part(self) -> Self {
        Self((u128::from(self.0) & !FRESH).into())
    }

    /// The name that these bytes are.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }

    /// Its bytes, which sort as it does.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    /// The time that it says, in milliseconds after 1970-01-01 UTC.
    pub fn unix_ms(self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl FromStr for SnapshotId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Ulid::from_string(text).map(Self).map_err(|_| {
            Error::new(
                ErrorKind::Usage,
                format!("{text:?} is not a snapshot's name"),
            )
        })
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a segment, an index object or a vault: 128 random bits, written as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId(#[serde(with = "hex::serde")] pub [u8; 16]);

impl ObjectId {
    /// A new name.
    pub fn generate() -> Self {
        let mut id = [0; 16];
        fill_random(&mut id);
        Self(id)
    }
}

impl FromStr for ObjectId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let mut id = [0; 16];
        if text.bytes().any(|byte| byte.is_ascii_uppercase())
            || hex::decode_to_slice(text, &mut id).is_err()
        {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("{text:?} is not an object's name"),
            ));
        }
        Ok(Self(id))
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel gives random numbers once it has booted");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_their_text() {
        let object = ObjectId::generate();
        assert_eq!(object.to_string().parse::<ObjectId>().unwrap(), object);
        assert!(
            object
                .to_string()
                .to_uppercase()
                .parse::<ObjectId>()
                .is_err()
                || object.to_string().bytes().all(|b| b.is_ascii_digit())
        );
        let snapshot = SnapshotId::generate(1_700_000_000_000);
        assert_eq!(
            snapshot.to_string().parse::<SnapshotId>().unwrap(),
            snapshot
        );
        assert!("01K".parse::<SnapshotId>().is_err());
    }

    #[test]
    fn a_successor_keeps_its_place_among_the_others() {
        let (before, own) = (SnapshotId::generate(999), SnapshotId::generate(1000));
        let (next, after) = (own.successor(), SnapshotId::generate(1001));
        assert!(before < next && next < after && next != own);
        assert!(own.is_akin_to(next) && next.is_akin_to(own.successor()));
        assert!(!own.is_akin_to(SnapshotId::generate(1000)));
        assert_eq!(own.to_string()[..20], next.to_string()[..20]);
    }

    #[test]
    fn later_snapshots_sort_later() {
        assert!(SnapshotId::generate(1000) < SnapshotId::generate(1001));
    }

    #[test]
    fn a_name_sorts_after_the_newest_whatever_the_clock_says() {
        let newest = SnapshotId::generate(1000);
        for clock in [0, 999, 1000, 1001, 5000] {
            let next = SnapshotId::after(Some(newest), clock);
            assert!(next > newest);
            assert_eq!(next.unix_ms(), clock.max(1001));
        }
        assert_eq!(SnapshotId::after(None, 7).unix_ms(), 7);
        let last = SnapshotId::generate(MAX_MS);
        assert_eq!(SnapshotId::after(Some(last), 7).unix_ms(), 7);
    }
}
