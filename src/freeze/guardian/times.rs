//! How long filesystems were frozen, and how long they may still be.

use std::time::{Duration, Instant};

/// How long freezing took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreezeTimes {
    /// From the order until all were frozen.
    pub total: Duration,
    /// Each target's `FIFREEZE`, in the order given.
    pub each: Vec<Duration>,
}

/// How long thawing took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThawTimes {
    /// From the order to freeze until all were thawed: no writer waited longer.
    pub frozen_for: Duration,
    /// Each target's `FITHAW`, in the order given.
    pub each: Vec<Duration>,
}

/// How much of the deadline is left; can be copied to the threads that read.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    ends: Instant,
}

impl Watch {
    pub(super) fn new(ends: Instant) -> Self {
        Self { ends }
    }

    /// What is left; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }
}
