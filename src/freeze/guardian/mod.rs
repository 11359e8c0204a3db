//! The guardian: a process that freezes and thaws, whatever becomes of the engine. `client` is the
//! engine's side of it, `handover` starts it, `errors` says what went wrong; `process` is its main
//! function, `clock` its main thread, which holds the deadline. They talk as `wire` says.

mod client;
mod clock;
mod errors;
mod handover;
mod process;
pub(super) mod wire;
mod write_out;

pub use client::{FreezeTimes, Guardian, GuardianOptions, ThawTimes, Watch};
pub use process::guardian_main;
