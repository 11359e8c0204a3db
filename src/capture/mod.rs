//! From blocks that were read to segments in the vault, on all cores and in bounded memory. It must
//! never decide which blocks to read.
//!
//! ```text
//! reader → [batches] → workers (zero? hash, compress) → assembler (order, segments) → putters
//! ```
//!
//! At most [`Pipeline::MAX_BATCHES`] batches are between reader and assembler. After them are the
//! segment that is being made, and one for each putter.

mod assembler;
mod baseline;
mod passes;
mod pipeline;
mod spare;
mod worker;

pub use assembler::Captured;
pub use baseline::{Baseline, KnownBlock, Lost};
pub use passes::{Budget, LITTLE, Next, PassLog};
pub use pipeline::{Pipeline, PipelineOptions};
pub use worker::InVault;
