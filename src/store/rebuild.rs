//! Objects that have rotted, made anew from what is left of them. What leaves here is proven: a
//! segment is what its name says, every byte of it, and a copy of a footer is what its segment's
//! name says. Nothing is put here.

use super::object_name::ObjectName;
use super::stored::StoredObject;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::{FooterCopies, FooterCopiesRef, MAX_SEGMENT, SEGMENT_HEADER, Trailer};
use crate::model::ObjectId;

/// Most bytes behind a segment that are read with it: what another writer left there.
const MOST_AFTER: u64 = 1 << 20;

impl Vault {
    /// A segment that has lost its header, its footer or its trailer, made anew: from a copy of its
    /// footer in one of these objects, from its own footer, or from its chunks. `None`: it cannot
    /// be, as bytes of chunks are lost, or there is none.
    pub fn rebuilt_segment(
        &self,
        id: ObjectId,
        copies: &[FooterCopiesRef],
    ) -> Result<Option<StoredObject>> {
        let name = ObjectName::segment(id);
        let bytes = match self.store.get(&name, MAX_SEGMENT + MOST_AFTER) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let proven = |made: Vec<u8>| {
            let whole = self.segments.judge(id, made.into()).ok()?;
            let (name, bytes) = (name.clone(), whole.bytes);
            Some(StoredObject { name, bytes })
        };
        if let Some(made) = self.with_its_own_end(id, &bytes).and_then(proven) {
            return Ok(Some(made));
        }
        if let Some(end) = self.segments.copied_end(id, copies)?
            && let Some(made) = self.with_end(id, &bytes, &end).and_then(proven)
        {
            return Ok(Some(made));
        }
        let made = self.sealer().rebuild_segment(&bytes);
        let made = made.filter(|(made, _)| *made == id);
        Ok(made.and_then(|(_, bytes)| proven(bytes)))
    }

    /// The header as the footer has it.
    fn with_its_own_end(&self, id: ObjectId, bytes: &[u8]) -> Option<Vec<u8>> {
        let trailer = Trailer::decode(bytes, bytes.len() as u64).ok()?;
        let end = bytes.get(trailer.footer_offset as usize..)?;
        self.with_end(id, bytes, end)
    }

    /// The chunks of `bytes` between the header and the end that `end` has.
    fn with_end(&self, id: ObjectId, bytes: &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let trailer = Trailer::of_copy(end).ok()?;
        let footer = self.sealer().open_footer(end, trailer, id).ok()?;
        let chunks = bytes.get(SEGMENT_HEADER..footer.chunks_end() as usize)?;
        Some([&footer.header()[..], chunks, end].concat())
    }

    /// An object of copies of footers whose head is left, made anew from the segments' own ends.
    /// `None`: it cannot be.
    pub fn rebuilt_copies(&self, copies: FooterCopiesRef) -> Result<Option<StoredObject>> {
        let name = ObjectName::footers(copies);
        let bytes = match self.store.get(&name, FooterCopies::MAX_LEN) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Ok(known) = FooterCopies::decode(&bytes, copies.bytes) else {
            return Ok(None);
        };
        let Some(first) = known.iter().next() else {
            return Ok(None);
        };
        let Some(head) = bytes.get(..first.1.start as usize) else {
            return Ok(None);
        };
        let mut made = head.to_vec();
        for (id, place) in known.iter() {
            let is_good = |end: &[u8]| {
                let footer = Trailer::of_copy(end)
                    .and_then(|trailer| self.sealer().open_footer(end, trailer, id));
                footer.is_ok() && end.len() as u64 == place.end - place.start
            };
            let there = bytes.get(place.start as usize..place.end as usize);
            if let Some(end) = there.filter(|end| is_good(end)) {
                made.extend_from_slice(end);
                continue;
            }
            let own = ObjectName::segment(id);
            match self.store.get_tail(&own, place.end - place.start) {
                Ok((end, _)) if is_good(&end) => made.extend_from_slice(&end),
                Ok(_) => return Ok(None),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        let is_whole = made.len() as u64 == copies.bytes;
        let bytes = made.into();
        Ok(is_whole.then_some(StoredObject { name, bytes }))
    }
}
