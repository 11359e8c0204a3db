//! What is watched: a plan's snapshots, and each thing that follows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// It did what it was to do, or need not have done anything yet.
    Good,
    /// It did less than was asked.
    Warned,
    /// It failed.
    Failed,
    /// It is late.
    Overdue,
}

impl PartState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warned => "warned",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
        }
    }
}

/// A part as it was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchedPart {
    /// The plan; empty: a file that is none.
    pub plan: String,
    /// What follows its snapshots; `None`: the snapshots.
    pub step: Option<String>,
    /// How it stands; `None`: nobody can say yet, and what was known of it stays.
    pub state: Option<PartState>,
    /// When the last try of it ended, as far as that is known.
    pub tried: Option<Timestamp>,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
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

impl WatchedPart {
    /// What tells it from others. No name has a slash in it.
    pub fn key(&self) -> String {
        match &self.step {
            Some(step) => format!("{}/{step}", self.plan),
            None => self.plan.clone(),
        }
    }
}
