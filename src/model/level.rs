//! How consistent a snapshot is, and how its blocks were found. Never better than the truth.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How consistent the copy of a disk is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Blocks of different instants.
    Fuzzy,
    /// One instant, nothing frozen: what a power cut leaves.
    Crash,
    /// One instant, every filesystem frozen.
    Filesystem,
    /// As `Filesystem`, and the applications' hooks ran.
    Application,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fuzzy => "fuzzy",
            Self::Crash => "crash",
            Self::Filesystem => "filesystem",
            Self::Application => "application",
        })
    }
}

/// How the blocks to store were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Everything was read and stored.
    Full,
    /// Only what tracking proves to have changed since the parent was read.
    Incremental,
    /// Everything was read, what differs from the parent was stored.
    Compare,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Compare => "compare",
        })
    }
}
