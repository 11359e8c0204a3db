//! A walk through the trees of index objects, in which each is met once. On the way down it knows
//! the map of the disk, and so how much each copy holds; on the way up who sees what each object
//! says. It must never leave a copy out that sees something: what it could not read hides nothing.

use super::needer::{Kinship, Needer};
use super::seen::SeenFromBelow;
use super::segments::Segments;
use crate::error::{Error, ErrorKind};
use crate::model::{BlockIndex, Bytes, Content, Run, RunMap, block_len};

/// What a run of blocks takes in memory, in bytes, and a piece of what is seen.
const RUN_BYTES: u64 = 64;
const PIECE_BYTES: u64 = 24;

/// What is to be known of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CopyHolds {
    /// What its blocks with data hold.
    pub(super) logical: Bytes,
    /// Not all of its map could be read.
    pub(super) is_unread: bool,
}

/// A place in the trees.
#[derive(Clone, Copy, Debug)]
pub(super) struct WalkNode<'a> {
    /// How many come before it in its list.
    pub(super) depth: usize,
    /// Blocks of the disk.
    pub(super) blocks: u64,
    /// The copies whose lists end here.
    pub(super) copies: &'a [u32],
}

/// A walk.
pub(super) struct HoldingsWalk<'a> {
    pub(super) kin: &'a Kinship,
    pub(super) segments: &'a mut Segments,
    /// By the copies' numbers.
    pub(super) holds: &'a mut [CopyHolds],
    /// Lengths of disks, by the copies' numbers.
    pub(super) sizes: &'a [Bytes],
    path: Vec<WalkedPart>,
    /// The map of the disk where it stands, and how many blocks of it have data.
    whole: RunMap,
    data: u64,
}

/// A node on the way from a root to where it stands.
struct WalkedPart {
    blocks: u64,
    map: RunMap,
    /// What it has laid itself over.
    hidden: Vec<Run>,
    /// Those whose lists end here.
    own: Needer,
    /// Who below sees what lies above them.
    below: SeenFromBelow,
    is_unread: bool,
}

impl<'a> HoldingsWalk<'a> {
    pub(super) fn new(
        kin: &'a Kinship,
        segments: &'a mut Segments,
        holds: &'a mut [CopyHolds],
        sizes: &'a [Bytes],
    ) -> Self {
        Self {
            kin,
            segments,
            holds,
            sizes,
            path: Vec::new(),
            whole: RunMap::new(),
            data: 0,
        }
    }

    /// Goes to a node, of whose parent it was told before. `None`: what it says cannot be read.
    pub(super) fn enter(&mut self, node: WalkNode<'_>, map: Option<RunMap>) {
        self.leave(node.depth);
        let is_unread = map.is_none() || self.path.last().is_some_and(|step| step.is_unread);
        let map = map.unwrap_or_default();
        let mut hidden = Vec::new();
        for run in map.iter() {
            hidden.extend(self.whole.iter_range(run.blocks()));
        }
        self.data += data_in(map.iter());
        self.data -= data_in(hidden.iter().copied());
        self.whole.overlay(&map);
        let mut own = Needer::Nobody;
        for copy in node.copies {
            own = self.kin.join(own, Needer::Copy(*copy));
            let logical = self.logical(node.blocks, *copy);
            if let Some(holds) = self.holds.get_mut(*copy as usize) {
                holds.logical = Bytes(holds.logical.0.saturating_add(logical.0));
                holds.is_unread |= is_unread;
            }
        }
        self.path.push(WalkedPart {
            blocks: node.blocks,
            map,
            hidden,
            own,
            below: SeenFromBelow::default(),
            is_unread,
        });
    }

    /// What the blocks with data hold: the last one of a disk may be short.
    fn logical(&self, blocks: u64, copy: u32) -> Bytes {
        let all = Bytes::of_blocks(self.data);
        let last = BlockIndex(blocks.saturating_sub(1));
        let size = self.sizes.get(copy as usize).copied().unwrap_or_default();
        match self.whole.get(last) {
            Some(Content::Data { .. }) => {
                Bytes(all.0 - (Bytes::of_blocks(1).0 - block_len(last, size).0))
            }
            _ => all,
        }
    }

    /// Goes back to this depth.
    pub(super) fn leave(&mut self, depth: usize) {
        while self.path.len() > depth {
            let Some(step) = self.path.pop() else { return };
            let WalkedPart {
                blocks,
                map,
                hidden,
                own,
                below: mut seen,
                ..
            } = step;
            if own != Needer::Nobody {
                seen.also_all(blocks, own, self.kin);
            }
            for run in map.iter() {
                seen.each(run.start.0..run.end(), &mut |blocks, by| {
                    let content = later(run.content, blocks.start - run.start.0);
                    let part = Run {
                        start: BlockIndex(blocks.start),
                        count: blocks.end - blocks.start,
                        content,
                    };
                    self.segments.add(part, by, self.kin);
                });
            }
            seen.hide(&map);
            if let Some(above) = self.path.last_mut() {
                above.below.also(&seen, self.kin);
            }
            self.data -= data_in(map.iter());
            self.data += data_in(hidden.iter().copied());
            for run in map.iter() {
                self.whole.remove(run.blocks());
            }
            hidden.into_iter().for_each(|run| self.whole.insert(run));
        }
    }

    /// About what it has in memory.
    pub(super) fn memory(&self) -> u64 {
        let steps = self.path.iter().map(|step| {
            let runs = step.map.len() + step.hidden.len();
            runs as u64 * RUN_BYTES + step.below.len() as u64 * PIECE_BYTES
        });
        let runs = self.whole.len() as u64 * RUN_BYTES;
        steps.sum::<u64>() + runs + self.segments.memory()
    }
}

/// Blocks with data.
fn data_in(runs: impl Iterator<Item = Run>) -> u64 {
    let data = runs.filter(|run| run.segment().is_some());
    data.map(|run| run.count).sum()
}

/// What a run that starts `blocks` later holds.
fn later(content: Content, blocks: u64) -> Content {
    match content {
        Content::Data { segment, slot } => Content::Data {
            segment,
            // Within a run of data, which has at most 16,384 blocks.
            slot: slot + blocks as u32,
        },
        other => other,
    }
}

/// What the walk has does not fit.
pub(super) fn too_large(most: u64) -> Error {
    let what = format!(
        "what this vault's snapshots need does not fit into a quarter of this host's memory ({} \
         MiB)",
        most >> 20
    );
    Error::new(ErrorKind::Unsupported, what).with_hint("run it on a host with more memory")
}
