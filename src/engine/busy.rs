//! What to say when the disks are too busy, and what would help: hints look at what was asked for,
//! so that they never name what is in use already. Pure; nothing is decided here.

use super::subject::Subject;
use crate::error::{Error, ErrorKind};
use crate::model::{Bytes, Level};
use std::time::Duration;

/// What to do when the disks change faster than they can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBusy {
    /// Give up.
    Fail,
    /// Freeze for as long as it takes, within the deadline.
    Freeze,
    /// Slow down what writes to the disks, until the rest is little.
    Throttle,
}

/// What the user asked for that bears on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How consistent it shall be.
    pub level: Level,
    /// How long the filesystems may stand frozen.
    pub max_freeze: Duration,
    /// What to do on a busy disk.
    pub on_busy: OnBusy,
    /// A copy of no one instant will do.
    pub allow_fuzzy: bool,
}

/// How busy the disks were seen to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// So much was still to be read.
    pub left: Bytes,
    /// So much is read while frozen at most: by the time, and by the memory there is.
    pub fits: Bytes,
    /// By the memory alone.
    pub memory: Bytes,
    /// How long the rest takes to read, where it is known.
    pub reading: Option<Duration>,
}

/// Most that a user may allow: see `--max-freeze`.
const LONGEST: Duration = Duration::from_secs(60);
/// A freeze is given this many times what the rest takes to read: freezing itself and a slow moment
/// need some of it.
const SPARE: u32 = 4;

impl Crowd {
    /// How long a freeze would have to be allowed, as far as can be told; none when no length
    /// helps.
    fn freeze_needed(&self) -> Option<Duration> {
        let reading = self.reading.filter(|_| self.left <= self.memory)?;
        let seconds = (SPARE * reading).as_secs_f64().ceil().max(1.0);
        Some(Duration::from_secs_f64(seconds)).filter(|needed| *needed <= LONGEST)
    }
}

/// More changes than can be copied. `when`: after what.
pub fn too_busy(asked: &Asked, crowd: &Crowd, when: &str) -> Error {
    let Crowd { left, fits, .. } = crowd;
    let mut ways = Vec::new();
    let longer = crowd
        .freeze_needed()
        .filter(|needed| *needed > asked.max_freeze);
    if let Some(needed) = longer {
        ways.push(format!("add --max-freeze {needed:?} (estimated)"));
    }
    // It freezes at once, and the deadline holds.
    let in_time = |reading: Duration| reading < asked.max_freeze * 3 / 4;
    let at_once = left <= &crowd.memory && crowd.reading.is_some_and(in_time);
    if asked.on_busy != OnBusy::Freeze && at_once {
        ways.push("add --on-busy freeze".into());
    }
    if asked.on_busy != OnBusy::Throttle {
        ways.push("add --on-busy throttle, which slows down what writes".into());
    }
    ways.push("try at a quieter time".into());
    let hint = match longer {
        None if left > &crowd.memory => format!(
            "no longer freeze helps, as at most {} are read while frozen: {}",
            crowd.memory,
            ways.join(", or ")
        ),
        _ => ways.join(", or "),
    };
    let message = format!(
        "the disks change faster than they are copied: {when} {left} are left, and {fits} fit into \
         a freeze of {:?}; nothing was stored",
        asked.max_freeze
    );
    Error::new(ErrorKind::Inconsistent, message).with_hint(hint)
}

/// Something was written each time that all was to stand still.
pub fn never_quiet(asked: &Asked, subject: &Subject, attempts: u32, seen: &str) -> Error {
    let mounted = &subject.options.filesystems;
    let writable = mounted.iter().any(|filesystem| !filesystem.read_only);
    let name = subject.name();
    let mut hint = match (asked.level, writable) {
        (Level::Crash, true) => {
            "take --level filesystem, which freezes what is mounted; or try at a quieter time"
                .to_owned()
        }
        (_, true) => format!(
            "no freeze holds what writes to {name} past its filesystems, nor a filesystem that \
             cannot be frozen: stop that, and what trims the disk"
        ),
        (_, false) => format!("nothing mounted there could be frozen: stop what writes to {name}"),
    };
    if !asked.allow_fuzzy {
        hint.push_str("; or take it with --allow-fuzzy for what it is worth");
    }
    let message = format!("no quiet instant in {attempts} attempts: {seen}; nothing was stored");
    Error::new(ErrorKind::Inconsistent, message).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn asked(on_busy: OnBusy, seconds: u64) -> Asked {
        Asked {
            level: Level::Filesystem,
            max_freeze: Duration::from_secs(seconds),
            on_busy,
            allow_fuzzy: false,
        }
    }

    fn hint(asked: &Asked, left: u64, reading_ms: u64) -> String {
        let crowd = Crowd {
            left: Bytes(left * MIB),
            fits: Bytes(50 * MIB),
            memory: Bytes(256 * MIB),
            reading: Some(Duration::from_millis(reading_ms)),
        };
        let error = too_busy(asked, &crowd, "after 3 passes");
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
