//! The words of the trade as types: units, blocks, runs, ids, levels. No I/O here, ever.

mod blocks;
mod cancel;
mod clip;
mod counted;
mod disk;
pub mod exit;
mod id;
mod level;
mod lock;
mod meter;
pub mod printable;
mod requests;
mod runs;
mod units;
mod witness;

pub use blocks::BlockSet;
pub use cancel::Cancel;
pub use clip::clip;
pub use counted::counted;
pub use disk::{DevNumber, DiskIdentity, Likeness};
pub use id::{ObjectId, SnapshotId};
pub use level::{Level, Mode};
pub use lock::{LockMode, LockRule, ObjectRetention};
pub use meter::Meter;
pub use requests::RequestCounts;
pub use runs::{Content, Run, RunMap};
pub use units::{
    BLOCK_SIZE, BlockIndex, BlockRange, Bytes, Extent, SECTOR_SIZE, Sectors, block_count, block_len,
};
pub use witness::{CutName, Epoch, Witness};
