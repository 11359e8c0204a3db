//! The snapshots, disks and hosts of a vault, by numbers, as their manifests tell them. It must
//! never keep more of a manifest than it is asked for: there may be many.

use super::growth::StoredThen;
use super::needer::{CopyOf, Kinship, Needer};
use super::outcome::{DiskHolding, Holding, HostHolding, SnapshotHolding};
use super::walk::CopyHolds;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{Bytes, Mode, SnapshotId};
use crate::store::StoredSnapshot;
use jiff::Timestamp;
use std::collections::HashMap;

/// Most copies of disks in all snapshots: each takes some 300 bytes.
const MOST_COPIES: usize = 1 << 20;

/// What each takes in memory, names of usual lengths counted in.
const NAME_BYTES: u64 = 320;

/// What is kept of a copy of a disk.
struct CopyNote {
    time: Timestamp,
    stored: Bytes,
    is_full: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct People {
    pub(super) kin: Kinship,
    pub(super) snapshots: Vec<SnapshotHolding>,
    pub(super) disks: Vec<DiskHolding>,
    pub(super) hosts: Vec<HostHolding>,
    /// By the copies' numbers.
    pub(super) sizes: Vec<Bytes>,
    notes: Vec<CopyNote>,
    /// When each disk's newest copy was cut.
    newest: Vec<Timestamp>,
    known_disks: HashMap<DiskKey, u32>,
    known_hosts: HashMap<String, u32>,
}

/// What tells a host's disks apart: a serial number, or else the name.
#[derive(PartialEq, Eq, Hash)]
struct DiskKey {
    host: u32,
    serial: Option<String>,
    name: Option<String>,
}

impl People {
    /// Adds a snapshot. Returns the number of the copy of each of its disks, in their order.
    pub(super) fn add(&mut self, stored: &StoredSnapshot, manifest: &Manifest) -> Result<Vec<u32>> {
        if self.notes.len() + manifest.disks.len() > MOST_COPIES {
            let what = format!(
                "the vault's snapshots have more than {MOST_COPIES} copies of disks together"
            );
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("`stillpoint list --host` and `prune` work on one host at a time"));
        }
        let number = self.snapshots.len() as u32;
        let host = self.host(&manifest.host);
        // A host's clock may be ahead: the store had the manifest after the cut.
        let time = manifest.time.min(manifest.first_received(stored.received));
        let mut own: HashMap<u32, u32> = HashMap::new();
        let mut copies = Vec::new();
        for record in &manifest.disks {
            let disk = self.disk(host, record, time);
            let copy = *own.entry(disk).or_insert_with(|| {
                self.kin.copies.push(CopyOf {
                    snapshot: number,
                    disk,
                });
                self.sizes.push(record.identity.size);
                self.notes.push(CopyNote {
                    time,
                    stored: Bytes(0),
                    is_full: record.mode == Mode::Full,
                });
                self.notes.len() as u32 - 1
            });
            if let Some(note) = self.notes.get_mut(copy as usize) {
                note.stored = saturating(note.stored, record.stored_bytes);
            }
            copies.push(copy);
        }
        for disk in own.keys() {
            if let Some(disk) = self.disks.get_mut(*disk as usize) {
                disk.snapshots += 1;
            }
        }
        if let Some(host) = self.hosts.get_mut(host as usize) {
            host.snapshots += 1;
        }
        self.kin.snapshot_hosts.push(host);
        let names = manifest.disks.iter();
        self.snapshots.push(SnapshotHolding {
            id: stored.snapshot.id,
            host: manifest.host.clone(),
            time: manifest.time,
            disks: names.map(|disk| disk.identity.name.clone()).collect(),
            holding: Default::default(),
            is_unread: false,
        });
        Ok(copies)
    }

    /// About what they take in memory.
    pub(super) fn memory(&self) -> u64 {
        let names = self.snapshots.len() + self.disks.len() + self.notes.len();
        names as u64 * NAME_BYTES
    }

    /// The snapshot that a copy is in.
    pub(super) fn snapshot_of(&self, copy: u32) -> Option<SnapshotId> {
        let copy = self.kin.copies.get(copy as usize)?;
        Some(self.snapshots.get(copy.snapshot as usize)?.id)
    }

    /// Has all that this one needer alone needs counted by `count`: of the snapshot, the disk, the
    /// host.
    pub(super) fn credit(&mut self, by: Needer, count: &dyn Fn(&mut Holding)) {
        self.credit_part(by, Needer::Several, count);
    }

    /// The same of a part of an object that `all` need, but for who has been counted the whole.
    pub(super) fn credit_part(&mut self, by: Needer, all: Needer, count: &dyn Fn(&mut Holding)) {
        let part = |of: Option<u32>, whole: Option<u32>| of.filter(|_| whole.is_none());
        let snapshot = part(self.kin.snapshot(by), self.kin.snapshot(all));
        let snapshot = snapshot.and_then(|at| self.snapshots.get_mut(at as usize));
        snapshot.into_iter().for_each(|one| count(&mut one.holding));
        let disk = part(self.kin.disk(by), self.kin.disk(all));
        let disk = disk.and_then(|at| self.disks.get_mut(at as usize));
        disk.into_iter().for_each(|one| count(&mut one.holding));
        let host = part(self.kin.host(by), self.kin.host(all));
        let host = host.and_then(|at| self.hosts.get_mut(at as usize));
        host.into_iter().for_each(|one| count(&mut one.holding));
    }

    /// Adds up what copies hold, by their numbers.
    pub(super) fn add_logical(&mut self, holds: &[CopyHolds]) {
        for (copy, held) in (0..).zip(holds) {
            let logical = held.logical;
            self.credit(Needer::Copy(copy), &|one| {
                one.logical = saturating(one.logical, logical);
            });
            let at = self.kin.copies.get(copy as usize);
            let snapshot = at.and_then(|copy| self.snapshots.get_mut(copy.snapshot as usize));
            if let Some(snapshot) = snapshot {
                snapshot.is_unread |= held.is_unread;
            }
        }
    }

    fn host(&mut self, name: &str) -> u32 {
        if let Some(known) = self.known_hosts.get(name) {
            return *known;
        }
        let number = self.hosts.len() as u32;
        self.known_hosts.insert(name.to_owned(), number);
        self.hosts.push(HostHolding {
            name: name.to_owned(),
            ..HostHolding::default()
        });
        number
    }

    fn disk(&mut self, host: u32, record: &DiskRecord, time: Timestamp) -> u32 {
        let identity = &record.identity;
        let serial = identity.serial.clone().filter(|text| !text.is_empty());
        let key = DiskKey {
            host,
            name: serial.is_none().then(|| identity.name.clone()),
            serial: serial.clone(),
        };
        let next = self.disks.len() as u32;
        let number = *self.known_disks.entry(key).or_insert(next);
        if number == next {
            self.disks.push(DiskHolding {
                host: self
                    .hosts
                    .get(host as usize)
                    .map(|host| host.name.clone())
                    .unwrap_or_default(),
                serial,
                ..DiskHolding::default()
            });
            self.newest.push(Timestamp::MIN);
            self.kin.disk_hosts.push(host);
        }
        let disk = self.disks.get_mut(number as usize);
        if let (Some(disk), Some(newest)) = (disk, self.newest.get_mut(number as usize))
            && time >= *newest
        {
            *newest = time;
            disk.name.clone_from(&identity.name);
            disk.size = identity.size;
        }
        number
    }

    /// Adds up what the manifests say was stored. Returns what each copy but the first one of its
    /// disk, where that is a full one, has stored when.
    pub(super) fn add_stored(&mut self) -> Vec<StoredThen> {
        let mut first: HashMap<u32, usize> = HashMap::new();
        for (number, (copy, note)) in self.kin.copies.iter().zip(&self.notes).enumerate() {
            let known = first.entry(copy.disk).or_insert(number);
            if self
                .notes
                .get(*known)
                .is_some_and(|known| note.time < known.time)
            {
                *known = number;
            }
        }
        let mut all = Vec::new();
        for (number, (copy, note)) in self.kin.copies.iter().zip(&self.notes).enumerate() {
            let is_first = first.get(&copy.disk) == Some(&number) && note.is_full;
            all.push(StoredThen {
                time: note.time,
                bytes: if is_first { Bytes(0) } else { note.stored },
            });
        }
        for copy in 0..self.notes.len() as u32 {
            let Some(stored) = self.notes.get(copy as usize).map(|note| note.stored) else {
                continue;
            };
            self.credit(Needer::Copy(copy), &|one| {
                one.stored = saturating(one.stored, stored);
            });
        }
        all
    }
}

/// What others have written down may be more than there can be.
pub(super) fn saturating(one: Bytes, other: Bytes) -> Bytes {
    Bytes(one.0.saturating_add(other.0))
}
