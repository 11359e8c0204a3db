//! The host's tree, as a snapshot has it: which file a path leads to, what is in a directory, and
//! copies of trees. All goes by descriptors: what a path leads to is looked up once. It must never
//! follow a link out of the tree, write to it, or believe that names, depths and sizes are sane.

mod attributes;
mod copy;
mod data;
mod hard_links;
mod outcome;
mod remove;
mod slot;
mod source;
mod target;
mod trouble;
mod walk;

pub use copy::{TreeCopyOptions, TreeTarget, copy_tree};
pub use data::{DataFailure, copy_to_stream};
pub use outcome::{
    FailureCause, LeftOutPlace, LostAttribute, MAX_NAMED, TreeCopyOutcome, TreeFailure,
};
pub use source::{FilesystemRoots, NodeKind, NodeSeen, TreeNode, TreeSource, unreadable};
pub use walk::{MOST_DEEP, TreeStep, TreeWalk, WalkOrder};
