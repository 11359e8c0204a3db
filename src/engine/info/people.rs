//! The snapshots, disks and hosts of a vault, by numbers, as their manifests tell them. It must
//! never keep more of a manifest than it is asked for: there may be many.

use super::needer::{CopyOf, Kinship, Needer};
use super::outcome::{DiskHolding, Holding, HostHolding, SnapshotHolding};
use super::walk::CopyHolds;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{Bytes, Mode, SnapshotId};
use jiff::Timestamp;
use std::collections::HashMap;

/// Most copies of disks in all snapshots: each takes some 300 bytes.
const MOST_COPIES: usize = 1 << 20;

/// What each takes in memory, without its names.
const EACH_BYTES: u64 = 320;
/// No name of a disk takes more.
const MOST_NAME_BYTES: u64 = 256 + TEXT_BYTES;
/// What a text takes beside its own length.
const TEXT_BYTES: u64 = 48;

/// What is kept of a copy of a disk.
struct CopyNote {
    id: SnapshotId,
    /// When the store got its manifest first.
    received: Timestamp,
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
    /// What their names take in memory, each as often as it is kept.
    texts: u64,
}

/// What tells a host's disks apart: a serial number, or else the name. Of several with one serial
/// number in one snapshot the first one has it, and the others their names, too.
#[derive(PartialEq, Eq, Hash)]
struct DiskKey {
    host: u32,
    serial: Option<String>,
    name: Option<String>,
}

impl People {
    /// Adds a snapshot. Returns the number of the copy of each of its disks, in their order.
    pub(super) fn add(
        &mut self,
        id: SnapshotId,
        received: Timestamp,
        manifest: &Manifest,
    ) -> Result<Vec<u32>> {
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
        let received = manifest.first_received(received);
        let time = manifest.time.min(received);
        let mut own: HashMap<u32, u32> = HashMap::new();
        let mut copies = Vec::new();
        for record in &manifest.disks {
            let mut disk = self.disk(host, record, false);
            if own.contains_key(&disk) {
                disk = self.disk(host, record, true);
            }
            self.see_newest(disk, record, time);
            let copy = *own.entry(disk).or_insert_with(|| {
                self.kin.copies.push(CopyOf {
                    snapshot: number,
                    disk,
                });
                self.sizes.push(record.identity.size);
                self.notes.push(CopyNote {
                    id,
                    received,
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
        self.texts += text_bytes(&manifest.host);
        self.texts += names
            .clone()
            .map(|disk| text_bytes(&disk.identity.name))
            .sum::<u64>();
        self.snapshots.push(SnapshotHolding {
            id,
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
        let all = self.snapshots.len() + self.disks.len() + self.notes.len() + self.hosts.len();
        all as u64 * EACH_BYTES + self.texts
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
        self.texts += 2 * text_bytes(name);
        self.hosts.push(HostHolding {
            name: name.to_owned(),
            ..HostHolding::default()
        });
        number
    }

    /// The number of a disk. `by_name`: another disk of the snapshot has the same serial number.
    fn disk(&mut self, host: u32, record: &DiskRecord, by_name: bool) -> u32 {
        let identity = &record.identity;
        let serial = identity.serial.clone().filter(|text| !text.is_empty());
        let key = DiskKey {
            host,
            name: (by_name || serial.is_none()).then(|| identity.name.clone()),
            serial: serial.clone(),
        };
        let next = self.disks.len() as u32;
        let number = *self.known_disks.entry(key).or_insert(next);
        if number == next {
            let host_name = self.hosts.get(host as usize).map(|host| host.name.clone());
            let host_name = host_name.unwrap_or_default();
            // The serial number is in the key, too; of names a later one may be longer.
            let serial_bytes = serial.as_deref().map_or(0, text_bytes);
            self.texts += text_bytes(&host_name) + 2 * serial_bytes + 2 * MOST_NAME_BYTES;
            self.disks.push(DiskHolding {
                host: host_name,
                serial,
                ..DiskHolding::default()
            });
            self.newest.push(Timestamp::MIN);
            self.kin.disk_hosts.push(host);
        }
        number
    }

    /// A disk's name and length are those of its newest copy.
    fn see_newest(&mut self, number: u32, record: &DiskRecord, time: Timestamp) {
        let disk = self.disks.get_mut(number as usize);
        if let (Some(disk), Some(newest)) = (disk, self.newest.get_mut(number as usize))
            && time >= *newest
        {
            *newest = time;
            disk.name.clone_from(&record.identity.name);
            disk.size = record.identity.size;
        }
    }

    /// Adds up what the manifests say was stored.
    pub(super) fn add_stored(&mut self) {
        for copy in 0..self.notes.len() as u32 {
            let Some(stored) = self.notes.get(copy as usize).map(|note| note.stored) else {
                continue;
            };
            self.credit(Needer::Copy(copy), &|one| {
                one.stored = saturating(one.stored, stored);
            });
        }
    }

    /// By the disks' numbers: when the store had the first copy, where that is a full one. The
    /// first is that of the lowest ID: no clock is asked.
    pub(super) fn first_fulls(&self) -> Vec<Option<Timestamp>> {
        let mut first: Vec<Option<&CopyNote>> = vec![None; self.disks.len()];
        for (copy, note) in self.kin.copies.iter().zip(&self.notes) {
            if let Some(known) = first.get_mut(copy.disk as usize)
                && known.is_none_or(|known| note.id < known.id)
            {
                *known = Some(note);
            }
        }
        let first = first.into_iter().map(|note| {
            let full = note.filter(|note| note.is_full)?;
            Some(full.received)
        });
        first.collect()
    }

    /// How many full copies came since then that are not the first of their disk.
    pub(super) fn later_fulls(&self, from: Timestamp, first: &[Option<Timestamp>]) -> usize {
        let full = self.notes.iter().filter(|note| note.is_full);
        let full = full.filter(|note| note.received >= from).count();
        let first = first.iter().flatten().filter(|time| **time >= from).count();
        full.saturating_sub(first)
    }
}

/// About what a text takes in memory.
fn text_bytes(text: &str) -> u64 {
    text.len() as u64 + TEXT_BYTES
}

/// What others have written down may be more than there can be.
pub(super) fn saturating(one: Bytes, other: Bytes) -> Bytes {
    Bytes(one.0.saturating_add(other.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A snapshot with disks of these names and serial numbers.
    fn add(people: &mut People, at: u64, mode: &str, disks: &[(&str, String)]) -> Vec<u32> {
        let id = SnapshotId::generate(at);
        let disks = disks.iter().map(|(name, serial)| {
            json!({
                "identity": {"name": name, "dev": {"major": 8, "minor": 0}, "size": 1 << 20,
                    "logical_block": 512, "serial": serial, "wwn": null, "diskseq": null,
                    "table_id": null},
                "level": "crash", "mode": mode, "reason": "", "parent": null,
                "all_blocks": false, "passes": 1, "read_bytes": 0, "changed_bytes": 0,
                "stored_bytes": 7, "frozen_bytes": 0, "free_skipped_bytes": 0, "free_rules": 1,
                "filesystems": [], "index": [], "footers": [], "cut": null,
            })
        });
        let disks: Vec<Value> = disks.collect();
        // Its clock is of 1970.
        let time = "1970-01-01T00:00:00Z";
        let manifest = json!({
            "format": 2, "snapshot": id, "vault": "00".repeat(16), "time": time, "started": time,
            "host": "web1", "kernel": "", "writer": "", "level": "crash",
            "requested_level": "crash", "freeze_us": null, "warnings": [], "tags": {},
            "hooks": null, "disks": disks,
        });
        let received = Timestamp::from_millisecond(at as i64).unwrap();
        let manifest = serde_json::from_value(manifest).unwrap();
        people.add(id, received, &manifest).unwrap()
    }

    fn disk(name: &str, serial: &str) -> (&'static str, String) {
        let names = ["vda", "vdb", "vdc"];
        let name = names.iter().find(|known| **known == name).unwrap();
        (name, serial.into())
    }

    #[test]
    fn disks_that_share_a_serial_number_in_one_snapshot_are_not_one_disk() {
        let mut people = People::default();
        let shared = [disk("vda", "0"), disk("vdb", "0"), disk("vdc", "9")];
        for at in 1..4 {
            let copies = add(&mut people, at * 1000, "full", &shared);
            assert_eq!(copies.len(), 3);
        }
        let told: Vec<_> = people
            .disks
            .iter()
            .map(|one| (one.name.as_str(), one.snapshots))
            .collect();
        assert_eq!(told, [("vda", 3), ("vdb", 3), ("vdc", 3)]);
        // One that has moved to another name is the same.
        add(&mut people, 9000, "full", &[disk("vda", "9")]);
        assert_eq!((people.disks.len(), people.disks[2].snapshots), (3, 4));
    }

    #[test]
    fn long_names_are_counted_as_what_they_take() {
        let mut people = People::default();
        for at in 1..4_u64 {
            let long = |disk| ("vda", format!("{at}-{disk}-{}", "x".repeat(4000)));
            let disks: Vec<_> = (0..100).map(long).collect();
            add(&mut people, at * 1000, "full", &disks);
        }
        // Each serial number is there twice.
        assert!(people.memory() >= 300 * 2 * 4000, "{}", people.memory());
        assert!(people.memory() < 300 * 2 * 5000, "{}", people.memory());
    }

    #[test]
    fn the_first_full_is_found_by_ids_and_later_ones_are_counted() {
        let mut people = People::default();
        let at = |at: i64| Timestamp::from_millisecond(at).unwrap();
        for (time, mode) in [(3000, "full"), (1000, "full"), (2000, "incremental")] {
            add(&mut people, time, mode, &[disk("vda", "1")]);
        }
        add(&mut people, 4000, "incremental", &[disk("vdb", "2")]);
        let first = people.first_fulls();
        assert_eq!(first, [Some(at(1000)), None]);
        let later = [0, 1001, 3001].map(|from| people.later_fulls(at(from), &first));
        assert_eq!(later, [1, 1, 0]);
    }
}
