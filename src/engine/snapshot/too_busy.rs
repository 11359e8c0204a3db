//! The errors of a run whose disks are too busy, with hints at what would help. A hint never names
//! an option that is in use already. Pure; nothing is decided here.

use crate::engine::snapshot_options::{Consistency, OnBusy};
use crate::error::{Error, ErrorKind};
use crate::format::FilesystemRecord;
use crate::model::{BlockSet, Bytes, Level};
use std::time::Duration;

/// How busy the disks were seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How much was still to be read.
    pub left: Bytes,
    /// The most that is read while frozen: by the time, and by the memory there is.
    pub fits: Bytes,
    /// The same by the memory alone.
    pub memory: Bytes,
    /// How long the rest takes to read, where it is known.
    pub reading: Option<Duration>,
}

/// Most that a user may allow: see `--max-freeze`.
const LONGEST: Duration = Duration::from_secs(60);
/// A freeze is given this many times what the rest takes to read: freezing itself and a slow moment
/// need some of it.
const SPARE: u32 = 4;

impl Backlog {
    /// How long a freeze would have to be allowed, estimated; none when no length helps.
    fn freeze_needed(&self) -> Option<Duration> {
        let reading = self.reading.filter(|_| self.left <= self.memory)?;
        let seconds = (SPARE * reading).as_secs_f64().ceil().max(1.0);
        Some(Duration::from_secs_f64(seconds)).filter(|needed| *needed <= LONGEST)
    }
}

/// More changes than can be copied. `when`: after what.
pub fn too_busy(wanted: &Consistency, backlog: &Backlog, when: &str) -> Error {
    let Backlog { left, fits, .. } = backlog;
    let mut ways = Vec::new();
    let longer = backlog
        .freeze_needed()
        .filter(|needed| *needed > wanted.max_freeze);
    if let Some(needed) = longer {
        ways.push(format!("add --max-freeze {needed:?} (estimated)"));
    }
    // It freezes at once, and the deadline holds.
    let in_time = |reading: Duration| reading < wanted.max_freeze * 3 / 4;
    let at_once = left <= &backlog.memory && backlog.reading.is_some_and(in_time);
    if wanted.on_busy != OnBusy::Freeze && at_once {
        ways.push("add --on-busy freeze".into());
    }
    if wanted.on_busy != OnBusy::Throttle {
        ways.push("add --on-busy throttle, which slows down what writes".into());
    }
    ways.push("try at a quieter time".into());
    let hint = match longer {
        None if left > &backlog.memory => format!(
            "no longer freeze helps, as at most {} are read while frozen: {}",
            backlog.memory,
            ways.join(", or ")
        ),
        _ => ways.join(", or "),
    };
    let message = format!(
        "the disks change faster than they are copied: {when} {left} are left, and {fits} fit into \
         a freeze of {:?}; no snapshot was made",
        wanted.max_freeze
    );
    Error::new(ErrorKind::Inconsistent, message).with_hint(hint)
}

/// What was seen on a disk that was written to during each freeze.
pub struct NeverQuiet<'a> {
    /// The disk's name.
    pub disk: &'a str,
    /// What is mounted on it.
    pub filesystems: &'a [FilesystemRecord],
    /// What was written during the last freeze.
    pub written: &'a BlockSet,
    /// How many freezes there were.
    pub attempts: u32,
}

/// Something was written during each freeze.
pub fn never_quiet(wanted: &Consistency, seen: &NeverQuiet<'_>) -> Error {
    let NeverQuiet { disk, attempts, .. } = seen;
    let writable = seen
        .filesystems
        .iter()
        .any(|filesystem| !filesystem.read_only);
    let mut hint = match (wanted.level, writable) {
        (Level::Crash, true) => {
            "take --level filesystem, which freezes what is mounted; or try at a quieter time"
                .to_owned()
        }
        (_, true) => format!(
            "no freeze holds what writes to {disk} past its filesystems, nor a filesystem that \
             cannot be frozen: stop that, and what trims the disk"
        ),
        (_, false) => format!("nothing mounted there could be frozen: stop what writes to {disk}"),
    };
    if !wanted.allow_fuzzy {
        hint.push_str("; or take it with --allow-fuzzy for what it is worth");
    }
    let message = format!(
        "no quiet instant in {attempts} attempts: {disk} was written to in the window ({} blocks, \
         at byte {}); no snapshot was made",
        seen.written.len(),
        seen.written.nth(0).unwrap_or_default().offset().0
    );
    Error::new(ErrorKind::Inconsistent, message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn asked(on_busy: OnBusy, seconds: u64) -> Consistency {
        Consistency {
            level: Level::Filesystem,
            max_freeze: Duration::from_secs(seconds),
            on_busy,
            allow_fuzzy: false,
        }
    }

    fn hint(wanted: &Consistency, left: u64, reading_ms: u64) -> String {
        let backlog = Backlog {
            left: Bytes(left * MIB),
            fits: Bytes(50 * MIB),
            memory: Bytes(256 * MIB),
            reading: Some(Duration::from_millis(reading_ms)),
        };
        let error = too_busy(wanted, &backlog, "after 3 passes");
        error.hint().unwrap().to_owned()
    }

    #[test]
    fn what_a_longer_freeze_would_do_is_told_with_its_length() {
        let hint = hint(&asked(OnBusy::Fail, 2), 200, 2300);
        assert!(hint.contains("--max-freeze 10s (estimated)"), "{hint}");
        assert!(!hint.contains("--on-busy freeze"), "too long: {hint}");
        assert!(hint.contains("throttle"), "{hint}");
    }

    #[test]
    fn what_no_freeze_would_do_is_told() {
        let hint = hint(&asked(OnBusy::Fail, 2), 300, 1000);
        assert!(hint.contains("no longer freeze helps"), "{hint}");
        assert!(!hint.contains("--max-freeze"), "{hint}");
        assert!(!hint.contains("--on-busy freeze"), "{hint}");
        let endless = super::tests::hint(&asked(OnBusy::Fail, 2), 200, 40_000);
        assert!(!endless.contains("--max-freeze"), "{endless}");
    }

    #[test]
    fn what_is_in_use_is_never_recommended() {
        let throttle = hint(&asked(OnBusy::Throttle, 2), 200, 1000);
        assert!(!throttle.contains("throttle"), "{throttle}");
        assert!(throttle.contains("--on-busy freeze"), "{throttle}");
        let freeze = hint(&asked(OnBusy::Freeze, 10), 200, 1000);
        assert!(!freeze.contains("--on-busy freeze"), "{freeze}");
        assert!(!freeze.contains("--max-freeze"), "{freeze}");
    }
}
