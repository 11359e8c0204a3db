//! Holding mounted filesystems still with a guardian: one for each attempt, as each freezes once.

use super::quiesce::Quiesce;
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{Guardian, GuardianOptions};
use std::time::{Duration, Instant};

/// Freezes the filesystems of the run.
pub struct Still {
    options: GuardianOptions,
    guardian: Option<Guardian>,
}

impl Still {
    /// What to freeze, and for how long at most.
    pub fn new(options: GuardianOptions) -> Self {
        Self {
            options,
            guardian: None,
        }
    }
}

impl Quiesce for Still {
    fn settle(&mut self) -> Result<()> {
        let guardian = Guardian::start(self.options.clone())?;
        guardian.sync(self.options.sync_within)?;
        self.guardian = Some(guardian);
        Ok(())
    }

    fn freeze(&mut self) -> Result<Instant> {
        let no_guardian = || Error::new(ErrorKind::Failed, "no guardian has been started");
        let guardian = self.guardian.as_mut().ok_or_else(no_guardian)?;
        guardian.freeze()?;
        let left = guardian
            .watch()
            .map_or(Duration::ZERO, |watch| watch.remaining());
        Ok(Instant::now() + left)
    }

    fn thaw(&mut self) -> Result<Duration> {
        let no_guardian = || Error::new(ErrorKind::Failed, "nothing is frozen");
        Ok(self
            .guardian
            .take()
            .ok_or_else(no_guardian)?
            .thaw()?
            .frozen_for)
    }

    fn freezes(&self) -> bool {
        true
    }
}
