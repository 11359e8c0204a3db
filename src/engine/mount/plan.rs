//! Which filesystems the disks of a snapshot hold, where each lies and where the host had it
//! mounted: by the snapshot's record, and by what stands on the disks. It opens nothing. What it
//! leaves out, for whatever reason, it names.

use super::contents::{DiskContent, DiskContents, DiskLook, UnseenPlace, grouped};
use super::homes::FilesystemHomes;
use super::volumes::{PlannedVolume, VolumesFound};
use crate::error::Result;
use crate::export::{AttachOptions, AttachPart, InPlace, is_attachable};
use crate::format::{DiskRecord, FilesystemRecord, Manifest, MountRecord, is_the_kernels_own};
use crate::model::Cancel;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Most mounts of one filesystem: hosts of containers have thousands.
const MOST_MOUNTS: usize = 256;
/// Most filesystems in the record of a disk that are looked for.
const MOST_RECORDS: usize = 4096;
/// Most places that are named where something else was mounted.
const MOST_OTHERS: usize = 64;
/// Holds nothing that anybody would want back.
const SWAP: &str = "swap";

/// A disk that is to be looked into.
#[derive(Clone)]
pub struct PlannedDisk<'m> {
    /// What the snapshot says of it.
    pub record: &'m DiskRecord,
    /// Its bytes.
    pub image: Arc<dyn InPlace>,
}

/// A filesystem that can be attached.
#[derive(Clone, Debug)]
pub struct PlannedFilesystem {
    /// How.
    pub attach: AttachOptions,
    /// The parts of disks that it lies on in the end, whatever is between.
    pub below: Vec<AttachPart>,
    /// Its partition, by number; none where it is the whole disk, or on several.
    pub partition: Option<u32>,
    /// Its UUID, of those that have one that is known here.
    pub uuid: Option<String>,
    /// Where the host had its folders at the cut; none: it was not mounted.
    pub mounts: Vec<MountPlace>,
    /// Whether the record says which folders those were.
    pub knows_roots: bool,
}

/// Where the host saw a folder of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlace {
    /// Where.
    pub target: PathBuf,
    /// Which folder of it.
    pub root: PathBuf,
}

/// Something that is not shown, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotShown {
    /// What: `vda3`, or where it was mounted.
    pub what: String,
    /// Why, in a sentence's end.
    pub why: String,
    /// Whether the host had it mounted, so that a part of its tree is missing.
    pub was_mounted: bool,
}

/// A disk or a part of one of which nobody can say that it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnprovenPlace {
    /// Which: `vda3`.
    pub name: String,
    /// Why, in a sentence's end.
    pub why: String,
    /// Whether what the vault has of it is damaged.
    pub is_damaged: bool,
}

/// What the disks of a snapshot hold.
#[derive(Clone, Debug, Default)]
pub struct MountPlan {
    /// What can be attached.
    pub filesystems: Vec<PlannedFilesystem>,
    /// What lies on the disks with something between; their numbers follow those of the disks.
    pub volumes: Vec<PlannedVolume>,
    /// What cannot.
    pub not_shown: Vec<NotShown>,
    /// What stands on the disks and was not looked at, or is not known here, by itself.
    pub unproven: Vec<UnprovenPlace>,
}

impl MountPlan {
    /// Looks at these disks of a snapshot. `cancel` is asked before each place; its error is
    /// returned.
    ///
    /// # Errors
    /// The vault cannot be read. Of what is damaged the plan says so.
    pub fn of_snapshot(
        manifest: &Manifest,
        disks: &[PlannedDisk<'_>],
        cancel: &dyn Cancel,
    ) -> Result<Self> {
        let mut plan = Self::of_disks(disks, cancel)?;
        plan.name_others(manifest);
        Ok(plan)
    }

    /// Looks at all of these disks, whatever else the snapshot says.
    ///
    /// # Errors
    /// As [`Self::of_snapshot`].
    pub fn of(disks: &[PlannedDisk<'_>]) -> Result<Self> {
        Self::of_disks(disks, &|| Ok(()))
    }

    fn of_disks(disks: &[PlannedDisk<'_>], cancel: &dyn Cancel) -> Result<Self> {
        let mut contents = DiskContents::default();
        for (number, disk) in disks.iter().enumerate() {
            let look = DiskLook {
                number,
                record: disk.record,
                image: &disk.image,
            };
            look.add_to(&mut contents, cancel)?;
        }
        let images: Vec<_> = disks.iter().map(|disk| Arc::clone(&disk.image)).collect();
        let volumes = VolumesFound::look(images, &mut contents, cancel)?;
        let mut plan = Self::default();
        let mut homes = FilesystemHomes::default();
        for group in grouped(contents.found) {
            plan.add(&group, &mut homes, &volumes);
        }
        for one in &volumes.refused {
            plan.lacks(&one.name, one.why.clone(), false);
            plan.unproven.push(UnprovenPlace {
                name: one.name.clone(),
                why: one.why.clone(),
                is_damaged: false,
            });
        }
        for unseen in &contents.unseen {
            plan.lacks(&unseen.name, unseen.why.clone(), true);
            let mut known = plan.unproven.iter();
            // One damaged block has several looks fail.
            let is_told = known.any(|one| one.name == unseen.name && one.is_damaged);
            if !(is_told && unseen.is_damaged) {
                plan.unproven.push(UnprovenPlace {
                    name: unseen.name.clone(),
                    why: unseen.why.clone(),
                    is_damaged: unseen.is_damaged,
                });
            }
        }
        for name in contents.unknown {
            plan.unproven.push(UnprovenPlace {
                name,
                why: "nothing that is known here stands in it".into(),
                is_damaged: false,
            });
        }
        let told = ToldPlaces {
            unseen: &contents.unseen,
            volumes: &volumes,
        };
        plan.place(disks, &homes, &told);
        plan.volumes = volumes.volumes;
        Ok(plan)
    }

    fn lacks(&mut self, what: &str, why: String, was_mounted: bool) {
        self.not_shown.push(NotShown {
            what: what.to_owned(),
            why,
            was_mounted,
        });
    }

    /// Takes what stands on one device, or on several together.
    fn add(&mut self, group: &[DiskContent], homes: &mut FilesystemHomes, volumes: &VolumesFound) {
        let Some(first) = group.first() else { return };
        let names: Vec<&str> = group.iter().map(|one| one.name.as_str()).collect();
        let name = names.join(", ");
        let kind = first.signature.kind;
        if !is_attachable(kind) {
            self.lacks(&name, why_not(kind), false);
            if kind != SWAP {
                self.unproven.push(UnprovenPlace {
                    name,
                    why: why_not(kind),
                    is_damaged: false,
                });
            }
            return;
        }
        homes.add(self.filesystems.len(), group, volumes);
        let part = |one: &DiskContent| AttachPart {
            disk: one.disk,
            place: one.place,
        };
        let parts: Vec<AttachPart> = group.iter().map(part).collect();
        self.filesystems.push(PlannedFilesystem {
            below: parts.iter().flat_map(|part| volumes.below(*part)).collect(),
            attach: AttachOptions {
                kind: kind.to_owned(),
                parts,
                name,
                top_level: false,
            },
            partition: first.partition.filter(|_| group.len() == 1),
            uuid: first.signature.uuid.clone(),
            mounts: Vec::new(),
            knows_roots: false,
        });
    }

    /// Says of each filesystem of the record where it is, or why it is not shown.
    fn place(&mut self, disks: &[PlannedDisk<'_>], homes: &FilesystemHomes, told: &ToldPlaces<'_>) {
        let mut taken: HashMap<usize, &FilesystemRecord> = HashMap::new();
        for (at, disk) in disks.iter().enumerate() {
            let records = &disk.record.filesystems;
            if records.len() > MOST_RECORDS {
                let more = records.len() - MOST_RECORDS;
                let why = format!("{more} more filesystems of its record are left out");
                self.lacks(&disk.record.identity.name, why, true);
            }
            for record in records.iter().take(MOST_RECORDS) {
                let Some(number) = homes.find(at, record) else {
                    self.not_shown.push(told.not_opened(at, record));
                    continue;
                };
                match taken.insert(number, record) {
                    None => self.mounted(number, record),
                    // Another disk of the same filesystem.
                    Some(other) if is_same(other, record) => {}
                    Some(other) => {
                        let why = "the record has two filesystems in one place";
                        self.lacks(&record.target, why.into(), true);
                        taken.insert(number, other);
                    }
                }
            }
        }
        let mut seen = HashSet::new();
        let key = |one: &NotShown| (one.what.clone(), one.why.clone());
        self.not_shown.retain(|one| seen.insert(key(one)));
    }

    fn mounted(&mut self, number: usize, record: &FilesystemRecord) {
        let mut mounts = mounts_of(record);
        mounts.sort_by_key(|mount| mount.target.components().count());
        let more = mounts.len().saturating_sub(MOST_MOUNTS);
        mounts.truncate(MOST_MOUNTS);
        if more > 0 {
            let why = format!("{more} more places where it was mounted are left out");
            self.lacks(&record.target, why, true);
        }
        if let Some(home) = self.filesystems.get_mut(number) {
            home.knows_roots = record.mounts.is_some();
            home.attach.top_level = home.knows_roots;
            home.mounts = mounts;
        }
    }

    /// Names where the host saw something else than these disks.
    fn name_others(&mut self, manifest: &Manifest) {
        let others = manifest.other_mounts.iter();
        let others: Vec<_> = others
            .filter(|other| !is_the_kernels_own(&other.fstype))
            .collect();
        for other in others.iter().take(MOST_OTHERS) {
            let target = other.target.path().to_string_lossy().into_owned();
            let why = format!(
                "{} was mounted there and is not in the snapshot: what is there lay below it",
                other.fstype
            );
            self.lacks(&target, why, false);
        }
        if let Some(more) = others
            .len()
            .checked_sub(MOST_OTHERS)
            .filter(|more| *more > 0)
        {
            let why = format!("over {more} more places something else was mounted");
            self.lacks("/", why, false);
        }
        if manifest.mounts_left_out > 0 {
            let why = format!(
                "{} mounts were too many to be recorded: a path may have led elsewhere",
                manifest.mounts_left_out
            );
            self.lacks("/", why, true);
        }
    }
}

/// Whether two records, of two disks, are of one filesystem.
fn is_same(one: &FilesystemRecord, other: &FilesystemRecord) -> bool {
    let same = |record: &FilesystemRecord| {
        let FilesystemRecord { source, target, .. } = record;
        (source.clone(), target.clone(), record.mounts.clone())
    };
    same(one) == same(other)
}

/// What is known of what is not shown.
struct ToldPlaces<'a> {
    unseen: &'a [UnseenPlace],
    volumes: &'a VolumesFound,
}

impl ToldPlaces<'_> {
    /// Why a filesystem of the record is not shown. One in a file is not missed: the file is there.
    fn not_opened(&self, disk: usize, record: &FilesystemRecord) -> NotShown {
        let in_file = record.place.is_none() && record.source.starts_with("/dev/loop");
        let name = record.source.strip_prefix("/dev/");
        let unseen = self.unseen.iter().find(|one| {
            let is_there = one.place.is_some() && one.place == record.place;
            one.disk == disk && (is_there || name == Some(one.name.as_str()))
        });
        let kind = &record.fstype;
        let source = &record.source;
        NotShown {
            what: record.target.clone(),
            why: match (unseen, record.place) {
                (Some(unseen), _) => unseen.why.clone(),
                (None, _) if in_file => format!("{kind} in a file of another one"),
                (None, Some(place)) => format!(
                    "no {kind} was found where the record has it, {source} from byte {} on",
                    place.offset.0
                ),
                (None, None) => match self.volumes.why_not(source) {
                    Some(why) => format!("{kind} on {source}: {why}"),
                    None => format!("{kind} on {source}, which is not opened by itself"),
                },
            },
            was_mounted: !in_file,
        }
    }
}

/// Where a filesystem was mounted. Early records have one place, and not which folder that was.
fn mounts_of(record: &FilesystemRecord) -> Vec<MountPlace> {
    let Some(mounts) = &record.mounts else {
        return vec![MountPlace {
            target: record.target.clone().into(),
            root: "/".into(),
        }];
    };
    let place = |mount: &MountRecord| MountPlace {
        target: mount.target.path(),
        root: mount.root.path(),
    };
    mounts.iter().map(place).collect()
}

fn why_not(kind: &str) -> String {
    match kind {
        "LUKS" => "it is encrypted (LUKS)".to_owned(),
        "LVM member" => {
            "it belongs to LVM within a volume, as a virtual machine's disk does".to_owned()
        }
        "RAID member" => "it belongs to a RAID within a volume".to_owned(),
        SWAP => "it is swap".to_owned(),
        other => format!("{other} is not opened here"),
    }
}
