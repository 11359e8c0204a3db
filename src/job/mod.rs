//! Jobs: what is known of a run while it goes on and when it has ended, one file each in a folder
//! of this host. A record tells; nothing is ever decided by it that could lose data, and what
//! stands in the folder is believed no more than any other file.

mod folder;
mod id;
mod process;
mod prune;
mod record;

pub use folder::{JobFolder, JobLog, MAX_LOG_TAIL};
pub use id::JobId;
pub use process::JobProcess;
pub use prune::Keep;
pub use record::{JobRecord, MAX_WARNINGS, Progress, State};

/// Where root's jobs are unless told otherwise.
pub const DEFAULT_FOLDER: &str = "/var/lib/stillpoint/jobs";
