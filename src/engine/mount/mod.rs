//! The files of a snapshot, by the kernel's own drivers: which filesystems there are, where the
//! host had them, and how they are attached read-only. Nothing is written to a vault.

mod contents;
mod disk_bytes;
mod homes;
mod look;
mod plan;
mod tree;

pub use look::{LookIntoOptions, SnapshotLook, look_into};
pub use plan::{MountPlace, MountPlan, NotShown, PlannedDisk, PlannedFilesystem};
pub use tree::{HostTree, ShownMount};
