//! How a disk is opened and read.

use super::{BufferPool, ReadCounter};
use std::sync::Arc;

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring where the host has it, threads otherwise.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Threads that call `pread`.
    Threads,
}

/// How a disk is opened and read.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// What is read into. Readers may share one.
    pub pool: BufferPool,
    /// How many reads are in flight at most (1 to 256).
    pub depth: usize,
    /// How to read.
    pub engine: EngineChoice,
    /// Accept a regular file too, as a disk with this logical block (a power of two from 512 on).
    pub regular_file: Option<u32>,
    /// Where reads are counted.
    pub counter: Arc<ReadCounter>,
}

impl ReaderOptions {
    /// Reads in flight when nothing else is asked for.
    pub const DEPTH: usize = 16;

    /// The usual choices.
    pub fn new(pool: BufferPool) -> Self {
        Self {
            pool,
            depth: Self::DEPTH,
            engine: EngineChoice::Auto,
            regular_file: None,
            counter: Arc::default(),
        }
    }
}
