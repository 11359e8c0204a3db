//! The lists of index objects of all disks of all snapshots, as trees: lists that begin alike share
//! the nodes of their beginning. Nothing is read here.

use crate::format::DiskRecord;
use crate::model::{ObjectId, block_count};
use std::collections::HashMap;

/// An index object at its place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct PartNode {
    pub(in crate::engine) id: ObjectId,
    /// Of its disk.
    pub(in crate::engine) blocks: u64,
    /// How many come before it in its list.
    pub(in crate::engine) depth: usize,
    /// How many lists, one or more snapshots each, go on from here in another way.
    pub(in crate::engine) children: u32,
    /// How many lists end here.
    pub(in crate::engine) snapshots: u32,
    /// The number of the first snapshot that has it.
    pub(in crate::engine) first: u32,
    /// Where those whose lists end here begin among the members of the forest.
    pub(in crate::engine) members: u32,
}

/// All trees.
pub(in crate::engine) struct PartForest {
    /// All nodes, each before its children, and each tree and subtree in one piece.
    pub(in crate::engine) nodes: Vec<PartNode>,
    /// The numbers with which lists were added; those of one node stand beside one another.
    pub(in crate::engine) members: Vec<u32>,
}

/// All lists.
#[derive(Default)]
pub(in crate::engine) struct PartTrees {
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

impl PartList {
    /// How many nodes it has in common with another one.
    fn common_with(&self, other: &Self) -> usize {
        if self.blocks != other.blocks {
            return 0;
        }
        let both = self.parts.iter().zip(&other.parts);
        both.take_while(|(a, b)| a == b).count()
    }
}

impl PartTrees {
    /// Adds a disk of a snapshot.
    pub(in crate::engine) fn add(&mut self, snapshot: u32, disk: &DiskRecord) {
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

    /// How many index objects are named.
    pub(in crate::engine) fn names(&self) -> usize {
        self.names.len()
    }

    /// All nodes, each before its children, and each tree and subtree in one piece.
    pub(in crate::engine) fn into_nodes(self) -> Vec<PartNode> {
        self.into_forest().nodes
    }

    /// Lists that begin alike stand beside one another, the shorter ones first.
    fn sort(&mut self) {
        self.lists
            .sort_by(|a, b| (a.blocks, &a.parts).cmp(&(b.blocks, &b.parts)));
    }

    /// How many nodes there will be: what they take can be known before they are made.
    pub(in crate::engine) fn count_nodes(&mut self) -> usize {
        self.sort();
        let mut before: Option<&PartList> = None;
        let new = self.lists.iter().map(|list| {
            let common = before.map_or(0, |before| list.common_with(before));
            before = Some(list);
            list.parts.len() - common
        });
        new.sum()
    }

    /// All nodes, and whose lists end at each.
    pub(in crate::engine) fn into_forest(mut self) -> PartForest {
        self.sort();
        let mut nodes: Vec<PartNode> = Vec::new();
        let mut path: Vec<usize> = Vec::new();
        let mut before: Option<&PartList> = None;
        for (number, list) in (0..).zip(&self.lists) {
            let common = before.map_or(0, |before| list.common_with(before));
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
                    members: 0,
                });
            }
            if let Some(last) = path.last() {
                let node = &mut nodes[*last];
                if node.snapshots == 0 {
                    node.first = list.snapshot;
                    node.members = number;
                }
                node.snapshots += 1;
            }
            before = Some(list);
        }
        PartForest {
            nodes,
            members: self.lists.iter().map(|list| list.snapshot).collect(),
        }
    }
}
