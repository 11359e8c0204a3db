//! Threads that get chunks, and the memory that keeps them, for all images that share it. However
//! many read, it takes no more memory and asks the vault for no more at once. What is waited for
//! goes before what is only got ahead, and no lock is held while anything is got.

use super::flight::{Brought, Flight, Waiter};
use super::kept::{ChunkKey, FoundChunk, KeptChunks};
use super::source::{ChunkSource, bug};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockIndex, BlockRange, Bytes, Run, block_count};
use crate::store::Vault;
use crate::sys::locked::{LockExt, LockResultExt};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, available_parallelism};
use std::time::Instant;

/// Most bytes of chunks that are kept.
pub(super) const MOST_KEPT: Bytes = Bytes(64 << 20);
/// Most bytes that are got ahead and not read yet, for the readers of an image.
pub(super) const MOST_AHEAD: Bytes = Bytes(32 << 20);
/// Most threads that get chunks.
const MOST_THREADS: u64 = 16;
/// Most chunks that are got with one request, of a vault on this host: 1 MiB.
const CHUNKS_NEAR: u64 = 16;
/// The same of a vault at the other end of a network: 2 MiB.
const CHUNKS_FAR: u64 = 32;
/// A read here and there of a distant vault gets as many chunks at once as are in this many blocks:
/// the way there costs more than they do.
const ROUND_FAR: u64 = 4;
/// Most flights that wait to be taken up and are wanted. More are waited for only where the vault
/// hangs, and readers have given up.
const MOST_WANTED: usize = 4096;
/// Most flights that wait to be taken up because somebody may want them.
const MOST_AHEAD_FLIGHTS: usize = 64;
/// The same because a client said so: others read on meanwhile.
const MOST_HINTED_FLIGHTS: usize = MOST_AHEAD_FLIGHTS / 4;

/// What all the threads have in hand: as they are packed, unpacked, and on their way to be kept.
const IN_HAND: u64 = 3 * MOST_THREADS * CHUNKS_FAR * BLOCK_SIZE;
/// What reading back takes in all, beside maps and footers. What is got ahead is kept with the
/// rest.
const _: () = assert!(MOST_KEPT.0 + IN_HAND <= 160 << 20 && MOST_AHEAD.0 <= MOST_KEPT.0 / 2);

/// Threads that get chunks, and chunks that they got. Images of one vault may share it.
pub struct ChunkPool {
    shared: Arc<PoolShared>,
    /// Chunks that one request gets at most.
    unit: u64,
    /// To how many blocks a read is rounded.
    round: u64,
}

struct PoolShared {
    state: Mutex<PoolState>,
    work: Condvar,
    most_threads: usize,
}

struct PoolState {
    kept: KeptChunks,
    wanted: VecDeque<Arc<Flight>>,
    ahead: VecDeque<Arc<Flight>>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// A block that was asked for.
pub(super) enum Ticket {
    /// All bytes are zero.
    Zeros,
    /// Here it is.
    Kept(Arc<Vec<u8>>),
    /// It is on its way.
    Flying(Waiter, BlockIndex),
    /// Too much is waited for: the vault does not answer.
    Refused,
}

impl Ticket {
    /// Waits for it; `None`: zeros.
    pub(super) fn wait(self, pool: &ChunkPool, until: Instant) -> Result<Option<Arc<Vec<u8>>>> {
        let Self::Flying(waiter, block) = self else {
            return self.at_once();
        };
        if let Brought::Plain(plain) = waiter.flight().wait(block, until)? {
            return Ok(Some(plain));
        }
        match pool.ask_alone(waiter.flight(), block) {
            Self::Flying(waiter, block) => match waiter.flight().wait(block, until)? {
                Brought::Plain(plain) => Ok(Some(plain)),
                Brought::Alone => Err(bug("a chunk was asked for by itself, and not told")),
            },
            other => other.at_once(),
        }
    }

    fn at_once(self) -> Result<Option<Arc<Vec<u8>>>> {
        match self {
            Self::Zeros => Ok(None),
            Self::Kept(plain) => Ok(Some(plain)),
            Self::Flying(..) => Err(bug(
                "a chunk that is on its way was taken for one that is there",
            )),
            Self::Refused => {
                let what = "the vault does not answer, and too much is waited for already";
                Err(Error::new(ErrorKind::Io, what))
            }
        }
    }
}

impl ChunkPool {
    /// A pool for images of this vault. Its threads begin when there is something to get, and end
    /// with it.
    pub fn new(vault: &Vault) -> Self {
        let cores = available_parallelism().map_or(2, usize::from);
        let (unit, round, threads) = match vault.is_far() {
            true => (CHUNKS_FAR, ROUND_FAR, 2 * vault.readers(cores)),
            // One more than unpack at once: one waits for the vault.
            false => (CHUNKS_NEAR, 1, cores + 1),
        };
        let state = PoolState {
            kept: KeptChunks::new(MOST_KEPT),
            wanted: VecDeque::new(),
            ahead: VecDeque::new(),
            threads: 0,
            idle: 0,
            closed: false,
        };
        Self {
            shared: Arc::new(PoolShared {
                state: Mutex::new(state),
                work: Condvar::new(),
                most_threads: threads.min(MOST_THREADS as usize),
            }),
            unit,
            round,
        }
    }

    /// How many bytes one request gets at most.
    pub(super) fn piece(&self) -> Bytes {
        Bytes::of_blocks(self.unit)
    }

    /// How many bytes of chunks it keeps at the moment.
    pub fn kept_bytes(&self) -> Bytes {
        self.shared.state.locked().kept.bytes()
    }

    /// Asks for blocks; returns a ticket for each, in order. They are all within the disk.
    pub(super) fn ask(&self, source: &Arc<ChunkSource>, blocks: BlockRange) -> Vec<Ticket> {
        let (start, end) = (blocks.start.0, blocks.end.0);
        let rounded = BlockRange::from(
            start / self.round * self.round
                ..end
                    .next_multiple_of(self.round)
                    .min(block_count(source.size)),
        );
        let mut tickets = Vec::with_capacity((end - start) as usize);
        let mut state = self.shared.state.locked();
        for run in source.map.iter_range(rounded) {
            let inner = run.start.0.max(start)..run.end().min(end);
            if inner.is_empty() {
                continue;
            }
            if run.segment().is_none() {
                tickets.extend(inner.map(|_| Ticket::Zeros));
                continue;
            }
            for missing in self.missing(&mut state.kept, source, run) {
                let overlaps = missing.start.0 < inner.end && inner.start < missing.end();
                if overlaps && state.wanted.len() < MOST_WANTED {
                    let flight = Flight::new(source, missing, true);
                    state.kept.fly(&flight);
                    state.wanted.push_back(flight);
                }
            }
            tickets.extend(inner.map(|block| state.ticket(source, BlockIndex(block))));
        }
        self.shared.get_to_work(state);
        tickets
    }

    /// Asks for a block by itself, after a flight that did not bring it.
    fn ask_alone(&self, failed: &Flight, block: BlockIndex) -> Ticket {
        let source = &failed.source;
        let mut state = self.shared.state.locked();
        match state.kept.find(ChunkKey::of(source, block)) {
            FoundChunk::Kept(plain) => return Ticket::Kept(plain),
            // Another one has asked for it already.
            FoundChunk::Flying(other) if other.run.count == 1 => return state.flying(other, block),
            _ => {}
        }
        let Some(run) = source.map.iter_range(block).next() else {
            return Ticket::Refused;
        };
        let flight = Flight::new(source, run, true);
        state.kept.fly(&flight);
        state.wanted.push_front(Arc::clone(&flight));
        let waiter = Waiter::of(flight, block);
        self.shared.get_to_work(state);
        Ticket::Flying(waiter, block)
    }

    /// Has blocks got before somebody asks for them, as far as there is room for that.
    pub(super) fn get_ahead(&self, source: &Arc<ChunkSource>, blocks: BlockRange) {
        self.get_some_ahead(source, blocks, MOST_AHEAD_FLIGHTS);
    }

    /// The same where a client says that they will be asked for: it must not take the room of those
    /// who are seen to read on.
    pub(super) fn get_hinted(&self, source: &Arc<ChunkSource>, blocks: BlockRange) {
        self.get_some_ahead(source, blocks, MOST_HINTED_FLIGHTS);
    }

    fn get_some_ahead(&self, source: &Arc<ChunkSource>, blocks: BlockRange, most: usize) {
        let mut state = self.shared.state.locked();
        for run in source.map.iter_range(blocks) {
            if run.segment().is_none() {
                continue;
            }
            for missing in self.missing(&mut state.kept, source, run) {
                if state.ahead.len() >= most {
                    break;
                }
                let flight = Flight::new(source, missing, false);
                state.kept.fly(&flight);
                state.ahead.push_back(flight);
            }
        }
        self.shared.get_to_work(state);
    }

    /// The parts of a run of data that are neither kept nor on their way, each no longer than one
    /// request gets.
    fn missing(&self, kept: &mut KeptChunks, source: &ChunkSource, run: Run) -> Vec<Run> {
        let mut parts: Vec<BlockRange> = Vec::new();
        for block in run.start.0..run.end() {
            if !kept.is_absent(ChunkKey::of(source, BlockIndex(block))) {
                continue;
            }
            match parts.last_mut() {
                Some(part) if part.end.0 == block && part.count() < self.unit => {
                    part.end = BlockIndex(block + 1);
                }
                _ => parts.push(BlockRange::from(block..block + 1)),
            }
        }
        let runs = parts.into_iter();
        runs.filter_map(|part| source.map.iter_range(part).next())
            .collect()
    }
}

impl Drop for ChunkPool {
    fn drop(&mut self) {
        let mut state = self.shared.state.locked();
        state.closed = true;
        state.ahead.clear();
        drop(state);
        // They are not waited for: one may wait for a vault that hangs.
        self.shared.work.notify_all();
    }
}

impl PoolState {
    fn ticket(&mut self, source: &ChunkSource, block: BlockIndex) -> Ticket {
        match self.kept.find(ChunkKey::of(source, block)) {
            FoundChunk::Kept(plain) => Ticket::Kept(plain),
            FoundChunk::Flying(flight) => self.flying(flight, block),
            // It would have been asked for.
            FoundChunk::Absent => Ticket::Refused,
        }
    }

    fn flying(&mut self, flight: Arc<Flight>, block: BlockIndex) -> Ticket {
        if flight.want() {
            // It waits among those that nobody waits for. There it will be passed over.
            self.wanted.push_back(Arc::clone(&flight));
        }
        Ticket::Flying(Waiter::of(flight, block), block)
    }

    fn next(&mut self) -> Option<Arc<Flight>> {
        while let Some(next) = self.wanted.pop_front() {
            if next.is_given_up() {
                // Its readers have gone. What they wanted is asked for anew by whoever wants it.
                self.kept.forget(&next);
            } else if next.begin() {
                return Some(next);
            }
        }
        loop {
            let next = self.ahead.pop_front()?;
            if next.begin() {
                return Some(next);
            }
        }
    }
}

impl PoolShared {
    /// Wakes a thread for each flight, or starts one, as far as there may be more.
    fn get_to_work(self: &Arc<Self>, mut state: MutexGuard<'_, PoolState>) {
        let waiting = state.wanted.len() + state.ahead.len();
        for _ in state.idle..waiting {
            if state.threads >= self.most_threads {
                break;
            }
            let shared = Arc::clone(self);
            let thread = Builder::new().name("chunks".into());
            match thread.spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                Err(_) => break,
            }
        }
        let nobody_works = state.threads == 0;
        // Who works already looks for more by himself.
        let asleep = state.idle.min(waiting);
        drop(state);
        if nobody_works {
            // A host without a thread left: who asks does it.
            while let Some(flight) = self.next_now() {
                self.get(&flight);
            }
            return;
        }
        for _ in 0..asleep {
            self.work.notify_one();
        }
    }

    fn next_now(&self) -> Option<Arc<Flight>> {
        self.state.locked().next()
    }

    /// What each thread does.
    fn work(&self) {
        let mut state = self.state.locked();
        while !state.closed {
            let Some(flight) = state.next() else {
                state.idle += 1;
                state = self.work.wait(state).unpoisoned();
                state.idle -= 1;
                continue;
            };
            drop(state);
            self.get(&flight);
            state = self.state.locked();
        }
        state.threads -= 1;
    }

    fn get(&self, flight: &Arc<Flight>) {
        let (source, run) = (&flight.source, flight.run);
        // Whoever waits must hear of it, whatever happens.
        let mut spare = self.state.locked().kept.take_spare(run.count);
        let landed = catch_unwind(AssertUnwindSafe(|| source.fetch(run, &mut spare)));
        let landed = landed.unwrap_or_else(|_| source.all_bad(run, &bug("a reader panicked")));
        let mut state = self.state.locked();
        state.kept.give_back(spare);
        state.kept.land(flight, &landed);
        drop(state);
        flight.land(landed);
    }
}
