//! A disk of a snapshot, read at any offset: what reads snapshots in place stands on this. Every
//! chunk is checked against its hash before a byte of it is handed out.

use crate::error::{Error, ErrorKind, Result};
use crate::format::DiskRecord;
use crate::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Cancel, Content, Extent, Run, RunMap, block_count,
};
use crate::store::{SlotRange, Vault};
use crate::sys::locked::LockExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Most chunks that are kept: 16 MiB.
const MOST_KEPT: usize = 256;
/// Most chunks that are read with one request: 1 MiB.
const MOST_AT_ONCE: u64 = 16;

/// A disk of a snapshot. Many threads may read it at once.
pub struct Image {
    vault: Arc<Vault>,
    /// The disk's name in the snapshot.
    name: String,
    size: Bytes,
    map: RunMap,
    kept: Mutex<KeptChunks>,
}

impl Image {
    /// Reads the disk's map. `cancel` is asked before each index object; its error is returned.
    pub fn open(vault: &Arc<Vault>, disk: &DiskRecord, cancel: &dyn Cancel) -> Result<Self> {
        let size = disk.identity.size;
        Ok(Self {
            vault: Arc::clone(vault),
            name: disk.identity.name.clone(),
            size,
            map: vault.read_index(&disk.index, block_count(size), cancel)?,
            kept: Mutex::default(),
        })
    }

    /// The disk's size.
    pub fn size(&self) -> Bytes {
        self.size
    }

    /// Fills `buffer` with the disk's bytes from `offset` on. What was free at the cut, and was not
    /// stored, is zeros.
    ///
    /// # Errors
    /// `Usage`: it is not all within the disk. `Damaged`: the vault has lost bytes of it; the error
    /// names the block, and what is in the buffer means nothing. Else as for reading vaults.
    pub fn read_at(&self, offset: Bytes, buffer: &mut [u8]) -> Result<()> {
        let end = offset.0.checked_add(buffer.len() as u64);
        let Some(end) = end.filter(|end| *end <= self.size.0) else {
            let what = format!(
                "{} ends at {}, before what is to be read",
                self.name, self.size
            );
            return Err(Error::new(ErrorKind::Usage, what));
        };
        let mut at = offset.0;
        let mut rest = buffer;
        while !rest.is_empty() {
            let block = Bytes(at).block();
            let within = (at - block.offset().0) as usize;
            let length = rest.len().min(BLOCK_SIZE as usize - within);
            let (part, after) = rest.split_at_mut(length);
            match self.chunk(block, block_count(Bytes(end)))? {
                Some(plain) => part.copy_from_slice(&plain[within..within + length]),
                None => part.fill(0),
            }
            at += length as u64;
            rest = after;
        }
        Ok(())
    }

    /// The bytes of a block, as many as it has on the disk; `None`: zeros. Of the blocks before
    /// `end` that stand beside it in the vault, some are read with it.
    fn chunk(&self, block: BlockIndex, end: u64) -> Result<Option<Arc<[u8]>>> {
        let end = end.min(block.0 + MOST_AT_ONCE);
        // The map covers the disk: it was checked when it was read.
        let run = self.map.iter_range(block.0..end).next();
        let run = run.filter(|run| run.start == block).ok_or_else(|| {
            let what = format!("the map of {} has a gap at block {}", self.name, block.0);
            Error::new(ErrorKind::Damaged, what)
        })?;
        if matches!(run.content, Content::Zero | Content::Free) {
            return Ok(None);
        }
        if let Some(plain) = self.kept().get(block) {
            return Ok(Some(plain));
        }
        let one = Run { count: 1, ..run };
        let read = match self.read(run) {
            // A damaged neighbour is no reason to refuse this one.
            Err(error) if error.kind() == ErrorKind::Damaged && run.count > 1 => self.read(one),
            other => other,
        };
        read.map(Some).map_err(|error| {
            let place = Extent::of_blocks(block, self.size);
            error
                .context(format!("bytes {place} of {}", self.name))
                .at("read", &self.name)
                .at_offset(place.offset)
        })
    }

    /// Reads and keeps the blocks of a run of data; returns the first one's bytes.
    fn read(&self, run: Run) -> Result<Arc<[u8]>> {
        let Content::Data { segment, slot } = run.content else {
            return Err(Error::new(
                ErrorKind::Failed,
                "a run without data was to be read",
            ));
        };
        let range = SlotRange {
            segment,
            first: slot,
            count: run.count as u32,
        };
        let mut first = None;
        self.vault.read_chunks(range, &mut |chunks| {
            for (block, plain) in (run.start.0..).zip(chunks) {
                let place = Extent::of_blocks(BlockIndex(block), self.size);
                if plain.len() as u64 != place.length.0 {
                    let what = format!("a block of {} is {} bytes long", place.length, plain.len());
                    return Err(Error::new(ErrorKind::Damaged, what));
                }
                let plain: Arc<[u8]> = Arc::from(*plain);
                first.get_or_insert_with(|| Arc::clone(&plain));
                self.kept().keep(BlockIndex(block), plain);
            }
            Ok(())
        })?;
        first.ok_or_else(|| Error::new(ErrorKind::Failed, "no chunk was read"))
    }

    fn kept(&self) -> MutexGuard<'_, KeptChunks> {
        self.kept.locked()
    }
}

/// Chunks that were read lately.
#[derive(Default)]
struct KeptChunks {
    chunks: HashMap<BlockIndex, KeptChunk>,
    /// Grows with each use.
    now: u64,
}

struct KeptChunk {
    plain: Arc<[u8]>,
    used: u64,
}

impl KeptChunks {
    fn get(&mut self, block: BlockIndex) -> Option<Arc<[u8]>> {
        self.now += 1;
        let kept = self.chunks.get_mut(&block)?;
        kept.used = self.now;
        Some(Arc::clone(&kept.plain))
    }

    /// Keeps one more; the one that was not used for longest goes where there are too many.
    fn keep(&mut self, block: BlockIndex, plain: Arc<[u8]>) {
        self.now += 1;
        let used = self.now;
        self.chunks.insert(block, KeptChunk { plain, used });
        if self.chunks.len() > MOST_KEPT {
            let oldest = self.chunks.iter().min_by_key(|(_, kept)| kept.used);
            if let Some(oldest) = oldest.map(|(block, _)| *block) {
                self.chunks.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_lately_is_kept_and_no_more() {
        let mut kept = KeptChunks::default();
        let plain: Arc<[u8]> = Arc::from(&b"1"[..]);
        for block in 0..3 * MOST_KEPT as u64 {
            kept.keep(BlockIndex(block), Arc::clone(&plain));
            assert!(kept.get(BlockIndex(0)).is_some(), "block {block}");
            assert!(kept.chunks.len() <= MOST_KEPT);
        }
        assert!(kept.get(BlockIndex(1)).is_none());
    }
}
