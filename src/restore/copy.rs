//! Copies a snapshot of a disk onto a target, on all cores: read, unpack, check, write.

use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockIndex, Bytes, Cancel, Content, Extent, ObjectId, RunMap};
use crate::store::{SlotRange, Vault};
use crate::sys::locked::{LockExt, LockResultExt};
use crossbeam_channel::bounded;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

/// Most chunks read with one request, of a vault on this host: 1 MiB of plain bytes.
const CHUNKS_NEAR: u64 = 16;
/// The same of a vault at the other end of a network: 4 MiB.
const CHUNKS_FAR: u64 = 64;
/// Most plain bytes that are got from a distant vault and not written yet. As much may be taken by
/// what they are packed into.
const MOST_IN_FLIGHT: u64 = 64 << 20;
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

/// After the last turn.
const OVER: u64 = u64::MAX;

/// What comes next on the target: a hole, and after it a piece of data. A hole by itself would keep
/// a thread from getting data while it waits for its turn.
struct Step {
    turn: Turn,
    piece: Option<Piece>,
}

/// A step's turn to write.
struct Turn {
    number: u64,
    /// To be made first of all.
    hole: Cell<Option<Extent>>,
}

/// Whose turn it is to write. From a distance much is got ahead, and the target is written in its
/// order all the same.
#[derive(Default)]
struct Turns {
    next: Mutex<u64>,
    moved: Condvar,
}

struct Shared<'a> {
    vault: &'a Vault,
    target: &'a dyn Target,
    size: Bytes,
    options: CopyOptions<'a>,
    /// Where the target is written in its order.
    turns: Option<Turns>,
    written: AtomicU64,
    holes: AtomicU64,
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
    let is_far = vault.is_far();
    let shared = Shared {
        vault,
        target,
        size,
        options,
        turns: is_far.then(Turns::default),
        written: AtomicU64::new(0),
        holes: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        damage: Mutex::default(),
        failure: Mutex::default(),
    };
    let (chunks, threads) = match is_far {
        true => (CHUNKS_FAR, MOST_IN_FLIGHT / (CHUNKS_FAR * BLOCK_SIZE)),
        // One more than unpack at once: one writes, or waits for the vault.
        false => (CHUNKS_NEAR, options.workers.max(1) as u64 + 1),
    };
    std::thread::scope(|scope| {
        // What waits here was not got yet.
        let (steps, work) = bounded::<Step>(threads as usize);
        for _ in 0..threads {
            let work = work.clone();
            let shared = &shared;
            scope.spawn(move || {
                let _ends_all = EndsAll(shared);
                for step in work {
                    shared.keep_first(shared.take_step(&step));
                    if shared.ended.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        drop(work);
        let mut number = 0;
        give_out(map, size, chunks, &mut |hole, piece| {
            let hole = Cell::new(hole);
            let turn = Turn { number, hole };
            number += 1;
            // No worker is left when one has failed.
            steps.send(Step { turn, piece }).is_ok()
        });
    });
    if let Some(error) = shared.failure.into_inner().unpoisoned() {
        return Err(error);
    }
    let mut report = shared.damage.into_inner().unpoisoned();
    report.data = Bytes(shared.written.into_inner());
    report.holes = Bytes(shared.holes.into_inner());
    report.damaged.sort_by_key(|damage| damage.place);
    Ok(report)
}

/// Gives all of a disk to `take`, in order, in pieces of so many chunks at most, each with the hole
/// before it, until that returns false.
fn give_out(
    map: &RunMap,
    size: Bytes,
    chunks: u64,
    take: &mut dyn FnMut(Option<Extent>, Option<Piece>) -> bool,
) {
    let mut hole: Option<Extent> = None;
    for run in map.iter() {
        let extent = Extent::of_blocks(run.blocks(), size);
        let Content::Data { segment, slot } = run.content else {
            match &mut hole {
                Some(before) if before.end() == extent.offset => before.length += extent.length,
                _ => {
                    if let Some(before) = hole.replace(extent)
                        && !take(Some(before), None)
                    {
                        return;
                    }
                }
            }
            continue;
        };
        for at in (0..run.count).step_by(chunks as usize) {
            let piece = Piece {
                start: BlockIndex(run.start.0 + at),
                count: (run.count - at).min(chunks) as u32,
                segment,
                slot: slot + at as u32,
            };
            if !take(hole.take(), Some(piece)) {
                return;
            }
        }
    }
    if hole.is_some() {
        take(hole, None);
    }
}

/// Ends all others, too, if its thread panics: they would wait for its turn for ever.
struct EndsAll<'a, 'b>(&'a Shared<'b>);

impl Drop for EndsAll<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = "a thread that restores has panicked: this is a bug";
            self.0.keep_first(Err(Error::new(ErrorKind::Failed, what)));
        }
    }
}

impl Shared<'_> {
    fn keep_first(&self, result: Result<()>) {
        if let Err(error) = result {
            let mut failure = self.failure.locked();
            failure.get_or_insert(error);
            self.ended.store(true, Ordering::Relaxed);
            drop(failure);
            self.target.give_up();
            if let Some(turns) = &self.turns {
                turns.give_up();
            }
        }
    }

    fn take_step(&self, step: &Step) -> Result<()> {
        if let Some(piece) = step.piece {
            self.copy_piece(piece, &step.turn)?;
        }
        self.come_to(&step.turn)?;
        if let Some(turns) = &self.turns {
            turns.move_on();
        }
        Ok(())
    }

    /// Waits until all before this turn is written, and makes its hole.
    fn come_to(&self, turn: &Turn) -> Result<()> {
        if let Some(turns) = &self.turns {
            turns.wait_for(turn.number)?;
        }
        let Some(hole) = turn.hole.take() else {
            return Ok(());
        };
        self.make_hole(hole)?;
        self.holes.fetch_add(hole.length.0, Ordering::Relaxed);
        Ok(())
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

    fn copy_piece(&self, piece: Piece, turn: &Turn) -> Result<()> {
        self.options.cancel.check()?;
        match self.copy_chunks(piece, turn) {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                if self.options.keep_going {
                    // One bad chunk must not take its neighbours along.
                    return (0..piece.count).try_for_each(|n| self.copy_one(piece, n, turn));
                }
                let start = piece.start.0;
                let bytes = Extent::of_blocks(start..start + u64::from(piece.count), self.size);
                Err(error.context(format!("bytes {bytes} of the disk")))
            }
            other => other,
        }
    }

    fn copy_one(&self, piece: Piece, n: u32, turn: &Turn) -> Result<()> {
        let start = BlockIndex(piece.start.0 + u64::from(n));
        let one = Piece {
            start,
            count: 1,
            segment: piece.segment,
            slot: piece.slot + n,
        };
        match self.copy_chunks(one, turn) {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let place = Extent::of_blocks(start, self.size);
                self.come_to(turn)?;
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
    fn copy_chunks(&self, piece: Piece, turn: &Turn) -> Result<()> {
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
            self.come_to(turn)?;
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

impl Turns {
    /// Returns when all steps before this one are done.
    fn wait_for(&self, number: u64) -> Result<()> {
        let waits = |next: &mut u64| *next < number;
        let next = self.moved.wait_while(self.next.locked(), waits);
        match *next.unpoisoned() {
            // Who has failed says why.
            OVER => Err(Error::new(
                ErrorKind::Failed,
                "another part could not be written",
            )),
            _ => Ok(()),
        }
    }

    fn move_on(&self) {
        let mut next = self.next.locked();
        if *next != OVER {
            *next += 1;
        }
        self.moved.notify_all();
    }

    /// Nobody's turn comes any more.
    fn give_up(&self) {
        *self.next.locked() = OVER;
        self.moved.notify_all();
    }
}

/// Blocks in one request are neighbours on the disk too.
const _: () = assert!(CHUNKS_FAR * BLOCK_SIZE <= MOST_IN_FLIGHT);
