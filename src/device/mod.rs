//! The disks of this host: which there are, what lives on them, how their blocks are read.

mod disk;
mod host;
mod identity;
mod table;
mod topology;

pub use disk::{Disk, Partition};
pub use host::Host;
pub use table::{NoTables, OpenDisk, ReadSeek, table_id};
pub use topology::{Device, Kind, Topology};
