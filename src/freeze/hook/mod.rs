//! Hooks: a script of the operator's before the cut and one after it, so that applications stand
//! still in between. They lie in a folder where anyone can make files, so a script counts only if
//! root alone can have written it, and what was checked is what is run.
//!
//! A process of its own, the hook keeper, runs them. Once the prescript has been started, the
//! postscript runs, whatever becomes of the engine: when the engine is gone, the keeper runs it;
//! when the keeper is gone or does not answer, the engine has another one run it; when both are
//! gone, their note in the run directory tells a later run. One run of a host holds applications
//! at a time.

mod execute;
mod keeper;
mod lock;
mod note;
mod owed;
mod pair;
mod script;
mod wire;

pub use keeper::{check_hooks, hook_keeper_main};
pub use owed::{OwedPostscript, OwedReport, run_owed};
pub use pair::{HookOptions, HookOutcome, Hooks};

/// The hidden command under which the program becomes a hook keeper.
pub const HOOK_KEEPER_COMMAND: &str = "__hooks";
