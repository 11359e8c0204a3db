//! How gently disks are read while they are in use, and nothing is held.

use crate::device::read::{Limits, Pace};
use crate::engine::monitor::Monitor;
use crate::model::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// How gently disks are read while nothing is held or frozen.
#[derive(Clone, Debug, Default)]
pub struct Gentle {
    /// Whether the first pass leaves it to everybody else to go before.
    pub idle: bool,
    /// How fast; `None`: as fast as can be.
    pub pace: Option<Arc<Pace>>,
}

impl Gentle {
    /// With the idle class where that is wanted, and so many bytes a second at most.
    pub fn new(idle: bool, most: Option<Bytes>) -> Self {
        let pace = most.map(|most| Arc::new(Pace::new(most)));
        Self { idle, pace }
    }

    /// At its pace, until `monitor` ends it.
    pub fn limits<'a>(&'a self, monitor: &'a dyn Monitor) -> Limits<'a> {
        Limits {
            pace: self.pace.as_deref(),
            ..Limits::cancelled_by(monitor)
        }
    }

    /// How long was waited for the pace so far.
    pub fn waited(&self) -> Duration {
        self.pace
            .as_ref()
            .map_or(Duration::ZERO, |pace| pace.waited())
    }
}
