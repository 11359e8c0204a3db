//! Chunks that are in the vault already, whichever run of whichever host has put them. A run of a
//! vault that stores equal blocks once looks here before it stores one.
//!
//! What is known comes from copies of footers. A chunk is the same when its hash in the footer is,
//! all of it, and its length; the footer is proven by the segment's name. Nothing is named of what
//! a collector means to delete, of what is known to be damaged, or that is not there by its length
//! when it is named first. A run that fails deletes nothing that copies name (`store/draft.rs`): so
//! whose run has put a segment, and what became of it, need not be known.

mod choose;
mod table;

pub use choose::LookOptions;

use super::ask::ask_of_each;
use super::footer_copies::is_unusable;
use super::object_name::ObjectName;
use super::object_store::Blob;
use super::slots::SlotRange;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    ChunkHash, Condemned, DamagedChunks, Footer, FooterCopies, FooterCopiesRef, Trailer,
};
use crate::model::{Bytes, Content, ObjectId, RunMap};
use crate::sys::locked::LockExt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use table::{ChunkPlace, ChunkTable, MOST_SEGMENTS};

/// Most bytes of copies that are in memory while they are read.
const AT_ONCE: u64 = 32 << 20;
/// Bytes of a footer for each chunk.
const ENTRY: u64 = 48;
/// As many segments are read from before they are named: the first ones, and later one in so many.
const COMPARED: u32 = 16;
/// A row of chunks amid others of a disk is worth it from this length on: each is a read, or far
/// away a request, of who restores it. So a disk that was scattered where it was found is not here.
const LEAST_NEAR: usize = 4;
const LEAST_FAR: usize = 8;
/// What looking may cost, in bytes that are got for footers after all copies were read once: this
/// part of what the run is to read of its disks, and so much at least. Who may put can have each
/// block found in footers that are not in memory any more.
const LOOKING_PART: u64 = 8;
/// See there.
pub const LEAST_LOOKING: Bytes = Bytes(64 << 20);
/// Most segments that are told of.
const MOST_TOLD: usize = 8;

/// A number below `most`, which is not 0, that nobody can know before.
fn below(most: u32) -> u32 {
    let ObjectId([a, b, c, d, ..]) = ObjectId::generate();
    u32::from_le_bytes([a, b, c, d]) % most
}

/// A block that may be in the vault.
#[derive(Clone, Copy)]
pub struct LookedFor<'a> {
    /// Its bytes.
    pub plain: &'a [u8],
    /// What names them.
    pub hash: ChunkHash,
}

/// What a snapshot refers to that others have put.
#[derive(Default)]
pub struct UsedElsewhere {
    /// Bytes of blocks.
    pub bytes: Bytes,
    /// The segments, and their lengths in bytes.
    pub segments: BTreeMap<ObjectId, u64>,
    /// Where copies of their footers are.
    pub copies: BTreeSet<FooterCopiesRef>,
}

/// A segment, and the number of the object with its copy.
struct KnownSegment {
    id: ObjectId,
    copies: u32,
    /// Its length in bytes, if it may be named. Asked for once, by whoever finds something in it.
    there: OnceLock<Option<u64>>,
}

/// Chunks that are in the vault already.
pub struct ChunksElsewhere {
    vault: Arc<Vault>,
    table: ChunkTable,
    segments: Vec<KnownSegment>,
    /// The objects that were read.
    copies: Vec<FooterCopiesRef>,
    left_out: u64,
    damage: DamagedChunks,
    /// How many segments were asked for.
    asked: AtomicU32,
    /// Those that may be named, by their numbers.
    named: Mutex<HashMap<ObjectId, u32>>,
    /// Segments that do not hold what they say.
    false_ones: Mutex<BTreeSet<ObjectId>>,
    /// When so many bytes have been got for footers, no more is looked for.
    most_got: u64,
    /// Why nothing more is looked for.
    gave_up: OnceLock<Error>,
}

impl ChunksElsewhere {
    /// Learns what the vault has, as far as that is worth it.
    ///
    /// # Errors
    /// The run must refer to nothing that it has not put itself, or the vault cannot be asked.
    pub fn load(vault: &Arc<Vault>, look: &LookOptions<'_>) -> Result<Self> {
        // First: what is looked at afterwards is in no plan, or named by one that is heeded.
        vault.heed_plans(look.run)?;
        let damage = vault.damage()?;
        let chosen = choose::choose(vault, look)?;
        let bytes: u64 = chosen.copies.iter().map(|one| one.bytes).sum();
        let mut found = Self {
            vault: Arc::clone(vault),
            table: ChunkTable::with_room_for(bytes / ENTRY),
            segments: Vec::new(),
            copies: Vec::new(),
            left_out: chosen.left_out,
            damage,
            asked: AtomicU32::new(0),
            named: Mutex::default(),
            false_ones: Mutex::default(),
            most_got: 0,
            gave_up: OnceLock::new(),
        };
        let store = vault.store.as_ref();
        let get = |one: &FooterCopiesRef| store.get(&ObjectName::footers(*one), one.bytes);
        let mut rest = &chosen.copies[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|one| {
                bytes += one.bytes;
                bytes <= AT_ONCE
            });
            let (some, later) = rest.split_at(fits.count().max(1));
            ask_of_each(store, some, look.cancel, get, |one, got| {
                found.take(*one, got)
            })?;
            rest = later;
        }
        let most = (look.wanted.0 / LOOKING_PART).max(look.least.0);
        found.most_got = vault.segments.copies.got().saturating_add(most);
        Ok(found)
    }

    /// Learns what an object of copies says; what is missing or damaged says nothing.
    fn take(&mut self, named: FooterCopiesRef, got: Result<Blob>) -> Result<()> {
        let decoded = got.and_then(|bytes| {
            let copies = FooterCopies::decode(&bytes, named.bytes)?;
            Ok((bytes, copies))
        });
        let (bytes, copies) = match decoded {
            // Another length than was listed: its places may lie outside of it.
            Ok((bytes, _)) if bytes.len() as u64 != named.bytes => return self.leave_out(named),
            Ok(decoded) => decoded,
            Err(error) if is_unusable(&error) => return self.leave_out(named),
            Err(error) => return Err(error),
        };
        let number = self.copies.len() as u32;
        self.copies.push(named);
        for (id, place) in copies.iter() {
            let copy = &bytes[place.start as usize..place.end as usize];
            let trailer = Trailer::of_copy(copy);
            let opened = trailer.and_then(|it| self.vault.sealer().open_footer(copy, it, id));
            match opened {
                Ok(footer) => self.learn(id, number, &footer),
                // Damaged on the way, or here: next time the store is asked.
                Err(_) => self.vault.store.forget(&ObjectName::footers(named)),
            }
        }
        self.vault.segments.learn_copies(named, &copies);
        Ok(())
    }

    fn leave_out(&mut self, named: FooterCopiesRef) -> Result<()> {
        self.vault.store.forget(&ObjectName::footers(named));
        self.left_out += 1;
        Ok(())
    }

    fn learn(&mut self, id: ObjectId, copies: u32, footer: &Footer) {
        let condemned = self.vault.is_condemned(Condemned::Segment(id));
        let shunned = self.vault.false_ones.shuns(id);
        if condemned || shunned || self.segments.len() >= MOST_SEGMENTS {
            return;
        }
        let segment = self.segments.len() as u32;
        self.segments.push(KnownSegment {
            id,
            copies,
            there: OnceLock::new(),
        });
        let bad = self.damage.within(id, 0..footer.slots().len() as u32);
        for (slot, entry) in (0..).zip(footer.slots()) {
            if bad.binary_search(&slot).is_err() {
                // What finds no room is stored once more.
                let _ = self.table.insert(&entry.hash, ChunkPlace { segment, slot });
            }
        }
    }

    /// How many objects of copies were read, and how many were left out.
    pub fn objects(&self) -> [u64; 2] {
        [self.copies.len() as u64, self.left_out]
    }

    /// Why nothing more was looked for from some block on.
    pub fn trouble(&self) -> Option<&Error> {
        self.gave_up.get()
    }

    /// A warning about segments that do not hold what they say.
    pub fn alarm(&self) -> Option<String> {
        let all = self.false_ones.locked();
        let names: Vec<String> = all
            .iter()
            .take(MOST_TOLD)
            .map(ObjectId::to_string)
            .collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} segments in the vault do not hold what they say they do ({}): what was looked \
                 for there was stored anew, but snapshots that were made before may need them, and \
                 what this one has of its parent; run `stillpoint verify --all`",
                all.len(),
                names.join(", ")
            )
        })
    }

    /// Where neighbouring blocks stand in the vault; `None` among `blocks`: it is not looked for,
    /// and not stored either.
    ///
    /// # Errors
    /// The run was stopped. Where the vault cannot be read, nothing is known from then on, and
    /// [why](Self::trouble) is kept.
    pub fn find(&self, blocks: &[Option<LookedFor<'_>>]) -> Result<Vec<Option<Content>>> {
        let mut found = vec![None; blocks.len()];
        let mut at = 0;
        while at < blocks.len() {
            let follows_others = at > 0 && blocks[at - 1].is_some();
            let row = match self.gave_up.get() {
                None => self.within_bounds(&blocks[at..], follows_others),
                Some(_) => return Ok(found),
            };
            let row = match row {
                Err(error) if !matches!(error.kind(), ErrorKind::Interrupted(_)) => {
                    let _ = self.gave_up.set(error);
                    return Ok(found);
                }
                row => row?,
            };
            let Some((place, count)) = row else {
                at += 1;
                continue;
            };
            let segment = self.segments[place.segment as usize].id;
            for (slot, found) in (place.slot..).zip(&mut found[at..at + count]) {
                *found = Some(Content::Data { segment, slot });
            }
            at += count;
        }
        Ok(found)
    }

    /// [`Self::row`], unless looking has cost what it may.
    fn within_bounds(
        &self,
        blocks: &[Option<LookedFor<'_>>],
        follows_others: bool,
    ) -> Result<Option<(ChunkPlace, usize)>> {
        if self.vault.segments.copies.got() <= self.most_got {
            return self.row(blocks, follows_others);
        }
        let what = "to look for what others have stored has taken as much as it may, and ended: \
                    the ends of segments were got again and again";
        Err(Error::new(ErrorKind::Failed, what)
            .with_hint("the snapshot is whole; what was not looked for was stored anew"))
    }

    /// The longest row of chunks that these blocks begin with, if it is worth it: one amid others
    /// must have a length. At the ends nobody knows how it goes on.
    fn row(
        &self,
        blocks: &[Option<LookedFor<'_>>],
        follows_others: bool,
    ) -> Result<Option<(ChunkPlace, usize)>> {
        let Some(Some(first)) = blocks.first() else {
            return Ok(None);
        };
        let least = match self.vault.is_far() {
            true => LEAST_FAR,
            false => LEAST_NEAR,
        };
        let mut rows = Vec::new();
        for place in self.table.places(&first.hash) {
            if let Some(footer) = self.footer(place)? {
                rows.push((place, self.length(&footer, place, blocks), footer));
            }
        }
        rows.sort_by_key(|(_, count, _)| Reverse(*count));
        for (place, count, footer) in rows {
            let others_follow = matches!(blocks.get(count), Some(Some(_)));
            let is_short = follows_others && others_follow && count < least;
            let row = &blocks[..count];
            if count > 0 && !is_short && self.may_name(place, &footer, row)? {
                return Ok(Some((place, count)));
            }
        }
        Ok(None)
    }

    /// The footer of a segment, unless it is known that the segment may not be named.
    fn footer(&self, place: ChunkPlace) -> Result<Option<Arc<Footer>>> {
        let segment = &self.segments[place.segment as usize];
        if segment.there.get() == Some(&None) {
            return Ok(None);
        }
        match self.vault.segments.footer(segment.id) {
            Ok(footer) => Ok(Some(footer)),
            Err(error) if is_unusable(&error) => {
                let _ = segment.there.set(None);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// How many of these blocks stand in a row from a place on.
    fn length(
        &self,
        footer: &Footer,
        place: ChunkPlace,
        blocks: &[Option<LookedFor<'_>>],
    ) -> usize {
        let id = self.segments[place.segment as usize].id;
        let slots = footer.slots().get(place.slot as usize..).unwrap_or(&[]);
        let same = slots.iter().zip(blocks).take_while(|(slot, block)| {
            let is_same = |block: &LookedFor<'_>| {
                slot.hash == block.hash && slot.plain_len as usize == block.plain.len()
            };
            block.as_ref().is_some_and(is_same)
        });
        let count = same.count() as u32;
        let bad = self.damage.within(id, place.slot..place.slot + count);
        bad.first().map_or(count, |bad| bad - place.slot) as usize
    }

    /// Whether the segment is there, and holds what it says as far as that is looked at.
    fn may_name(
        &self,
        place: ChunkPlace,
        footer: &Footer,
        row: &[Option<LookedFor<'_>>],
    ) -> Result<bool> {
        let segment = &self.segments[place.segment as usize];
        let mut failed = None;
        let there = segment.there.get_or_init(|| {
            let asked = self.ask(place, footer, row);
            let there = asked.unwrap_or_else(|error| {
                failed = Some(error);
                None
            });
            if there.is_some() {
                self.named.locked().insert(segment.id, place.segment);
            }
            there
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(there.is_some()),
        }
    }

    /// Asks the store for the segment's length, and now and then for a chunk of the row, picked at
    /// random: who lies must not know which. Returns the length if it may be named.
    fn ask(
        &self,
        place: ChunkPlace,
        footer: &Footer,
        row: &[Option<LookedFor<'_>>],
    ) -> Result<Option<u64>> {
        let id = self.segments[place.segment as usize].id;
        match self.vault.store.size(&ObjectName::segment(id)) {
            Ok(size) if size == footer.segment_len() => {}
            Ok(_) => return Ok(None),
            Err(error) if is_unusable(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let is_compared = number < COMPARED || below(COMPARED) == 0;
        // A writer's key opens no chunk.
        if !is_compared || self.vault.need_to_read().is_err() {
            return Ok(Some(footer.segment_len()));
        }
        let picked = below(row.len() as u32);
        let Some(Some(block)) = row.get(picked as usize) else {
            return Ok(None);
        };
        let range = SlotRange {
            segment: id,
            first: place.slot + picked,
            count: 1,
        };
        let mut is_same = false;
        let read = self.vault.read_chunks(range, &mut |chunks| {
            is_same = chunks == [block.plain];
            Ok(())
        });
        match read {
            Ok(()) if is_same => {}
            Err(error) if error.kind() != ErrorKind::Damaged => {
                // Not there, in an archive, not to be read by this host: of no use, but no lie.
                return is_unusable(&error).then_some(None).ok_or(error);
            }
            Ok(()) | Err(_) => {
                // One that is gone is called damaged by who reads it.
                let gone = self.vault.store.size(&ObjectName::segment(id));
                if gone.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                    return Ok(None);
                }
                self.false_ones.locked().insert(id);
                self.vault.found_false(id);
                return Ok(None);
            }
        }
        Ok(Some(footer.segment_len()))
    }

    /// What of it a snapshot refers to whose map this is; `but_not`: segments that the snapshot
    /// refers to for another reason.
    pub fn used_in(&self, map: &RunMap, but_not: &BTreeMap<ObjectId, u64>) -> UsedElsewhere {
        let named = self.named.locked();
        let mut used = UsedElsewhere::default();
        for run in map.iter() {
            let Content::Data { segment: id, .. } = run.content else {
                continue;
            };
            let Some(number) = named.get(&id).filter(|_| !but_not.contains_key(&id)) else {
                continue;
            };
            let segment = &self.segments[*number as usize];
            if let Some(Some(length)) = segment.there.get() {
                used.bytes += run.bytes();
                used.segments.insert(id, *length);
                used.copies.insert(self.copies[segment.copies as usize]);
            }
        }
        used
    }
}
