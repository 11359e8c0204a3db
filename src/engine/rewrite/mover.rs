//! Copies chunks out of segments that are given up into new ones: each is checked against its hash
//! when it is read, and again as the store has it. A segment of which any chunk cannot be had stays
//! as it is.

use super::moves::Moves;
use super::rules::HalfLive;
use super::survey::read_at_once;
use crate::engine::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Packed, SLOTS_MAX, SegmentWriter};
use crate::model::{Bytes, ObjectId};
use crate::store::{Draft, SlotRange, Vault};
use std::collections::BTreeSet;
use std::ops::Range;

/// A chunk in the open segment.
struct Staged {
    from: ObjectId,
    slot: u32,
}

/// A mover at work.
pub(super) struct Mover<'a> {
    pub(super) vault: &'a Vault,
    pub(super) draft: &'a Draft,
    pub(super) monitor: &'a dyn Monitor,
    /// Most chunks of a new segment.
    pub(super) most_slots: u32,
    open: Option<SegmentWriter>,
    /// What is in the open segment, by slot.
    staged: Vec<Staged>,
    packed: Packed,
    pub(super) moves: Moves,
    /// Bytes of segments that were put.
    pub(super) written: Bytes,
    /// Segments that stay, and why, in words.
    pub(super) left: Vec<String>,
    /// Those.
    stay: Vec<ObjectId>,
    /// Those of them that are damaged.
    pub(super) lost: BTreeSet<ObjectId>,
    done: Bytes,
}

impl<'a> Mover<'a> {
    pub(super) fn new(vault: &'a Vault, draft: &'a Draft, monitor: &'a dyn Monitor) -> Self {
        Self {
            vault,
            draft,
            monitor,
            most_slots: SLOTS_MAX,
            open: None,
            staged: Vec::new(),
            packed: Packed::default(),
            moves: Moves::default(),
            written: Bytes(0),
            left: Vec::new(),
            stay: Vec::new(),
            lost: BTreeSet::new(),
            done: Bytes(0),
        }
    }

    /// Copies what is needed of all of these.
    pub(super) fn run(&mut self, all: &[HalfLive]) -> Result<()> {
        let total = Bytes(all.iter().map(|one| one.live.0).sum());
        for one in all {
            if let Err(error) = self.copy(one) {
                if !is_lost(&error) {
                    return Err(error);
                }
                self.stay.push(one.id);
                if error.kind() == ErrorKind::Damaged {
                    self.lost.insert(one.id);
                }
                self.left.push(format!(
                    "segment {} stays as it is, as not all of it can be read: {error}",
                    one.id
                ));
            }
            self.done += one.live;
            let done = self.done;
            self.monitor.tell(Event::Progress { done, total });
        }
        self.finish()?;
        for id in std::mem::take(&mut self.stay) {
            self.moves.forget(id);
        }
        Ok(())
    }

    fn copy(&mut self, one: &HalfLive) -> Result<()> {
        for range in read_at_once(&one.slots) {
            self.monitor.check()?;
            let inside = one.slots.iter().filter_map(|live| {
                let live = live.start.max(range.start)..live.end.min(range.end);
                (!live.is_empty()).then_some(live)
            });
            let inside: Vec<Range<u32>> = inside.collect();
            match self.copy_range(one.id, &range, &inside) {
                // A dead chunk between them may be damaged.
                Err(error) if is_lost(&error) && inside != [range.clone()] => {
                    for live in &inside {
                        self.copy_range(one.id, live, std::slice::from_ref(live))?;
                    }
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Reads a range, and keeps what is live of it. When it fails, nothing of it was kept.
    fn copy_range(
        &mut self,
        from: ObjectId,
        range: &Range<u32>,
        live: &[Range<u32>],
    ) -> Result<()> {
        let asked = SlotRange {
            segment: from,
            first: range.start,
            count: range.end - range.start,
        };
        let vault = self.vault;
        vault.read_chunks(asked, &mut |chunks| {
            for (slot, plain) in (range.start..).zip(chunks) {
                if live.iter().any(|live| live.contains(&slot)) {
                    self.append(from, slot, plain)?;
                }
            }
            Ok(())
        })
    }

    fn append(&mut self, from: ObjectId, slot: u32, plain: &[u8]) -> Result<()> {
        let draft = self.draft;
        self.packed.clear();
        let Some(chunk) = draft.sealer().encode_chunk(plain, &mut self.packed) else {
            let what = format!("slot {slot} of segment {from} holds nothing but zeros");
            return Err(Error::new(ErrorKind::Damaged, what));
        };
        let is_full = self.staged.len() >= self.most_slots as usize;
        if is_full || self.open.as_ref().is_some_and(SegmentWriter::is_full) {
            self.finish()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => draft.sealer().create_segment(Vec::new())?,
        };
        open.push(&chunk, &self.packed);
        self.open = Some(open);
        self.staged.push(Staged { from, slot });
        Ok(())
    }

    /// Puts the open segment, and looks what the store has of it.
    fn finish(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let (id, bytes) = open.finish();
        self.written.0 += bytes.len() as u64;
        self.draft.put_segment(id, bytes.into(), &[])?;
        let kept = self.vault.check_segment(id).map_err(not_kept)?;
        for (place, staged) in (0..).zip(std::mem::take(&mut self.staged)) {
            let was = self.vault.chunk(staged.from, staged.slot)?;
            let now = kept.slot(place).map_err(not_kept)?;
            if now.hash != was.hash || now.plain_len != was.plain_len {
                let (from, slot) = (staged.from, staged.slot);
                let what = format!("slot {slot} of segment {from} did not come over as it was");
                return Err(not_kept(Error::new(ErrorKind::Failed, what)));
            }
            self.moves.add(staged.from, staged.slot, id, place);
        }
        Ok(())
    }
}

/// Whether it is this segment that cannot be read, and not the vault.
fn is_lost(error: &Error) -> bool {
    use ErrorKind::{Archived, Damaged, Format, NotFound};
    matches!(error.kind(), Archived | Damaged | Format | NotFound)
}

/// What was just put is not as it was put: nothing may rest on it.
fn not_kept(error: Error) -> Error {
    error
        .with_kind(ErrorKind::Failed)
        .context("what was put just now cannot be read again")
        .with_hint("every snapshot that is there is as it was; `stillpoint check` tries the store")
}
