//! What is told: one document, the same for all who are told. Keys are only ever added to it.

use super::part::{PartState, WatchedPart};
use crate::error::{Error, ErrorKind, Result};
use crate::model::printable::{json, one_line};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The only version so far.
const VERSION: u32 = 1;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It failed.
    Failed,
    /// It is late.
    Overdue,
    /// It did less than was asked.
    Warned,
    /// It is good again.
    Recovered,
    /// Somebody tries whether telling works.
    Test,
}

impl EventKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => PartState::Failed.name(),
            Self::Overdue => PartState::Overdue.name(),
            Self::Warned => PartState::Warned.name(),
            Self::Recovered => "recovered",
            Self::Test => "test",
        }
    }

    pub(super) fn of(state: PartState) -> Self {
        match state {
            PartState::Good => Self::Recovered,
            PartState::Warned => Self::Warned,
            PartState::Failed => Self::Failed,
            PartState::Overdue => Self::Overdue,
        }
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotifyEvent {
    /// Version of the document.
    pub version: u32,
    /// Its name: what is sent twice bears the same one.
    pub id: String,
    /// What has happened.
    pub event: EventKind,
    /// The plan; `None`: a file that is none, or a test.
    pub plan: Option<String>,
    /// What follows its snapshots; `None`: the snapshots.
    pub step: Option<String>,
    /// How it stands now.
    pub state: PartState,
    /// How it stood when that was last told; `None`: nothing was known.
    pub was: Option<PartState>,
    /// Since when it stands so.
    pub since: Timestamp,
    /// How often this was told before.
    pub reminder: u32,
    /// When this was found out.
    pub time: Timestamp,
    /// The host.
    pub host: String,
    /// What it said.
    pub said: String,
    /// What to do about that.
    pub hint: Option<String>,
    /// The exit code of the last try.
    pub exit_code: Option<u8>,
    /// Its job.
    pub job: Option<String>,
    /// The snapshot that it took.
    pub snapshot: Option<String>,
    /// When the last good snapshot was begun.
    pub last_good: Option<Timestamp>,
    /// When it is due next.
    pub next: Option<Timestamp>,
}

/// What of an event does not stand in the part.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventFacts<'a> {
    pub state: PartState,
    pub was: Option<PartState>,
    pub since: Timestamp,
    pub reminder: u32,
    pub now: Timestamp,
    pub host: &'a str,
}

impl NotifyEvent {
    pub(super) fn of(part: &WatchedPart, facts: &EventFacts<'_>) -> Self {
        Self {
            version: VERSION,
            id: name_of(part, facts),
            event: EventKind::of(facts.state),
            plan: Some(part.plan.clone()).filter(|plan| !plan.is_empty()),
            step: part.step.clone(),
            state: facts.state,
            was: facts.was,
            since: facts.since,
            reminder: facts.reminder,
            time: facts.now,
            host: facts.host.to_owned(),
            said: one_line(&part.said).into_owned(),
            hint: part.hint.as_deref().map(|hint| one_line(hint).into_owned()),
            exit_code: part.exit_code,
            job: part.job.clone(),
            snapshot: part.snapshot.clone(),
            last_good: part.last_good,
            next: part.next,
        }
    }

    /// One by which somebody tries whether telling works.
    pub fn test(host: &str, now: Timestamp) -> Self {
        let part = WatchedPart {
            said: "this is a test: somebody wanted to know whether it arrives".into(),
            ..WatchedPart::default()
        };
        let facts = EventFacts {
            state: PartState::Good,
            was: None,
            since: now,
            reminder: 0,
            now,
            host,
        };
        Self {
            event: EventKind::Test,
            ..Self::of(&part, &facts)
        }
    }

    /// The document.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn document(&self) -> Result<String> {
        json(self).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot write what is to be told").with_source(error)
        })
    }

    /// What it is about, in words.
    pub fn about(&self) -> String {
        match (&self.plan, &self.step) {
            (Some(plan), Some(step)) => format!("{step} of plan {plan}"),
            (Some(plan), None) => format!("plan {plan}"),
            (None, _) if self.event == EventKind::Test => "a test".into(),
            (None, _) => "a file among the plans".into(),
        }
    }

    /// All of it in a line of plain words.
    pub fn headline(&self) -> String {
        let about = self.about();
        let host = &self.host;
        let line = match self.event {
            EventKind::Test => format!("{host}: {about} of what tells when it does not go well"),
            EventKind::Recovered => format!("{host}: {about} is good again"),
            EventKind::Warned => format!("{host}: {about} did less than was asked"),
            EventKind::Failed => format!("{host}: {about} FAILED"),
            EventKind::Overdue => format!("{host}: {about} is OVERDUE"),
        };
        match self.reminder {
            0 => line,
            count => format!("{line} (reminder {count})"),
        }
    }
}

/// A name that no other event has: a process tells of a part once at a time.
fn name_of(part: &WatchedPart, facts: &EventFacts<'_>) -> String {
    let mut hasher = blake3::Hasher::new();
    let when = facts.now.as_nanosecond().to_string();
    let (process, state) = (std::process::id().to_string(), facts.state.name());
    for word in [facts.host, &part.key(), state, &when, &process] {
        hasher.update(word.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex().chars().take(32).collect()
}
