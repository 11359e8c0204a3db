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

    /// Gives the epoch that has just begun a name that no other cut has, and remembers both.
    fn name(&mut self, epoch: Epoch) -> Result<CutName>;

    /// What is known of the cut of another snapshot.
    fn recall(&mut self, cut: &Witness) -> Result<Recall>;

    /// Starts the next epoch and returns what a manifest records of a cut. What the tracker said
    /// *before* the new epoch goes into it, so that nothing can be lost between the two unseen.
    fn cut(&mut self) -> Result<Witness> {
        let mut witness = self.witness()?;
        witness.epoch = self.advance()?;
        witness.name = Some(self.name(witness.epoch)?);
        Ok(witness)
    }
}
