//! Which of the filesystems that were found is the one that a record means. A place proves it, as
//! far as the bytes there agree; a name of an early record does not, but there is nothing else.

use super::contents::{DiskContent, is_same_kind};
use crate::format::FilesystemRecord;
use crate::model::Extent;
use std::collections::HashMap;

/// A place on a disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PartPlace {
    disk: usize,
    place: Extent,
}

/// Filesystems by their places and names.
#[derive(Default)]
pub(super) struct FilesystemHomes {
    places: HashMap<PartPlace, usize>,
    /// Of each disk, by the name of the partition.
    names: HashMap<usize, HashMap<String, usize>>,
    /// Those on several devices, by the name of each.
    shared: HashMap<String, usize>,
    /// The kind of each, and the disks that it is on.
    kinds: HashMap<usize, HomeKind>,
}

struct HomeKind {
    kind: &'static str,
    disks: Vec<usize>,
}

impl FilesystemHomes {
    /// Takes note of the filesystem with that number.
    pub(super) fn add(&mut self, number: usize, group: &[DiskContent]) {
        for one in group {
            let (disk, place) = (one.disk, one.place);
            self.places
                .entry(PartPlace { disk, place })
                .or_insert(number);
            let names = self.names.entry(disk).or_default();
            names.entry(one.name.clone()).or_insert(number);
            if group.len() > 1 {
                self.shared.entry(one.name.clone()).or_insert(number);
            }
        }
        if let Some(first) = group.first() {
            let kind = first.signature.kind;
            let disks = group.iter().map(|one| one.disk).collect();
            self.kinds.insert(number, HomeKind { kind, disks });
        }
    }

    /// The number of the filesystem that the record of a disk means.
    pub(super) fn find(&self, disk: usize, record: &FilesystemRecord) -> Option<usize> {
        let found = match record.place {
            Some(place) => self.places.get(&PartPlace { disk, place }),
            None => {
                let name = record.source.strip_prefix("/dev/")?;
                let own = self.names.get(&disk).and_then(|names| names.get(name));
                // Of one on several devices each disk's record has the name of the same one. What
                // has another name (a mapped device) is something else.
                own.or_else(|| self.shared.get(name))
            }
        };
        let found = *found?;
        let home = self.kinds.get(&found)?;
        let is_it = is_same_kind(home.kind, &record.fstype) && home.disks.contains(&disk);
        is_it.then_some(found)
    }
}
