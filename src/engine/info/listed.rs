//! The objects of a vault by its listings, and who needs them. It must never call what is needed
//! unneeded, nor pass over in silence what is needed and not there.

use super::growth::GrowthCount;
use super::needer::{Kinship, Needer};
use super::outcome::{Holding, VaultHoldings};
use super::people::{People, saturating};
use super::segments::{ListedLength, SEGMENT_BYTES, SegmentNeeds, Segments};
use super::walk::too_large;
use crate::engine::collect::{Amount, Tally};
use crate::engine::reach::CopiesName;
use crate::error::Result;
use crate::format::{Condemned, DiskRecord, lengths_with};
use crate::model::{Bytes, Cancel, ObjectId, SnapshotId};
use crate::store::{Collectable, Vault};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a small object takes in memory, in bytes.
const SMALL_BYTES: u64 = 96;
/// No object is longer, whatever a listing says.
pub(super) const MOST_LENGTH: Bytes = Bytes((64 << 20) + (64 << 10));
/// Most objects that no listing showed and that are asked for one by one.
const MOST_ASKED: usize = 1000;
/// Most names of missing objects that are told.
const MOST_NAMES: usize = 20;

/// An index object, or an object of copies of footers.
#[derive(Default)]
struct SmallObject {
    /// `None`: no listing showed it.
    listed: Option<ListedLength>,
    by: Needer,
}

/// All objects.
#[derive(Default)]
pub(super) struct VaultListing {
    pub(super) segments: Segments,
    indexes: HashMap<ObjectId, SmallObject>,
    copies: HashMap<CopiesName, SmallObject>,
    keeps: Vec<ListedKeep>,
    /// Manifests that were read.
    manifests: Vec<ReadManifest>,
}

/// What keeps a snapshot.
struct ListedKeep {
    snapshot: SnapshotId,
    listed: ListedLength,
}

/// A manifest that was read: the number of its snapshot, and how long it is.
struct ReadManifest {
    snapshot: u32,
    length: Bytes,
}

/// What decides what may be called unneeded.
#[derive(Clone, Copy)]
pub(super) struct UnneededRule {
    /// What was put since then may be of a run that is at work.
    pub(super) began: Timestamp,
    /// No manifest is unread: a keep of an unknown snapshot keeps nothing.
    pub(super) all_read: bool,
}

impl UnneededRule {
    /// An object that nobody needs may be of a run that is at work.
    fn may_be_at_work(&self, listed: ListedLength) -> bool {
        listed.put >= self.began
    }
}

/// What was stored lately.
pub(super) struct StoredLately {
    pub(super) count: GrowthCount,
    /// By the disks' numbers: when the store had the first copy, where that is a full one.
    pub(super) first_fulls: Vec<Option<Timestamp>>,
}

impl StoredLately {
    /// Counts a segment, but for what its disks' first full copies have put.
    fn add(&mut self, needs: &SegmentNeeds, listed: ListedLength, kin: &Kinship) {
        let is_first = |by| {
            let disk = kin.disk(by).map(|disk| disk as usize);
            let full = disk.and_then(|disk| self.first_fulls.get(disk).copied().flatten());
            full.is_some_and(|full| listed.put <= full)
        };
        let (mut later, mut is_all_first) = (listed.bytes.0, needs.slots() > 0);
        for share in needs.shares() {
            match is_first(share.by) {
                true => later = later.saturating_sub(share.bytes.0),
                false => is_all_first = false,
            }
        }
        if !is_all_first {
            self.count.add(listed.put, Bytes(later));
        }
    }
}

impl VaultListing {
    /// Lists all, in at most so much memory.
    pub(super) fn read(&mut self, vault: &Vault, cancel: &dyn Cancel, most: u64) -> Result<()> {
        let count = AtomicU64::new(0);
        let bounded = || {
            cancel.check()?;
            match count.load(Ordering::Relaxed) * SEGMENT_BYTES <= most {
                true => Ok(()),
                false => Err(too_large(most)),
            }
        };
        vault.each_collectable(&bounded, &mut |one| {
            count.fetch_add(1, Ordering::Relaxed);
            self.take(one);
        })
    }

    fn take(&mut self, one: Collectable) {
        let listed = ListedLength {
            // The sum of all stays below what can be counted.
            bytes: one.size.min(MOST_LENGTH),
            put: one.put,
        };
        match one.object {
            Condemned::Segment(id) => {
                self.segments.all.entry(id).or_default().listed = Some(listed);
            }
            Condemned::Index(id) => self.indexes.entry(id).or_default().listed = Some(listed),
            Condemned::Copies { run, part } => {
                let name = CopiesName { run, part };
                self.copies.entry(name).or_default().listed = Some(listed);
            }
            Condemned::Keep { snapshot, .. } => self.keeps.push(ListedKeep { snapshot, listed }),
        }
    }

    /// About what it takes in memory.
    pub(super) fn memory(&self) -> u64 {
        let small = self.indexes.len() + self.copies.len() + self.keeps.len();
        small as u64 * SMALL_BYTES + self.segments.memory()
    }

    /// Notes a manifest that was read.
    pub(super) fn keep_manifest(&mut self, snapshot: u32, length: Bytes) {
        self.manifests.push(ReadManifest { snapshot, length });
    }

    /// Says that a copy needs what its manifest names.
    pub(super) fn need(&mut self, copy: u32, disk: &DiskRecord, kin: &Kinship) {
        let by = Needer::Copy(copy);
        for part in &disk.index {
            let object = self.indexes.entry(part.id).or_default();
            object.by = kin.join(object.by, by);
        }
        for copies in &disk.footers {
            let object = self.copies.entry(CopiesName::from(*copies)).or_default();
            object.by = kin.join(object.by, by);
        }
    }

    /// Asks for what is needed and no listing showed: it came after that, or a listing is late.
    pub(super) fn ask_for_unlisted(&mut self, vault: &Vault, cancel: &dyn Cancel) -> Result<()> {
        let count = self.unlisted_segments().count() + self.unlisted_indexes().count();
        if count > MOST_ASKED {
            // What is not needed was not there at first, and is of a run that is at work.
            let mut known = |one: Collectable| match one.object {
                Condemned::Segment(id) if !self.segments.all.contains_key(&id) => {}
                Condemned::Index(id) if !self.indexes.contains_key(&id) => {}
                Condemned::Segment(_) | Condemned::Index(_) => self.take(one),
                _ => {}
            };
            vault.each_collectable(cancel, &mut known)?;
        }
        let now = Timestamp::now();
        let there = |bytes| {
            Some(ListedLength {
                bytes: Bytes(bytes),
                put: now,
            })
        };
        let wanted: BTreeSet<_> = self.unlisted_segments().take(MOST_ASKED).collect();
        if !wanted.is_empty() {
            for (id, bytes) in vault.segment_sizes(&wanted, cancel)? {
                self.segments.all.entry(id).or_default().listed = there(bytes);
            }
        }
        let wanted: BTreeSet<_> = self.unlisted_indexes().take(MOST_ASKED).collect();
        if !wanted.is_empty() {
            for (id, bytes) in vault.index_sizes(&wanted, cancel)? {
                self.indexes.entry(id).or_default().listed = there(bytes);
            }
        }
        Ok(())
    }

    fn unlisted_segments(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let all = self.segments.all.iter();
        all.filter(|(_, needs)| needs.listed.is_none())
            .map(|(id, _)| *id)
    }

    fn unlisted_indexes(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let all = self.indexes.iter();
        all.filter(|(_, object)| object.listed.is_none())
            .map(|(id, _)| *id)
    }

    /// Adds up whose what is.
    pub(super) fn add_up(
        &self,
        people: &mut People,
        found: &mut VaultHoldings,
        rule: UnneededRule,
        lately: &mut StoredLately,
    ) {
        self.add_up_segments(people, found, rule, lately);
        let mut sums = Sums {
            people,
            found,
            rule,
        };
        for (id, object) in &self.indexes {
            if object.listed.is_none() {
                sums.miss(format!("index {id}"));
            }
            sums.small(object, &|amount| Tally {
                indexes: amount,
                ..Tally::default()
            });
        }
        for object in self.copies.values() {
            // Readers do without those that are gone.
            sums.small(object, &|amount| Tally {
                copies: amount,
                ..Tally::default()
            });
        }
        let numbers = sums.people.snapshots.iter().map(|one| one.id).zip(0..);
        let numbers: HashMap<SnapshotId, u32> = numbers.collect();
        for keep in &self.keeps {
            let by = match numbers.get(&keep.snapshot) {
                Some(number) => Needer::Snapshot(*number),
                // It may be of one that could not be read.
                None if !sums.rule.all_read => Needer::Several,
                None => Needer::Nobody,
            };
            let listed = Some(keep.listed);
            let object = SmallObject { listed, by };
            sums.small(&object, &|amount| Tally {
                keeps: amount,
                ..Tally::default()
            });
        }
        for manifest in &self.manifests {
            sums.whole(Needer::Snapshot(manifest.snapshot), manifest.length);
        }
    }

    fn add_up_segments(
        &self,
        people: &mut People,
        found: &mut VaultHoldings,
        rule: UnneededRule,
        lately: &mut StoredLately,
    ) {
        let mut sums = Sums {
            people,
            found,
            rule,
        };
        for (id, needs) in &self.segments.all {
            let by = needs.needer(&sums.people.kin);
            let Some(listed) = needs.listed.filter(|listed| {
                by == Needer::Nobody || lengths_with(needs.slots()).contains(&listed.bytes.0)
            }) else {
                sums.miss(format!("segment {id}"));
                continue;
            };
            let tally = |amount| Tally {
                segments: amount,
                ..Tally::default()
            };
            sums.tally(by, listed, &tally);
            if by != Needer::Nobody || !rule.may_be_at_work(listed) {
                lately.add(needs, listed, &sums.people.kin);
            }
            if by == Needer::Nobody {
                continue;
            }
            sums.people.credit(by, &|one| {
                one.freed = saturating(one.freed, listed.bytes);
                one.unique = saturating(one.unique, listed.bytes);
            });
            let mut live = Bytes(0);
            for share in needs.shares() {
                live += share.bytes;
                let bytes = share.bytes;
                let count = |one: &mut Holding| one.unique = saturating(one.unique, bytes);
                sums.people.credit_part(share.by, by, &count);
                if share.by == Needer::Several {
                    sums.found.shared += bytes;
                }
            }
            sums.found.dead += Bytes(listed.bytes.0.saturating_sub(live.0));
        }
    }
}

/// What is added up.
struct Sums<'a> {
    people: &'a mut People,
    found: &'a mut VaultHoldings,
    rule: UnneededRule,
}

impl Sums<'_> {
    /// Something is needed and not there.
    fn miss(&mut self, name: String) {
        let missing = &mut self.found.missing;
        missing.objects += 1;
        if missing.first.len() < MOST_NAMES {
            missing.first.push(name);
        }
    }

    /// An object that goes with who needs it.
    fn small(&mut self, object: &SmallObject, tally: &dyn Fn(Amount) -> Tally) {
        if let Some(listed) = object.listed {
            self.tally(object.by, listed, tally);
            if object.by != Needer::Nobody {
                self.whole(object.by, listed.bytes);
            }
        }
    }

    fn whole(&mut self, by: Needer, bytes: Bytes) {
        self.people.credit(by, &|one| {
            one.freed = saturating(one.freed, bytes);
            one.unique = saturating(one.unique, bytes);
        });
        if by == Needer::Several {
            self.found.shared += bytes;
        }
    }

    fn tally(&mut self, by: Needer, listed: ListedLength, tally: &dyn Fn(Amount) -> Tally) {
        let sum = match by {
            Needer::Nobody if self.rule.may_be_at_work(listed) => &mut self.found.at_work,
            Needer::Nobody => &mut self.found.unneeded,
            _ => &mut self.found.needed,
        };
        *sum += tally(Amount {
            objects: 1,
            bytes: listed.bytes,
        });
    }
}
