//! What becomes of an instance: the steps on its way, and what is kept of it. It is what stands in
//! the file of results, too: never a secret, and nothing longer than a few lines.

use super::host::FleetHost;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A step on the way of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FleetStep {
    /// Whether it is reached, and what it has.
    Look,
    /// The program is put there.
    Install,
    /// It is activated.
    Activate,
    /// How it stands after that.
    Status,
}

impl FleetStep {
    /// What is being done.
    pub fn words(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Install => "install",
            Self::Activate => "activate",
            Self::Status => "ask for its state",
        }
    }
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It has no program.
    NotInstalled,
    /// It has one, and is not activated.
    Installed,
    /// It snapshots itself.
    Activated,
    /// By its own word something is wrong with it.
    Failed,
    /// It was not reached, or did not answer to the end.
    Unreachable,
    /// Its answer is not understood.
    Unclear,
    /// The batch was stopped while it was under way: what became of it the next run sees.
    CutOff,
    /// Its turn did not come.
    NotBegun,
}

impl HostState {
    /// The name, as in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotInstalled => "not_installed",
            Self::Installed => "installed",
            Self::Activated => "activated",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::Unclear => "unclear",
            Self::CutOff => "cut_off",
            Self::NotBegun => "not_begun",
        }
    }
}

/// What went wrong with an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFailure {
    /// In which step.
    pub step: FleetStep,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What became of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostResult {
    /// What the cloud calls it.
    pub instance: String,
    /// What people call it.
    pub name: String,
    /// The address by which it was reached.
    pub address: Option<String>,
    /// How it stood at last.
    pub state: HostState,
    /// The version of its program.
    pub version: Option<String>,
    /// The time of its last good snapshot, as it says.
    pub last_snapshot: Option<String>,
    /// What must be looked at there, as it says.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What was done to it: `install`, `activate`.
    pub done: Vec<FleetStep>,
    /// What went wrong, if anything.
    pub failure: Option<HostFailure>,
    /// When this was known.
    pub time: Timestamp,
}

impl HostResult {
    /// What is known of an instance that was not asked anything.
    pub fn of(host: &FleetHost, state: HostState) -> Self {
        Self {
            instance: host.instance.clone(),
            name: host.name.clone(),
            address: None,
            state,
            version: None,
            last_snapshot: None,
            problems: Vec::new(),
            done: Vec::new(),
            failure: None,
            time: Timestamp::now(),
        }
    }
}
