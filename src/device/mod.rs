//! The disks of this host: which there are, what lives on them, how their blocks are read.

mod disk;
mod facts;
mod filesystem;
mod freespace;
mod freezeset;
mod host;
mod identity;
mod lineage;
mod mountinfo;
pub mod read;
mod table;
mod topology;
mod usage;

pub use disk::{Disk, Partition};
pub use facts::{Cgroups, Facts, Finding};
pub use filesystem::{Direct, Filesystem, Mount, Mounts};
pub use freespace::free_blocks;
pub use freezeset::{Freezable, FreezeSet, filesystems_on, freezable};
pub use host::Host;
pub use table::{NoTables, OpenDisk, ReadSeek, table_id};
pub use topology::{Device, Kind, Topology};
pub use usage::{Swap, Use, in_use, swapped_extents, swaps};
