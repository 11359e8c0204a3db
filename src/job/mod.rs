//! Jobs: a run with a record, a file in a directory of this host that says how far the run is and
//! how it ended. A record only informs: nothing that could lose data is ever decided by it, and the
//! directory's contents are trusted no more than any other file's.

mod detach;
mod directory;
mod id;
mod live;
mod process;
mod prune;
mod record;
mod scope;
mod start_channel;
mod stop;
mod updates;
mod writer;

pub use detach::{Settled, StartOptions, settle, start};
pub use directory::{JobDirectory, JobLog, MAX_LOG_TAIL};
pub use id::JobId;
pub use live::{LiveJob, NewJob, run};
pub use process::JobProcess;
pub use prune::PruneOptions;
pub use record::{JobProgress, JobRecord, JobState, MAX_WARNINGS};
pub use updates::JobEnd;
pub use writer::{RECORD_WRITER_COMMAND, record_writer_main};

/// The directory of root's records, unless another is named.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/stillpoint/jobs";
