//! A view of a snapshot: its disks and filesystems, attached where one thread of this process alone
//! sees them. All of it goes with the thread, also when the process is killed: it serves the disks
//! from threads that never look at them, so nothing waits for itself.

mod attach;
mod btrfs;
mod checksum;
mod deadline;
mod ext;
mod kinds;
mod part;
mod prepare;
mod thread;

pub use attach::{AttachOptions, AttachedFilesystem, ClosedPart, View};
pub use deadline::ViewDeadline;
pub use kinds::is_attachable;
pub use part::AttachPart;
pub use thread::{ViewOptions, make_view, with_view};
