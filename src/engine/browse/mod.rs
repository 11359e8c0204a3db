//! `ls` and `cp`: files of a snapshot, by the paths that they had on the host. Its filesystems are
//! attached by the kernel's drivers when they are first needed, and only on disks that are needed.
//! And which files have lost bytes, for `verify`.

mod attach;
mod copy;
mod list;
mod lost_files;
mod target;
mod told_once;

pub use attach::{BrowseOptions, BrowseScope, Browsed, browse};
pub use copy::{CopiedTop, CopyRequest, CopyResult, copy_from_snapshot, stream_from_snapshot};
pub use list::{ListOutcome, ListRequest, ListedEntry, Unlisted, list_tree};
pub use lost_files::{LostFile, LostFiles, find_lost_files};
pub use target::{CopyTarget, find_target};
