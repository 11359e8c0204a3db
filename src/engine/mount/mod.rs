//! The files of a snapshot, by the kernel's own drivers: which filesystems there are, where the
//! host had them, how they are attached read-only: for a command, or on a folder of the host.
//! Nothing is written to a vault.

mod contents;
mod directory;
mod disk_bytes;
mod hold;
mod homes;
mod look;
mod note;
mod plan;
mod standing;
mod take_down;
mod tree;
mod users;
mod volumes;
mod watcher;

pub use directory::{MountFolder, refuse_mount_directory};
pub use hold::{MountRequest, TREE, hold_mount};
pub use look::{LookIntoOptions, SnapshotLook, look_into};
pub use note::{MountNote, MountState, MountedDisk, MountsFound, list_mounts};
pub use plan::{MountPlace, MountPlan, NotShown, PlannedDisk, PlannedFilesystem};
pub use standing::TreeName;
pub use take_down::{TakeDown, TakenDown, take_down_all_dead, unmount_snapshot};
pub use tree::{HostTree, ShownMount};
pub use users::MountUser;
pub use volumes::PlannedVolume;
pub use watcher::{MOUNT_WATCHER_COMMAND, mount_watcher_main};
