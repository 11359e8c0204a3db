//! What a drill is asked to do, and the time that ends it.

use super::boot::BootOptions;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::restore::Overwritten;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;
use crate::store::{HashedManifest, SnapshotRef, Vault};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is to be proven.
#[derive(Clone)]
pub struct DrillOptions<'a> {
    /// The vault itself: what this host has kept of it proves nothing.
    pub vault: &'a Arc<Vault>,
    /// The snapshot.
    pub snapshot: &'a SnapshotRef,
    /// Its manifest.
    pub manifest: &'a HashedManifest,
    /// The run directory.
    pub run_dir: &'a Path,
    /// A script that is run against the tree.
    pub check: Option<&'a Path>,
    /// A machine is booted, in place of what the kernel of this host can try.
    pub boot: Option<BootOptions>,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// Passes on what is told, and ends what asks it when the time is over.
pub(super) struct DrillMonitor<'a> {
    pub outer: &'a dyn Monitor,
    pub until: Instant,
}

impl DrillMonitor<'_> {
    /// How much time is left.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether none is.
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }
}

impl Monitor for DrillMonitor<'_> {
    fn tell(&self, event: Event) {
        self.outer.tell(event);
    }

    fn confirm(&self, lost: &[Overwritten]) -> Result<()> {
        self.outer.confirm(lost)
    }
}

impl Cancel for DrillMonitor<'_> {
    fn check(&self) -> Result<()> {
        self.outer.check()?;
        match self.is_over() {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Failed, TIME_IS_OVER)),
        }
    }
}

/// What is said of what was not done any more.
pub(super) const TIME_IS_OVER: &str = "the drill's time was over; give it more with --timeout";

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
