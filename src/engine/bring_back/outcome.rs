//! What a recovery has come to.

use super::carry::EndOfOne;
use crate::engine::lock::UnknownNeeds;
use crate::error::Error;
use crate::model::{Bytes, SnapshotId};
use crate::store::{NeededSort, ObjectName, PastVault, Stood};

/// Most of each sort that are told one by one.
pub(super) const MOST_NAMED: usize = 100;

/// A snapshot whose manifest is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroughtBack {
    /// Which one.
    pub snapshot: SnapshotId,
    /// The version that stood in its manifest's place; `None`: it was deleted.
    pub replaced: Option<String>,
}

/// What could not be brought back.
#[derive(Debug)]
pub struct Unrecovered {
    /// Which object.
    pub name: ObjectName,
    /// Which version, and why.
    pub why: Error,
}

/// What was brought back; where nothing was to be put, what would be.
#[derive(Debug, Default)]
pub struct BringBackReport {
    /// How many snapshots stood then.
    pub stood: usize,
    /// What opens the vault and is back: `vault.json`, keys.
    pub opened_by: Vec<ObjectName>,
    /// Snapshots whose manifests are back.
    pub snapshots: Vec<BroughtBack>,
    /// How many other objects are back.
    pub objects: usize,
    /// Bytes of all that is back.
    pub bytes: Bytes,
    /// Snapshots that were first put later: the first ones.
    pub since: Vec<SnapshotId>,
    /// How many these are.
    pub since_count: usize,
    /// How many snapshots were first put later and do not stand any more.
    pub hidden_since: usize,
    /// How many keys were first put later.
    pub keys_since: usize,
    /// What was needed then, did not stand, and does not stand now: the first ones.
    pub lost: Vec<ObjectName>,
    /// How many these are.
    pub lost_count: usize,
    /// What stood then and could not be brought back: the first ones.
    pub failed: Vec<Unrecovered>,
    /// How many these are.
    pub failed_count: usize,
    /// Snapshots of which it is not known what they needed: the first ones.
    pub unknown: Vec<UnknownNeeds>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl BringBackReport {
    /// How many objects are back.
    pub fn put_count(&self) -> usize {
        self.opened_by.len() + self.snapshots.len() + self.objects
    }

    pub(super) fn is_lost(&mut self, name: ObjectName) {
        self.lost_count += 1;
        if self.lost.len() < MOST_NAMED {
            self.lost.push(name);
        }
    }

    pub(super) fn is_unknown(&mut self, snapshot: SnapshotId, why: Error) {
        if self.unknown.len() < MOST_NAMED {
            self.unknown.push(UnknownNeeds { snapshot, why });
        }
    }

    pub(super) fn is_since(&mut self, snapshot: SnapshotId) {
        self.since_count += 1;
        if self.since.len() < MOST_NAMED {
            self.since.push(snapshot);
        }
    }

    /// Notes what became of an object; whether it could not be brought back.
    pub(super) fn note(
        &mut self,
        past: &PastVault,
        sort: NeededSort,
        stood: &Stood,
        end: EndOfOne,
    ) -> bool {
        let bytes = match end {
            EndOfOne::Stands => return false,
            EndOfOne::Back(bytes) => bytes,
            EndOfOne::Failed(why) => {
                self.failed_count += 1;
                if self.failed.len() < MOST_NAMED {
                    let name = stood.name.clone();
                    self.failed.push(Unrecovered { name, why });
                }
                return true;
            }
        };
        self.bytes += Bytes(bytes);
        let snapshot = past.snapshot_named(&stood.name);
        match (sort, snapshot) {
            (NeededSort::Manifests, Some(snapshot)) => {
                let (snapshot, now) = (snapshot.id, stood.now.as_ref());
                let replaced = now.map(|now| now.id.clone());
                self.snapshots.push(BroughtBack { snapshot, replaced });
            }
            (NeededSort::Info | NeededSort::Keys, _) => self.door(sort, stood),
            _ => self.objects += 1,
        }
        false
    }

    fn door(&mut self, sort: NeededSort, stood: &Stood) {
        let name = &stood.name;
        self.opened_by.push(name.clone());
        match (sort, &stood.now) {
            (_, Some(now)) => self.warnings.push(format!(
                "{name} had been replaced since then, by version {}",
                crate::model::clip(&now.id, 128)
            )),
            (NeededSort::Keys, None) => {
                let id = name.components().last().unwrap_or_default();
                self.warnings.push(format!(
                    "{name} was deleted since then and is back: if you have removed that key, do \
                     so again: stillpoint key remove {id}"
                ));
            }
            (_, None) => {}
        }
    }
}
