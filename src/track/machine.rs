//! What tells one life of the machine from another. It only asks.

use super::attached::failed;
use crate::error::Result;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Looks at the clocks, of which the one with the shortest time between them counts.
const LOOKS: usize = 8;

/// How long the machine has been suspended or hibernated since it was started: one clock goes on
/// then, the other does not. Its disks may have been elsewhere.
pub(super) fn asleep() -> Result<Duration> {
    let read = |clock| {
        let time = clock_gettime(clock).map_err(failed("read a clock"))?;
        Ok(Duration::from(time))
    };
    let mut best = (Duration::MAX, Duration::ZERO);
    for _ in 0..LOOKS {
        let before = read(ClockId::CLOCK_MONOTONIC)?;
        let boot: Duration = read(ClockId::CLOCK_BOOTTIME)?;
        let between = read(ClockId::CLOCK_MONOTONIC)?.saturating_sub(before);
        best = best.min((between, boot.saturating_sub(before)));
    }
    Ok(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_awake_does_not_sleep() {
        let before = asleep().unwrap();
        std::thread::yield_now();
        assert!(asleep().unwrap().abs_diff(before) < Duration::from_millis(100));
    }
}
