//! What the rest of the house needs from a tracker, whatever it is made of.

use crate::error::Result;
use crate::model::BlockSet;
pub use crate::model::{Epoch, Witness};

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
