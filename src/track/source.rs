//! What the rest of the house needs from a tracker, whatever it is made of.

use crate::error::Result;
use crate::model::BlockSet;
pub use crate::model::{CutName, Epoch, Witness};

/// What a tracker knows of a cut that a manifest records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// It made that cut, in this very history.
    Known,
    /// The record has no name for it.
    Nameless,
    /// So many were made since that their names have taken its place.
    Forgotten,
    /// It was made in another history: not here, or later than what is now.
    Unknown,
}

/// How much the kernel counts as written to a disk, in sectors since it appeared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Written, zeroes that were asked for among them.
    pub written: u64,
    /// Discarded.
    pub discarded: u64,
    /// [`Witness::unaccounted`] of the same moment: while it stays, all that has a mark is counted.
    pub unaccounted: i64,
}

/// Where changes of one disk come from.
pub trait ChangeSource: Send {
    /// Waits until changes can be proven again, where the kernel does not report them for a while:
    /// ten seconds at most. Not for a moment in which anything is held.
    fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    /// What the tracker can say for itself now.
    fn witness(&mut self) -> Result<Witness>;

    /// Starts the next epoch. When it returns, every write that completed before the call is marked
    /// with an earlier or the returned epoch, and no mark of an earlier epoch will be made any
    /// more.
    fn advance(&mut self) -> Result<Epoch>;

    /// The blocks whose mark is `since` or later. Proves something only of epochs that `advance`
    /// has ended: first advance, then ask, then read the blocks.
    fn changed_since(&mut self, since: Epoch) -> Result<BlockSet>;

    /// Gives the epoch that has just begun a name that no other cut has, and remembers both.
    fn name(&mut self, epoch: Epoch) -> Result<CutName>;

    /// What is known of the cut of another snapshot.
    fn recall(&mut self, cut: &Witness) -> Result<Recall>;

    /// What the kernel counts; `None` where that is unknown. Where what is counted as written
    /// before an epoch begins, and what is not accounted for, is the same after
    /// [`Self::changed_since`] was asked of it, all marks of that epoch are of discards.
    fn counts(&mut self) -> Result<Option<ChangeCounts>> {
        Ok(None)
    }

    /// Starts the next epoch and returns what a manifest records of a cut. What the tracker said
    /// *before* the new epoch goes into it, so that nothing can be lost between the two unseen.
    fn cut(&mut self) -> Result<Witness> {
        let mut witness = self.witness()?;
        witness.epoch = self.advance()?;
        witness.name = Some(self.name(witness.epoch)?);
        Ok(witness)
    }
}
