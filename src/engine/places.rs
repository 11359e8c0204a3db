//! Where Stillpoint keeps what it needs on the host.

use crate::track::PinDir;
use std::path::PathBuf;

/// Directories and programs that a run uses on the host.
#[derive(Clone, Debug)]
pub struct Places {
    /// Locks and records of freezes: a directory in memory.
    pub run_dir: PathBuf,
    /// Where the tracking programs and maps are pinned.
    pub pins: PinDir,
    /// Notes of what runs have put: a directory that outlives a boot.
    pub notes: PathBuf,
    /// The program that becomes the guardian.
    pub program: PathBuf,
}
