//! From vault to disk: which targets are refused, and each chunk checked before it is written.
//! Nothing is written to a target before it has been found fit for it.

mod copy;
mod target;

pub use copy::{CopyOptions, CopyReport, Damage, copy};
pub use target::{RawFile, Target, TargetDisk};
