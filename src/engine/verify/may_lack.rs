//! Snapshots that an earlier version took, and in which blocks may be missing that were in use: it
//! believed a filesystem's word on free space where that says nothing. Their records tell which.
//! Nothing else about such a snapshot shows it: all that it has is whole.

use crate::format::{DiskRecord, FREE_RULES, Manifest};
use crate::model::{Mode, SnapshotId};
use std::collections::HashMap;
use std::rc::Rc;

/// Most ancestors that are looked at for one disk.
const MOST_ANCESTORS: usize = 10_000;

/// A disk of a snapshot that may lack blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MayLack {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The disk's name in it.
    pub disk: String,
    /// Why, as text.
    pub why: String,
}

impl MayLack {
    /// In a sentence, with what to do.
    pub fn in_words(&self) -> String {
        let Self {
            snapshot,
            disk,
            why,
        } = self;
        format!(
            "{snapshot}, {disk}: an earlier version took it, which could leave out blocks in use \
             ({why}); if the disk is still there, take `stillpoint snapshot --full {disk}` now"
        )
    }
}

/// What matters of a snapshot here; small, so that many fit into memory.
#[derive(Clone, Debug)]
pub struct FreeTrace {
    snapshot: SnapshotId,
    disks: Vec<DiskTrace>,
}

/// Most disks of a snapshot that are looked at, and most characters that are kept of a text: traces
/// of all snapshots of a vault are in memory together.
const MOST_DISKS: usize = 1024;
const MOST_TEXT: usize = 200;

fn start_of(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

#[derive(Clone, Debug)]
struct DiskTrace {
    name: String,
    key: String,
    /// What it was built on without reading again what was free there.
    parent: Option<SnapshotId>,
    has_free: bool,
    by_old_rules: bool,
    /// Where a filesystem was mounted whose device shows a file, or a part of the disk.
    nested: Option<String>,
}

impl FreeTrace {
    /// Of that snapshot.
    pub fn of(manifest: &Manifest) -> Self {
        let disk = |record: &DiskRecord| DiskTrace {
            name: record.identity.name.clone(),
            key: start_of(record.identity.key()),
            // What is compared is read, whatever the parent had as free.
            parent: record.parent.filter(|_| record.mode == Mode::Incremental),
            has_free: record.free_skipped_bytes.0 > 0,
            by_old_rules: record.free_rules < FREE_RULES && !record.all_blocks,
            nested: nested(record).map(start_of),
        };
        Self {
            snapshot: manifest.snapshot,
            disks: manifest.disks.iter().take(MOST_DISKS).map(disk).collect(),
        }
    }
}

/// The disks of `snapshot` that may lack blocks. `find` gives other snapshots of its host; one that
/// it does not give is taken for the worst.
pub fn may_lack(
    snapshot: &FreeTrace,
    find: &mut dyn FnMut(SnapshotId) -> Option<FreeTrace>,
) -> Vec<MayLack> {
    Ancestry::new(find).may_lack(snapshot)
}

/// The same of many snapshots, in their order.
pub fn may_lack_of_all(all: &[FreeTrace]) -> Vec<MayLack> {
    let by_id: HashMap<SnapshotId, &FreeTrace> =
        all.iter().map(|trace| (trace.snapshot, trace)).collect();
    let mut find = |id| by_id.get(&id).map(|trace| (*trace).clone());
    let mut ancestry = Ancestry::new(&mut find);
    all.iter()
        .flat_map(|trace| ancestry.may_lack(trace))
        .collect()
}

/// A snapshot, with its disks by their keys and names.
struct Indexed {
    disks: Vec<DiskTrace>,
    by_key: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
}

impl Indexed {
    fn new(trace: FreeTrace) -> Self {
        let by = |text: fn(&DiskTrace) -> &String| {
            let each = trace.disks.iter().enumerate().rev();
            each.map(|(at, disk)| (text(disk).clone(), at)).collect()
        };
        Self {
            by_key: by(|disk| &disk.key),
            by_name: by(|disk| &disk.name),
            disks: trace.disks,
        }
    }

    /// The place of the record of that disk.
    fn place(&self, disk: &DiskTrace) -> Option<usize> {
        let place = self.by_key.get(&disk.key);
        place.or_else(|| self.by_name.get(&disk.name)).copied()
    }
}

/// The ancestors of snapshots. Each is fetched once and each disk of it is judged once, so that
/// many snapshots cost no more than there are disks in them.
struct Ancestry<'a> {
    find: &'a mut dyn FnMut(SnapshotId) -> Option<FreeTrace>,
    found: HashMap<SnapshotId, Option<Rc<Indexed>>>,
    judged: HashMap<(SnapshotId, usize), Option<SnapshotId>>,
}

impl<'a> Ancestry<'a> {
    fn new(find: &'a mut dyn FnMut(SnapshotId) -> Option<FreeTrace>) -> Self {
        Self {
            find,
            found: HashMap::new(),
            judged: HashMap::new(),
        }
    }

    fn may_lack(&mut self, snapshot: &FreeTrace) -> Vec<MayLack> {
        let mut found = Vec::new();
        for disk in &snapshot.disks {
            found.extend(self.why(disk).map(|why| MayLack {
                snapshot: snapshot.snapshot,
                disk: disk.name.clone(),
                why,
            }));
        }
        found
    }

    fn why(&mut self, disk: &DiskTrace) -> Option<String> {
        if !disk.by_old_rules {
            return None;
        }
        if let Some(target) = &disk.nested {
            return Some(format!(
                "a filesystem on a loop device was mounted at {target}: its free space may have \
                 been taken for free space of the disk"
            ));
        }
        let ancestor = self.free_ancestor(disk)?;
        Some(format!(
            "what was free at {ancestor} and came into use without a write was not read"
        ))
    }

    fn get(&mut self, id: SnapshotId) -> Option<Rc<Indexed>> {
        let find = &mut self.find;
        let found = self.found.entry(id);
        found
            .or_insert_with(|| find(id).map(|trace| Rc::new(Indexed::new(trace))))
            .clone()
    }

    /// The nearest snapshot with free space that an incremental was built on.
    fn free_ancestor(&mut self, disk: &DiskTrace) -> Option<SnapshotId> {
        let mut passed = Vec::new();
        let mut child = disk.clone();
        let ancestor = loop {
            let Some(parent) = child.parent else {
                break None;
            };
            if passed.len() >= MOST_ANCESTORS {
                break Some(parent);
            }
            let Some(trace) = self.get(parent) else {
                break Some(parent);
            };
            let Some(place) = trace.place(&child) else {
                break Some(parent);
            };
            let Some(found) = trace.disks.get(place).filter(|one| !one.has_free) else {
                break Some(parent);
            };
            if let Some(judged) = self.judged.get(&(parent, place)) {
                break *judged;
            }
            passed.push((parent, place));
            child = found.clone();
        };
        let judged = passed.into_iter().map(|place| (place, ancestor));
        self.judged.extend(judged);
        ancestor
    }
}

fn nested(record: &DiskRecord) -> Option<&str> {
    let told = ["ext2", "ext3", "ext4", "xfs"];
    let mut all = record.filesystems.iter();
    let found = all.find(|filesystem| {
        let device = filesystem.source.strip_prefix("/dev/").unwrap_or_default();
        let of_this_disk = device
            .strip_prefix(record.identity.name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('p'));
        let is_told = told.contains(&filesystem.fstype.as_str()) && !filesystem.read_only;
        device.starts_with("loop") && !of_this_disk && is_told
    });
    found.map(|filesystem| filesystem.target.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> SnapshotId {
        SnapshotId::generate(n)
    }

    fn disk() -> DiskTrace {
        DiskTrace {
            name: "vda".into(),
            key: "serial".into(),
            parent: None,
            has_free: true,
            by_old_rules: true,
            nested: None,
        }
    }

    fn trace(snapshot: SnapshotId, disk: DiskTrace) -> FreeTrace {
        FreeTrace {
            snapshot,
            disks: vec![disk],
        }
    }

    #[test]
    fn only_old_ones_with_a_reason_are_named() {
        let (first, second, third) = (id(1), id(2), id(3));
        let built_on = |parent: SnapshotId| DiskTrace {
            parent: Some(parent),
            has_free: false,
            ..disk()
        };
        let new = DiskTrace {
            by_old_rules: false,
            ..built_on(second)
        };
        let all = [
            trace(first, disk()),
            trace(second, built_on(first)),
            trace(third, built_on(second)),
            trace(id(4), new),
        ];
        let found = may_lack_of_all(&all);
        let named: Vec<SnapshotId> = found.iter().map(|one| one.snapshot).collect();
        assert_eq!(named, [second, third], "{found:?}");
        assert!(found[1].why.contains(&first.to_string()), "{found:?}");
        // Without its parent nobody can tell.
        assert_eq!(may_lack_of_all(&all[1..2]).len(), 1);
        let full_of_all = DiskTrace {
            has_free: false,
            ..disk()
        };
        let all = [trace(first, full_of_all), trace(second, built_on(first))];
        assert_eq!(may_lack_of_all(&all), [], "nothing was left out");
        let inside = DiskTrace {
            nested: Some("/mnt".into()),
            ..disk()
        };
        assert_eq!(may_lack_of_all(&[trace(first, inside)]).len(), 1);
    }
}
