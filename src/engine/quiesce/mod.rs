//! Keeping the disks unchanged for the cut: applications by hooks, filesystems by a guardian
//! process. `layers` chooses what a run needs of it.

pub(super) mod applications;
pub(super) mod filesystems;
mod freeze_check;
mod freeze_test;
pub(super) mod layers;
mod none;
mod throttle;
mod waves;

pub use freeze_check::{FreezeFinding, check_freezing};
pub use freeze_test::{FreezeTest, FrozenFor, freeze_test};
pub use none::NoQuiesce;

use super::monitor::Monitor;
use crate::error::Result;
use crate::model::{Bytes, DevNumber};
use std::time::{Duration, Instant};

/// Quiesces what writes to the disks of a run.
pub trait Quiesce {
    /// Slows down what writes to these disks until the cut, to this rate a second for each. It is
    /// never in force while anything is flushed, quiesced or frozen. Returns whether it can be had;
    /// reports why not.
    fn throttle(&mut self, _: &[DevNumber], _: Bytes, _: &dyn Monitor) -> Result<bool> {
        Ok(false)
    }

    /// Writes out what is dirty, so that little is left for the freeze. Nothing is frozen yet.
    fn flush(&mut self, monitor: &dyn Monitor) -> Result<()>;

    /// Quiesces applications, if that was asked for; returns whether they are. Nothing is frozen
    /// yet. `resume_apps` is called after it in any case.
    fn quiesce_apps(&mut self, _: &dyn Monitor) -> Result<bool> {
        Ok(false)
    }

    /// Lets applications go on. `cut`: the instant has been had. Returns whether they were quiesced
    /// until now, as far as the postscript can tell.
    fn resume_apps(&mut self, _cut: bool, _: &dyn Monitor) -> Result<bool> {
        Ok(false)
    }

    /// Freezes. From here until `thaw` nothing may log, print or wait without a deadline; the
    /// freeze ends by itself at the returned moment.
    fn freeze(&mut self) -> Result<Instant>;

    /// Thaws, and returns how long the freeze was. It fails when the freeze had ended by itself:
    /// what was read meanwhile is no snapshot.
    fn thaw(&mut self) -> Result<Duration>;

    /// Whether `freeze` freezes anything.
    fn freezes(&self) -> bool;
}
