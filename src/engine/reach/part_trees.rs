//! The lists of index objects of all disks of all snapshots, as trees: lists that begin alike share
//! the nodes of their beginning. Nothing is read here.

use crate::format::DiskRecord;
use crate::model::{ObjectId, block_count};
use std::collections::HashMap;

/// An index object at its place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartNode {
    pub(super) id: ObjectId,
    /// Of its disk.
    pub(super) blocks: u64,
    /// How many come before it in its list.
    pub(super) depth: usize,
    /// How many lists, one or more snapshots each, go on from here in another way.
    pub(super) children: u32,
    /// How many lists end here.
    pub(super) snapshots: u32,
    /// The number of the first snapshot that has it.
    pub(super) first: u32,
}

/// All lists.
#[derive(Default)]
pub(super) struct PartTrees {
    lists: Vec<PartList>,
    /// Each name once.
    numbers: HashMap<ObjectId, u32>,
    names: Vec<ObjectId>,
}

/// One disk's list in one snapshot.
struct PartList {
    snapshot: u32,
    blocks: u64,
    parts: Vec<u32>,
}

impl PartTrees {
    /// Adds a disk of a snapshot.
    pub(super) fn add(&mut self, snapshot: u32, disk: &DiskRecord) {
        let parts = disk.index.iter().map(|part| {
            *self.numbers.entry(part.id).or_insert_with(|| {
                self.names.push(part.id);
                self.names.len() as u32 - 1
            })
        });
        let parts = parts.collect();
        self.lists.push(PartList {
            snapshot,
            blocks: block_count(disk.identity.size),
            parts,
        });
    }

    /// All nodes, each before its children, and each tree and subtree in one piece.
    pub(super) fn into_nodes(mut self) -> Vec<PartNode> {
        // Lists that begin alike stand beside one another, the shorter ones first.
        self.lists
            .sort_by(|a, b| (a.blocks, &a.parts).cmp(&(b.blocks, &b.parts)));
        let mut nodes: Vec<PartNode> = Vec::new();
        let mut path: Vec<usize> = Vec::new();
        let mut before: Option<&PartList> = None;
        for list in &self.lists {
            let alike = before.filter(|before| before.blocks == list.blocks);
            let common = alike.map_or(0, |before| {
                let both = before.parts.iter().zip(&list.parts);
                both.take_while(|(a, b)| a == b).count()
            });
            path.truncate(common);
            for (depth, part) in list.parts.iter().enumerate().skip(common) {
                if let Some(above) = path.last() {
                    nodes[*above].children += 1;
                }
                path.push(nodes.len());
                nodes.push(PartNode {
                    id: self.names[*part as usize],
                    blocks: list.blocks,
                    depth,
                    children: 0,
                    snapshots: 0,
                    first: list.snapshot,
                });
            }
            if let Some(last) = path.last() {
                let node = &mut nodes[*last];
                if node.snapshots == 0 {
                    node.first = list.snapshot;
                }
                node.snapshots += 1;
            }
            before = Some(list);
        }
        nodes
    }
}
