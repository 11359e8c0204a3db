//! A disk of a snapshot as its clients see it: what the vault holds, and over that what they have
//! written, if they may write. Nothing that they do reaches the vault.

use super::image::{Allocation, AllocationRun, Image};
use super::overlay::Overlay;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Cancel, Extent};
use std::time::Duration;

/// A disk that is served.
pub struct NbdDisk {
    /// The disk's name in the snapshot.
    pub name: String,
    /// What it is, for people.
    pub description: String,
    /// What the vault holds of it.
    pub image: Image,
    /// Where what is written goes; `None`: nothing can be written.
    pub overlay: Option<Overlay>,
}

impl NbdDisk {
    /// The disk's size.
    pub fn size(&self) -> Bytes {
        self.image.size()
    }

    /// Whether clients may write.
    pub fn is_writable(&self) -> bool {
        self.overlay.is_some()
    }

    /// Fills `buffer` from `offset` on, or returns an error in time.
    pub fn read(&self, offset: Bytes, buffer: &mut [u8], patience: Duration) -> Result<()> {
        match &self.overlay {
            Some(overlay) => overlay.read(&self.image, offset, buffer, patience),
            None => self.image.read_within(offset, buffer, patience),
        }
    }

    /// Writes bytes, as [`Overlay::write`].
    pub fn write(&self, offset: Bytes, bytes: &[u8], patience: Duration) -> Result<()> {
        self.overlay()?.write(&self.image, offset, bytes, patience)
    }

    /// Writes zeros, as [`Overlay::zero`].
    pub fn zero(
        &self,
        place: Extent,
        keep_room: bool,
        patience: Duration,
        cancel: &dyn Cancel,
    ) -> Result<()> {
        self.overlay()?
            .zero(&self.image, place, keep_room, patience, cancel)
    }

    /// Gives up what is in a place, as [`Overlay::trim`].
    pub fn trim(&self, place: Extent) -> Result<()> {
        self.overlay()?.trim(place)
    }

    /// Makes all last that any client has written before. Where nothing can be written, nothing is
    /// to be done.
    pub fn flush(&self) -> Result<()> {
        self.overlay.as_ref().map_or(Ok(()), Overlay::flush)
    }

    /// What a part of it holds, as [`Image::allocation`].
    pub fn allocation(&self, place: Extent, most: usize) -> Result<Vec<AllocationRun>> {
        match &self.overlay {
            Some(overlay) => overlay.allocation(&self.image, place, most),
            None => self.image.allocation(place, most),
        }
    }

    /// Whether a part of it is known to be zeros.
    pub fn is_zeros(&self, place: Extent) -> bool {
        let Ok(runs) = self.allocation(place, 3) else {
            return false;
        };
        let zeros = runs.iter().filter(|run| run.kind != Allocation::Data);
        zeros.map(|run| run.length).sum::<Bytes>() == place.length
    }

    fn overlay(&self) -> Result<&Overlay> {
        let read_only = || Error::new(ErrorKind::Usage, "the disk is read-only");
        self.overlay.as_ref().ok_or_else(read_only)
    }
}
