//! A disk of a snapshot as its readers see it: what the vault holds. Nothing that they do reaches
//! the vault.

use super::image::{Allocation, AllocationRun, Image};
use crate::error::Result;
use crate::model::{Bytes, Extent};
use std::time::Duration;

/// A disk that is served.
pub struct NbdDisk {
    /// The disk's name in the snapshot.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// What the vault holds of it.
    pub image: Image,
}

impl NbdDisk {
    /// The disk's size.
    pub fn size(&self) -> Bytes {
        self.image.size()
    }

    /// Fills `buffer` from `offset` on, or returns an error in time.
    pub fn read(&self, offset: Bytes, buffer: &mut [u8], patience: Duration) -> Result<()> {
        self.image.read_within(offset, buffer, patience)
    }

    /// What a part of it holds, as [`Image::allocation`].
    pub fn allocation(&self, place: Extent, most: usize) -> Result<Vec<AllocationRun>> {
        self.image.allocation(place, most)
    }

    /// Whether a part of it is known to be zeros.
    pub fn is_zeros(&self, place: Extent) -> bool {
        let Ok(runs) = self.allocation(place, 3) else {
            return false;
        };
        let zeros = runs.iter().filter(|run| run.kind != Allocation::Data);
        zeros.map(|run| run.length).sum::<Bytes>() == place.length
    }
}
