//! A keep: why a snapshot must stay, put beside it by anyone who may put. JSON in an envelope. A
//! keep only ever adds to what others say: none can make another one shorter.

use super::damaged;
use super::envelope::ObjectKind;
use super::manifest::JsonObject;
use super::seal::Sealer;
use crate::error::Result;
use crate::model::SnapshotId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest name of a hold, in bytes.
pub const MAX_HOLD: usize = 64;
/// Most values in the record of a keep.
const MAX_VALUES: usize = 256;

/// That a snapshot must stay: until some time, or for as long as a hold is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepRecord {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The part of its manifest's name that stands for its host.
    pub host: String,
    /// It stays until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// It stays until this hold is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// When it was put, by the clock of who put it.
    pub time: Timestamp,
    /// The name of the host that put it.
    pub by: String,
}

const KEEP: JsonObject = JsonObject {
    kind: ObjectKind::Keep,
    most: MAX_VALUES,
};

impl KeepRecord {
    /// The bytes to store.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        KEEP.encode(self, sealer)
    }

    /// Reads a keep that stands beside the snapshot of that name.
    ///
    /// # Errors
    /// It cannot be understood, is another snapshot's, or says nothing.
    pub fn decode(bytes: &[u8], sealer: &Sealer, snapshot: SnapshotId) -> Result<Self> {
        let keep: Self = KEEP.decode(bytes, sealer)?;
        let hold_fits = |hold: &String| (1..=MAX_HOLD).contains(&hold.len());
        let says_something = keep.until.is_some() || keep.hold.is_some();
        if keep.snapshot != snapshot || !says_something || !keep.hold.iter().all(hold_fits) {
            return Err(damaged("a keep is another snapshot's, or says nothing"));
        }
        Ok(keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SEALER: Sealer = Sealer::without_keys();

    fn keep(until: Option<Timestamp>, hold: Option<&str>) -> KeepRecord {
        KeepRecord {
            snapshot: SnapshotId::generate(1),
            host: "h".into(),
            until,
            hold: hold.map(Into::into),
            time: Timestamp::UNIX_EPOCH,
            by: "b".into(),
        }
    }

    #[test]
    fn it_comes_back_and_only_beside_its_own_snapshot() {
        for one in [
            keep(Some(Timestamp::MAX), None),
            keep(None, Some("audit")),
            keep(Some(Timestamp::MIN), Some(&"x".repeat(MAX_HOLD))),
        ] {
            let bytes = one.encode(&SEALER).unwrap();
            assert_eq!(
                KeepRecord::decode(&bytes, &SEALER, one.snapshot).unwrap(),
                one
            );
            let other = SnapshotId::generate(1);
            let error = KeepRecord::decode(&bytes, &SEALER, other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged);
        }
        for nothing in [
            keep(None, None),
            keep(None, Some("")),
            keep(None, Some(&"x".repeat(65))),
        ] {
            let bytes = nothing.encode(&SEALER).unwrap();
            assert!(KeepRecord::decode(&bytes, &SEALER, nothing.snapshot).is_err());
        }
    }
}
