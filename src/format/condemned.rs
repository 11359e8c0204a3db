//! A part of a collector's plan: what it means to delete, or which runs it waits for. A part that
//! cannot be read names nothing, and no plan with such a part may be carried out.
//!
//! ```text
//! 0  1  what it lists: 1 objects, 2 runs that are waited for
//! 1  3  zero
//! 4  4  how many parts of the plan list objects, 1 to 64
//! 8  4  number of entries, at most 1,048,576
//!       entries of 33 bytes, ascending, each once:
//!         0  1  1 segment, 2 index, 3 copies of footers, 4 keep; of runs: 0
//!         1 16  name: of copies the run's, of a keep the snapshot's
//!        17 16  of copies: n (4 bytes), then zeros; of a keep: its own name; else zeros
//! ```

use super::wire::{array, u32_at};
use super::{ObjectKind, Sealer, damaged};
use crate::error::Result;
use crate::model::{ObjectId, SnapshotId};
use std::collections::BTreeSet;

const HEADER: usize = 12;
const ENTRY: usize = 33;
/// What a part lists.
const OBJECTS: u8 = 1;
const RUNS: u8 = 2;

/// An object that can be condemned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condemned {
    /// A segment.
    Segment(ObjectId),
    /// An index object.
    Index(ObjectId),
    /// An object of copies of footers.
    Copies {
        /// The run that has put it.
        run: SnapshotId,
        /// Its number among those of the run.
        part: u32,
    },
    /// What keeps a snapshot.
    Keep {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The object's own name.
        keep: SnapshotId,
    },
}

/// What a part of a plan lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanList {
    /// Objects that are to be deleted.
    Objects(BTreeSet<Condemned>),
    /// Runs that may need any of them, and that have to end first.
    Awaited(BTreeSet<SnapshotId>),
}

/// A part of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPart {
    /// How many parts of the plan list objects: they have the numbers from 0 on.
    pub parts: u32,
    /// What it lists.
    pub list: PlanList,
}

impl PlanPart {
    /// Most entries.
    pub const MOST: usize = 1 << 20;
    /// Most parts with objects in a plan.
    pub const MOST_PARTS: u32 = 64;

    /// The bytes to store.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        let (what, entries): (u8, Vec<[u8; ENTRY]>) = match &self.list {
            PlanList::Objects(objects) => {
                (OBJECTS, objects.iter().map(|one| entry(*one)).collect())
            }
            PlanList::Awaited(runs) => (
                RUNS,
                runs.iter().map(|run| named(0, run.to_bytes())).collect(),
            ),
        };
        let mut plain = Vec::with_capacity(HEADER + entries.len() * ENTRY);
        plain.extend_from_slice(&[what, 0, 0, 0]);
        plain.extend_from_slice(&self.parts.to_le_bytes());
        plain.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        entries
            .iter()
            .for_each(|entry| plain.extend_from_slice(entry));
        sealer.seal_object(ObjectKind::Condemned, &plain)
    }

    /// Reads what was stored.
    pub fn decode(bytes: &[u8], sealer: &Sealer) -> Result<Self> {
        let plain = sealer.open_object(ObjectKind::Condemned, None, bytes)?;
        let wrong = || damaged("a part of a collector's plan cannot be understood");
        let (head, entries) = plain.split_at_checked(HEADER).ok_or_else(wrong)?;
        let (parts, count) = (u32_at(head, 4), u32_at(head, 8) as usize);
        let is_right = (1..=Self::MOST_PARTS).contains(&parts)
            && head[1..4] == [0; 3]
            && count <= Self::MOST
            && entries.len() == count * ENTRY
            && entries.chunks_exact(ENTRY).is_sorted_by(|a, b| a < b);
        if !is_right {
            return Err(wrong());
        }
        let entries = entries.chunks_exact(ENTRY);
        let list = match head[0] {
            OBJECTS => {
                let objects: Option<_> = entries.map(object).collect();
                PlanList::Objects(objects.ok_or_else(wrong)?)
            }
            RUNS => {
                let run = |entry: &[u8]| {
                    let is_run = entry[0] == 0 && entry[17..] == [0; 16];
                    is_run.then(|| SnapshotId::from_bytes(array(entry, 1)))
                };
                let runs: Option<_> = entries.map(run).collect();
                PlanList::Awaited(runs.ok_or_else(wrong)?)
            }
            _ => return Err(wrong()),
        };
        Ok(Self { parts, list })
    }
}

fn named(sort: u8, name: [u8; 16]) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0] = sort;
    entry[1..17].copy_from_slice(&name);
    entry
}

fn entry(object: Condemned) -> [u8; ENTRY] {
    match object {
        Condemned::Segment(id) => named(1, id.0),
        Condemned::Index(id) => named(2, id.0),
        Condemned::Copies { run, part } => {
            let mut entry = named(3, run.to_bytes());
            entry[17..21].copy_from_slice(&part.to_le_bytes());
            entry
        }
        Condemned::Keep { snapshot, keep } => {
            let mut entry = named(4, snapshot.to_bytes());
            entry[17..].copy_from_slice(&keep.to_bytes());
            entry
        }
    }
}

fn object(bytes: &[u8]) -> Option<Condemned> {
    let run = || SnapshotId::from_bytes(array(bytes, 1));
    let found = match bytes[0] {
        1 => Condemned::Segment(ObjectId(array(bytes, 1))),
        2 => Condemned::Index(ObjectId(array(bytes, 1))),
        3 => Condemned::Copies {
            run: run(),
            part: u32_at(bytes, 17),
        },
        4 => Condemned::Keep {
            snapshot: run(),
            keep: SnapshotId::from_bytes(array(bytes, 17)),
        },
        _ => return None,
    };
    (entry(found) == bytes).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEALER: Sealer = Sealer::without_keys();

    fn all_sorts() -> BTreeSet<Condemned> {
        let (run, keep) = (SnapshotId::generate(7), SnapshotId::generate(9));
        BTreeSet::from([
            Condemned::Segment(ObjectId::generate()),
            Condemned::Segment(ObjectId::generate()),
            Condemned::Index(ObjectId::generate()),
            Condemned::Copies { run, part: 70_000 },
            Condemned::Keep {
                snapshot: run,
                keep,
            },
        ])
    }

    #[test]
    fn a_part_comes_back_and_every_flip_is_seen() {
        let runs = BTreeSet::from([SnapshotId::generate(1), SnapshotId::generate(2)]);
        for list in [
            PlanList::Objects(all_sorts()),
            PlanList::Objects(BTreeSet::new()),
            PlanList::Awaited(runs),
            PlanList::Awaited(BTreeSet::new()),
        ] {
            let part = PlanPart { parts: 3, list };
            let mut bytes = part.encode(&SEALER).unwrap();
            assert_eq!(PlanPart::decode(&bytes, &SEALER).unwrap(), part);
            for at in 0..bytes.len() {
                bytes[at] ^= 1;
                assert!(PlanPart::decode(&bytes, &SEALER).is_err(), "byte {at}");
                bytes[at] ^= 1;
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_never_reads_as_something_else(
            head in (0..4_u8, 0..70_u32, 0..4_u32),
            entries in prop::collection::vec((0..6_u8, any::<[u8; 16]>(), any::<[u8; 16]>()), 0..4),
        ) {
            let mut plain = vec![head.0, 0, 0, 0];
            plain.extend_from_slice(&head.1.to_le_bytes());
            plain.extend_from_slice(&head.2.to_le_bytes());
            for (sort, one, two) in entries {
                plain.push(sort);
                plain.extend_from_slice(&one);
                plain.extend_from_slice(&two);
            }
            let bytes = SEALER.seal_object(ObjectKind::Condemned, &plain).unwrap();
            if let Ok(part) = PlanPart::decode(&bytes, &SEALER) {
                let again = part.encode(&SEALER).unwrap();
                let opened = SEALER.open_object(ObjectKind::Condemned, None, &again).unwrap();
                prop_assert_eq!(opened, plain);
            }
        }
    }
}
