//! Volumes of LVM inside a snapshot, put together by what stands on its disks. It asks neither the
//! host's LVM nor its device mapper, and shows them nothing: no device ever has a label of LVM's on
//! it, so that what has the same UUIDs here is not mistaken for its copy. It only reads.

mod assemble;
mod group;
mod label;
mod text;

pub use assemble::{LvmPool, mapper_name};
pub use group::{ExtentArea, GroupMember, LogicalPart, LogicalVolume, VolumeGroup};
pub use label::PhysicalLabel;
