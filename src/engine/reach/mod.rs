//! What the snapshots of a vault need, from their manifests and index objects alone: which objects,
//! which slots of each segment, and which slots one snapshot alone needs. Each index object is read
//! once. It must never call something unneeded because it could not be read.
//!
//! The index objects of a disk are laid over one another, and a snapshot's list of them is its
//! parent's with some more. So the lists of all snapshots are a few trees, in which one walk meets
//! each object once. What an object adds at a snapshot is seen by that one, and by the next one as
//! far as that does not lay something over it.

pub(super) mod part_trees;
mod slot_owners;

use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FooterCopiesRef, Manifest};
use crate::model::{Content, ObjectId, Run, RunMap, SnapshotId};
use crate::store::{SnapshotRef, Vault};
use crate::sys::memory;
use part_trees::{PartNode, PartTrees};
use slot_owners::{SlotOwner, SlotOwners};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

/// What a segment takes in memory, and a row of its slots, in bytes.
const SEGMENT_BYTES: u64 = 112;
const ROW_BYTES: u64 = 16;
/// What a run of blocks takes, in bytes.
const RUN_BYTES: u64 = 64;
/// How often a manifest that is not there is asked for, and the time between: one answer may be of
/// a proxy that has lost its way, or of a copy of the store that lags behind.
const ASKED: u32 = 3;
const AGAIN: Duration = Duration::from_secs(2);
/// What a host with little memory may use.
const LEAST_MEMORY: u64 = 256 << 20;

/// What snapshots need.
#[derive(Default)]
pub struct Reachable {
    /// Those that were read, by their numbers.
    snapshots: Vec<SnapshotRef>,
    segments: HashMap<ObjectId, SlotOwners>,
    indexes: HashSet<ObjectId>,
    /// Objects of copies of footers: the run's name, and the number among those of the run.
    copies: HashSet<CopiesName>,
    rows: u64,
    /// Those whose manifests were not there.
    gone: Vec<SnapshotRef>,
}

/// What an object of copies of footers is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopiesName {
    /// The run that has put it.
    pub run: SnapshotId,
    /// Its number among those of the run.
    pub part: u32,
}

impl From<FooterCopiesRef> for CopiesName {
    fn from(copies: FooterCopiesRef) -> Self {
        let FooterCopiesRef { run, part, .. } = copies;
        Self { run, part }
    }
}

impl Reachable {
    /// Reads what these snapshots need. Those that are [gone](Self::gone) are left out, and it is
    /// for the caller to find out whether they were deleted: a store, or what stands before it, may
    /// say of any object that it is not there. `wait`: between two questions for the same one.
    ///
    /// # Errors
    /// A manifest or an index object cannot be read: it may need anything.
    pub fn read(
        vault: &Vault,
        snapshots: Vec<SnapshotRef>,
        monitor: &dyn Monitor,
        wait: &dyn Fn(Duration) -> Result<()>,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut trees = PartTrees::default();
        monitor.tell(Event::Phase(RunPhase::ReadingManifests(snapshots.len())));
        let mut left = snapshots;
        for look in 0..ASKED {
            if look > 0 && !left.is_empty() {
                wait(AGAIN)?;
            }
            let mut gone = Vec::new();
            for (snapshot, manifest) in vault.manifests(left) {
                monitor.check()?;
                match manifest {
                    Ok(manifest) => found.take(snapshot, &manifest, &mut trees),
                    Err(error) if error.kind() == ErrorKind::NotFound => gone.push(snapshot),
                    Err(error) => return Err(cannot_tell(error, snapshot.id)),
                }
            }
            left = gone;
        }
        found.gone = left;
        let nodes = trees.into_nodes();
        monitor.tell(Event::Phase(RunPhase::ReadingIndexes(nodes.len())));
        found.indexes.extend(nodes.iter().map(|node| node.id));
        found.walk(vault, &nodes, monitor)?;
        Ok(found)
    }

    fn take(&mut self, snapshot: SnapshotRef, manifest: &Manifest, trees: &mut PartTrees) {
        let number = self.snapshots.len() as u32;
        for disk in &manifest.disks {
            trees.add(number, disk);
            let copies = disk.footers.iter();
            self.copies.extend(copies.copied().map(CopiesName::from));
        }
        self.snapshots.push(snapshot);
    }

    fn walk(&mut self, vault: &Vault, nodes: &[PartNode], monitor: &dyn Monitor) -> Result<()> {
        let parts: Vec<_> = nodes.iter().map(|node| (node.id, node.blocks)).collect();
        let most = memory::total()
            .map_or(0, |total| total.0 / 4)
            .max(LEAST_MEMORY);
        let mut walk = Walk {
            found: self,
            path: Vec::new(),
        };
        let mut nodes = nodes.iter();
        vault.read_index_parts(&parts, monitor, &mut |_, map| {
            // As many answers as there are nodes, in their order.
            let Some(node) = nodes.next() else {
                return Ok(());
            };
            let snapshot = walk.found.snapshots.get(node.first as usize);
            let map = map.map_err(|error| match snapshot {
                Some(snapshot) => cannot_tell(error, snapshot.id),
                None => error,
            })?;
            walk.enter(node, &map);
            match walk.bytes() <= most {
                true => Ok(()),
                false => Err(too_large(most)),
            }
        })?;
        walk.leave(0);
        Ok(())
    }

    /// The snapshots that were read.
    pub fn snapshots(&self) -> &[SnapshotRef] {
        &self.snapshots
    }

    /// The snapshots whose manifests were not there, however often they were asked for.
    pub fn gone(&self) -> &[SnapshotRef] {
        &self.gone
    }

    /// Whether a snapshot needs something of this segment.
    pub fn has_segment(&self, id: ObjectId) -> bool {
        self.segments.contains_key(&id)
    }

    /// How many slots of a segment are needed.
    pub fn live_slots(&self, id: ObjectId) -> u32 {
        self.segments.get(&id).map_or(0, SlotOwners::live)
    }

    /// The slots of a segment that are needed, ascending; none touches the next.
    pub fn needed_slots(&self, id: ObjectId) -> Vec<Range<u32>> {
        self.segments
            .get(&id)
            .map_or_else(Vec::new, SlotOwners::ranges)
    }

    /// The segments of which something is needed.
    pub fn segments(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.segments.keys().copied()
    }

    /// Whether a manifest names this index object.
    pub fn has_index(&self, id: ObjectId) -> bool {
        self.indexes.contains(&id)
    }

    /// Whether a manifest names this object of copies of footers.
    pub fn has_copies(&self, copies: CopiesName) -> bool {
        self.copies.contains(&copies)
    }

    /// Calls `take` for the slots of each segment that one snapshot alone needs: the snapshot's
    /// place among [`Self::snapshots`], the segment, and how many slots. What two disks or
    /// snapshots that are no line of descent have in common may be left out.
    pub fn each_alone(&self, take: &mut dyn FnMut(usize, ObjectId, u32)) {
        for (id, owners) in &self.segments {
            owners
                .alone()
                .for_each(|(number, slots)| take(number as usize, *id, slots));
        }
    }

    fn add(&mut self, run: Run, owner: SlotOwner) {
        if let Content::Data { segment, slot } = run.content {
            let owners = self.segments.entry(segment).or_default();
            let more = owners.add(slot..slot + run.count as u32, owner);
            self.rows = self.rows.saturating_add_signed(more as i64);
        }
    }

    fn add_all(&mut self, map: &RunMap, owner: SlotOwner) {
        map.iter().for_each(|run| self.add(run, owner));
    }
}

/// A walk through the trees, from their roots on.
struct Walk<'a> {
    found: &'a mut Reachable,
    /// The nodes from the root to where it stands.
    path: Vec<WalkStep>,
}

/// A node on the way.
#[derive(Default)]
struct WalkStep {
    /// What was laid since the last snapshot on the way, this node's included.
    fresh: RunMap,
    /// What the last snapshot on the way has added, and who it is: not counted yet.
    added: Option<(RunMap, SlotOwner)>,
    /// How many of its children were not entered yet.
    children: u32,
}

impl Walk<'_> {
    fn enter(&mut self, node: &PartNode, map: &RunMap) {
        self.leave(node.depth);
        let mut step = match self.path.last_mut() {
            None => WalkStep::default(),
            Some(above) => {
                above.children = above.children.saturating_sub(1);
                match above.children {
                    // Nobody asks the one above again.
                    0 => WalkStep {
                        fresh: std::mem::take(&mut above.fresh),
                        added: above.added.take(),
                        children: 0,
                    },
                    _ => WalkStep {
                        fresh: above.fresh.clone(),
                        added: None,
                        children: 0,
                    },
                }
            }
        };
        step.fresh.overlay(map);
        step.children = node.children;
        if node.snapshots > 0 {
            let owner = match node.snapshots {
                1 => SlotOwner::One(node.first),
                _ => SlotOwner::Several,
            };
            let fresh = std::mem::take(&mut step.fresh);
            if let Some((added, before)) = step.added.take() {
                self.count(added, before, &fresh);
            }
            step.added = Some((fresh, owner));
            if node.children > 1 {
                // Which of it all children hide is not worth to know.
                self.settle(&mut step, SlotOwner::Several);
            }
        } else if node.children > 1 {
            self.settle(&mut step, SlotOwner::Several);
        }
        self.path.push(step);
    }

    fn settle(&mut self, step: &mut WalkStep, owner: SlotOwner) {
        if let Some((added, _)) = step.added.take() {
            self.found.add_all(&added, owner);
        }
    }

    /// Counts what a snapshot has added, now that the next one is known, which lays `over` over it.
    fn count(&mut self, mut added: RunMap, owner: SlotOwner, over: &RunMap) {
        for run in over.iter() {
            let hidden: Vec<Run> = added.iter_range(run.blocks()).collect();
            hidden.iter().for_each(|run| self.found.add(*run, owner));
            added.remove(run.blocks());
        }
        self.found.add_all(&added, SlotOwner::Several);
    }

    /// Goes back to this depth: what is left has no next snapshot.
    fn leave(&mut self, depth: usize) {
        for step in self.path.drain(depth.min(self.path.len())..).rev() {
            if let Some((added, owner)) = step.added {
                self.found.add_all(&added, owner);
            }
        }
    }

    fn bytes(&self) -> u64 {
        let runs = self
            .path
            .iter()
            .map(|step| step.fresh.len() + step.added.as_ref().map_or(0, |(added, _)| added.len()));
        let runs = runs.sum::<usize>() as u64;
        let segments = self.found.segments.len() as u64;
        runs * RUN_BYTES + segments * SEGMENT_BYTES + self.found.rows * ROW_BYTES
    }
}

fn too_large(most: u64) -> Error {
    let what = format!(
        "what this vault's snapshots need does not fit into a quarter of this host's memory ({} \
         MiB)",
        most >> 20
    );
    Error::new(ErrorKind::Unsupported, what).with_hint("run it on a host with more memory")
}

/// What a snapshot needs is not known: nothing may be called unneeded.
fn cannot_tell(error: Error, snapshot: SnapshotId) -> Error {
    if !matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) {
        return error;
    }
    let error = error.and_said(format!(
        "what snapshot {snapshot} needs is not known, so nothing can be called unneeded"
    ));
    match error.kind() {
        ErrorKind::Format => error,
        _ => error.with_hint(format!(
            "`stillpoint verify` says more; a mirror may have it whole; without it, `stillpoint \
             delete {snapshot}` gives the snapshot up"
        )),
    }
}

/// The store says both of a manifest.
pub(super) fn listed_and_not_there(snapshot: SnapshotId) -> Error {
    let what = format!(
        "the store lists the manifest of {snapshot}, and says that it is not there when it is \
         asked for it"
    );
    cannot_tell(Error::new(ErrorKind::Damaged, what), snapshot)
}
