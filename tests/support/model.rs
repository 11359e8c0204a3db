//! A disk in memory that knows what it held at every cut: the oracle for whatever is made of it.
//! It obeys the rules of a real disk with a real tracker: a mark is there before a write is
//! acknowledged, free space may hold anything, nothing is written while all is held.

mod quiesce;

pub use quiesce::{Before, ModelQuiesce};

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stillpoint::Result;
use stillpoint::device::read::{
    BufferPool, DiskReader, FakeDisk, Limits, ReadStats, ReaderOptions, Sink,
};
use stillpoint::model::{
    BLOCK_SIZE, BlockIndex, BlockSet, Bytes, DevNumber, DiskIdentity, Epoch, Extent, Witness,
};
use stillpoint::track::{ChangeCounts, ChangeSource, CutName, Recall};

/// Numbers that look random and come back with the seed (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What a disk held at one instant.
#[derive(Clone, Debug, Default)]
pub struct Still {
    /// Its bytes.
    pub contents: Vec<u8>,
    /// The blocks that held nothing that matters.
    pub free: BTreeSet<u64>,
}

struct State {
    now: Still,
    marks: Vec<u32>,
    epoch: u32,
    boot: u32,
    fake: FakeDisk,
    chance: Chance,
    /// In how many of 100 moments something is written.
    restless: u64,
    /// How many windows are still to be disturbed by a write.
    rude: u32,
    /// Blocks that one mark covers.
    grain: u64,
    held: bool,
    /// What it held in the window, one after another: more than one if it was disturbed.
    window: Vec<Still>,
    deaf: bool,
    /// Sectors written and discarded, as a kernel counts them.
    counts: (u64, u64),
    /// Blocks that are discarded at so many moments to come.
    trimmed: (Range<u64>, u32),
    /// What is written right before each epoch that begins after applications are held.
    script: VecDeque<Vec<(u64, Vec<u8>)>>,
    scripted: bool,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct ModelDisk {
    number: u32,
    state: Arc<Mutex<State>>,
}

impl ModelDisk {
    /// A disk of zeros.
    pub fn new(number: u32, size: u64, seed: u64) -> Self {
        let contents = vec![0; size as usize];
        let state = State {
            marks: vec![0; size.div_ceil(BLOCK_SIZE) as usize],
            epoch: 1,
            boot: 1,
            fake: FakeDisk::new(contents.clone(), 512),
            now: Still {
                contents,
                free: BTreeSet::new(),
            },
            chance: Chance(seed),
            restless: 0,
            rude: 0,
            grain: 1,
            held: false,
            window: Vec::new(),
            deaf: false,
            counts: (0, 0),
            trimmed: (0..0, 0),
            script: VecDeque::new(),
            scripted: false,
        };
        Self {
            number,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes; the write is marked before this returns.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.state().write(offset, bytes);
    }

    /// Writes something random, zeros something, or frees something, `times` times.
    pub fn scribble(&self, times: u64) {
        let mut state = self.state();
        for _ in 0..times {
            state.scribble();
        }
    }

    /// From now on something is written in so many of 100 moments of a run.
    pub fn restless(&self, percent: u64) {
        self.state().restless = percent;
    }

    /// The next so many windows will be disturbed by writes; for `u32::MAX`, at every moment.
    pub fn rude(&self, windows: u32) {
        self.state().rude = windows;
    }

    /// These blocks are discarded at so many moments from now on, also while all is held; for
    /// `u32::MAX`, at every moment.
    pub fn trim(&self, blocks: Range<u64>, moments: u32) {
        self.state().trimmed = (blocks, moments);
    }

    /// One mark covers so many blocks.
    pub fn grain(&self, blocks: u64) {
        self.state().grain = blocks;
    }

    /// Reads end in disorder and some are short, differently for each seed but zero.
    pub fn disorder(&self, seed: u64) {
        self.state().fake.disorder(seed);
    }

    /// The tracker is lost with the machine's memory: what it said proves nothing any more.
    pub fn reboot(&self) {
        let mut state = self.state();
        state.boot += 1;
        state.epoch = 1;
        state.marks.fill(0);
    }

    /// While on, writes are not marked: the tracker is broken and does not know it.
    pub fn deaf(&self, on: bool) {
        self.state().deaf = on;
    }

    /// Writes these, one lot before each epoch, once applications are held.
    pub fn once_held(&self, lots: Vec<Vec<(u64, Vec<u8>)>>) {
        self.state().script = lots.into();
    }

    /// Takes another size; what is new is zero.
    pub fn resize(&self, size: u64) {
        let mut state = self.state();
        state.now.contents.resize(size as usize, 0);
        let blocks = size.div_ceil(BLOCK_SIZE);
        state.marks = vec![0; blocks as usize];
        state.now.free.retain(|block| *block < blocks);
        let contents = state.now.contents.clone();
        state.fake.replace(contents);
    }

    /// Declares a block to hold nothing that matters.
    pub fn free(&self, block: u64) {
        self.state().now.free.insert(block);
    }

    /// Free blocks come into use again, the first so many, and nothing is written to them.
    pub fn put_to_use(&self, blocks: u64) {
        let mut state = self.state();
        for _ in 0..blocks {
            state.now.free.pop_first();
        }
    }

    /// What it holds now.
    pub fn look(&self) -> Still {
        self.state().now.clone()
    }

    /// Its identity.
    pub fn identity(&self) -> DiskIdentity {
        DiskIdentity {
            name: format!("vd{}", (b'a' + self.number as u8) as char),
            dev: DevNumber {
                major: 254,
                minor: self.number,
            },
            size: Bytes(self.state().now.contents.len() as u64),
            logical_block: 512,
            serial: Some(format!("serial-{}", self.number)),
            wwn: None,
            diskseq: Some(self.number.into()),
            table_id: None,
        }
    }

    /// A reader in whose midst the disk is written to.
    pub fn reader(&self, pool: &BufferPool) -> Box<dyn DiskReader> {
        let fake = self.state().fake.clone();
        let inner = fake.reader(&ReaderOptions::new(pool.clone())).unwrap();
        Box::new(ModelReader {
            inner,
            disk: self.clone(),
        })
    }

    /// Who tells what changed on it.
    pub fn changes(&self) -> Box<dyn ChangeSource> {
        Box::new(ModelChanges(self.clone()))
    }

    /// What is free now, in the words of the engine.
    pub fn free_now(&self) -> BlockSet {
        let mut free = BlockSet::new();
        for block in &self.state().now.free {
            free.insert(BlockIndex(*block));
        }
        free
    }

    /// A moment of a run: maybe something is written.
    fn stir(&self) {
        let mut state = self.state();
        if state.trimmed.1 > 0 {
            state.discard();
        }
        if state.held {
            if state.rude == u32::MAX || (state.rude > 0 && state.chance.below(3) == 0) {
                state.write_somewhere();
                let now = state.now.clone();
                state.window.push(now);
            }
        } else if state.chance.below(100) < state.restless {
            state.scribble();
        }
    }
}

impl State {
    /// The blocks are marked and read as zeros from now on.
    fn discard(&mut self) {
        let (blocks, moments) = self.trimmed.clone();
        if moments < u32::MAX {
            self.trimmed.1 -= 1;
        }
        let (start, end) = (blocks.start * BLOCK_SIZE, blocks.end * BLOCK_SIZE);
        self.now.contents[start as usize..end as usize].fill(0);
        self.marks[blocks.start as usize..blocks.end as usize].fill(self.epoch);
        self.counts.1 += (end - start) / 512;
        if self.held {
            self.window.push(self.now.clone());
        }
        self.fake.replace(self.now.contents.clone());
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        if !self.deaf {
            self.counts.0 += bytes.len() as u64 / 512;
        }
        let end = offset as usize + bytes.len();
        self.now.contents[offset as usize..end].copy_from_slice(bytes);
        for block in offset / BLOCK_SIZE..(end as u64).div_ceil(BLOCK_SIZE) {
            self.now.free.remove(&block);
            if !self.deaf {
                self.marks[block as usize] = self.epoch;
            }
        }
        self.fake.replace(self.now.contents.clone());
    }

    fn scribble(&mut self) {
        match self.chance.below(8) {
            0 => {
                let block = self.chance.below(self.marks.len() as u64);
                self.now.free.insert(block);
            }
            1 => {
                let (offset, length) = self.somewhere(3 * BLOCK_SIZE);
                self.write(offset, &vec![0; length as usize]);
            }
            _ => self.write_somewhere(),
        }
    }

    /// Some sectors, from one to a few blocks; half of them packable.
    fn write_somewhere(&mut self) {
        let longest = [512, 4096, BLOCK_SIZE, 3 * BLOCK_SIZE][self.chance.below(4) as usize];
        let (offset, length) = self.somewhere(longest);
        let mut seed = Chance(self.chance.next());
        let word = seed.next().to_le_bytes();
        let dull = seed.below(2) == 0;
        let bytes = (0..length as usize).map(|at| match dull {
            true => word[at % 8],
            false => seed.next() as u8,
        });
        let bytes: Vec<u8> = bytes.collect();
        self.write(offset, &bytes);
    }

    fn somewhere(&mut self, longest: u64) -> (u64, u64) {
        let size = self.now.contents.len() as u64;
        let offset = 512 * self.chance.below(size / 512);
        let length = 512 * (1 + self.chance.below(longest / 512));
        (offset, length.min(size - offset))
    }
}

struct ModelReader {
    inner: Box<dyn DiskReader>,
    disk: ModelDisk,
}

impl DiskReader for ModelReader {
    fn size(&self) -> Bytes {
        self.inner.size()
    }

    fn logical_block(&self) -> u32 {
        self.inner.logical_block()
    }

    fn engine_name(&self) -> String {
        self.inner.engine_name()
    }

    fn set_pool(&mut self, pool: &BufferPool) -> Result<()> {
        self.inner.set_pool(pool)
    }

    fn read(
        &mut self,
        extents: &mut dyn Iterator<Item = Extent>,
        limits: &Limits<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ReadStats> {
        let disk = &self.disk;
        let mut stirred = extents.inspect(|_| disk.stir());
        let read = self
            .inner
            .read(&mut stirred, limits, &mut |extent, buffer| {
                disk.stir();
                sink(extent, buffer)
            });
        disk.stir();
        read
    }
}

struct ModelChanges(ModelDisk);

impl ChangeSource for ModelChanges {
    fn witness(&mut self) -> Result<Witness> {
        self.0.stir();
        let state = self.0.state();
        Ok(Witness {
            boot_id: format!("boot-{}", state.boot),
            programs: [1, 2],
            map: 3,
            misses: [0, 0],
            unaccounted: Some(0),
            voids: 0,
            capacity: None,
            resizes: 0,
            asleep_ms: 0,
            epoch: Epoch(state.epoch),
            name: None,
        })
    }

    fn name(&mut self, epoch: Epoch) -> Result<CutName> {
        let boot = self.0.state().boot;
        Ok(CutName(u128::to_le_bytes(
            u128::from(boot) << 64 | u128::from(epoch.0),
        )))
    }

    fn recall(&mut self, cut: &Witness) -> Result<Recall> {
        let known = cut.name == Some(self.name(cut.epoch)?);
        Ok(if known {
            Recall::Known
        } else {
            Recall::Unknown
        })
    }

    fn counts(&mut self) -> Result<Option<ChangeCounts>> {
        self.0.stir();
        let (written, discarded) = self.0.state().counts;
        Ok(Some(ChangeCounts {
            written,
            discarded,
            unaccounted: 0,
        }))
    }

    fn advance(&mut self) -> Result<Epoch> {
        self.0.stir();
        let epoch = {
            let mut state = self.0.state();
            if state.scripted {
                for (offset, bytes) in state.script.pop_front().unwrap_or_default() {
                    state.write(offset, &bytes);
                }
            }
            state.epoch += 1;
            Epoch(state.epoch)
        };
        self.0.stir();
        Ok(epoch)
    }

    fn changed_since(&mut self, since: Epoch) -> Result<BlockSet> {
        self.0.stir();
        let changed = {
            let state = self.0.state();
            let blocks = state.marks.len() as u64;
            let mut changed = BlockSet::new();
            for (block, mark) in (0..).zip(&state.marks) {
                if *mark > 0 && *mark >= since.0 {
                    let start = block / state.grain * state.grain;
                    changed.insert_range(start..(start + state.grain).min(blocks));
                }
            }
            changed
        };
        self.0.stir();
        Ok(changed)
    }
}
