//! Which of the filesystems that were found is the one that a record means. A place proves it, as
//! far as the bytes there agree; a name of an early record does not, but there is nothing else.

use super::contents::{DiskContent, is_same_kind};
use super::volumes::VolumesFound;
use crate::format::FilesystemRecord;
use crate::model::Extent;
use std::collections::{BTreeSet, HashMap};

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
    /// Of each disk, by the name of the partition, or that of the volume's device. None: there are
    /// several of that name.
    names: HashMap<usize, HashMap<String, Option<usize>>>,
    /// Those on several devices, by the name of each.
    shared: HashMap<String, Option<usize>>,
    /// The kind of each, and the disks that it is on.
    kinds: HashMap<usize, HomeKind>,
}

struct HomeKind {
    kind: &'static str,
    disks: BTreeSet<usize>,
}

impl FilesystemHomes {
    /// Takes note of the filesystem with that number.
    pub(super) fn add(&mut self, number: usize, group: &[DiskContent], volumes: &VolumesFound) {
        let mut all = BTreeSet::new();
        for one in group {
            let (disk, place) = (one.disk, one.place);
            self.places
                .entry(PartPlace { disk, place })
                .or_insert(number);
            let volume = volumes.get(disk);
            let is_volume = volume.is_some();
            let device = volume.and_then(|volume| volume.device.clone());
            let device = device.unwrap_or_else(|| one.name.clone());
            let disks = volumes.disks_below(disk);
            for disk in &disks {
                let names = self.names.entry(*disk).or_default();
                let known = names.entry(device.clone()).or_insert(Some(number));
                // Of a partition the first one counts, as its place does.
                if is_volume && *known != Some(number) {
                    *known = None;
                }
            }
            all.extend(disks);
            if group.len() > 1 {
                let known = self.shared.entry(device).or_insert(Some(number));
                if is_volume && *known != Some(number) {
                    *known = None;
                }
            }
        }
        if let Some(first) = group.first() {
            let kind = first.signature.kind;
            let disks = all;
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
                    .and_then(Option::as_ref)
            }
        };
        let found = *found?;
        let home = self.kinds.get(&found)?;
        let is_it = is_same_kind(home.kind, &record.fstype) && home.disks.contains(&disk);
        is_it.then_some(found)
    }
}
