//! So many a second, given away one after the other. It knows no clock: callers say what time it
//! is.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Gives away so many a second.
#[derive(Debug)]
pub struct Meter {
    a_second: u64,
    /// When all that was given away is used up.
    free: Mutex<Instant>,
}

impl Meter {
    /// Zero counts as one.
    pub fn new(a_second: u64) -> Self {
        Self {
            a_second: a_second.max(1),
            free: Mutex::new(Instant::now()),
        }
    }

    /// Takes so many at this moment; returns how long to wait until they may be used.
    pub fn take(&self, now: Instant, count: u64) -> Duration {
        let mut free = self.lock();
        let begin = now.max(*free);
        *free = begin + Duration::from_secs_f64(count as f64 / self.a_second as f64);
        begin - now
    }

    /// How long to wait until more may be used.
    pub fn wait(&self, now: Instant) -> Duration {
        self.used_until().saturating_duration_since(now)
    }

    /// When all that was given away is used up.
    pub fn used_until(&self) -> Instant {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        // An instant is whole whatever panicked.
        self.free
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_spread_over_time() {
        let meter = Meter::new(100);
        let start = *meter.lock();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(meter.take(at(0), 200), Duration::ZERO);
        assert_eq!(meter.wait(at(0)), Duration::from_secs(2));
        assert_eq!(meter.take(at(0), 100), Duration::from_secs(2));
        assert_eq!(meter.take(at(1), 0), Duration::from_secs(2));
        // What was not used in quiet times is not saved up.
        assert_eq!(meter.wait(at(60)), Duration::ZERO);
        assert_eq!(meter.take(at(60), 100), Duration::ZERO);
        assert_eq!(meter.take(at(60), 1), Duration::from_secs(1));
    }
}
