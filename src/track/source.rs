//! What the rest of the house needs from a tracker, whatever it is made of.

use crate::error::Result;
use crate::model::BlockSet;
use serde::{Deserialize, Serialize};

/// A span of time between two cuts or passes. A block's mark is the epoch of its last write.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// What a tracker can say for itself at one moment. Two of these, one from the parent's cut and one
/// from now, decide whether the marks between them prove anything: see `proof`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Kernel ids of the two copies of the program.
    pub programs: [u32; 2],
    /// Kernel id of the map that holds this disk's marks.
    pub map: u32,
    /// How often the kernel skipped each copy of the program (`recursion_misses`): for people.
    pub misses: [u64; 2],
    /// How many sectors the kernel's statistics of this disk count as written or discarded beyond
    /// what the programs saw, up to a constant: compare it, do not read it. Whatever makes an event
    /// escape both programs shows here. `None` when the disk was too busy to tell, or keeps no
    /// statistics.
    pub unaccounted: Option<i64>,
    /// How often something happened to this disk that marks cannot express (passthrough commands,
    /// requests with too many ranges, sectors past the end).
    pub voids: u64,
    /// The epoch that marks are made with now; in a cut's record, the one that began there.
    pub epoch: Epoch,
}

/// Where changes of one disk come from.
pub trait ChangeSource: Send {
    /// What the tracker can say for itself now.
    fn witness(&mut self) -> Result<Witness>;

    /// Starts the next epoch. When it returns, every write that completed before the call is marked
    /// with an earlier or the returned epoch, and no mark of an earlier epoch will be made any
    /// more.
    fn advance(&mut self) -> Result<Epoch>;

    /// The blocks whose mark is `since` or later. Proves something only of epochs that `advance`
    /// has ended: first advance, then ask, then read the blocks.
    fn changed_since(&mut self, since: Epoch) -> Result<BlockSet>;

    /// Starts the next epoch and returns what a manifest records of a cut. What the tracker said
    /// *before* the new epoch goes into it, so that nothing can be lost between the two unseen.
    fn cut(&mut self) -> Result<Witness> {
        let mut witness = self.witness()?;
        witness.epoch = self.advance()?;
        Ok(witness)
    }
}
