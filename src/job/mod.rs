//! Jobs: what is known of a run while it goes on and when it has ended, one file each in a
//! directory of this host. A record tells; nothing is ever decided by it that could lose data, and
//! what stands in the directory is believed no more than any other file.

mod detach;
mod directory;
mod id;
mod live;
mod process;
mod prune;
mod record;
mod scope;
mod start_channel;
mod updates;
mod writer;

pub use detach::{Settled, StartOptions, settle, start};
pub use directory::{JobDirectory, JobLog, MAX_LOG_TAIL};
pub use id::JobId;
pub use live::{LiveJob, NewJob, run};
pub use process::JobProcess;
pub use prune::Keep;
pub use record::{JobProgress, JobRecord, JobState, MAX_WARNINGS};
pub use updates::JobEnd;
pub use writer::{RECORD_WRITER_COMMAND, record_writer_main};

/// Where root's jobs are unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/stillpoint/jobs";
