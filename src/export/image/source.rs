//! Where the chunks of one image come from: its disk's map, and the vault. It hands out no byte
//! that was not checked against its hash, and one damaged chunk never takes its neighbours along.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlockIndex, Bytes, Content, Extent, Run, RunMap};
use crate::store::{SlotRange, Vault};
use std::sync::Arc;

/// A disk's map, and the vault that has its chunks.
pub(super) struct ChunkSource {
    /// Of all sources of this process no other one has it.
    pub(super) number: u64,
    pub(super) vault: Arc<Vault>,
    /// The disk's name in the snapshot.
    pub(super) name: String,
    pub(super) size: Bytes,
    /// Covers the disk: that was checked when it was read.
    pub(super) map: RunMap,
}

/// What came of a chunk that was asked for.
pub(super) enum Landed {
    /// Its bytes, checked.
    Plain(Arc<Vec<u8>>),
    /// It cannot be had.
    Bad(Error),
    /// Those that it was asked for with cannot be had together: it is to be asked for by itself.
    Alone,
}

impl ChunkSource {
    /// Gets the chunks of a run of data with one request; returns one answer for each.
    /// `spare` is memory for them.
    pub(super) fn fetch(&self, run: Run, spare: &mut Vec<Vec<u8>>) -> Vec<Landed> {
        let Content::Data { segment, slot } = run.content else {
            return self.all_bad(run, &bug("a run without data was to be read"));
        };
        let range = SlotRange {
            segment,
            first: slot,
            count: run.count as u32,
        };
        let mut landed = Vec::with_capacity(run.count as usize);
        let got = self
            .vault
            .read_each_chunk(range, spare, &mut |number, plain| {
                let block = BlockIndex(run.start.0 + u64::from(number - slot));
                landed.push(self.judge(block, plain));
            });
        match got {
            Ok(()) if landed.len() as u64 == run.count => landed,
            Ok(()) => self.all_bad(run, &bug("not every chunk was read")),
            // Some of them may be there all the same.
            Err(error) if error.kind() == ErrorKind::Damaged && run.count > 1 => {
                (0..run.count).map(|_| Landed::Alone).collect()
            }
            Err(error) => self.all_bad(run, &error),
        }
    }

    /// The same error for each chunk of a run.
    pub(super) fn all_bad(&self, run: Run, error: &Error) -> Vec<Landed> {
        let blocks = run.start.0..run.end();
        let bad = blocks.map(|block| self.bad(BlockIndex(block), error.retold()));
        bad.collect()
    }

    fn judge(&self, block: BlockIndex, plain: Result<Vec<u8>>) -> Landed {
        let place = Extent::of_blocks(block, self.size);
        match plain {
            Ok(plain) if plain.len() as u64 == place.length.0 => Landed::Plain(Arc::new(plain)),
            Ok(plain) => {
                let what = format!("a block of {} is {} bytes long", place.length, plain.len());
                self.bad(block, Error::new(ErrorKind::Damaged, what))
            }
            Err(error) => self.bad(block, error),
        }
    }

    fn bad(&self, block: BlockIndex, error: Error) -> Landed {
        let place = Extent::of_blocks(block, self.size);
        let error = error
            .context(format!("bytes {place} of {}", self.name))
            .at("read", &self.name)
            .at_offset(place.offset);
        Landed::Bad(error)
    }
}

/// An error that only a fault of this program makes.
pub(super) fn bug(what: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("{what}: this is a bug"))
}
