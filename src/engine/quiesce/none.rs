//! A window in which nothing is frozen: for the level `crash`, and for disks on which nothing that
//! can be frozen is mounted. The copy counts only if nothing was written meanwhile.

use super::Quiesce;
use crate::engine::monitor::Monitor;
use crate::error::Result;
use crate::freeze::{Expedite, Expedited};
use std::time::{Duration, Instant};

/// Freezes nothing.
pub struct NoQuiesce {
    /// How long the last read may take.
    pub window: Duration,
    /// The shorter the window, the likelier nothing is written in it.
    expedite: Expedite,
    /// When the window began, and what it needs.
    begun: Option<(Instant, Option<Expedited>)>,
}

impl NoQuiesce {
    /// A window of at most this length.
    pub fn new(window: Duration, expedite: Expedite) -> Self {
        Self {
            window,
            expedite,
            begun: None,
        }
    }
}

impl Quiesce for NoQuiesce {
    fn flush(&mut self, _: &dyn Monitor) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self) -> Result<Instant> {
        let expedited = self.expedite.begin();
        let now = Instant::now();
        self.begun = Some((now, expedited));
        Ok(now + self.window)
    }

    fn thaw(&mut self) -> Result<Duration> {
        let begun = self.begun.take();
        Ok(begun.map_or(Duration::ZERO, |(begun, _)| begun.elapsed()))
    }

    fn freezes(&self) -> bool {
        false
    }
}
