//! Which blocks of a disk changed since when, and whether that answer can be trusted. Programs in
//! the kernel (`bpf/cbt.bpf.c`) mark what changes; no process need run for that.

mod attached;
mod capacity;
mod disk;
mod kernel_log;
mod mark_layout;
mod names;
mod obstacles;
mod pins;
mod programs;
mod proof;
mod self_test;
mod source;
mod start;
mod tracker;

pub use disk::DiskTracker;
pub use obstacles::{Obstacle, obstacles, uncounted, unwatched};
pub use pins::PinDir;
pub use proof::{Moment, ProofFailure, changes_since, unbroken};
pub use self_test::SelfTest;
pub use source::{ChangeCounts, ChangeSource, CutName, Epoch, Recall, Witness};
pub use start::Started;
pub use tracker::{MarksId, TrackedDisk, TrackedStatus, Tracker};
