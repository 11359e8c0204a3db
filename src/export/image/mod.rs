//! A disk of a snapshot, read at any offset: what reads snapshots in place stands on this. Every
//! chunk is checked against its hash before a byte of it is handed out.

mod allocation;
mod flight;
mod kept;
mod part;
mod pool;
mod source;
mod streams;

pub use allocation::{Allocation, AllocationRun};
pub use part::PlainPart;
pub use pool::ChunkPool;

use self::allocation::allocation;
use self::pool::MOST_AHEAD;
use self::source::{ChunkSource, bug};
use self::streams::Streams;
use crate::error::{Error, ErrorKind, Result};
use crate::export::in_place::{InPlace, PATIENCE};
use crate::format::DiskRecord;
use crate::model::{BLOCK_SIZE, BlockIndex, BlockRange, Bytes, Cancel, Extent, block_count};
use crate::store::Vault;
use crate::sys::locked::LockExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Most bytes that one reader has on the way at once.
const WINDOW: u64 = 4 << 20;

/// The next image's number.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A disk of a snapshot. Many threads may read it at once.
pub struct Image {
    source: Arc<ChunkSource>,
    pool: Arc<ChunkPool>,
    streams: Mutex<Streams>,
}

impl Image {
    /// Reads the disk's map. `cancel` is asked before each index object; its error is returned.
    pub fn open(vault: &Arc<Vault>, disk: &DiskRecord, cancel: &dyn Cancel) -> Result<Self> {
        Self::open_in(&Arc::new(ChunkPool::new(vault)), vault, disk, cancel)
    }

    /// The same, with threads and memory that images of this vault share: the bounds are for all of
    /// them together.
    pub fn open_in(
        pool: &Arc<ChunkPool>,
        vault: &Arc<Vault>,
        disk: &DiskRecord,
        cancel: &dyn Cancel,
    ) -> Result<Self> {
        let size = disk.identity.size;
        let source = ChunkSource {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            vault: Arc::clone(vault),
            name: disk.identity.name.clone(),
            size,
            map: vault.read_index(&disk.index, block_count(size), cancel)?,
        };
        Ok(Self {
            source: Arc::new(source),
            pool: Arc::clone(pool),
            streams: Mutex::new(Streams::new(MOST_AHEAD, pool.piece())),
        })
    }

    /// The disk's size.
    pub fn size(&self) -> Bytes {
        self.source.size
    }

    /// Fills `buffer` with the disk's bytes from `offset` on. What was free at the cut, and was not
    /// stored, is zeros.
    ///
    /// # Errors
    /// `Usage`: it is not all within the disk. `Damaged`: the vault has lost bytes of it; the error
    /// names the block, and what is in the buffer means nothing. `Io` also where the vault has not
    /// answered for six minutes. Else as for reading vaults.
    pub fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        self.read_within(offset, buffer, PATIENCE)
    }

    /// The same; after `patience` an error of kind `Io` comes in place of the bytes, whatever the
    /// vault is doing.
    pub fn read_within(&self, offset: Bytes, buffer: &mut [u8], patience: Duration) -> Result<()> {
        let mut filled = 0;
        let place = Extent::new(offset, Bytes(buffer.len() as u64));
        self.read_each(place, patience, &mut |part| {
            let bytes = part.bytes();
            buffer[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
        })
    }

    /// The same without a copy: the bytes of each block are where they are kept. All of them take
    /// memory until they are let go of: it is for a short place.
    pub fn read_parts(&self, place: Extent, patience: Duration) -> Result<Vec<PlainPart>> {
        let mut parts = Vec::new();
        self.read_each(place, patience, &mut |part| parts.push(part))?;
        Ok(parts)
    }

    fn read_each(
        &self,
        place: Extent,
        patience: Duration,
        take: &mut dyn FnMut(PlainPart),
    ) -> Result<()> {
        self.refuse_outside(place.offset, place.length.0)?;
        let until = Instant::now() + patience;
        let (mut at, end) = (place.offset.0, place.end().0);
        while at < end {
            // Up to the end of a window, so that the next one begins with a whole block.
            let length = (WINDOW - at % WINDOW).min(end - at);
            let window = Extent::new(Bytes(at), Bytes(length));
            self.read_window(window, until, take)?;
            at += length;
        }
        Ok(())
    }

    /// What a part of the disk holds, in runs of whole blocks at most `most` of them, from its
    /// beginning on. Neighbours differ; together they may be shorter than the part, never longer.
    ///
    /// # Errors
    /// `Usage`: it is not all within the disk.
    pub fn allocation(&self, place: Extent, most: usize) -> Result<Vec<AllocationRun>> {
        self.refuse_outside(place.offset, place.length.0)?;
        Ok(allocation(&self.source.map, place, most))
    }

    /// Has a part of the disk got before somebody asks for it, as much of it as there is room for
    /// beside those who are seen to read on.
    pub fn get_ahead(&self, place: Extent) -> Result<()> {
        self.refuse_outside(place.offset, place.length.0)?;
        let end = place.offset.0 + place.length.0.min(MOST_AHEAD.0);
        let blocks = place.offset.block().0..end.div_ceil(BLOCK_SIZE);
        self.pool.get_hinted(&self.source, blocks.into());
        Ok(())
    }

    fn refuse_outside(&self, offset: Bytes, length: u64) -> Result<()> {
        let end = offset.0.checked_add(length);
        match end.filter(|end| *end <= self.source.size.0) {
            Some(_) => Ok(()),
            None => {
                let (name, size) = (&self.source.name, self.source.size);
                let what = format!("{name} ends at {size}, before what is to be read");
                Err(Error::new(ErrorKind::Usage, what))
            }
        }
    }

    fn read_window(
        &self,
        place: Extent,
        until: Instant,
        take: &mut dyn FnMut(PlainPart),
    ) -> Result<()> {
        let first = place.offset.block();
        let blocks = BlockRange::from(first.0..place.end().0.div_ceil(BLOCK_SIZE));
        let tickets = self.pool.ask(&self.source, blocks);
        let ahead = self.streams.locked().note(place, self.source.size);
        if let Some(ahead) = ahead {
            self.pool.get_ahead(&self.source, ahead.into());
        }
        let mut at = place.offset.0;
        for (block, ticket) in (first.0..).map(BlockIndex).zip(tickets) {
            let start = block.offset().0;
            let end = (start + BLOCK_SIZE).min(place.end().0);
            let within = (at - start) as usize..(end - start) as usize;
            take(PlainPart::new(ticket.wait(&self.pool, until)?, within));
            at = end;
        }
        match at == place.end().0 {
            true => Ok(()),
            false => Err(bug("fewer blocks came than were asked for")),
        }
    }
}

impl InPlace for Image {
    fn size(&self) -> Bytes {
        self.source.size
    }

    fn read_within(&self, offset: Bytes, buffer: &mut [u8], patience: Duration) -> Result<()> {
        Self::read_within(self, offset, buffer, patience)
    }
}
