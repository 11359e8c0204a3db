//! The disks of this host: which there are, what lives on them, how their blocks are read.

mod alias;
mod attributes;
mod backing;
mod disk;
mod filesample;
mod filesystem;
mod freespace;
mod freezeset;
mod host;
mod host_checks;
mod identity;
mod journal;
mod kind;
mod layout;
mod mountinfo;
mod mounts;
mod name;
mod obstacle;
mod opaque_use;
mod overmount;
mod overwrite;
pub mod read;
mod resolve;
mod signature;
mod stacking;
mod swap;
mod table;
mod topology;
mod usage;
mod writers;

pub use alias::Alias;
pub use attributes::{Attributes, SectorCounts};
pub use backing::Backing;
pub use disk::{Disk, Partition, TOO_LARGE};
pub use filesample::blocks_of_files;
pub use filesystem::{Direct, Filesystem, Mount, OtherMount};
pub use freespace::{
    Believed, FreeAnswer, FreeDoubt, FreeSpace, free_blocks, free_space, free_while_frozen,
};
pub use freezeset::{Freezable, FreezeSet, filesystems_on, freezable};
pub use host::Host;
pub use host_checks::{Cgroups, Finding, HostChecks};
pub use kind::DeviceKind;
pub use layout::HostLayout;
pub use mountinfo::{foreign_namespaces, other_roots};
pub use mounts::Mounts;
pub use obstacle::DiskObstacle;
pub use opaque_use::OpaqueUse;
pub use overwrite::{OverwriteCheck, OverwriteTarget};
pub use signature::{Contents, Signature, contents, signature};
pub use swap::{Swap, swapped_extents, swapped_now, swaps};
pub use table::{NoTables, OpenDisk, ReadSeek, has_mbr, table_id};
pub use topology::{Device, Topology};
pub use usage::{Use, in_use};
