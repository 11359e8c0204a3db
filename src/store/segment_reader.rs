//! Reading chunks out of segments. Every chunk that leaves here was checked against its hash.

use super::ask::ask_of_each;
use super::footers::FooterCache;
use super::name::ObjectName;
use super::object_store::{Blob, ObjectInfo, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    ChunkHash, Footer, MAX_SEGMENT, SLOTS_MAX, Sealer, SlotEntry, TRAILER, Trailer, can_hold,
};
use crate::model::{Cancel, Content, ObjectId, RunMap};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The first guess at how long a footer is: that of a segment of 64 KiB chunks that shrink by half.
const TAIL_GUESS: u64 = 1024 * 48 + TRAILER as u64;

/// Objects on a page of a listing.
const PAGE: usize = 1000;
/// As many questions for one size cost as much as a page (list prices of AWS, 2026: 5 and 0.4
/// dollars a million).
const PAGE_COSTS: usize = 12;
/// Most pages that are asked for: those of half a TiB.
const MOST_PAGES: usize = 16;

/// A chunk as it stands in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// BLAKE3 of its plain bytes.
    pub hash: ChunkHash,
    /// Length of its plain bytes.
    pub plain_len: u32,
    /// Bytes that it takes in the vault.
    pub stored_len: u32,
}

/// Neighbouring chunks of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// Which segment.
    pub segment: ObjectId,
    /// The slot of the first chunk.
    pub first: u32,
    /// How many chunks.
    pub count: u32,
}

/// The segments of a vault.
pub(super) struct SegmentReader {
    store: Arc<dyn ObjectStore>,
    sealer: Sealer,
    footers: FooterCache,
}

impl SegmentReader {
    pub(super) fn new(store: Arc<dyn ObjectStore>, sealer: Sealer) -> Self {
        Self {
            store,
            sealer,
            footers: FooterCache::default(),
        }
    }

    /// The footer of a segment.
    pub(super) fn footer(&self, id: ObjectId) -> Result<Arc<Footer>> {
        let fetch = || self.read_footer(id).map_err(|error| of_segment(error, id));
        self.footers.get(id, fetch)
    }

    fn read_footer(&self, id: ObjectId) -> Result<Footer> {
        let name = ObjectName::segment(id);
        let (mut tail, length) = self.store.get_tail(&name, TAIL_GUESS)?;
        let trailer = Trailer::decode(&tail, length)?;
        if trailer.tail_len > tail.len() as u64 {
            tail = self.store.get_tail(&name, trailer.tail_len)?.0;
        }
        let start = tail.len().saturating_sub(trailer.tail_len as usize);
        self.sealer.open_footer(&tail[start..], trailer, id)
    }

    /// Reads chunks with one request and hands them, all checked, to `take`.
    pub(super) fn read_chunks(
        &self,
        range: SlotRange,
        take: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        let SlotRange {
            segment: id,
            first: slot,
            count,
        } = range;
        let footer = self.footer(id)?;
        let damaged = |what: String| of_segment(Error::new(ErrorKind::Damaged, what), id);
        let slots = (slot as usize)
            .checked_add(count as usize)
            .and_then(|end| footer.slots().get(slot as usize..end))
            .ok_or_else(|| {
                damaged(format!(
                    "slots {slot} to {} are not all there",
                    u64::from(slot) + u64::from(count)
                ))
            })?;
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else {
            return Ok(());
        };
        let start = u64::from(first.offset);
        let length = u64::from(last.offset) + u64::from(last.length) - start;
        let mut scratch = SCRATCH.take();
        let Scratch { bytes, rooms } = &mut scratch;
        let read = || {
            self.store
                .get_range_into(&ObjectName::segment(id), start, length, bytes)
                .map_err(|error| of_segment(error, id))?;
            rooms.resize_with(slots.len().max(rooms.len()), Vec::new);
            let mut chunks = Vec::with_capacity(slots.len());
            for ((number, entry), room) in (slot..).zip(slots).zip(rooms) {
                let at = (u64::from(entry.offset) - start) as usize;
                let plain = self
                    .checked(&bytes[at..], number, entry, room)
                    .map_err(|error| of_segment(error, id))?;
                chunks.push(plain);
            }
            take(&chunks)
        };
        let done = read();
        if scratch.bytes.capacity() <= SCRATCH_MOST && scratch.rooms.len() <= SCRATCH_ROOMS {
            SCRATCH.set(scratch);
        }
        done
    }

    /// The plain bytes of the chunk at the beginning of `bytes`, which are what the footer says.
    fn checked<'a>(
        &self,
        bytes: &'a [u8],
        number: u32,
        entry: &SlotEntry,
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let of_slot = |error: Error| error.context(format!("slot {number}"));
        let stored = &bytes[..entry.length as usize];
        let chunk = self.sealer.decode_chunk(stored, room).map_err(of_slot)?;
        if chunk.slot == number
            && chunk.stored_len == entry.length as usize
            && chunk.plain.len() == entry.plain_len as usize
            && self.sealer.hash_of(chunk.plain) == entry.hash
        {
            return Ok(chunk.plain);
        }
        let what = format!("slot {number} does not hold the bytes it should");
        Err(Error::new(ErrorKind::Damaged, what))
    }

    /// The segments of `map` that are not in the store, or cannot hold what the map says is in
    /// them, by names and lengths alone: nothing is read. The names of the whole vault are never
    /// in memory. `cancel` is asked now and then.
    pub(super) fn lost(&self, map: &RunMap, cancel: &dyn Cancel) -> Result<BTreeSet<ObjectId>> {
        let needed = needed_by(map).into_iter();
        let needed = needed.map(|(id, slots)| (id, MustBe::Slots(slots)));
        self.lacking(needed.collect(), cancel)
    }

    /// Those of these segments that are not in the store, or not of the length given, in bytes.
    pub(super) fn not_whole(
        &self,
        lengths: &BTreeMap<ObjectId, u64>,
        cancel: &dyn Cancel,
    ) -> Result<BTreeSet<ObjectId>> {
        let needed = lengths.iter();
        let needed = needed.map(|(id, length)| (*id, MustBe::Length(*length)));
        self.lacking(needed.collect(), cancel)
    }

    fn lacking(&self, mut needed: Needed, cancel: &dyn Cancel) -> Result<BTreeSet<ObjectId>> {
        match self.store.directory() {
            Some(_) => self.find_by_folder(&mut needed, cancel)?,
            None => self.find_far_away(&mut needed, cancel)?,
        }
        Ok(needed.into_keys().collect())
    }

    /// Takes out of `needed` what the folders of a directory hold.
    fn find_by_folder(&self, needed: &mut Needed, cancel: &dyn Cancel) -> Result<()> {
        let mut folders: Vec<ObjectId> = needed.keys().copied().collect();
        folders.dedup_by_key(|id| id.0[0]);
        for first in folders {
            cancel.check()?;
            let folder = ObjectName::segments_beside(first);
            self.store.list(&folder, &mut |object| {
                found(needed, &object);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The same of a store where each request costs money and time. A page of a listing costs as
    /// much as twelve questions for one size, and knows of 1000 segments, of whichever host. So a
    /// vault of few segments is listed, and in one of many is asked for those that are needed.
    fn find_far_away(&self, needed: &mut Needed, cancel: &dyn Cancel) -> Result<()> {
        let pages = (needed.len() / PAGE_COSTS).min(MOST_PAGES);
        let (most, mut listed) = (pages * PAGE, 0);
        if most > 0 {
            let all = self.store.list(&ObjectName::segments(), &mut |object| {
                found(needed, &object);
                listed += 1;
                match listed < most {
                    true => cancel.check(),
                    false => Err(Error::new(ErrorKind::Failed, "enough was listed")),
                }
            });
            match all {
                // What was not listed may be there, when the listing is older than it is.
                Ok(()) => {}
                // Enough was listed, or the listing broke: it is asked for the rest.
                Err(error) if listed < most && error.kind() != ErrorKind::Io => return Err(error),
                Err(_) => {}
            }
        }
        let left: Vec<ObjectId> = needed.keys().copied().collect();
        let size = |id: &ObjectId| self.store.size(&ObjectName::segment(*id));
        ask_of_each(self.store.as_ref(), &left, cancel, size, |id, size| {
            match size {
                Ok(size) => {
                    if needed.get(id).is_some_and(|need| need.is_met_by(size)) {
                        needed.remove(id);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    /// Fetches the footers of these segments, several at once, so that they are there when they
    /// are asked for. One that cannot be had is an error for whoever asks for it.
    pub(super) fn fetch_footers(&self, ids: &[ObjectId], cancel: &dyn Cancel) -> Result<()> {
        let fetch = |id: &ObjectId| self.footer(*id).map(drop);
        ask_of_each(self.store.as_ref(), ids, cancel, fetch, |_, _| Ok(()))
    }

    /// The slots of a segment whose chunks cannot be had; `None`: none can. `cancel` is asked
    /// before each, and its error is returned.
    pub(super) fn bad_slots(
        &self,
        id: ObjectId,
        cancel: &dyn Cancel,
    ) -> Result<Option<BTreeSet<u32>>> {
        let is_bad = |error: &Error| {
            let kind = error.kind();
            matches!(
                kind,
                ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Format
            )
        };
        let footer = match self.footer(id) {
            Ok(footer) => footer,
            Err(error) if is_bad(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bad = BTreeSet::new();
        for (slot, _) in (0..SLOTS_MAX).zip(footer.slots()) {
            cancel.check()?;
            let one = SlotRange {
                segment: id,
                first: slot,
                count: 1,
            };
            match self.read_chunks(one, &mut |_| Ok(())) {
                Ok(()) => {}
                Err(error) if is_bad(&error) => {
                    bad.insert(slot);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(bad))
    }

    /// Reads a whole segment and checks every byte of it; returns its length.
    pub(super) fn check(&self, id: ObjectId) -> Result<u64> {
        self.whole(id).map(|whole| whole.bytes.len() as u64)
    }

    /// Reads a whole segment and checks every byte of it.
    pub(super) fn whole(&self, id: ObjectId) -> Result<WholeSegment> {
        let read = || {
            let bytes: Blob = self.store.get(&ObjectName::segment(id), MAX_SEGMENT)?;
            let trailer = Trailer::decode(&bytes, bytes.len() as u64)?;
            let tail = &bytes[trailer.footer_offset as usize..];
            let footer = self.sealer.open_footer(tail, trailer, id)?;
            footer.check_header(&bytes)?;
            let mut room = Vec::new();
            for (number, entry) in (0..SLOTS_MAX).zip(footer.slots()) {
                self.checked(&bytes[entry.offset as usize..], number, entry, &mut room)?;
            }
            let slots = footer.slots().len() as u32;
            Ok(WholeSegment { bytes, slots })
        };
        read().map_err(|error| of_segment(error, id))
    }
}

/// A segment of which every byte was checked.
pub(super) struct WholeSegment {
    /// As it stands in the store.
    pub(super) bytes: Blob,
    /// How many slots it has.
    pub(super) slots: u32,
}

/// Segments, and what each must be.
type Needed = BTreeMap<ObjectId, MustBe>;

/// What a segment must be, as far as its length tells.
#[derive(Clone, Copy, Debug)]
enum MustBe {
    /// It has so many slots at least.
    Slots(u32),
    /// It has just so many bytes.
    Length(u64),
}

impl MustBe {
    fn is_met_by(self, size: u64) -> bool {
        match self {
            Self::Slots(slots) => can_hold(size, slots),
            Self::Length(length) => size == length,
        }
    }
}

/// The segments that a map names, and how many slots each must have at least.
pub(super) fn needed_by(map: &RunMap) -> BTreeMap<ObjectId, u32> {
    let mut needed: BTreeMap<ObjectId, u32> = BTreeMap::new();
    for run in map.iter() {
        if let Content::Data { segment, slot } = run.content {
            let slots = needed.entry(segment).or_default();
            // A run of data is within the slots of one segment.
            *slots = (*slots).max(slot + run.count as u32);
        }
    }
    needed
}

/// Takes a segment that was listed out of those that are needed, if it can be the one.
fn found(needed: &mut Needed, object: &ObjectInfo) {
    let last = object.name.components().last();
    let Some(id) = last.and_then(|text| text.parse::<ObjectId>().ok()) else {
        return;
    };
    let is_met = |need: &MustBe| need.is_met_by(object.size);
    if object.name == ObjectName::segment(id) && needed.get(&id).is_some_and(is_met) {
        needed.remove(&id);
    }
}

/// Says which segment; one that is missing is damage, for something refers to it.
fn of_segment(error: Error, id: ObjectId) -> Error {
    let missing = error.kind() == ErrorKind::NotFound;
    let error = error.context(format!("segment {id}"));
    if missing {
        error.with_kind(ErrorKind::Damaged)
    } else {
        error
    }
}

/// Memory that the next read of the same thread uses again.
#[derive(Default)]
struct Scratch {
    /// As they stand in the segment.
    bytes: Vec<u8>,
    /// A packed chunk's plain bytes each.
    rooms: Vec<Vec<u8>>,
}

/// Most bytes, as they stand in a segment, that a thread keeps between two reads.
const SCRATCH_MOST: usize = 2 << 20;
/// Most rooms that it keeps: 1 MiB, of chunks of 64 KiB.
const SCRATCH_ROOMS: usize = 16;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, Run};
    use crate::store::{CountStore, FaultStore, MemoryStore};

    /// A vault far away, with so many segments of one slot, and the operations on it.
    struct Far {
        store: Arc<MemoryStore>,
        counted: Arc<CountStore>,
        segments: Vec<ObjectId>,
    }

    impl Far {
        fn with(segments: usize) -> Self {
            let store = Arc::new(MemoryStore::new());
            let segments: Vec<ObjectId> = (0..segments).map(|_| ObjectId::generate()).collect();
            for id in &segments {
                store
                    .put(&ObjectName::segment(*id), vec![0; 400].into())
                    .unwrap();
            }
            let counted = Arc::new(CountStore::new(store.clone()));
            Self {
                store,
                counted,
                segments,
            }
        }

        /// What is lost of a map that needs the first so many, and how many listings and questions
        /// for a size that took.
        fn lost_of(&self, needed: usize) -> (BTreeSet<ObjectId>, [u64; 2]) {
            let mut map = RunMap::new();
            for (n, segment) in (0..).zip(&self.segments[..needed]) {
                map.insert(Run {
                    start: BlockIndex(n),
                    count: 1,
                    content: Content::Data {
                        segment: *segment,
                        slot: 0,
                    },
                });
            }
            let reader = SegmentReader::new(self.counted.clone(), Sealer::without_keys());
            let lost = reader.lost(&map, &|| Ok(())).unwrap();
            let counts = self.counted.take();
            let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
            (lost, [of("list"), of("size")])
        }
    }

    #[test]
    fn far_away_is_listed_or_asked_for_whichever_costs_less() {
        let few = Far::with(30);
        assert_eq!(few.lost_of(5), (BTreeSet::new(), [0, 5]));
        assert_eq!(few.lost_of(30), (BTreeSet::new(), [1, 0]));
        let many = Far::with(5000);
        let (lost, [lists, sizes]) = many.lost_of(30);
        assert!(lost.is_empty());
        // Two pages are listed of five, and the rest is asked for.
        assert!(lists == 1 && (1..30).contains(&sizes), "{lists} {sizes}");
    }

    #[test]
    fn a_listing_that_breaks_is_made_up_by_asking() {
        let mut far = Far::with(30);
        let breaking = FaultStore::new(far.store.clone(), |operation| {
            match operation.verb == "list" && operation.done {
                true => Err(Error::new(ErrorKind::Io, "the test says so")),
                false => Ok(()),
            }
        });
        far.counted = Arc::new(CountStore::new(Arc::new(breaking)));
        assert_eq!(far.lost_of(30).0, BTreeSet::new());
        let gone = far.segments[7];
        far.store.delete(&ObjectName::segment(gone)).unwrap();
        assert_eq!(far.lost_of(30).0, BTreeSet::from([gone]));
    }

    #[test]
    fn what_is_lost_is_lost_however_it_is_looked_for() {
        for (all, needed) in [(5, 5), (30, 30), (5000, 30)] {
            let far = Far::with(all);
            let (gone, short) = (far.segments[1], far.segments[3]);
            far.store.delete(&ObjectName::segment(gone)).unwrap();
            far.store.delete(&ObjectName::segment(short)).unwrap();
            let name = ObjectName::segment(short);
            far.store.put(&name, vec![0; 100].into()).unwrap();
            assert_eq!(
                far.lost_of(needed).0,
                BTreeSet::from([gone, short]),
                "{all}"
            );
        }
    }
}
