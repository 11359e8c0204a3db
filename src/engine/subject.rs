//! One disk of a run: how it is read, who tells what changed on it, and what has been copied so
//! far.

use super::plan::Plan;
use super::trust;
use crate::capture::{Baseline, Pipeline};
use crate::device::read::{DiskReader, Limits, ReadStats};
use crate::device::{FreeDoubt, FreeSpace};
use crate::error::{ErrorKind, Result};
use crate::format::{DiskRecord, FilesystemRecord};
use crate::freeze::Expedite;
use crate::model::{
    BLOCK_SIZE, BlockSet, Bytes, DiskIdentity, Epoch, Extent, Mode, Witness, block_count,
};
use crate::track::{ChangeCounts, ChangeSource};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Blocks that are read with one request while nothing is frozen: 1 MiB.
const BLOCKS_PER_READ: u64 = 16;

/// Asks which blocks are free space of filesystems now.
pub type AskFree = Box<dyn FnMut(Look) -> Result<FreeSpace> + Send>;

/// How it is looked what is free.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// At the whole host.
    Whole,
    /// The same shortly before the cut: who tells then is kept open, to be asked while frozen. Not
    /// earlier: what is kept open cannot be unmounted.
    BeforeCut,
    /// While all is frozen: by those that have told before, until this moment, and in part.
    Frozen(Instant),
}

/// Asks for some blocks.
pub type AskBlocks = Box<dyn FnMut() -> Result<BlockSet> + Send>;

/// What a run needs to know of a disk before it begins.
pub struct SubjectOptions {
    /// Which disk.
    pub identity: DiskIdentity,
    /// How it is read.
    pub reader: Box<dyn DiskReader>,
    /// Who tells what changed on it.
    pub changes: Box<dyn ChangeSource>,
    /// Which blocks hold nothing that matters. Asked after an epoch has begun, so that a block that
    /// is put to use later is seen as changed.
    pub ask_free: AskFree,
    /// Which blocks never matter and may be written at any time: swap.
    pub ask_swap: AskBlocks,
    /// In which blocks some files lie, picked at random: none of these can be free.
    pub ask_files: AskBlocks,
    /// Full, incremental or compare.
    pub plan: Plan,
    /// The parent's record and map, when the plan has a parent.
    pub parent: Option<(DiskRecord, Arc<Baseline>)>,
    /// Copy free space and swap too.
    pub all_blocks: bool,
    /// What is mounted on it.
    pub filesystems: Vec<FilesystemRecord>,
    /// Has the kernel hurry where an epoch waits for it.
    pub expedite: Expedite,
}

impl SubjectOptions {
    fn advance(&mut self) -> Result<Epoch> {
        let _expedited = self.expedite.begin();
        self.changes.advance()
    }
}

/// One disk of a run.
pub struct Subject {
    /// What was known before.
    pub options: SubjectOptions,
    /// What the tracker said before the first block was read.
    pub witness: Witness,
    /// Marks of this epoch or later are of blocks that have changed since they were read last.
    pub epoch: Epoch,
    /// Blocks that hold nothing that matters and are recorded so.
    pub free: BlockSet,
    /// All blocks that this snapshot will call free: `free`, and what its parent called so. Each
    /// of them is free at this moment, in the word of a filesystem, or swap.
    pub skipped: BlockSet,
    /// What filesystems are not believed, and why.
    pub doubts: BTreeSet<FreeDoubt>,
    /// Swap when this copy began: its writes do not count.
    pub swap: BlockSet,
    /// Blocks still to be read in the coming pass.
    pub wanted: BlockSet,
    /// Passes so far.
    pub passes: u32,
    /// What was read so far.
    pub read: ReadStats,
    /// What of it was read in the window.
    pub frozen: Bytes,
    /// What the tracker said at the cut, before the window's blocks were read.
    pub cut: Option<Witness>,
    /// What it said when they had been read.
    pub end: Option<Witness>,
    /// What the kernel had counted before the epoch of the cut began.
    counts: Option<ChangeCounts>,
    /// The same when it was looked last whether something was discarded.
    discards: Option<ChangeCounts>,
}

impl Subject {
    /// Begins: from here on every write is seen.
    pub fn begin(options: SubjectOptions) -> Result<Self> {
        let mut options = options;
        // Of an incremental the parent's witness counts; there a busy disk need not stand still
        // yet.
        let witness = match options.plan.mode {
            Mode::Incremental => options.changes.witness()?,
            _ => trust::beginning(options.changes.as_mut(), &options.identity)?,
        };
        let discards = options.changes.counts()?;
        let epoch = options.advance()?;
        let mut subject = Self {
            options,
            witness,
            epoch,
            free: BlockSet::new(),
            skipped: BlockSet::new(),
            doubts: BTreeSet::new(),
            swap: BlockSet::new(),
            wanted: BlockSet::new(),
            passes: 0,
            read: ReadStats::default(),
            frozen: Bytes(0),
            cut: None,
            end: None,
            counts: None,
            discards,
        };
        subject.choose()?;
        Ok(subject)
    }

    /// Which blocks the plan wants read, and which it need not.
    ///
    /// A block that the parent has as free holds nothing of it in the vault. So it is wanted unless
    /// it is free *now*: it may have come into use without a write (a partition table put back, a
    /// filesystem made by mistake and undone, a repair), of which no mark tells.
    fn choose(&mut self) -> Result<()> {
        let options = &mut self.options;
        self.swap = (options.ask_swap)()?;
        let all = BlockSet::from_range(0..block_count(options.identity.size));
        let mut wanted = match options.plan.since {
            None => all,
            Some(since) => {
                let mut changed = options.changes.changed_since(since)?;
                if let Some((_, baseline)) = &options.parent {
                    changed.add(&baseline.lost().blocks);
                }
                changed
            }
        };
        let then = match (&options.parent, options.plan.since) {
            (Some((_, baseline)), Some(_)) => baseline.free(),
            _ => BlockSet::new(),
        };
        let now = self.free_now(Look::Whole)?;
        let mut free = now.clone();
        free.intersect(&wanted);
        let mut still = now;
        still.intersect(&then);
        let mut used_again = then;
        used_again.remove(&still);
        wanted.remove(&free);
        wanted.add(&used_again);
        self.wanted = wanted;
        self.skipped = free.clone();
        self.skipped.add(&still);
        self.free = free;
        Ok(())
    }

    /// What is free at this moment, and swap; nothing when all is to be copied.
    fn free_now(&mut self, look: Look) -> Result<BlockSet> {
        if self.options.all_blocks {
            return Ok(BlockSet::new());
        }
        let FreeSpace { blocks, doubts, .. } = (self.options.ask_free)(look)?;
        self.doubts.extend(doubts);
        let mut free = blocks;
        free.add(&self.swap);
        Ok(free)
    }

    /// Asks again what is free, after an epoch has begun: what was called free and is not any more
    /// is wanted, even where no mark tells of a write; what is wanted and has become free is not
    /// any more (what a trim has discarded, mostly). Answers how much is wanted.
    pub fn ask_again(&mut self) -> Result<Bytes> {
        let wanted = |subject: &Self| Bytes(subject.wanted.len() * BLOCK_SIZE);
        if self.options.all_blocks || (self.skipped.is_empty() && self.wanted.is_empty()) {
            return Ok(wanted(self));
        }
        let now = self.free_now(Look::BeforeCut)?;
        let mut used = self.skipped.clone();
        used.remove(&now);
        let mut freed = now;
        freed.intersect(&self.wanted);
        self.wanted.remove(&freed);
        self.wanted.add(&used);
        for set in [&mut self.free, &mut self.skipped] {
            set.remove(&used);
            set.add(&freed);
        }
        Ok(wanted(self))
    }

    /// The same, if something was discarded since this was asked last, as far as can be told.
    pub fn ask_of_discards(&mut self) -> Result<Bytes> {
        if self.something_was_discarded()? {
            return self.ask_again();
        }
        Ok(Bytes(self.wanted.len() * BLOCK_SIZE))
    }

    /// What a trim has discarded is not wanted: asked while all is frozen, and when something was
    /// discarded since it was asked last.
    pub fn ask_of_discards_frozen(&mut self, deadline: Instant) -> Result<()> {
        if !self.something_was_discarded()? || self.options.all_blocks {
            return Ok(());
        }
        let mut freed = (self.options.ask_free)(Look::Frozen(deadline))?.blocks;
        freed.intersect(&self.wanted);
        self.wanted.remove(&freed);
        self.free.add(&freed);
        self.skipped.add(&freed);
        Ok(())
    }

    /// Whether something was discarded since this was asked last; so it is where nobody can tell.
    fn something_was_discarded(&mut self) -> Result<bool> {
        let now = self.options.changes.counts()?;
        let discarded = |counts: ChangeCounts| counts.discarded;
        let before = std::mem::replace(&mut self.discards, now);
        Ok(now.is_none() || now.map(discarded) != before.map(discarded))
    }

    /// Blocks that this snapshot will call free, and that no mark tells of, in which files lie.
    pub fn files_in_free_space(&mut self) -> Result<BlockSet> {
        let mut found = (self.options.ask_files)()?;
        found.intersect(&self.skipped);
        found.remove(&self.swap);
        if !found.is_empty() {
            found.remove(&self.options.changes.changed_since(self.epoch)?);
        }
        Ok(found)
    }

    /// What was marked so far proves nothing: everything is read anew, and compared with the parent
    /// where there is one.
    pub fn start_over(&mut self, why: &str) -> Result<()> {
        (self.cut, self.end) = (None, None);
        let plan = &mut self.options.plan;
        if plan.mode == Mode::Incremental {
            plan.mode = Mode::Compare;
            plan.since = None;
        }
        plan.reason = why.to_owned();
        self.witness = trust::beginning(self.options.changes.as_mut(), &self.options.identity)?;
        self.epoch = self.options.advance()?;
        self.choose()
    }

    /// The same, with all free space: something is wrong with what is known of it.
    pub fn start_over_with_all_blocks(&mut self, why: &str) -> Result<()> {
        self.options.all_blocks = true;
        self.start_over(why)
    }

    /// Whether what was swapped to when this copy began still is: if not, it may hold files now.
    pub fn swap_is_the_same(&mut self) -> Result<bool> {
        Ok((self.options.ask_swap)()? == self.swap)
    }

    /// Disk size.
    pub fn size(&self) -> Bytes {
        self.options.identity.size
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.options.identity.name
    }

    /// What the encoding threads shall compare with.
    pub fn baseline(&self) -> Option<Arc<Baseline>> {
        let compares = self.options.plan.mode == Mode::Compare;
        self.options
            .parent
            .as_ref()
            .filter(|_| compares)
            .map(|(_, map)| Arc::clone(map))
    }

    /// Reads all that is wanted and gives it to the encoding threads.
    pub fn copy_wanted(
        &mut self,
        number: usize,
        pipeline: &mut Pipeline,
        limits: &Limits<'_>,
        told: &mut dyn FnMut(Bytes),
    ) -> Result<Bytes> {
        let wanted = std::mem::take(&mut self.wanted);
        let (size, baseline) = (self.size(), self.baseline());
        let mut extents = wanted
            .ranges(BLOCKS_PER_READ)
            .map(|range| Extent::of_blocks(range, size));
        let mut sink_failed = false;
        let name = &self.options.identity.name;
        let read = self
            .options
            .reader
            .read(&mut extents, limits, &mut |extent, buffer| {
                told(extent.length);
                let taken = pipeline.submit(number, extent, buffer, baseline.clone());
                sink_failed |= taken.is_err();
                taken
            });
        let read = read.map_err(|error| match (sink_failed, error.kind()) {
            // The vault's fault, or the user's wish.
            (true, _) | (_, ErrorKind::Interrupted(_)) => error,
            (false, _) => error.on_disk(name),
        })?;
        self.passes += 1;
        self.read.reads += read.reads;
        self.read.bytes.0 += read.bytes.0;
        Ok(read.bytes)
    }

    /// Starts an epoch and wants what changed since the last one too; answers how much is wanted.
    pub fn want_changed(&mut self) -> Result<Bytes> {
        let next = self.options.advance()?;
        self.want_until(next)
    }

    /// The same for the cut: what the tracker says is kept for the next incremental.
    pub fn want_rest(&mut self) -> Result<Bytes> {
        self.counts = self.options.changes.counts()?;
        let witness = self.options.changes.cut()?;
        let next = witness.epoch;
        self.cut = Some(witness);
        self.want_until(next)
    }

    fn want_until(&mut self, next: Epoch) -> Result<Bytes> {
        // Added: what was wanted already and has not been read has no marks of this epoch.
        let changed = self.changed()?;
        self.wanted.add(&changed);
        // Put to use since it was asked for.
        self.free.remove(&changed);
        self.skipped.remove(&changed);
        self.epoch = next;
        Ok(Bytes(self.wanted.len() * BLOCK_SIZE))
    }

    /// What changed since blocks were read last, but for what never matters.
    pub fn changed(&mut self) -> Result<BlockSet> {
        let mut changed = self.options.changes.changed_since(self.epoch)?;
        changed.remove(&self.swap);
        Ok(changed)
    }

    /// What was written since the cut. Discards are no reason to copy again: who discards a block
    /// says that its bytes are not wanted, and a read of it may give the old ones, zeros, or
    /// anything else from then on; so a copy made before and one made after are both right. Their
    /// marks stay, and the next incremental reads them.
    pub fn written_since_cut(&mut self) -> Result<BlockSet> {
        let changed = self.changed()?;
        if changed.is_empty() {
            return Ok(changed);
        }
        // After the marks were read: what has one is counted by now, or the counts do not agree.
        let now = self.options.changes.counts()?;
        let key = |counts: ChangeCounts| (counts.written, counts.unaccounted);
        let nothing_written = now.is_some() && now.map(key) == self.counts.map(key);
        Ok(if nothing_written {
            BlockSet::new()
        } else {
            changed
        })
    }
}
