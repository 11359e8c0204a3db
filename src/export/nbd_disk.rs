//! A disk of a snapshot as its clients see it: what the vault holds, and over that what they have
//! written, if they may write. Nothing that they do reaches the vault.

use super::image::{Allocation, AllocationRun, Image, PlainPart};
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

/// What was read of a disk.
pub enum ReadPiece<'a> {
    /// It is in the reader's room.
    InRoom(&'a [u8]),
    /// It is where it is kept.
    Kept(Vec<PlainPart>),
}

impl ReadPiece<'_> {
    /// All of it, in order.
    pub fn slices(&self) -> Vec<&[u8]> {
        match self {
            Self::InRoom(bytes) => vec![bytes],
            Self::Kept(parts) => parts.iter().map(PlainPart::bytes).collect(),
        }
    }
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

    /// Reads a place, which is short, or returns an error in time. What clients may have written is
    /// read into `room`.
    pub fn read<'r>(
        &self,
        place: Extent,
        room: &'r mut Vec<u8>,
        patience: Duration,
    ) -> Result<ReadPiece<'r>> {
        match &self.overlay {
            Some(overlay) => {
                room.resize(place.length.0 as usize, 0);
                overlay.read(&self.image, place.offset, room, patience)?;
                Ok(ReadPiece::InRoom(room))
            }
            None => {
                let parts = self.image.read_parts(place, patience)?;
                Ok(ReadPiece::Kept(parts))
            }
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
