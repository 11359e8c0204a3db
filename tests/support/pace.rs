//! Keeps the number of loop devices made in a time below the one from which on the kernel's log
//! keeps records back: where that log stands in for programs that watch capacities, no proof would
//! hold, rightly.

use super::tracked::{forget_pins, unpaced_pins};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};
use stillpoint::track::Tracker;

/// The kernel writes ten in 5 s (include/linux/ratelimit_types.h). Some are left for trackers that
/// try themselves on a loop device, which nobody asks for.
const MOST: usize = 7;
const INTERVAL: Duration = Duration::from_millis(5200);

/// Waits until a disk's capacity may be set without the log's growing too fast.
pub fn before_a_capacity_is_set() {
    static PACE: Mutex<Option<Pace>> = Mutex::new(None);
    if is_watched() {
        return;
    }
    // Whoever comes next waits for this one, too.
    let mut pace = PACE.lock().unwrap_or_else(|poison| poison.into_inner());
    pace.get_or_insert_with(Pace::begin).take_turn();
}

/// What the log has told of late, whoever's doing it was, and what it is about to tell.
struct Pace {
    log: File,
    told: VecDeque<Instant>,
    expected: VecDeque<Instant>,
}

impl Pace {
    fn begin() -> Self {
        let mut log = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .unwrap();
        log.seek(SeekFrom::End(0)).unwrap();
        Self {
            log,
            told: VecDeque::new(),
            expected: VecDeque::new(),
        }
    }

    fn take_turn(&mut self) {
        loop {
            self.read();
            let old = Instant::now().checked_sub(INTERVAL);
            for times in [&mut self.told, &mut self.expected] {
                while old.is_some_and(|old| times.front().is_some_and(|time| *time < old)) {
                    times.pop_front();
                }
            }
            if self.told.len() + self.expected.len() < MOST {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        self.expected.push_back(Instant::now());
    }

    fn read(&mut self) {
        let mut record = [0; 8192];
        // Overwritten (EPIPE): it goes on with the oldest. At the end: EAGAIN.
        loop {
            match self.log.read(&mut record) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    if text.contains(": detected capacity change from ") {
                        self.expected.pop_front();
                        self.told.push_back(Instant::now());
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
        }
    }
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
