//! Hooks: a script of the operator's before the cut and one after it, so that applications stand
//! still in between. They lie in a folder where anyone can make files, so a script counts only if
//! root alone can have written it, and what was checked is what is run.
//!
//! A process of its own, the hook supervisor, runs them. Once the prescript has been started, the
//! postscript runs, whatever becomes of the engine: when the engine is gone, the supervisor runs
//! it; when the supervisor is gone or does not reply, the engine has another one run it; when both
//! are gone, their note in the run directory has a later run do it. One run of a host holds
//! applications at a time.

mod drill_program;
mod execute;
mod note;
mod pair;
mod pending;
mod script;
mod supervisor;
mod teller;
mod wire;

pub use drill_program::{ProgramEnd, ProgramLimits, qualify_check, run_check, run_program};
pub use pair::{HookOptions, HookOutcome, Hooks};
pub use pending::{PendingPostscript, PendingReport, run_pending};
pub use script::check_hooks;
pub use supervisor::hook_supervisor_main;
pub use teller::{TellerCall, TellerFault, hand_over, run_teller};

/// The hidden command under which the program becomes a hook supervisor.
pub const HOOK_SUPERVISOR_COMMAND: &str = "__hooks";
