//! From blocks that were read to segments in the vault, on all cores and in bounded memory. It must
//! never decide which blocks to read.
//!
//! ```text
//! reader → [batches] → workers (zero? hash, compress) → assembler (order, segments) → [1] → putter
//! ```
//!
//! At most [`Pipeline::MAX_BATCHES`] batches are between reader and assembler, and three segments
//! after them.

mod assembler;
mod baseline;
mod passes;
mod pipeline;
mod worker;

pub use assembler::Captured;
pub use baseline::Baseline;
pub use passes::{Budget, Next, PassLog};
pub use pipeline::{Pipeline, PipelineOptions};
