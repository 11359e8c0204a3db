//! Snapshots as things that are read in place, without restoring them. It must never hand out a
//! byte that was not checked, nor write to a vault.

mod fuse;
mod image;
mod nbd;
mod nbd_disk;
mod view;

pub use fuse::{FuseDevice, FuseServer, OVERLAY, OnFailure, RAW, ServeOptions, ServedDisk};
pub use image::{Allocation, AllocationRun, ChunkPool, Image};
pub use nbd::{ListenAddress, NbdLimits, NbdServer};
pub use nbd_disk::NbdDisk;
pub use view::{
    AttachOptions, AttachPart, AttachedFilesystem, View, ViewOptions, is_attachable, with_view,
};
