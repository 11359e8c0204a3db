//! Reading chunks out of segments. Footers are kept in a bounded cache; every chunk that leaves
//! here was checked against its hash.

use super::name::ObjectName;
use super::object_store::{Blob, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    ChunkHash, Footer, MAX_SEGMENT, SLOTS_MAX, SlotEntry, TRAILER, Trailer, can_hold, decode_chunk,
    hash_of,
};
use crate::model::{Content, ObjectId, RunMap};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most slots that the footers in the cache may have together: 56 bytes each, so 14 MiB.
const CACHE_SLOTS: usize = 1 << 18;

/// The first guess at how long a footer is: that of a segment of 64 KiB chunks that shrink by half.
const TAIL_GUESS: u64 = 1024 * 48 + TRAILER as u64;

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

/// A footer, or why it could not be had; empty while it is on its way. Whoever wants it meanwhile
/// waits for the one who fetches it: it is fetched once.
type Flight = OnceLock<Result<Arc<Footer>>>;

#[derive(Default)]
struct Cached {
    footers: HashMap<ObjectId, Arc<Flight>>,
    /// Those that have come; one on its way is in neither this nor the sum.
    oldest_first: VecDeque<ObjectId>,
    slots: usize,
}

/// Footers of segments read lately.
#[derive(Default)]
pub struct SegmentCache(Mutex<Cached>);

impl SegmentCache {
    /// The footer of a segment, from the cache or the store. A failure is not kept: it is told to
    /// all who waited for it, and the next one asks the store again.
    pub(super) fn footer(&self, store: &dyn ObjectStore, id: ObjectId) -> Result<Arc<Footer>> {
        let flight = Arc::clone(self.lock().footers.entry(id).or_default());
        let mut fetched_here = false;
        let footer = flight.get_or_init(|| {
            fetched_here = true;
            let footer = read_footer(store, id).map(Arc::new);
            footer.map_err(|error| of_segment(error, id))
        });
        if fetched_here {
            self.lock().keep(id, footer.as_deref().ok());
        }
        match footer {
            Ok(footer) => Ok(Arc::clone(footer)),
            Err(error) => Err(error.retold()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cached {
    /// Keeps a footer that has come, and forgets the oldest where there are too many; `None`: it
    /// did not come.
    fn keep(&mut self, id: ObjectId, footer: Option<&Footer>) {
        let Some(footer) = footer else {
            self.footers.remove(&id);
            return;
        };
        self.slots += footer.slots().len();
        self.oldest_first.push_back(id);
        while self.slots > CACHE_SLOTS && self.oldest_first.len() > 1 {
            let Some(oldest) = self.oldest_first.pop_front() else {
                break;
            };
            let gone = self.footers.remove(&oldest);
            if let Some(Ok(footer)) = gone.as_deref().and_then(OnceLock::get) {
                self.slots -= footer.slots().len();
            }
        }
    }
}

fn read_footer(store: &dyn ObjectStore, id: ObjectId) -> Result<Footer> {
    let name = ObjectName::segment(id);
    let (mut tail, length) = store.get_tail(&name, TAIL_GUESS)?;
    let trailer = Trailer::decode(&tail, length)?;
    if trailer.tail_len > tail.len() as u64 {
        tail = store.get_tail(&name, trailer.tail_len)?.0;
    }
    let start = tail.len().saturating_sub(trailer.tail_len as usize);
    Footer::decode(&tail[start..], trailer, id)
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

/// Reads chunks with one request and hands them, all checked, to `take`.
pub(super) fn read_chunks(
    cache: &SegmentCache,
    store: &dyn ObjectStore,
    range: SlotRange,
    take: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
) -> Result<()> {
    let (id, slot, count) = (range.segment, range.first, range.count);
    let footer = cache.footer(store, id)?;
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
        store
            .get_range_into(&ObjectName::segment(id), start, length, bytes)
            .map_err(|error| of_segment(error, id))?;
        rooms.resize_with(slots.len().max(rooms.len()), Vec::new);
        let mut chunks = Vec::with_capacity(slots.len());
        for ((number, entry), room) in (slot..).zip(slots).zip(rooms) {
            let at = (u64::from(entry.offset) - start) as usize;
            let plain = checked(&bytes[at..], number, entry, room)
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

/// Memory that is used again by the next read of the same thread.
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

/// The plain bytes of the chunk at the beginning of `bytes`, which are what the footer says.
fn checked<'a>(
    bytes: &'a [u8],
    number: u32,
    entry: &SlotEntry,
    room: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    let of_slot = |error: Error| error.context(format!("slot {number}"));
    let chunk = decode_chunk(&bytes[..entry.length as usize], room).map_err(of_slot)?;
    if chunk.slot == number
        && chunk.stored_len == entry.length as usize
        && chunk.plain.len() == entry.plain_len as usize
        && hash_of(chunk.plain) == entry.hash
    {
        return Ok(chunk.plain);
    }
    let what = format!("slot {number} does not hold the bytes it should");
    Err(Error::new(ErrorKind::Damaged, what))
}

/// The segments of `map` that are not in the store, or cannot hold what the map says is in them.
/// It takes a list of names and lengths, folder by folder, so that the list of the whole vault is
/// never in memory; nothing is read. `check` is asked between folders.
pub(super) fn lost_segments(
    store: &dyn ObjectStore,
    map: &RunMap,
    check: &dyn Fn() -> Result<()>,
) -> Result<BTreeSet<ObjectId>> {
    let mut needed: BTreeMap<ObjectId, u32> = BTreeMap::new();
    for run in map.iter() {
        if let Content::Data { segment, slot } = run.content {
            let slots = needed.entry(segment).or_default();
            // A run of data is within the slots of one segment.
            *slots = (*slots).max(slot + run.count as u32);
        }
    }
    let mut folders: Vec<ObjectId> = needed.keys().copied().collect();
    folders.dedup_by_key(|id| id.0[0]);
    for first in folders {
        check()?;
        for object in store.list(&ObjectName::segments_beside(first))? {
            let last = object.name.components().last();
            let Some(id) = last.and_then(|text| text.parse::<ObjectId>().ok()) else {
                continue;
            };
            let holds = |slots: &u32| can_hold(object.size, *slots);
            if object.name == ObjectName::segment(id) && needed.get(&id).is_some_and(holds) {
                needed.remove(&id);
            }
        }
    }
    Ok(needed.into_keys().collect())
}

/// The slots of a segment whose chunks cannot be had; `None`: none can. `check` is asked before
/// each, and its error is returned.
pub(super) fn bad_slots(
    cache: &SegmentCache,
    store: &dyn ObjectStore,
    id: ObjectId,
    check: &dyn Fn() -> Result<()>,
) -> Result<Option<BTreeSet<u32>>> {
    let is_bad = |error: &Error| {
        let kind = error.kind();
        matches!(
            kind,
            ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Format
        )
    };
    let footer = match cache.footer(store, id) {
        Ok(footer) => footer,
        Err(error) if is_bad(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bad = BTreeSet::new();
    for (slot, _) in (0..SLOTS_MAX).zip(footer.slots()) {
        check()?;
        let one = SlotRange {
            segment: id,
            first: slot,
            count: 1,
        };
        match read_chunks(cache, store, one, &mut |_| Ok(())) {
            Ok(()) => {}
            Err(error) if is_bad(&error) => {
                bad.insert(slot);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bad))
}

/// Reads a whole segment and checks every byte of it; answers its length.
pub(super) fn check_segment(store: &dyn ObjectStore, id: ObjectId) -> Result<u64> {
    let check = || {
        let bytes: Blob = store.get(&ObjectName::segment(id), MAX_SEGMENT)?;
        let trailer = Trailer::decode(&bytes, bytes.len() as u64)?;
        let footer = Footer::decode(&bytes[trailer.footer_offset as usize..], trailer, id)?;
        footer.check_header(&bytes)?;
        let mut room = Vec::new();
        for (number, entry) in (0..SLOTS_MAX).zip(footer.slots()) {
            checked(&bytes[entry.offset as usize..], number, entry, &mut room)?;
        }
        Ok(bytes.len() as u64)
    };
    check().map_err(|error| of_segment(error, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Packed, SegmentWriter, encode_chunk};
    use crate::store::{FaultStore, MemoryStore};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    const THREADS: usize = 8;

    /// Lets many ask for one footer at once, and answers what each got and how often it was
    /// fetched. The first fetch ends when all have asked, or when a second one begins.
    fn ask_at_once(broken: bool) -> (Vec<Result<usize>>, u64) {
        let mut packed = Packed::default();
        let mut writer = SegmentWriter::create(Vec::new());
        let chunk = encode_chunk(&[7; 100], &mut packed).unwrap();
        writer.push(&chunk, &packed);
        let (id, bytes) = writer.finish();
        let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        inner.put(&ObjectName::segment(id), bytes.into()).unwrap();
        let cache = Arc::new(SegmentCache::default());
        let fetches = Arc::new(AtomicU64::new(0));
        let (asked, counted) = (Arc::clone(&cache), Arc::clone(&fetches));
        let store = FaultStore::new(inner, move |operation| {
            if operation.done {
                return Ok(());
            }
            counted.fetch_add(1, Ordering::SeqCst);
            // Each who asks holds the flight, and the cache does.
            let all = || asked.lock().footers.get(&id).map(Arc::strong_count) > Some(THREADS);
            while !all() && counted.load(Ordering::SeqCst) == 1 {
                std::thread::yield_now();
            }
            match broken {
                true => Err(Error::new(ErrorKind::Io, "the test says so")),
                false => Ok(()),
            }
        });
        let ask = || cache.footer(&store, id).map(|footer| footer.slots().len());
        let answers = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(ask)).collect();
            let answers = threads.into_iter().map(|thread| thread.join().unwrap());
            answers.collect()
        });
        (answers, fetches.load(Ordering::SeqCst))
    }

    #[test]
    fn many_who_want_one_footer_fetch_it_once() {
        let (answers, fetches) = ask_at_once(false);
        assert!(answers.iter().all(|answer| matches!(answer, Ok(1))));
        assert_eq!(fetches, 1);
    }

    #[test]
    fn all_who_waited_are_told_of_a_failure() {
        let (answers, fetches) = ask_at_once(true);
        for answer in answers {
            let error = answer.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains("the test says so"), "{error}");
        }
        assert_eq!(fetches, 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let store = Arc::new(MemoryStore::new());
        let cache = SegmentCache::default();
        let fail = AtomicBool::new(true);
        let mut writer = SegmentWriter::create(Vec::new());
        let mut packed = Packed::default();
        let chunk = encode_chunk(&[7; 100], &mut packed).unwrap();
        writer.push(&chunk, &packed);
        let (id, bytes) = writer.finish();
        store.put(&ObjectName::segment(id), bytes.into()).unwrap();
        let faulty = FaultStore::new(store, move |_| match fail.swap(false, Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Io, "the test says so")),
            false => Ok(()),
        });
        assert!(cache.footer(&faulty, id).is_err());
        assert_eq!(cache.footer(&faulty, id).unwrap().slots().len(), 1);
        assert_eq!(cache.lock().slots, 1);
    }
}
