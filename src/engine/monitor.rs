//! How the engine tells what it does, and learns that it shall stop. It never prints by itself.

use crate::error::Result;
use crate::model::Bytes;

/// Something worth telling. Never told while anything is frozen.
#[derive(Clone, Debug)]
pub enum Event {
    /// What is being done now.
    Phase(String),
    /// How far it is.
    Progress {
        /// Bytes done.
        done: Bytes,
        /// Bytes there are to do, as far as is known.
        total: Bytes,
    },
    /// Something that the user should know.
    Warning(String),
    /// Something for those who want to know more.
    Note(String),
}

/// Who listens to the engine.
pub trait Monitor: Sync {
    /// Takes an event; must return soon and must not fail.
    fn tell(&self, event: Event);

    /// An error of kind `Interrupted` once the run shall stop.
    fn check(&self) -> Result<()>;
}

/// Listens to nothing, never stops.
pub struct Silent;

impl Monitor for Silent {
    fn tell(&self, _: Event) {}

    fn check(&self) -> Result<()> {
        Ok(())
    }
}
