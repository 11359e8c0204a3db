//! Snapshots as things that are read in place, without restoring them. It must never hand out a
//! byte that was not checked, nor write to a vault.

mod fields;
mod fuse;
mod host_places;
mod image;
mod in_place;
mod lvm;
mod mapped;
mod md;
mod nbd;
mod nbd_disk;
mod overlay;
mod tree;
mod view;

pub use fuse::{
    FuseDevice, FuseServer, OVERLAY, OnFailure, RAW, ReadFailure, ServeOptions, ServedDisk,
};
pub use host_places::{FilesystemName, HostMount, HostPlaces, RecordedFilesystem};
pub use image::{Allocation, AllocationRun, ChunkPool, Image, PlainPart};
pub use in_place::InPlace;
pub use lvm::{
    ExtentArea, GroupMember, LogicalPart, LogicalVolume, LvmPool, PhysicalLabel, VolumeGroup,
    mapper_name,
};
pub use mapped::{AssembledVolume, MappedArea, MappedPart, MappedVolume, MemberHome};
pub use md::{ArrayLabel, ArrayPool};
pub use nbd::{
    ListenAddress, NbdLimits, NbdServer, PairedServer, ServedFailure, ServerCertificates,
};
pub use nbd_disk::{NbdDisk, ReadPiece};
pub use overlay::{Overlay, OverlayOf};
pub use tree::{
    DataFailure, FailureCause, FilesystemRoots, LeftOutPlace, LostAttribute, MAX_NAMED, MOST_DEEP,
    NodeKind, NodeSeen, TreeCopyOptions, TreeCopyOutcome, TreeFailure, TreeNode, TreeSource,
    TreeStep, TreeTarget, TreeWalk, WalkOrder, copy_to_stream, copy_tree, unreadable,
};
pub use view::{
    AttachOptions, AttachPart, AttachedFilesystem, ClosedPart, View, ViewDeadline, ViewOptions,
    is_attachable, make_view, with_view,
};
