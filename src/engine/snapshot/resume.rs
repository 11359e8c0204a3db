//! Going on from a run that was cut off: which segments it has put and noted on this host, whether
//! they are in the vault, and what of them the new run may refer to. Whether a block is the same is
//! for its hash to say, never for a note.

use crate::capture::Baseline;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::random::random;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Content, DiskIdentity, ObjectId, RunMap, SnapshotId};
use crate::store::{
    HeldNote, NoteHead, Owner, Search, SentBefore, SentNotes, SlotRange, SnapshotRef, Vault,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Chunks of a disk that are read back before any is relied on.
const SAMPLE: usize = 16;
/// Segments that are read back whole in their stead by who opens no chunk.
const SAMPLE_SEALED: usize = 2;

/// What runs that were cut off have put of a disk, and the vault still has.
pub struct Sent {
    baseline: Arc<Baseline>,
    /// Of each segment, in bytes.
    lengths: BTreeMap<ObjectId, u64>,
}

impl Sent {
    /// Looks for what is noted; `None`: nothing is there. The run's session has been put before, so
    /// that no collector deletes what is found.
    ///
    /// # Errors
    /// `Damaged`: what was read back is not what was put. The store cannot be asked.
    pub fn look_for(
        vault: &Arc<Vault>,
        before: SentBefore,
        monitor: &dyn Monitor,
    ) -> Result<Option<Self>> {
        let SentBefore { map, lengths, .. } = before;
        let baseline = Baseline::of_sent(vault, map, &lengths, monitor)?;
        if baseline.map().is_empty() {
            return Ok(None);
        }
        read_back(vault, baseline.map(), monitor)?;
        Ok(Some(Self {
            baseline: Arc::new(baseline),
            lengths,
        }))
    }

    /// What to compare with.
    pub fn baseline(&self) -> Arc<Baseline> {
        Arc::clone(&self.baseline)
    }

    /// Why nothing more was asked of it from some block on.
    pub fn trouble(&self) -> Option<&Error> {
        self.baseline.trouble()
    }

    /// How much there is.
    pub fn bytes(&self) -> Bytes {
        self.baseline.map().iter().map(|run| run.bytes()).sum()
    }

    /// What of it a snapshot refers to whose map this is: bytes of the disk, and the segments with
    /// their lengths.
    pub fn used_in(&self, map: &RunMap) -> (Bytes, BTreeMap<ObjectId, u64>) {
        let (mut bytes, mut segments) = (Bytes(0), BTreeMap::new());
        for run in map.iter() {
            if let Content::Data { segment, .. } = run.content
                && let Some(length) = self.lengths.get(&segment)
            {
                bytes += run.bytes();
                segments.insert(segment, *length);
            }
        }
        (bytes, segments)
    }
}

/// Reads a sample back. Of what is not as it was put the first error is returned; the vault
/// remembers each segment.
fn read_back(vault: &Vault, map: &RunMap, monitor: &dyn Monitor) -> Result<()> {
    let mut picked = sample(map);
    let is_sealed = vault.need_to_read().is_err();
    if is_sealed {
        picked.sort_unstable();
        picked.dedup_by_key(|(segment, _)| *segment);
        picked.truncate(SAMPLE_SEALED);
    }
    let mut found = Ok(());
    for (segment, first) in picked {
        monitor.check()?;
        let one = SlotRange {
            segment,
            first,
            count: 1,
        };
        let read = match is_sealed {
            true => vault.check_segment(segment).map(drop),
            false => vault.read_chunks(one, &mut |_| Ok(())),
        };
        match read {
            Err(error) if error.kind() == ErrorKind::Damaged => {
                vault.found_false(segment);
                found = found.and(Err(error));
            }
            read => read?,
        }
    }
    found
}

/// Chunks picked at random, each as likely as any other, by segment and slot.
fn sample(map: &RunMap) -> Vec<(ObjectId, u32)> {
    let total: u64 = map.iter().map(|run| run.count).sum();
    let mut places: Vec<u64> = (0..SAMPLE).map(|_| random() % total).collect();
    places.sort_unstable();
    places.dedup();
    let mut places = places.into_iter().peekable();
    let (mut passed, mut picked) = (0, Vec::new());
    for run in map.iter() {
        while let Some(place) = places.next_if(|place| *place < passed + run.count) {
            if let Content::Data { segment, slot } = run.content {
                picked.push((segment, slot + (place - passed) as u32));
            }
        }
        passed += run.count;
    }
    picked
}

/// What the vault says of what was put of a disk.
enum Asked {
    /// Nothing of it is there.
    Nothing,
    /// This is.
    Sent(Sent),
}

/// What is left of what was put of a disk.
enum Left {
    /// Nothing is in the vault.
    Nothing,
    /// Nothing may be used now.
    Unused,
    /// This.
    Sent(Arc<Sent>),
}

impl Left {
    fn sent(self) -> Option<Arc<Sent>> {
        match self {
            Self::Sent(sent) => Some(sent),
            Self::Nothing | Self::Unused => None,
        }
    }
}

/// Where a run looks for what others have left, and notes what it puts itself.
pub struct Resume<'a> {
    /// The vault.
    pub vault: &'a Arc<Vault>,
    /// Where notes are.
    pub notes: &'a Path,
    /// The name that the snapshot is to have.
    pub run: SnapshotId,
    /// Whose notes they are.
    pub owner: Owner<'a>,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What a run goes on from, disk by disk, and its own notes.
pub struct Resumed {
    /// What was found of each disk.
    pub sent: Vec<Option<Arc<Sent>>>,
    /// None where the host has no place for them.
    pub notes: Option<SentNotes>,
}

impl Resume<'_> {
    /// Looks for what was put of these disks, and begins the notes of this run. `known`: the host's
    /// snapshots.
    pub fn begin(&self, disks: &[&DiskIdentity], known: &[SnapshotRef]) -> Result<Resumed> {
        let search = Search {
            directory: self.notes,
            vault: self.vault.info().id,
            owner: self.owner,
            is_done: &|run| known.iter().any(|one| one.id == run),
        };
        let mut earlier = Vec::new();
        let mut sent = Vec::new();
        for (disk, mut before) in disks.iter().zip(search.of(disks)) {
            let notes = std::mem::take(&mut before.notes);
            let is_part = before.is_part;
            let left = self.look_for(disk, before)?;
            match left {
                // Each would be asked for again and again.
                Left::Nothing if !is_part => notes.into_iter().for_each(HeldNote::remove),
                _ => earlier.extend(notes),
            }
            sent.push(left.sent());
        }
        let known = known.iter().map(|one| one.id).collect();
        let notes = self.begin_notes(disks, earlier, known);
        Ok(Resumed { sent, notes })
    }

    /// What cannot be looked at is not used: a run is as good without it.
    fn look_for(&self, disk: &DiskIdentity, before: SentBefore) -> Result<Left> {
        let name = &disk.name;
        let Some(run) = before
            .runs
            .last()
            .filter(|_| !before.map.is_empty())
            .copied()
        else {
            return Ok(Left::Unused);
        };
        let segments: Vec<ObjectId> = before.lengths.keys().copied().collect();
        match self.ask(before) {
            Ok(Asked::Sent(sent)) => {
                let what = format!(
                    "{name}: a run that was cut off ({run}) has put {} of it: what is the same is \
                     not put again",
                    sent.bytes()
                );
                self.monitor.tell(Event::Note(what));
                Ok(Left::Sent(Arc::new(sent)))
            }
            Ok(Asked::Nothing) => {
                let what = format!("{name}: nothing of what {run} has put is in the vault");
                self.monitor.tell(Event::Note(what));
                Ok(Left::Nothing)
            }
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::Interrupted(_) => return Err(error),
                    ErrorKind::Damaged | ErrorKind::Format => {
                        // Nor is it found by who looks for what anybody has put.
                        self.vault.shun(segments);
                        "has not kept it as it was"
                    }
                    _ => "does not give it back",
                };
                self.monitor.tell(Event::Warning(format!(
                    "{name}: {error}: what a run that was cut off ({run}) has put is not used; the \
                     store {why}"
                )));
                Ok(Left::Unused)
            }
        }
    }

    fn ask(&self, before: SentBefore) -> Result<Asked> {
        self.vault.heed_plans(self.run)?;
        let sent = Sent::look_for(self.vault, before, self.monitor)?;
        Ok(sent.map_or(Asked::Nothing, Asked::Sent))
    }

    /// A run without notes is as good, but for the one after it.
    fn begin_notes(
        &self,
        disks: &[&DiskIdentity],
        earlier: Vec<HeldNote>,
        known: BTreeSet<SnapshotId>,
    ) -> Option<SentNotes> {
        let vault = self.vault.info().id;
        let head =
            |disk: &&DiskIdentity| NoteHead::of((*disk).clone(), vault, self.run, &self.owner);
        let heads: Vec<NoteHead> = disks.iter().map(head).collect();
        let begun = SentNotes::begin(self.notes, &heads, earlier, known);
        begun
            .map_err(|error: Error| self.tell_no_notes(&error))
            .ok()
    }

    fn tell_no_notes(&self, error: &Error) {
        let what = format!("{error}: were this run cut off, the next would put everything again");
        self.monitor.tell(Event::Note(what));
    }
}
