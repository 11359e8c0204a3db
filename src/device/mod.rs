//! The disks of this host: which there are, what lives on them, how their blocks are read.

mod claim;
mod disk;
mod facts;
mod filesample;
mod filesystem;
mod freespace;
mod freezeset;
mod ground;
mod host;
mod identity;
mod journal;
mod kind;
mod layout;
mod lineage;
mod mountinfo;
mod mounts;
mod name;
mod occupied;
pub mod read;
mod resolve;
mod shadow;
mod signature;
mod swap;
mod table;
mod topology;
mod twin;
mod usage;
mod writers;

pub use claim::Claim;
pub use disk::{Disk, Partition};
pub use facts::{Cgroups, Facts, Finding};
pub use filesample::blocks_of_files;
pub use filesystem::{Direct, Filesystem, Mount};
pub use freespace::{
    Answer, Believed, FreeDoubt, FreeSpace, free_blocks, free_space, free_while_frozen,
};
pub use freezeset::{Freezable, FreezeSet, filesystems_on, freezable};
pub use ground::Ground;
pub use host::Host;
pub use kind::Kind;
pub use layout::HostLayout;
pub use mounts::Mounts;
pub use occupied::{Aim, Occupied};
pub use signature::{Contents, Signature, contents, signature};
pub use swap::{Swap, swapped_extents, swapped_now, swaps};
pub use table::{NoTables, OpenDisk, ReadSeek, has_mbr, table_id};
pub use topology::{Device, Topology};
pub use twin::OtherWay;
pub use usage::{Use, in_use};
