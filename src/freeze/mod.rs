//! Freezing filesystems for an instant, and thawing them whatever happens: a frozen machine is a
//! dead machine. Which filesystems, and in which order, is decided above.
//!
//! A separate process, the guardian, makes the calls. It thaws when it is asked to, when the engine
//! is gone, and when the deadline has passed. Should the guardian be killed, the engine thaws with
//! descriptors of its own; should both be killed, [`thaw`] finds their record.
//!
//! # What the engine must do
//! Between [`Guardian::freeze`] and [`Guardian::thaw`] the engine must not write to any file, pipe
//! or terminal, log, open a path, start a process, wait for anything without a deadline, or touch
//! memory that is not there yet: whatever it waits for may itself wait for a frozen filesystem. So
//! it allocates and locks its buffers before, and only reads devices in between. If it errs, the
//! deadline ends it, and the snapshot is lost.

mod direct_thaw;
mod emergency_thaw;
mod expedite;
mod guardian;
mod isolation;
mod record;
mod state;
mod target;
mod target_states;
mod throttle;

pub use emergency_thaw::{
    FrozenNow, LiveGuardian, MountOutcome, ThawReport, ThawedMount, frozen_now, left_frozen, thaw,
};
pub use expedite::{Expedite, Expedited};
pub use guardian::{FreezeTimes, Guardian, GuardianOptions, ThawTimes, Watch, guardian_main};
pub use target::FreezeTarget;
pub use throttle::{THROTTLE_WATCHER_COMMAND, Throttle, ThrottleOptions, throttle_watcher_main};

use std::time::Duration;

/// The most filesystems that can be frozen together.
pub const MAX_TARGETS: usize = 4096;

/// Where the records are unless told otherwise: in memory, on every host that keeps to the FHS.
pub const DEFAULT_RUN_DIR: &str = "/run/stillpoint";

/// How long a thaw may take before the guardian reports to the engine what is not thawed yet.
const THAW_GRACE: Duration = Duration::from_secs(2);

/// The hidden command under which the program becomes a guardian.
pub const GUARDIAN_COMMAND: &str = "__guardian";
