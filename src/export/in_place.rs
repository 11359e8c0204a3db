//! What is read of a snapshot at any offset: a disk, or what lies on disks with something between.

use crate::error::Result;
use crate::model::Bytes;
use std::time::Duration;

/// How long a read waits that names no limit: longer than a store is asked again and again.
pub(super) const PATIENCE: Duration = Duration::from_secs(360);

/// Bytes of a snapshot. Many threads may read them at once.
pub trait InPlace: Send + Sync {
    /// How many there are.
    fn size(&self) -> Bytes;

    /// Fills `buffer` from `offset` on. After `patience` an error of kind `Io` comes in place of
    /// the bytes, whatever the vault is doing.
    ///
    /// # Errors
    /// `Usage`: it is not all within it. `Damaged`: the vault has lost bytes of it. Else as for
    /// reading vaults. What is in the buffer means nothing then.
    fn read_within(&self, offset: Bytes, buffer: &mut [u8], patience: Duration) -> Result<()>;

    /// The same, with as much patience as a store may take.
    ///
    /// # Errors
    /// As [`Self::read_within`].
    fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        self.read_within(offset, buffer, PATIENCE)
    }
}
