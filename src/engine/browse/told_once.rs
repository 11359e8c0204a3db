//! Warnings while a snapshot is browsed: each is told once, however often something is tried again,
//! and kept for the report.

use crate::engine::monitor::{Event, Monitor};
use crate::error::Result;
use crate::model::Cancel;
use crate::sys::locked::LockExt;
use std::sync::Mutex;

/// Most warnings that are told.
const MOST: usize = 100;

/// Passes events on.
pub struct ToldOnce<'a> {
    inner: &'a dyn Monitor,
    told: Mutex<Vec<String>>,
}

impl<'a> ToldOnce<'a> {
    /// To that monitor.
    pub fn new(inner: &'a dyn Monitor) -> Self {
        Self {
            inner,
            told: Mutex::default(),
        }
    }

    /// The warnings, in the order in which they came.
    pub fn warnings(&self) -> Vec<String> {
        self.told.locked().clone()
    }
}

impl Monitor for ToldOnce<'_> {
    fn tell(&self, event: Event) {
        if let Event::Warning(text) = &event {
            let mut told = self.told.locked();
            if told.len() >= MOST || told.contains(text) {
                return;
            }
            told.push(text.clone());
        }
        self.inner.tell(event);
    }
}

impl Cancel for ToldOnce<'_> {
    fn check(&self) -> Result<()> {
        self.inner.check()
    }
}
