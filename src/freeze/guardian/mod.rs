//! The guardian: a process that freezes and thaws, whatever becomes of the engine. `client` is the
//! engine's side of it, `handover` starts it, `errors` says what went wrong; `process` is its main
//! function, `clock` its main thread, which holds the deadline. They talk as `wire` says.

mod client;
mod clock;
mod errors;
mod handover;
mod leftovers;
mod options;
mod process;
mod times;
mod wire;
mod write_out;

pub use client::Guardian;
pub use options::GuardianOptions;
pub use process::guardian_main;
pub use times::{FreezeTimes, ThawTimes, Watch};
