//! What an earlier snapshot holds, for telling whether a block differs from it; or what a run has
//! put that was cut off before it was one.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, DiskRecord};
use crate::model::{BlockIndex, BlockSet, Cancel, Content, ObjectId, RunMap, block_count};
use crate::store::{Losses, StoredChunk, Vault};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The map of an earlier snapshot of the disk, and the vault with the hashes of its chunks.
pub struct Baseline {
    vault: Arc<Vault>,
    map: RunMap,
    lost: Lost,
    archived: AtomicU64,
    /// Of what runs that were cut off have put, which the snapshot can do without: why some of it
    /// could not be read. Nothing more is asked of it then.
    given_up: Option<OnceLock<Error>>,
}

/// A block whose bytes are in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBlock {
    /// Where they stand.
    pub content: Content,
    /// Whether packing wins next to nothing of them; false where that is not known.
    pub hardly_packs: bool,
}

impl KnownBlock {
    /// Of bytes that somebody has put; how they pack is not known.
    pub fn of_others(content: Content) -> Self {
        Self {
            content,
            hardly_packs: false,
        }
    }
}

/// What an earlier snapshot needs and the vault has no more.
#[derive(Debug)]
pub struct Lost {
    /// The segments that are missing or cut short.
    pub segments: BTreeSet<ObjectId>,
    /// The segments that a collector means to delete.
    pub condemned: BTreeSet<ObjectId>,
    /// The segments in which `verify` has found damaged chunks that it needs.
    pub damaged: BTreeSet<ObjectId>,
    /// The blocks whose bytes stood there.
    pub blocks: BlockSet,
}

impl Baseline {
    /// Reads an earlier snapshot's map, and looks which of its segments are there and what of them
    /// is known to be damaged. `cancel` is asked now and then, and its error is returned.
    pub fn load(vault: &Arc<Vault>, record: &DiskRecord, cancel: &dyn Cancel) -> Result<Self> {
        let map = vault.read_index(&record.index, block_count(record.identity.size), cancel)?;
        vault.know_footers(&record.footers, &map);
        let losses = vault.losses(&map, cancel)?;
        Ok(Self::without(vault, map, losses))
    }

    /// What runs that were cut off have put: the map, and the length of each segment in bytes. What
    /// is not there whole is lost. What cannot be read later on [is not known](Self::known).
    pub fn of_sent(
        vault: &Arc<Vault>,
        map: RunMap,
        lengths: &BTreeMap<ObjectId, u64>,
        cancel: &dyn Cancel,
    ) -> Result<Self> {
        let lengths = lengths.iter().map(|(id, length)| (*id, *length));
        let losses = Losses {
            segments: vault.lost_of_lengths(lengths, cancel)?,
            damage: vault.damage()?,
        };
        let mut baseline = Self::without(vault, map, losses);
        baseline.given_up = Some(OnceLock::new());
        Ok(baseline)
    }

    /// A map without what is lost of it.
    fn without(vault: &Arc<Vault>, mut map: RunMap, losses: Losses) -> Self {
        let is_condemned = |id: &ObjectId| vault.is_condemned(Condemned::Segment(*id));
        let (condemned, segments) = losses.segments.into_iter().partition(is_condemned);
        let mut lost = Lost {
            segments,
            condemned,
            damaged: BTreeSet::new(),
            blocks: BlockSet::new(),
        };
        for run in map.iter() {
            let Content::Data { segment, slot } = run.content else {
                continue;
            };
            if lost.segments.contains(&segment) || lost.condemned.contains(&segment) {
                lost.blocks.insert_range(run.blocks());
                continue;
            }
            // A run of data is within the slots of one segment.
            for bad in losses.damage.within(segment, slot..slot + run.count as u32) {
                let block = run.start.0 + u64::from(bad - slot);
                lost.blocks.insert_range(block..block + 1);
                lost.damaged.insert(segment);
            }
        }
        for range in lost.blocks.ranges(u64::MAX) {
            map.remove(range);
        }
        Self {
            vault: Arc::clone(vault),
            map,
            lost,
            archived: AtomicU64::new(0),
            given_up: None,
        }
    }

    /// Its map, without what is lost.
    pub fn map(&self) -> &RunMap {
        &self.map
    }

    /// What is lost: to be captured again.
    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// The blocks that were free then.
    pub fn free(&self) -> BlockSet {
        let mut free = BlockSet::new();
        for run in self.map.iter().filter(|run| run.content == Content::Free) {
            free.insert_range(run.blocks());
        }
        free
    }

    /// Fetches what is needed to compare these blocks, several at once where the vault is far away.
    /// Only speed depends on it.
    pub fn fetch(&self, blocks: &BlockSet, cancel: &dyn Cancel) -> Result<()> {
        let mut segments = BTreeSet::new();
        for range in blocks.ranges(u64::MAX) {
            for run in self.map.iter_range(range) {
                if let Content::Data { segment, .. } = run.content {
                    segments.insert(segment);
                }
            }
        }
        let segments: Vec<ObjectId> = segments.into_iter().collect();
        self.vault.fetch_footers(&segments, cancel)
    }

    /// Where the block's bytes stand in the vault, if the earlier snapshot has just these bytes
    /// there, and not only zeros. A segment whose footer cannot be read holds nothing: its blocks
    /// are stored again.
    ///
    /// # Errors
    /// The vault cannot be read. Of what runs that were cut off have put, nothing is known from
    /// then on, and [why](Self::trouble) is kept.
    pub fn known(&self, block: BlockIndex, plain: &[u8]) -> Result<Option<KnownBlock>> {
        let Some(content @ Content::Data { segment, slot }) = self.map.get(block) else {
            return Ok(None);
        };
        if self.trouble().is_some() {
            return Ok(None);
        }
        match self.vault.chunk(segment, slot) {
            Ok(chunk) if self.is_chunk(chunk, plain) => Ok(Some(KnownBlock {
                content,
                hardly_packs: chunk.hardly_packs(),
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(None),
            Err(error) if error.kind() == ErrorKind::Archived && self.given_up.is_none() => {
                self.archived.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => match (&self.given_up, error.kind()) {
                (None, _) | (_, ErrorKind::Interrupted(_)) => Err(error),
                (Some(given_up), _) => {
                    // Of several threads' troubles the first is told.
                    let _ = given_up.set(error);
                    Ok(None)
                }
            },
        }
    }

    /// How many blocks could not be compared so far, as their segments lie in an archive and no
    /// copy of their footers can be had.
    pub fn archived(&self) -> u64 {
        self.archived.load(Ordering::Relaxed)
    }

    /// Whether a block can be compared without thawing anything; its segment may be damaged.
    pub fn can_compare(&self, block: BlockIndex) -> bool {
        let Some(Content::Data { segment, slot }) = self.map.get(block) else {
            return true;
        };
        let chunk = self.vault.chunk(segment, slot);
        !chunk.is_err_and(|error| error.kind() == ErrorKind::Archived)
    }

    /// Why what runs that were cut off have put was given up.
    pub fn trouble(&self) -> Option<&Error> {
        self.given_up.as_ref()?.get()
    }

    /// Whether `plain` is what the earlier snapshot says of the block. `None`: it says nothing,
    /// because the block was free.
    pub fn agrees(&self, block: BlockIndex, plain: &[u8]) -> Result<Option<bool>> {
        match self.map.get(block) {
            None | Some(Content::Free) => Ok(None),
            Some(Content::Zero) => Ok(Some(plain.iter().all(|byte| *byte == 0))),
            Some(Content::Data { segment, slot }) => {
                Ok(Some(self.is_chunk(self.vault.chunk(segment, slot)?, plain)))
            }
        }
    }

    fn is_chunk(&self, chunk: StoredChunk, plain: &[u8]) -> bool {
        let same_length = chunk.plain_len as usize == plain.len();
        same_length && chunk.hash == self.vault.sealer().hash_of(plain)
    }
}
