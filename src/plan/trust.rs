//! Whether the clock may be believed when it says that a snapshot is old. It asks no clock:
//! readings come in, and what others say of the time.
//!
//! A clock is believed by evidence: a time service keeps it, or the vault has a time of its own
//! that agrees. Where nobody says anything, it is believed as long as it goes on as it did: since
//! the run before in step with the clock of the boot, and over a reboot by no more than a plan may
//! be late. A clock that has jumped is believed again by evidence, by whoever asks for a run, or
//! when it has gone on steadily for some runs and days: a host without any time service must not
//! fill its vault.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Two clocks that are in step differ by no more than this, and by a thousandth of what has passed.
const APART_MS: u128 = 60_000;
/// Times that differ by less agree: what was put has been on its way, too.
const AGREE: SignedDuration = SignedDuration::from_mins(10);
/// Times that differ by more do not.
const DISAGREE: SignedDuration = SignedDuration::from_hours(1);

/// What the clocks of a host said at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReading {
    /// What names the boot.
    pub boot: String,
    /// Milliseconds since it began, with those in which the host has slept.
    pub up_ms: u64,
    /// Milliseconds of these in which it has slept: how long they were says the clock of the
    /// hardware, which may have been wrong.
    #[serde(default)]
    pub slept_ms: u64,
    /// The time.
    pub wall: Timestamp,
}

impl ClockReading {
    /// Whether the time has gone on since `before` as the clock of the boot has; `None`: that was
    /// in another boot.
    pub fn in_step(&self, before: &Self) -> Option<bool> {
        if self.boot != before.boot {
            return None;
        }
        let Some(up) = self.up_ms.checked_sub(before.up_ms) else {
            return Some(false);
        };
        let passed = self.wall.duration_since(before.wall).as_millis();
        let apart = (passed - i128::from(up)).unsigned_abs();
        Some(apart <= APART_MS + u128::from(up) / 1000)
    }
}

/// What others than the clock say of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClockWord {
    /// Nobody says anything.
    Nobody,
    /// A time service says that it is right: whoever misleads that misleads the clock, too.
    Right,
    /// A vault with a clock of its own has the same time.
    Agreed,
    /// It is wrong, or the vault's clock is: by so much.
    Wrong(SignedDuration),
}

impl ClockWord {
    /// The word of a vault with a clock of its own, which says that something came at `received`;
    /// here it was `ended` then.
    pub fn of_vault(received: Timestamp, ended: Timestamp) -> Self {
        let apart = ended.duration_since(received);
        match apart.abs() {
            little if little <= AGREE => Self::Agreed,
            much if much > DISAGREE => Self::Wrong(apart),
            _ => Self::Nobody,
        }
    }
}

/// Why nothing is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// The clock has jumped, or too much time has passed, or less than none.
    #[default]
    Jumped,
    /// Of the runs before nothing is known.
    Unnoted,
    /// The vault's own clock says another time.
    Disputed,
}

/// Since when the clock has gone on steadily.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteadyRuns {
    /// Since then.
    pub since: Timestamp,
    /// For so many runs.
    pub runs: u32,
}

/// What a run knows of the time when it has taken its snapshot.
#[derive(Clone, Debug)]
pub struct ClockCase<'a> {
    /// The clocks when the run began; `None`: they could not be read.
    pub begun: Option<&'a ClockReading>,
    /// The clocks now.
    pub now: Option<&'a ClockReading>,
    /// What others say.
    pub word: ClockWord,
    /// When the last run before this one that took a snapshot began.
    pub before: Option<Timestamp>,
    /// The plan's interval.
    pub interval: SignedDuration,
    /// Whether what was noted before is of a clock that was ahead.
    pub was_ahead: bool,
}

/// How the clock has gone on.
pub(super) enum ClockGoing {
    /// As it did.
    Steady,
    /// Over a reboot by more than a plan may be late: the host was off for long, or it jumped.
    Away,
    /// It has jumped in this boot, or the host has slept for longer than a plan may be late.
    Jumped,
    /// Nobody knows.
    Unknown,
}

impl ClockCase<'_> {
    pub(super) fn going(&self, before: Option<&ClockReading>) -> ClockGoing {
        let (Some(begun), Some(now)) = (self.begun, self.now) else {
            return ClockGoing::Unknown;
        };
        if self.was_ahead || now.in_step(begun) != Some(true) {
            return ClockGoing::Jumped;
        }
        let step = before.and_then(|before| now.in_step(before));
        let slept = before.map_or(0, |before| now.slept_ms.saturating_sub(before.slept_ms));
        let Some(earlier) = before.map(|before| before.wall).or(self.before) else {
            return ClockGoing::Unknown;
        };
        let passed = now.wall.duration_since(earlier);
        let most = self.interval * 2 + SignedDuration::from_hours(24);
        let is_little = passed >= SignedDuration::ZERO && passed <= most;
        match step {
            Some(true) if u128::from(slept) <= APART_MS || is_little => ClockGoing::Steady,
            Some(_) => ClockGoing::Jumped,
            None if is_little => ClockGoing::Steady,
            None => ClockGoing::Away,
        }
    }
}
