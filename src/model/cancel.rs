//! How work that takes long learns that it shall stop.

use crate::error::Result;

/// Knows whether work shall go on. The work asks often, from whichever thread; a closure will do.
pub trait Cancel: Sync {
    /// Whether to go on.
    ///
    /// # Errors
    /// Once the work shall stop: why, as a rule of kind `Interrupted`. The work returns it as it
    /// is.
    fn check(&self) -> Result<()>;
}

impl<F: Fn() -> Result<()> + Sync> Cancel for F {
    fn check(&self) -> Result<()> {
        self()
    }
}
