//! What samples have read and when, kept in the vault, so that samples of whichever host come round
//! to everything. Nothing is called whole by it: where it is lost, or lies, other segments are read
//! than would have been.

use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::{ObjectKind, SampleMemory};
use crate::model::SnapshotId;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Most records that are read, the newest: one is usual, and one more for each sample at the same
/// time. Each says all that those before it said, so older ones are not missed where nobody may
/// delete them.
const MOST_READ: usize = 16;
/// Most records that are deleted by one sample.
const MOST_DELETED: usize = 1000;

/// What is remembered, and the objects that say so.
#[derive(Default)]
pub struct KnownSamples {
    /// What could be read of it.
    pub memory: SampleMemory,
    /// What a newer record stands for.
    records: BTreeSet<ObjectName>,
}

impl Vault {
    /// What samples have read. What cannot be read of it is forgotten, and what is said to be later
    /// than now.
    pub fn known_samples(&self, now: Timestamp) -> Result<KnownSamples> {
        let mut known = KnownSamples::default();
        let mut newest: BTreeSet<ObjectName> = BTreeSet::new();
        self.store.list(&ObjectName::verified(), &mut |object| {
            if is_record(&object.name) {
                newest.insert(object.name);
            }
            if newest.len() > MOST_READ {
                let older = newest.pop_first();
                let room = known.records.len() < MOST_DELETED - MOST_READ;
                known.records.extend(older.filter(|_| room));
            }
            Ok(())
        })?;
        for record in newest {
            let read = self.store.get(&record, ObjectKind::Verified.most_stored());
            match read.and_then(|bytes| SampleMemory::decode(&bytes, self.sealer())) {
                Ok(memory) => known.memory.merge(&memory),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Format
                    ) => {}
                Err(error) => return Err(error),
            }
            known.records.insert(record);
        }
        known.memory.forget_after(now);
        Ok(known)
    }

    /// Keeps `memory` in a record of its own, which says all that is known.
    pub fn keep_samples(&self, memory: &SampleMemory, now: Timestamp) -> Result<()> {
        let id = SnapshotId::generate(u64::try_from(now.as_millisecond()).unwrap_or_default());
        let bytes = memory.encode(self.sealer())?;
        self.store.put(&ObjectName::sample_record(id), bytes.into())
    }

    /// Deletes the records that a newer one stands for.
    pub fn fold_samples(&self, known: &KnownSamples) -> Result<()> {
        let mut records = known.records.iter();
        records.try_for_each(|record| self.store.delete(record))
    }
}

/// Other names there do not belong to the vault.
fn is_record(name: &ObjectName) -> bool {
    let mut parts = name.components().skip(1);
    let id: Option<SnapshotId> = parts.next().and_then(|text| text.parse().ok());
    id.is_some_and(|id| ObjectName::sample_record(id) == *name)
}
