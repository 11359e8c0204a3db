//! The log of all writes and flushes of a disk, as QEMU's blklogwrites and dm-log-writes note it;
//! and what is on a disk whose volatile cache was lost at one of its moments.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// `WRITE_LOG_MAGIC` of the kernel's `drivers/md/dm-log-writes.c`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One thing that was done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Bytes on the disk.
    at: u64,
    length: u64,
    flags: u64,
    /// Where in the log the written bytes are.
    data: u64,
}

/// What was done to a disk, in its order.
pub struct WriteLog {
    file: PathBuf,
    entries: Vec<Entry>,
}

impl WriteLog {
    /// Makes an empty file for a log.
    pub fn create(file: &Path) -> Result<()> {
        // Sparse; QEMU does not make it longer.
        File::create(file)?.set_len(4 << 30).map_err(Into::into)
    }

    /// Reads what is noted so far; nobody may write to it meanwhile.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let words = |at: u64| -> Result<[u64; 4]> {
            let mut bytes = [0; 32];
            file.read_exact_at(&mut bytes, at)?;
            let mut words = [0; 4];
            for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = u64::from_le_bytes(chunk.try_into()?);
            }
            Ok(words)
        };
        let [magic, version, _, sector_size] = words(0)?;
        let sector_size = sector_size & 0xffff_ffff;
        ensure!(
            magic == MAGIC && version == 1 && (512..=4096).contains(&sector_size),
            "no log of writes: {magic:#x}, version {version}, sectors of {sector_size}"
        );
        let (mut entries, mut at) = (Vec::new(), sector_size);
        loop {
            let [sector, count, flags, length] = words(at)?;
            if count == 0 && flags == 0 {
                break;
            }
            let (data, written) = (at + sector_size, count * sector_size);
            at = data;
            if flags & MARK != 0 {
                at += length.next_multiple_of(sector_size);
            } else if flags & DISCARD == 0 {
                at += written;
            }
            entries.push(Entry {
                at: sector * sector_size,
                length: written,
                flags,
                data,
            });
        }
        let file = path.into();
        Ok(Self { file, entries })
    }

    /// How many things are noted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them were there when the disk was last told to keep all, up to `moment`.
    pub fn kept(&self, moment: usize) -> usize {
        let mut before = self.entries.iter().take(moment);
        before
            .rposition(|entry| entry.flags & FLUSH != 0)
            .map_or(0, |last| last + 1)
    }

    /// Makes `image` what a disk of `size` bytes is after it lost its power at `moment`: it kept
    /// what it was told to keep, of the rest what `luck` says (asked for each write).
    pub fn replay(
        &self,
        (image, size): (&Path, u64),
        (kept, moment): (usize, usize),
        mut luck: impl FnMut() -> bool,
    ) -> Result<()> {
        let log = File::open(&self.file)?;
        let disk = File::create(image)?;
        disk.set_len(size)?;
        let mut buffer = Vec::new();
        for (number, entry) in self.entries.iter().take(moment).enumerate() {
            let stays = number < kept || entry.flags & FUA != 0 || luck();
            if !stays || entry.flags & MARK != 0 {
                continue;
            }
            buffer.clear();
            buffer.resize(usize::try_from(entry.length)?, 0);
            // What was discarded may hold anything: zeros, here.
            if entry.flags & DISCARD == 0 {
                log.read_exact_at(&mut buffer, entry.data)?;
            }
            disk.write_all_at(&buffer, entry.at)?;
        }
        Ok(())
    }
}
