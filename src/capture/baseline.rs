//! What an earlier snapshot holds, for telling whether a block differs from it.

use crate::error::{ErrorKind, Result};
use crate::format::{ChunkHash, hash_of};
use crate::model::{BlockIndex, BlockSet, Content, RunMap};
use crate::store::Vault;
use std::sync::Arc;

/// The map of an earlier snapshot of the disk, and the vault with the hashes of its chunks.
pub struct Baseline {
    vault: Arc<Vault>,
    map: RunMap,
}

impl Baseline {
    /// The earlier snapshot's map in its vault.
    pub fn new(vault: Arc<Vault>, map: RunMap) -> Self {
        Self { vault, map }
    }

    /// Its map.
    pub fn map(&self) -> &RunMap {
        &self.map
    }

    /// The blocks that were free then.
    pub fn free(&self) -> BlockSet {
        let mut free = BlockSet::new();
        for run in self.map.iter().filter(|run| run.content == Content::Free) {
            free.insert_range(run.start.0..run.end());
        }
        free
    }

    /// Where the block's bytes are already, when it has just these: not zero, this long, this hash.
    /// A segment that cannot be read holds nothing: its blocks are stored anew.
    pub fn holds(
        &self,
        block: BlockIndex,
        length: usize,
        hash: &ChunkHash,
    ) -> Result<Option<Content>> {
        let Some(content @ Content::Data { segment, slot }) = self.map.get(block) else {
            return Ok(None);
        };
        match self.vault.chunk(segment, slot) {
            Ok(chunk) if chunk.hash == *hash && chunk.plain_len as usize == length => {
                Ok(Some(content))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether `plain` is what the earlier snapshot says of the block. `None`: it says nothing,
    /// because the block was free.
    pub fn agrees(&self, block: BlockIndex, plain: &[u8]) -> Result<Option<bool>> {
        match self.map.get(block) {
            None | Some(Content::Free) => Ok(None),
            Some(Content::Zero) => Ok(Some(plain.iter().all(|byte| *byte == 0))),
            Some(Content::Data { segment, slot }) => {
                let chunk = self.vault.chunk(segment, slot)?;
                Ok(Some(
                    chunk.plain_len as usize == plain.len() && chunk.hash == hash_of(plain),
                ))
            }
        }
    }
}
