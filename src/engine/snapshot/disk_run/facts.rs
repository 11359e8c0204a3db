//! What is known of a disk of a run before it begins, for who warns and judges. It changes nothing.

use super::DiskRun;
use crate::engine::snapshot::packed_before::PackedBefore;
use crate::format::FilesystemRecord;

impl DiskRun {
    /// What was mounted on it when the run began.
    pub fn filesystems(&self) -> &[FilesystemRecord] {
        &self.options.filesystems
    }

    /// How its last snapshot was packed.
    pub fn packed_before(&self) -> Option<PackedBefore> {
        self.options.packed_before
    }
}
