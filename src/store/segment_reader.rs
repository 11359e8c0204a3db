//! Reading chunks out of segments. Every chunk that leaves here was checked against its hash.

use super::ask::ask_of_each;
use super::footer_copies::CopiedFooters;
use super::footers::FooterCache;
use super::object_name::ObjectName;
use super::object_store::{Blob, ObjectStore};
use super::slots::SlotRange;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    Footer, FooterCopies, FooterCopiesRef, MAX_SEGMENT, SLOTS_MAX, Sealer, TRAILER, Trailer,
    check_sealed_segment,
};
use crate::model::{Cancel, ObjectId};
use crate::sys::locked::LockExt;
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

/// The first guess at how long a footer is: that of a segment of 64 KiB chunks that shrink by half.
const TAIL_GUESS: u64 = 1024 * 48 + TRAILER as u64;

/// The segments of a vault.
pub(super) struct SegmentReader {
    store: Arc<dyn ObjectStore>,
    sealer: Sealer,
    footers: FooterCache,
    pub(super) copies: CopiedFooters,
    /// Segments that must be thawed before anything of them is read, and have no copies.
    archived: Mutex<HashSet<ObjectId>>,
}

impl SegmentReader {
    pub(super) fn new(store: Arc<dyn ObjectStore>, sealer: Sealer) -> Self {
        Self {
            store,
            sealer,
            footers: FooterCache::default(),
            copies: CopiedFooters::default(),
            archived: Mutex::default(),
        }
    }

    /// Learns of copies of footers; those of so many segments may be wanted. They are asked for
    /// where that is less work than to ask for the footers.
    pub(super) fn know_copies(&self, copies: &[FooterCopiesRef], wanted: usize) {
        if self.store.directory().is_none() {
            self.copies.know(copies, wanted);
        }
    }

    /// The same of an object that was read for another reason.
    pub(super) fn learn_copies(&self, named: FooterCopiesRef, copies: &FooterCopies) {
        if self.store.directory().is_none() {
            self.copies.know_read(named, copies);
        }
    }

    /// The footer of a segment.
    pub(super) fn footer(&self, id: ObjectId) -> Result<Arc<Footer>> {
        self.footer_by(id, self.copies.are_worth_all())
    }

    /// The same; with `by_copies` out of an object of many copies, where there is one.
    fn footer_by(&self, id: ObjectId, by_copies: bool) -> Result<Arc<Footer>> {
        let fetch = || {
            if let Some(footer) = self.kept_footer(id) {
                return Ok(footer);
            }
            let read = self.read_footer(id, by_copies);
            read.map_err(|error| of_segment(error, id))
        };
        self.footers.get(id, fetch)
    }

    /// A footer that this host keeps.
    fn kept_footer(&self, id: ObjectId) -> Option<Footer> {
        let (tail, length) = self.store.kept_tail(&ObjectName::segment(id))?;
        let trailer = Trailer::decode(&tail, length).ok()?;
        self.sealer.open_footer(&tail, trailer, id).ok()
    }

    fn read_footer(&self, id: ObjectId, by_copies: bool) -> Result<Footer> {
        let store = self.store.as_ref();
        if by_copies
            && let Some(copy) = self.copies.among_many(store, id)?
            && let Some(footer) = self.open_copy(id, &copy)
        {
            return Ok(footer);
        }
        if self.archived.locked().contains(&id) {
            // Each of its blocks is asked for.
            let what = "it is in an archive and must be thawed first";
            return Err(Error::new(ErrorKind::Archived, what));
        }
        match self.own_footer(id) {
            Err(archived) if archived.kind() == ErrorKind::Archived => {
                let copy = self.copies.alone(store, id)?;
                let footer = copy.and_then(|copy| self.open_copy(id, &copy));
                footer.ok_or_else(|| {
                    self.archived.locked().insert(id);
                    archived
                })
            }
            own => own,
        }
    }

    /// What a copy says, if it is the end of the segment with this name.
    fn open_copy(&self, id: ObjectId, copy: &[u8]) -> Option<Footer> {
        let trailer = Trailer::of_copy(copy).ok()?;
        let footer = self.sealer.open_footer(copy, trailer, id).ok()?;
        let name = ObjectName::segment(id);
        self.store.keep_tail(&name, copy, footer.segment_len());
        Some(footer)
    }

    /// A copy of the segment's end that stands in one of these objects, checked.
    pub(super) fn copied_end(
        &self,
        id: ObjectId,
        copies: &[FooterCopiesRef],
    ) -> Result<Option<Blob>> {
        self.copies.know(copies, 0);
        let copy = self.copies.alone(self.store.as_ref(), id)?;
        Ok(copy.filter(|copy| self.open_copy(id, copy).is_some()))
    }

    /// The bytes of a whole segment, if these are it: every byte is checked.
    pub(super) fn judge(&self, id: ObjectId, bytes: Blob) -> Result<WholeSegment> {
        let trailer = Trailer::decode(&bytes, bytes.len() as u64)?;
        let tail = &bytes[trailer.footer_offset as usize..];
        let footer = self.sealer.open_footer(tail, trailer, id)?;
        footer.check_header(&bytes)?;
        self.check_chunks(&bytes, &footer, id)?;
        Ok(WholeSegment { bytes, footer })
    }

    /// What stands at the segment's end.
    fn own_footer(&self, id: ObjectId) -> Result<Footer> {
        let name = ObjectName::segment(id);
        let (mut tail, length) = self.store.get_tail(&name, TAIL_GUESS)?;
        let trailer = Trailer::decode(&tail, length)?;
        if trailer.tail_len > tail.len() as u64 {
            tail = self.store.get_tail(&name, trailer.tail_len)?.0;
        }
        self.copies.count(tail.len() as u64);
        let start = tail.len().saturating_sub(trailer.tail_len as usize);
        self.sealer.open_footer(&tail[start..], trailer, id)
    }

    /// Reads chunks with one request and hands them, all checked, to `take`.
    pub(super) fn read_chunks(
        &self,
        range: SlotRange,
        take: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        let mut read = |part: &FooterPart, bytes: &[u8], rooms: &mut [Vec<u8>]| {
            let mut chunks = Vec::with_capacity(rooms.len());
            for (number, room) in (range.first..).zip(rooms) {
                chunks.push(self.chunk_of(part, bytes, number, room)?);
            }
            take(&chunks)
        };
        self.with_bytes(range, &mut read)
    }

    /// Reads chunks with one request and hands each to `take`, checked, or why it cannot be had: a
    /// damaged one says nothing of its neighbours. An error is of all of them. `spare` is memory
    /// for them.
    pub(super) fn read_each_chunk(
        &self,
        range: SlotRange,
        spare: &mut Vec<Vec<u8>>,
        take: &mut dyn FnMut(u32, Result<Vec<u8>>),
    ) -> Result<()> {
        let mut read = |part: &FooterPart, bytes: &[u8], _: &mut [Vec<u8>]| {
            for (number, _) in (range.first..).zip(0..range.count) {
                take(number, self.own_chunk_of(part, bytes, number, spare));
            }
            Ok(())
        };
        self.with_bytes(range, &mut read)
    }

    /// The plain bytes of one chunk among the bytes of several, in memory of their own.
    fn own_chunk_of(
        &self,
        part: &FooterPart,
        bytes: &[u8],
        number: u32,
        spare: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let mut room = spare.pop().unwrap_or_default();
        let plain = self.chunk_of(part, bytes, number, &mut room)?;
        // What was not packed stands as it is among the others.
        if bytes.as_ptr_range().contains(&plain.as_ptr()) {
            let mut copy = spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(plain);
            spare.push(room);
            return Ok(copy);
        }
        let (at, length) = (plain.as_ptr(), plain.len());
        match room.as_ptr() == at && room.len() == length {
            true => Ok(room),
            false => {
                let what = "a chunk was not where it was unpacked to: this is a bug";
                Err(Error::new(ErrorKind::Failed, what))
            }
        }
    }

    /// Gets the bytes of chunks with one request, into memory that the thread uses again.
    fn with_bytes(&self, range: SlotRange, read: &mut ReadBytes<'_>) -> Result<()> {
        let id = range.segment;
        let part = self.part(range)?;
        if part.length == 0 {
            return Ok(());
        }
        let mut scratch = SCRATCH.take();
        let Scratch { bytes, rooms } = &mut scratch;
        let name = ObjectName::segment(id);
        let got = self
            .store
            .get_range_into(&name, part.start, part.length, bytes);
        let done = got.map_err(|error| of_segment(error, id)).and_then(|()| {
            let count = range.count as usize;
            rooms.resize_with(count.max(rooms.len()), Vec::new);
            read(&part, bytes, &mut rooms[..count])
        });
        if scratch.bytes.capacity() <= SCRATCH_MOST && scratch.rooms.len() <= SCRATCH_ROOMS {
            SCRATCH.set(scratch);
        }
        done
    }

    /// Where the chunks of a range are, by their segment's footer.
    fn part(&self, range: SlotRange) -> Result<FooterPart> {
        let SlotRange {
            segment: id,
            first: slot,
            count,
        } = range;
        let footer = self.footer(id)?;
        let slots = (slot as usize)
            .checked_add(count as usize)
            .and_then(|end| footer.slots().get(slot as usize..end))
            .ok_or_else(|| {
                let end = u64::from(slot) + u64::from(count);
                let what = format!("slots {slot} to {end} are not all there");
                of_segment(Error::new(ErrorKind::Damaged, what), id)
            })?;
        let (start, length) = match (slots.first(), slots.last()) {
            (Some(first), Some(last)) => {
                let start = u64::from(first.offset);
                (
                    start,
                    u64::from(last.offset) + u64::from(last.length) - start,
                )
            }
            _ => (0, 0),
        };
        Ok(FooterPart {
            id,
            footer,
            start,
            length,
        })
    }

    /// The plain bytes of one chunk among the bytes of several.
    fn chunk_of<'a>(
        &self,
        part: &FooterPart,
        bytes: &'a [u8],
        number: u32,
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let of_this = |error| of_segment(error, part.id);
        let entry = part.footer.slot(number).map_err(of_this)?;
        let at = (u64::from(entry.offset) - part.start) as usize;
        self.checked(&bytes[at..], &part.footer, number, room)
            .map_err(of_this)
    }

    /// The plain bytes of the chunk at the beginning of `bytes`, which are what the footer says.
    fn checked<'a>(
        &self,
        bytes: &'a [u8],
        footer: &Footer,
        number: u32,
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let opened = self.sealer.open_chunk(footer, number, bytes, room);
        opened.map_err(|error| error.context(format!("slot {number}")))
    }

    /// Fetches the footers of these segments, several at once, so that they are there when they
    /// are asked for. One that cannot be had is an error for whoever asks for it.
    pub(super) fn fetch_footers(&self, ids: &[ObjectId], cancel: &dyn Cancel) -> Result<()> {
        // What is not kept is no answer for others who ask for the same footer.
        let is_kept = |id: &ObjectId| match self.kept_footer(*id) {
            Some(footer) => self.footers.get(*id, || Ok(footer)).is_ok(),
            None => self.footers.has(*id),
        };
        let ids: Vec<ObjectId> = ids.iter().copied().filter(|id| !is_kept(id)).collect();
        let by_copies = self.copies.are_worth(ids.len());
        let fetch = |id: &ObjectId| self.footer_by(*id, by_copies).map(drop);
        ask_of_each(self.store.as_ref(), &ids, cancel, fetch, |_, _| Ok(()))
    }

    /// The footers that stand in these segments themselves, several asked for at once.
    pub(super) fn own_footers(
        &self,
        ids: &[ObjectId],
        cancel: &dyn Cancel,
        take: &mut dyn FnMut(ObjectId, Result<Footer>) -> Result<()>,
    ) -> Result<()> {
        let fetch = |id: &ObjectId| self.own_footer(*id);
        ask_of_each(self.store.as_ref(), ids, cancel, fetch, |id, footer| {
            take(*id, footer.map_err(|error| of_segment(error, *id)))
        })
    }

    /// Reads an object of copies and hands each to `take`, checked; returns what is wrong with it,
    /// as text: nothing is known then of those that were not handed over. One that is not there is
    /// not wrong.
    pub(super) fn check_copies(
        &self,
        copies: FooterCopiesRef,
        take: &mut dyn FnMut(ObjectId, Footer),
    ) -> Result<Option<String>> {
        match self.read_copies(copies, take) {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if is_lost(&error) => {
                Ok(Some(format!("{}: {error}", ObjectName::footers(copies))))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads an object of copies of footers and checks each of them.
    pub(super) fn whole_copies(&self, copies: FooterCopiesRef) -> Result<Blob> {
        self.read_copies(copies, &mut |_, _| {})
    }

    fn read_copies(
        &self,
        copies: FooterCopiesRef,
        take: &mut dyn FnMut(ObjectId, Footer),
    ) -> Result<Blob> {
        let name = ObjectName::footers(copies);
        let bytes = self
            .store
            .get(&name, copies.bytes.min(FooterCopies::MAX_LEN))?;
        if bytes.len() as u64 != copies.bytes {
            let what = format!("it has {} bytes in place of {}", bytes.len(), copies.bytes);
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        let whole = FooterCopies::decode(&bytes, copies.bytes)?;
        for (id, place) in whole.iter() {
            let copy = &bytes[place.start as usize..place.end as usize];
            let footer = self.sealer.open_footer(copy, Trailer::of_copy(copy)?, id);
            take(id, footer.map_err(|error| of_segment(error, id))?);
        }
        Ok(bytes)
    }

    /// The slots of a segment whose chunks cannot be had; `None`: none can, as who has no copy of
    /// its footer finds none. `cancel` is asked before each, and its error is returned.
    pub(super) fn bad_slots(
        &self,
        id: ObjectId,
        cancel: &dyn Cancel,
    ) -> Result<Option<BTreeSet<u32>>> {
        // Who opens no chunk cannot say which of them are bad, but whether any is.
        if self.sealer.keys().is_some_and(|keys| !keys.can_read()) {
            return match self.whole(id) {
                Ok(_) => Ok(Some(BTreeSet::new())),
                Err(error) if is_lost(&error) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let footer = match self.own_footer(id) {
            Ok(footer) => footer,
            Err(error) if is_lost(&error) => return Ok(None),
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
                Err(error) if is_lost(&error) => {
                    bad.insert(slot);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(bad))
    }

    /// Reads a whole segment by one request and checks every byte of it; returns its footer.
    pub(super) fn check(&self, id: ObjectId) -> Result<Footer> {
        self.whole(id).map(|whole| whole.footer)
    }

    /// Checks all chunks; who cannot open them checks their bytes against the segment's name.
    fn check_chunks(&self, bytes: &[u8], footer: &Footer, id: ObjectId) -> Result<()> {
        if let Some(keys) = self.sealer.keys() {
            check_sealed_segment(bytes, id)?;
            if !keys.can_read() {
                return Ok(());
            }
        }
        let mut room = Vec::new();
        for (number, entry) in (0..SLOTS_MAX).zip(footer.slots()) {
            self.checked(&bytes[entry.offset as usize..], footer, number, &mut room)?;
        }
        Ok(())
    }

    /// Reads a whole segment by one request and checks every byte of it.
    pub(super) fn whole(&self, id: ObjectId) -> Result<WholeSegment> {
        let read = self.store.get(&ObjectName::segment(id), MAX_SEGMENT);
        let whole = read.and_then(|bytes| self.judge(id, bytes));
        whole.map_err(|error| of_segment(error, id))
    }
}

/// Reads chunks out of their bytes, each into a room of its own.
type ReadBytes<'a> = dyn FnMut(&FooterPart, &[u8], &mut [Vec<u8>]) -> Result<()> + 'a;

/// Where neighbouring chunks are in their segment.
struct FooterPart {
    id: ObjectId,
    footer: Arc<Footer>,
    /// Where the first one begins.
    start: u64,
    /// How many bytes they have together; 0: there are none.
    length: u64,
}

/// A segment of which every byte was checked.
pub(super) struct WholeSegment {
    /// As it stands in the store.
    pub(super) bytes: Blob,
    /// What is in it.
    pub(super) footer: Footer,
}

/// Whether what an error is of cannot be had from this vault by this version.
fn is_lost(error: &Error) -> bool {
    use ErrorKind::{Damaged, Format, NotFound};
    matches!(error.kind(), Damaged | Format | NotFound)
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
const SCRATCH_MOST: usize = 5 << 20;
/// Most rooms that it keeps: 4 MiB, of chunks of 64 KiB.
const SCRATCH_ROOMS: usize = 64;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}
