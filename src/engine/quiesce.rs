//! Holding the filesystems still for the cut: what the sequence needs of the freeze room.

use super::monitor::Monitor;
use crate::error::Result;
use crate::freeze::{Expedite, Expedited};
use crate::model::{Bytes, DevNumber};
use std::time::{Duration, Instant};

/// Holds still what writes to the disks.
pub trait Quiesce {
    /// Slows down what writes to these disks until the cut, to so much a second each; never while
    /// anything is written out, held or frozen. Answers whether that can be had; tells why not.
    fn slow(&mut self, _: &[DevNumber], _: Bytes, _: &dyn Monitor) -> Result<bool> {
        Ok(false)
    }

    /// Writes out what is dirty, so that little is left for the freeze. Nothing is frozen yet.
    fn settle(&mut self) -> Result<()>;

    /// Has applications stand still, as far as that was asked for; answers whether they do. Nothing
    /// is frozen yet. `release` is called after it in any case.
    fn hold(&mut self, monitor: &dyn Monitor) -> Result<bool>;

    /// Lets applications go on. `cut`: the instant has been had. Answers whether they stood still
    /// until now, as far as what lets them go can tell.
    fn release(&mut self, cut: bool, monitor: &dyn Monitor) -> Result<bool>;

    /// Freezes. From here until `thaw` nothing may log, print or wait without a deadline; after the
    /// returned moment the freeze ends by itself.
    fn freeze(&mut self) -> Result<Instant>;

    /// Thaws, and answers how long all was held. An error when the freeze had ended by itself: what
    /// was read meanwhile is no snapshot.
    fn thaw(&mut self) -> Result<Duration>;

    /// Whether `freeze` freezes anything.
    fn freezes(&self) -> bool;
}

/// Freezes nothing: for disks without mounted filesystems, and for the level `crash`.
pub struct Unfrozen {
    /// How long the last read may take.
    pub window: Duration,
    /// The shorter the window, the likelier nothing is written in it.
    expedite: Expedite,
    /// When the window began, and what it needs.
    begun: Option<(Instant, Option<Expedited>)>,
}

impl Unfrozen {
    /// A window of at most this length.
    pub fn new(window: Duration, expedite: Expedite) -> Self {
        Self {
            window,
            expedite,
            begun: None,
        }
    }
}

impl Quiesce for Unfrozen {
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn hold(&mut self, _: &dyn Monitor) -> Result<bool> {
        Ok(false)
    }

    fn release(&mut self, _: bool, _: &dyn Monitor) -> Result<bool> {
        Ok(false)
    }

    fn freeze(&mut self) -> Result<Instant> {
        let expedited = self.expedite.begin();
        let now = Instant::now();
        self.begun = Some((now, expedited));
        Ok(now + self.window)
    }

    fn thaw(&mut self) -> Result<Duration> {
        Ok(self
            .begun
            .take()
            .map_or(Duration::ZERO, |(begun, _)| begun.elapsed()))
    }

    fn freezes(&self) -> bool {
        false
    }
}
