//! Keeps the number of loop devices made in a time below the one from which on the kernel's log
//! keeps records back: where that log stands in for programs that watch capacities, no proof would
//! hold, rightly.

use super::tracked::{forget_pins, unpaced_pins};
use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stillpoint::track::Tracker;

/// The kernel writes ten in 5 s (include/linux/ratelimit_types.h). Some are left for trackers that
/// try themselves.
const MOST: usize = 8;
const INTERVAL: Duration = Duration::from_millis(5200);

/// Waits until a disk's capacity may be set without the log's growing too fast.
pub fn before_a_capacity_is_set() {
    static LAST: Mutex<VecDeque<Instant>> = Mutex::new(VecDeque::new());
    if is_watched() {
        return;
    }
    // Whoever comes next waits for this one, too.
    let mut last = LAST.lock().unwrap();
    if last.len() == MOST {
        let first = last.pop_front().unwrap();
        sleep((first + INTERVAL).saturating_duration_since(Instant::now()));
    }
    last.push_back(Instant::now());
}

/// Whether this kernel's programs watch capacities, so that nobody reads its log, or nothing can be
/// tracked at all.
fn is_watched() -> bool {
    static WATCHED: OnceLock<bool> = OnceLock::new();
    *WATCHED.get_or_init(|| {
        let pins = unpaced_pins();
        let Ok(tracker) = Tracker::start(&pins) else {
            return true;
        };
        let versions = std::fs::read_dir(pins.path()).unwrap();
        let watched = versions
            .flatten()
            .any(|version| version.path().join("link_c").exists());
        drop(tracker);
        forget_pins(&pins);
        watched
    })
}
