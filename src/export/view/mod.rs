//! A view of a snapshot: its disks and filesystems, attached where one thread of this process alone
//! sees them. All of it goes with the thread, also when the process is killed: it serves the disks
//! from threads that never look at them, so nothing waits for itself.

mod attach;
mod btrfs;
mod kinds;
mod thread;

pub use attach::{AttachOptions, AttachPart, AttachedFilesystem, View};
pub use kinds::is_attachable;
pub use thread::{ViewOptions, with_view};
