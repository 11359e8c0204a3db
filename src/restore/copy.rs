//! Copies a snapshot of a disk onto a target, on all cores: read, unpack, check, write.

use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockIndex, Bytes, Cancel, Content, Extent, ObjectId, Run, RunMap};
use crate::store::{SlotRange, Vault};
use crate::sys::locked::{LockExt, LockResultExt};
use crossbeam_channel::bounded;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most chunks read with one request and written under one lock: 1 MiB of plain bytes.
const MAX_CHUNKS: u64 = 16;
/// Most bytes that are zeroed at once. The kernel writes them, where a device cannot zero by
/// itself, and hears no signal meanwhile.
const MAX_HOLE: u64 = 64 << 20;
/// Most places of damage that are listed.
const MAX_DAMAGE: usize = 256;

/// How to copy.
#[derive(Clone, Copy)]
pub struct CopyOptions<'a> {
    /// How many threads unpack at once; at least one.
    pub workers: usize,
    /// Go on after damage: what is damaged stays a hole, and the report lists it.
    pub keep_going: bool,
    /// Asked often; its error ends the copying.
    pub cancel: &'a dyn Cancel,
    /// Told how many bytes of data have been written so far.
    pub progress: &'a (dyn Fn(Bytes) + Sync),
}

/// A place that could not be restored.
#[derive(Clone, Debug)]
pub struct Damage {
    /// Where on the disk.
    pub place: Extent,
    /// What is wrong.
    pub what: String,
}

/// What was copied.
#[derive(Clone, Debug, Default)]
pub struct CopyReport {
    /// Bytes written.
    pub data: Bytes,
    /// Bytes that are holes now.
    pub holes: Bytes,
    /// What could not be restored, at most 256 places.
    pub damaged: Vec<Damage>,
    /// How many bytes could not be restored.
    pub damaged_bytes: Bytes,
}

#[derive(Clone, Copy)]
struct Piece {
    start: BlockIndex,
    count: u32,
    segment: ObjectId,
    slot: u32,
}

struct Shared<'a> {
    vault: &'a Vault,
    target: &'a dyn Target,
    size: Bytes,
    options: CopyOptions<'a>,
    written: AtomicU64,
    ended: AtomicBool,
    damage: Mutex<CopyReport>,
    failure: Mutex<Option<Error>>,
}

/// Copies all of `map`, the map of a disk of `size`, onto `target`; what is zero or free becomes a
/// hole. The target is not synced.
pub fn copy(
    vault: &Vault,
    map: &RunMap,
    size: Bytes,
    target: &dyn Target,
    options: CopyOptions<'_>,
) -> Result<CopyReport> {
    let shared = Shared {
        vault,
        target,
        size,
        options,
        written: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        damage: Mutex::default(),
        failure: Mutex::default(),
    };
    let mut holes = Bytes(0);
    std::thread::scope(|scope| {
        let (pieces, work) = bounded::<Piece>(2 * options.workers.max(1));
        // One more than unpack at once: one writes, or waits for the vault.
        for _ in 0..=vault.readers(options.workers) {
            let work = work.clone();
            let shared = &shared;
            scope.spawn(move || {
                for piece in work {
                    shared.keep_first(shared.copy_piece(piece));
                    if shared.ended.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        drop(work);
        for run in map.iter() {
            let extent = Extent::of_blocks(run.blocks(), size);
            match run.content {
                Content::Zero | Content::Free => {
                    holes += extent.length;
                    shared.keep_first(shared.make_hole(extent));
                }
                Content::Data { segment, slot } => {
                    for piece in pieces_of(run, segment, slot) {
                        // No worker is left when one has failed.
                        if pieces.send(piece).is_err() {
                            break;
                        }
                    }
                }
            }
            if shared.ended.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    if let Some(error) = shared.failure.into_inner().unpoisoned() {
        return Err(error);
    }
    let mut report = shared.damage.into_inner().unpoisoned();
    report.data = Bytes(shared.written.into_inner());
    report.holes = holes;
    report.damaged.sort_by_key(|damage| damage.place);
    Ok(report)
}

fn pieces_of(run: Run, segment: ObjectId, slot: u32) -> impl Iterator<Item = Piece> {
    (0..run.count)
        .step_by(MAX_CHUNKS as usize)
        .map(move |at| Piece {
            start: BlockIndex(run.start.0 + at),
            count: (run.count - at).min(MAX_CHUNKS) as u32,
            segment,
            slot: slot + at as u32,
        })
}

impl Shared<'_> {
    fn keep_first(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut failure = self.failure.locked();
            failure.get_or_insert(error);
            self.ended.store(true, Ordering::Relaxed);
            drop(failure);
            self.target.give_up();
        }
    }

    /// Piece by piece, so that a stop is heard also where a device takes hours to write zeros, and
    /// a worker's failure ends it.
    fn make_hole(&self, extent: Extent) -> Result<()> {
        let mut at = extent.offset;
        while at < extent.end() && !self.ended.load(Ordering::Relaxed) {
            self.options.cancel.check()?;
            let length = Bytes((extent.end().0 - at.0).min(MAX_HOLE));
            self.target.hole(Extent::new(at, length))?;
            at += length;
        }
        Ok(())
    }

    fn copy_piece(&self, piece: Piece) -> Result<()> {
        self.options.cancel.check()?;
        match self.copy_chunks(piece) {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                if self.options.keep_going {
                    // One bad chunk must not take its neighbours along.
                    return (0..piece.count).try_for_each(|n| self.copy_one(piece, n));
                }
                let start = piece.start.0;
                let bytes = Extent::of_blocks(start..start + u64::from(piece.count), self.size);
                Err(error.context(format!("bytes {bytes} of the disk")))
            }
            other => other,
        }
    }

    fn copy_one(&self, piece: Piece, n: u32) -> Result<()> {
        let start = BlockIndex(piece.start.0 + u64::from(n));
        let one = Piece {
            start,
            count: 1,
            segment: piece.segment,
            slot: piece.slot + n,
        };
        match self.copy_chunks(one) {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let place = Extent::of_blocks(start, self.size);
                self.target.hole(place)?;
                let mut report = self.damage.locked();
                report.damaged_bytes += place.length;
                if report.damaged.len() < MAX_DAMAGE {
                    report.damaged.push(Damage {
                        place,
                        what: error.to_string(),
                    });
                }
                Ok(())
            }
            other => other,
        }
    }

    /// All of a piece, or nothing.
    fn copy_chunks(&self, piece: Piece) -> Result<()> {
        let extent = |n: u64, count: u64| {
            let start = piece.start.0 + n;
            Extent::of_blocks(start..start + count, self.size)
        };
        let write = &mut |chunks: &[&[u8]]| {
            for (n, plain) in (0..).zip(chunks) {
                let expected = extent(n, 1).length;
                if plain.len() as u64 != expected.0 {
                    let what = format!("a block of {expected} is {} bytes long", plain.len());
                    return Err(Error::new(ErrorKind::Damaged, what));
                }
            }
            let whole = extent(0, u64::from(piece.count));
            self.target.write(whole.offset, chunks)?;
            let before = self.written.fetch_add(whole.length.0, Ordering::Relaxed);
            (self.options.progress)(Bytes(before + whole.length.0));
            Ok(())
        };
        let range = SlotRange {
            segment: piece.segment,
            first: piece.slot,
            count: piece.count,
        };
        self.vault.read_chunks(range, write)
    }
}

/// Blocks in one request are neighbours on the disk too.
const _: () = assert!(MAX_CHUNKS * BLOCK_SIZE == 1 << 20);
