//! From vault to disk: which targets are refused, and each chunk checked before it is written.
//! Nothing is written to a target before it has been found fit for it.

mod copy;
mod device;
mod ends;
mod output_file;
mod partitions;
mod qcow2;
mod staged_head;
mod stream;
mod table;
mod target;

pub use copy::{CopyOptions, CopyReport, Damage, copy};
pub use device::{FreeDevice, TargetDevice, unfinished};
pub use output_file::{OutputFile, refuse_what_is_there};
pub use partitions::{TablePartition, partitions};
pub use qcow2::Qcow2File;
pub use staged_head::{HEAD, StagedHead};
pub use stream::Stream;
pub use table::{Grown, TableChange, TableFit, TableKind, fit_table};
pub use target::{RawFile, Target};
