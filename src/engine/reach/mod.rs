//! What the snapshots of a vault need, from their manifests and index objects alone: which objects,
//! and which slots of each segment. Each index object is read once. It must never call something
//! unneeded because it could not be read.
//!
//! The index objects of a disk are laid over one another, and a snapshot's list of them is its
//! parent's with some more. So the lists of all snapshots are a few trees, in which one walk meets
//! each object once. What an object adds at a snapshot is seen by that one, and by the next one as
//! far as that does not lay something over it.

mod live_slots;
pub(super) mod part_trees;

use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FooterCopiesRef, Manifest};
use crate::model::{Content, ObjectId, Run, RunMap, SnapshotId};
use crate::store::{SnapshotRef, Vault};
use crate::sys::memory;
use live_slots::LiveSlots;
use part_trees::{PartNode, PartTrees};
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

/// Who listens while it is read what snapshots need.
pub(super) trait ReachListener {
    /// A manifest, or an index object that this snapshot and maybe others need, cannot be read.
    fn unreadable(&mut self, snapshot: SnapshotId, error: Error) -> Result<()>;

    /// Manifests were read; index objects are about to be.
    fn named(&mut self, _found: &Reachable) -> Result<()> {
        Ok(())
    }
}

/// What snapshots need.
#[derive(Default)]
pub struct Reachable {
    /// Those that were read, by their numbers.
    snapshots: Vec<SnapshotRef>,
    /// The names that they bear, and have borne.
    names: HashSet<SnapshotId>,
    segments: HashMap<ObjectId, LiveSlots>,
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
        struct Strict;
        impl ReachListener for Strict {
            fn unreadable(&mut self, snapshot: SnapshotId, error: Error) -> Result<()> {
                Err(cannot_tell(error, snapshot))
            }
        }
        Self::read_telling(vault, snapshots, monitor, wait, &mut Strict)
    }

    /// The same as far as it can be read: what cannot, `listener` is told of, and its error ends
    /// it. Of a snapshot that it was told of not all is found that it needs.
    pub(super) fn read_telling(
        vault: &Vault,
        snapshots: Vec<SnapshotRef>,
        monitor: &dyn Monitor,
        wait: &dyn Fn(Duration) -> Result<()>,
        listener: &mut dyn ReachListener,
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
                    Err(error) => listener.unreadable(snapshot.id, error)?,
                }
            }
            left = gone;
        }
        found.gone = left;
        let nodes = trees.into_nodes();
        monitor.tell(Event::Phase(RunPhase::ReadingIndexes(nodes.len())));
        found.indexes.extend(nodes.iter().map(|node| node.id));
        listener.named(&found)?;
        found.walk(vault, &nodes, monitor, listener)?;
        Ok(found)
    }

    fn take(&mut self, snapshot: SnapshotRef, manifest: &Manifest, trees: &mut PartTrees) {
        let number = self.snapshots.len() as u32;
        for disk in &manifest.disks {
            trees.add(number, disk);
            let copies = disk.footers.iter();
            self.copies.extend(copies.copied().map(CopiesName::from));
        }
        self.names.extend(manifest.borne());
        self.names.insert(snapshot.id);
        self.snapshots.push(snapshot);
    }

    fn walk(
        &mut self,
        vault: &Vault,
        nodes: &[PartNode],
        monitor: &dyn Monitor,
        listener: &mut dyn ReachListener,
    ) -> Result<()> {
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
            let map = match (map, snapshot) {
                (Ok(map), _) => map,
                (Err(error), None) => return Err(error),
                (Err(error), Some(snapshot)) => {
                    listener.unreadable(snapshot.id, error)?;
                    // What lies beneath it counts.
                    RunMap::new()
                }
            };
            walk.enter(node, &map);
            match walk.bytes() <= most {
                true => Ok(()),
                false => Err(too_large(most)),
            }
        })?;
        Ok(())
    }

    /// The snapshots that were read.
    pub fn snapshots(&self) -> &[SnapshotRef] {
        &self.snapshots
    }

    /// Whether one of them bears or has borne this name: what keeps that keeps it.
    pub fn has_name(&self, id: SnapshotId) -> bool {
        self.names.contains(&id)
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
        self.segments.get(&id).map_or(0, LiveSlots::count)
    }

    /// The slots of a segment that are needed, ascending; none touches the next.
    pub fn needed_slots(&self, id: ObjectId) -> Vec<Range<u32>> {
        self.segments
            .get(&id)
            .map_or_else(Vec::new, LiveSlots::ranges)
    }

    /// The segments of which something is needed.
    pub fn segments(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.segments.keys().copied()
    }

    /// Whether a manifest names this index object.
    pub fn has_index(&self, id: ObjectId) -> bool {
        self.indexes.contains(&id)
    }

    /// The index objects that manifests name.
    pub fn indexes(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.indexes.iter().copied()
    }

    /// The objects of copies of footers that manifests name.
    pub fn copies(&self) -> impl Iterator<Item = CopiesName> + '_ {
        self.copies.iter().copied()
    }

    /// Whether a manifest names this object of copies of footers.
    pub fn has_copies(&self, copies: CopiesName) -> bool {
        self.copies.contains(&copies)
    }

    fn add(&mut self, run: Run) {
        if let Content::Data { segment, slot } = run.content {
            let live = self.segments.entry(segment).or_default();
            let more = live.add(slot..slot + run.count as u32);
            self.rows = self.rows.saturating_add_signed(more as i64);
        }
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
    /// How many of its children were not entered yet.
    children: u32,
}

impl Walk<'_> {
    /// A snapshot needs what was laid since the one before it on the way, and of what that one
    /// needs the rest, which is counted.
    fn enter(&mut self, node: &PartNode, map: &RunMap) {
        self.path.truncate(node.depth);
        let mut fresh = match self.path.last_mut() {
            None => RunMap::new(),
            Some(above) => {
                above.children = above.children.saturating_sub(1);
                match above.children {
                    // Nobody asks the one above again.
                    0 => std::mem::take(&mut above.fresh),
                    _ => above.fresh.clone(),
                }
            }
        };
        fresh.overlay(map);
        if node.snapshots > 0 {
            std::mem::take(&mut fresh)
                .iter()
                .for_each(|run| self.found.add(run));
        }
        self.path.push(WalkStep {
            fresh,
            children: node.children,
        });
    }

    fn bytes(&self) -> u64 {
        let runs = self.path.iter().map(|step| step.fresh.len());
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
