//! What a user can ask of a snapshot.

use crate::device::{Disk, HostLayout};
use crate::model::{Bytes, Level};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What snapshot to take.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The host, scanned for this run.
    pub layout: HostLayout,
    /// The disks to take, as they were found there.
    pub disks: Vec<Disk>,
    /// How consistent it must be.
    pub level: Level,
    /// Read and store everything.
    pub full: bool,
    /// Copy free space too.
    pub all_blocks: bool,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// How long it must stay in the vault, in whole seconds, at most 3,650 days; `None`: nobody
    /// says.
    pub keep: Option<Duration>,
    /// The longest that the filesystems may be frozen.
    pub max_freeze: Duration,
    /// What to do when the disks never get quiet enough.
    pub on_busy: OnBusy,
    /// Take a copy that is of no one instant if no other can be had.
    pub allow_fuzzy: bool,
    /// How many threads encode.
    pub workers: usize,
    /// Most bytes a second that are read of all disks together while nothing is held; `None`: as
    /// many as can be.
    pub limit_read: Option<Bytes>,
    /// Whether nearly all is read only when nobody else wants to read or write.
    pub idle: bool,
    /// For the level `application`.
    pub hooks: HookSettings,
    /// Whether what looks like encryption at work is told, and the last snapshot before held.
    pub encryption_alarm: bool,
}

impl SnapshotOptions {
    /// The part that decides when to cut.
    pub fn consistency(&self) -> Consistency {
        Consistency {
            level: self.level,
            max_freeze: self.max_freeze,
            on_busy: self.on_busy,
            allow_fuzzy: self.allow_fuzzy,
        }
    }
}

/// How consistent the copy must be, and what may be done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consistency {
    /// The level.
    pub level: Level,
    /// The longest that the filesystems may be frozen.
    pub max_freeze: Duration,
    /// What to do on a busy disk.
    pub on_busy: OnBusy,
    /// A copy that is of no one instant is accepted.
    pub allow_fuzzy: bool,
}

/// What to do when the disks change faster than they can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBusy {
    /// Give up.
    Fail,
    /// Freeze for as long as it takes, within the deadline.
    Freeze,
    /// Slow down what writes to the disks until little is left.
    Throttle,
}

/// What to do when applications cannot be quiesced as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHookFailure {
    /// Take the snapshot without them, at the level `filesystem`.
    Filesystem,
    /// Take none.
    Fail,
}

/// Which hooks there are for the level `application`.
#[derive(Clone, Debug)]
pub struct HookSettings {
    /// Run before the cut.
    pub prescript: PathBuf,
    /// Run after it.
    pub postscript: PathBuf,
    /// The longest that each may take.
    pub timeout: Duration,
    /// What to do when they are missing, unfit, or fail.
    pub on_failure: OnHookFailure,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self {
            prescript: "/tmp/prescript.sh".into(),
            postscript: "/tmp/postscript.sh".into(),
            timeout: Duration::from_secs(30),
            on_failure: OnHookFailure::Filesystem,
        }
    }
}
