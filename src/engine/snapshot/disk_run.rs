//! One disk of a run: how it is read, what tells its changes, and what has been copied so far.

mod facts;

use super::captured_disk::CapturedDisk;
use super::disk_run_options::{DiskRunOptions, FreeScan};
use crate::capture::{Baseline, Captured, InVault, Pipeline};
use crate::device::read::{BufferPool, Limits, ReadStats, Sink};
use crate::device::{FreeDoubt, FreeSpace};
use crate::engine::witness;
use crate::error::{ErrorKind, Result};
use crate::format::FooterCopiesRef;
use crate::model::{BlockSet, Bytes, DevNumber, Epoch, Extent, Mode, Witness, block_count};
use crate::store::ChunksElsewhere;
use crate::track::{ChangeCounts, Moment, ProofFailure};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Blocks that are read with one request while nothing is frozen: 1 MiB.
const BLOCKS_PER_READ: u64 = 16;

/// One disk of a run.
pub struct DiskRun {
    options: DiskRunOptions,
    /// What the tracker said before the first block was read.
    witness: Witness,
    /// Marks of this epoch or later are of blocks that have changed since they were read last.
    epoch: Epoch,
    /// Blocks that hold nothing that matters and are recorded as free.
    free: BlockSet,
    /// All blocks that this snapshot will call free: `free`, and what its parent called so. A
    /// filesystem has said of each that it is free at this moment, or it is swap.
    skipped: BlockSet,
    /// Why some filesystems are not believed.
    doubts: BTreeSet<FreeDoubt>,
    /// Swap when this copy began: its writes do not count.
    swap: BlockSet,
    /// Blocks still to be read. A block leaves this set only when it has been read or is free; a
    /// failed or skipped pass must not lose it.
    wanted: BlockSet,
    passes: u32,
    read: ReadStats,
    /// How much of it was read while everything was frozen.
    frozen: Bytes,
    /// What the tracker said at the cut, before the window's blocks were read.
    cut: Option<Witness>,
    /// What it said when they had been read.
    end: Option<Witness>,
    /// What the kernel had counted before the epoch of the cut began.
    counts: Option<ChangeCounts>,
    /// The same when discards were looked for last.
    discards: Option<ChangeCounts>,
}

impl DiskRun {
    /// Begins: every write from here on is seen.
    pub fn begin(mut options: DiskRunOptions) -> Result<Self> {
        // For an incremental the parent's witness counts, so a busy disk need not stand still yet.
        let witness = match options.capture.mode {
            Mode::Incremental => options.changes.witness()?,
            _ => witness::first(options.changes.as_mut(), &options.identity)?,
        };
        let discards = options.changes.counts()?;
        let epoch = options.advance()?;
        let mut disk = Self {
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
        disk.select_blocks()?;
        Ok(disk)
    }

    /// Decides which blocks are wanted, and which are skipped.
    ///
    /// The vault holds nothing for a block that is free in the parent. So it is wanted unless it is
    /// free *now*: it may have come into use without a write (a partition table put back, a
    /// filesystem made by mistake and undone, a repair), and then it has no mark.
    fn select_blocks(&mut self) -> Result<()> {
        let options = &mut self.options;
        self.swap = (options.ask_swap)()?;
        let all = BlockSet::from_range(0..block_count(options.identity.size));
        let mut wanted = match options.capture.since {
            None => all,
            Some(since) => {
                let mut changed = options.changes.changed_since(since)?;
                if let Some((_, baseline)) = &options.parent {
                    changed.add(&baseline.lost().blocks);
                }
                changed
            }
        };
        let then = match (&options.parent, options.capture.since) {
            (Some((_, baseline)), Some(_)) => baseline.free(),
            _ => BlockSet::new(),
        };
        let now = self.free_now(FreeScan::WholeHost)?;
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
    fn free_now(&mut self, scan: FreeScan) -> Result<BlockSet> {
        if self.options.all_blocks {
            return Ok(BlockSet::new());
        }
        let FreeSpace { blocks, doubts, .. } = (self.options.ask_free)(scan)?;
        self.doubts.extend(doubts);
        let mut free = blocks;
        free.add(&self.swap);
        Ok(free)
    }

    /// Asks again what is free; to be called after an epoch has begun. What was called free and is
    /// not any more is wanted, even without a mark of a write. What is wanted and has become free
    /// (mostly by a trim) is not wanted any more. Returns how much is wanted.
    pub fn ask_free_again(&mut self) -> Result<Bytes> {
        if self.options.all_blocks || (self.skipped.is_empty() && self.wanted.is_empty()) {
            return Ok(self.wanted_bytes());
        }
        let now = self.free_now(FreeScan::BeforeCut)?;
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
        Ok(self.wanted_bytes())
    }

    /// The same, if something was discarded since the last look, as far as can be known.
    pub fn ask_free_after_discards(&mut self) -> Result<Bytes> {
        if self.something_was_discarded()? {
            return self.ask_free_again();
        }
        Ok(self.wanted_bytes())
    }

    /// Drops what a trim has discarded from what is wanted. To be called while all is frozen; it
    /// asks only if something was discarded since the last look.
    pub fn ask_free_while_frozen(&mut self, deadline: Instant) -> Result<()> {
        if !self.something_was_discarded()? || self.options.all_blocks {
            return Ok(());
        }
        let mut freed = (self.options.ask_free)(FreeScan::Frozen(deadline))?.blocks;
        freed.intersect(&self.wanted);
        self.wanted.remove(&freed);
        self.free.add(&freed);
        self.skipped.add(&freed);
        Ok(())
    }

    /// Whether something was discarded since this was asked last; true where nobody can know.
    fn something_was_discarded(&mut self) -> Result<bool> {
        let now = self.options.changes.counts()?;
        let discarded = |counts: ChangeCounts| counts.discarded;
        let before = std::mem::replace(&mut self.discards, now);
        Ok(now.is_none() || now.map(discarded) != before.map(discarded))
    }

    /// Blocks in which files lie, though this snapshot will call them free and they have no mark.
    pub fn files_in_free_space(&mut self) -> Result<BlockSet> {
        let mut found = (self.options.ask_files)()?;
        found.intersect(&self.skipped);
        found.remove(&self.swap);
        if !found.is_empty() {
            found.remove(&self.options.changes.changed_since(self.epoch)?);
        }
        Ok(found)
    }

    /// The marks so far prove nothing: everything is wanted again, and compared with the parent
    /// where there is one.
    pub fn start_over(&mut self, why: &str) -> Result<()> {
        (self.cut, self.end) = (None, None);
        let capture = &mut self.options.capture;
        if capture.mode == Mode::Incremental {
            capture.mode = Mode::Compare;
            capture.since = None;
        }
        capture.reason = why.to_owned();
        self.witness = witness::first(self.options.changes.as_mut(), &self.options.identity)?;
        self.epoch = self.options.advance()?;
        self.select_blocks()
    }

    /// The same, and free space is copied too: what is known of it is wrong.
    pub fn start_over_with_all_blocks(&mut self, why: &str) -> Result<()> {
        self.options.all_blocks = true;
        self.start_over(why)
    }

    /// Why the marks that this copy rests on prove nothing; `None` when they do.
    pub fn check_proof(&self) -> Option<ProofFailure> {
        let parent = self.options.parent.as_ref().filter(|_| {
            // Compare and full rest on this run's marks alone.
            self.options.capture.mode == Mode::Incremental
        });
        // The run's plan found that the parent's cut is of this history.
        let then = parent.and_then(|(record, _)| Some((&record.identity, record.cut.as_ref()?)));
        let now = &self.options.identity;
        let (disk, witness) = then.unwrap_or((now, &self.witness));
        witness::check_proof(Moment { disk, witness }, now, self.end.as_ref())
    }

    /// Whether the kernel still swaps to the same blocks as when this copy began. If not, some may
    /// hold files now.
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

    /// The kernel's number.
    pub fn dev(&self) -> DevNumber {
        self.options.identity.dev
    }

    /// How it is captured.
    pub fn mode(&self) -> Mode {
        self.options.capture.mode
    }

    /// The parent's map, when the disk is built on a parent.
    pub fn parent(&self) -> Option<&Arc<Baseline>> {
        self.options.parent.as_ref().map(|(_, baseline)| baseline)
    }

    /// The objects of copies of footers that the parent names.
    pub fn copies_of_parent(&self) -> &[FooterCopiesRef] {
        let parent = self.options.parent.as_ref();
        parent.map_or(&[], |(record, _)| &record.footers)
    }

    /// What the encoding threads compare with.
    pub fn baseline(&self) -> Option<Arc<Baseline>> {
        let compares = self.mode() == Mode::Compare;
        self.parent().filter(|_| compares).map(Arc::clone)
    }

    /// Takes the reasons why filesystems are not believed.
    pub fn take_doubts(&mut self) -> BTreeSet<FreeDoubt> {
        std::mem::take(&mut self.doubts)
    }

    /// Blocks still to be read.
    pub fn wanted(&self) -> &BlockSet {
        &self.wanted
    }

    /// How much is still to be read.
    pub fn wanted_bytes(&self) -> Bytes {
        self.wanted.bytes()
    }

    /// Has the disk read into these buffers from now on.
    pub fn read_into(&mut self, pool: &BufferPool) -> Result<()> {
        self.options.reader.set_pool(pool)
    }

    /// Reads all that is wanted and gives it to the encoding threads.
    pub fn copy_wanted(
        &mut self,
        number: usize,
        pipeline: &mut Pipeline,
        limits: &Limits<'_>,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Bytes> {
        let known = InVault::from(self.baseline());
        self.copy(pipeline, number, &known, limits, progress)
    }

    /// The same while nothing is held: what runs that were cut off have put is not put again, nor
    /// what anybody has, as far as `elsewhere` knows. The vault is read from for it.
    pub fn copy_wanted_anew(
        &mut self,
        number: usize,
        pipeline: &mut Pipeline,
        limits: &Limits<'_>,
        elsewhere: Option<Arc<ChunksElsewhere>>,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Bytes> {
        let mut known = InVault::from(self.baseline());
        let sent = self.options.sent.as_ref().map(|sent| sent.baseline());
        known.earlier.extend(sent);
        known.elsewhere = elsewhere;
        self.copy(pipeline, number, &known, limits, progress)
    }

    fn copy(
        &mut self,
        pipeline: &mut Pipeline,
        number: usize,
        known: &InVault,
        limits: &Limits<'_>,
        progress: &mut dyn FnMut(Bytes),
    ) -> Result<Bytes> {
        self.read_wanted(BLOCKS_PER_READ, limits, &mut |extent, buffer| {
            progress(extent.length);
            pipeline.submit(number, extent, buffer, known.clone())
        })
    }

    /// Reads all that is wanted, so many blocks with one request, and returns how much that was.
    /// With a deadline everything is frozen meanwhile.
    pub fn read_wanted(
        &mut self,
        blocks_per_read: u64,
        limits: &Limits<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<Bytes> {
        let wanted = std::mem::take(&mut self.wanted);
        let size = self.size();
        let mut extents = wanted
            .ranges(blocks_per_read)
            .map(|range| Extent::of_blocks(range, size));
        let mut sink_failed = false;
        let reader = &mut self.options.reader;
        let read = reader.read(&mut extents, limits, &mut |extent, buffer| {
            let taken = sink(extent, buffer);
            sink_failed |= taken.is_err();
            taken
        });
        let read = read.map_err(|error| match error.kind() {
            // The vault's fault, the user's wish, or the deadline.
            _ if sink_failed => error,
            ErrorKind::Interrupted(_) => error,
            ErrorKind::Inconsistent if limits.deadline.is_some() => error,
            _ => error.on_disk(self.name()),
        })?;
        self.passes += 1;
        self.count(read);
        if limits.deadline.is_some() {
            self.frozen += read.bytes;
        }
        Ok(read.bytes)
    }

    /// Reads blocks that are looked at and not copied.
    pub fn read_sample(
        &mut self,
        blocks: &BlockSet,
        limits: &Limits<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let size = self.size();
        let mut extents = blocks.ranges(1).map(|range| Extent::of_blocks(range, size));
        let read = self.options.reader.read(&mut extents, limits, sink)?;
        self.count(read);
        Ok(())
    }

    fn count(&mut self, read: ReadStats) {
        self.read.reads += read.reads;
        self.read.bytes += read.bytes;
    }

    /// Starts an epoch, and wants what changed since the last one too; returns how much is wanted.
    pub fn want_changed(&mut self) -> Result<Bytes> {
        let next = self.options.advance()?;
        self.want_until(next)
    }

    /// The same for the cut. What the tracker says is kept for the next incremental.
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
        // It may have come into use since free space was asked for.
        self.free.remove(&changed);
        self.skipped.remove(&changed);
        self.epoch = next;
        Ok(self.wanted_bytes())
    }

    /// What changed since blocks were read last, but for what never matters.
    pub fn changed(&mut self) -> Result<BlockSet> {
        let mut changed = self.options.changes.changed_since(self.epoch)?;
        changed.remove(&self.swap);
        Ok(changed)
    }

    /// What changed since the parent's cut, and what never matters.
    pub fn known_changes(&mut self) -> Result<BlockSet> {
        let mut known = self.changed_since_parent()?;
        known.add(&self.swap);
        Ok(known)
    }

    /// What changed since the parent's cut.
    pub fn changed_since_parent(&mut self) -> Result<BlockSet> {
        let since = self.options.capture.since.unwrap_or_default();
        self.options.changes.changed_since(since)
    }

    /// What was written since the cut. Discards are no reason to copy again: a discarded block's
    /// bytes are not wanted, and a read may return the old ones, zeros, or anything else from then
    /// on. So a copy made before and one made after are both right. Their marks stay, and the next
    /// incremental reads them.
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

    /// Asks the tracker what it says at the end of the window.
    pub fn mark_end(&mut self) -> Result<()> {
        self.end = Some(self.options.changes.witness()?);
        Ok(())
    }

    /// The same on a disk that is in use: waits for an instant in which it stands still.
    pub fn mark_end_in_use(&mut self) -> Result<()> {
        self.end = Some(witness::steady(self.options.changes.as_mut())?);
        Ok(())
    }

    /// What is known of the disk now that all of it has been stored.
    pub fn finish(self, stored: Captured) -> CapturedDisk {
        let options = self.options;
        CapturedDisk {
            identity: options.identity,
            capture: options.capture,
            parent: options.parent,
            sent: options.sent,
            all_blocks: options.all_blocks,
            filesystems: options.filesystems,
            free: self.free,
            passes: self.passes,
            read: self.read,
            frozen: self.frozen,
            cut: self.cut,
            stored,
            rewritten: None,
        }
    }
}
