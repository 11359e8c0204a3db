//! What is noted of a plan's runs. A note decides when the plan runs next, and nothing else: no
//! data is ever judged by it, and one that cannot be read means a run more, never one less.

use super::file::SnapshotPlan;
use super::name::{PlanId, PlanName};
use super::trust::{ClockReading, HoldReason, SteadyRuns};
use crate::error::{Error, ErrorKind, Result};
use crate::format::from_json;
use crate::model::clip;
use crate::model::exit::{BELOW, DONE, code};
use crate::model::printable::json;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The only version so far.
const VERSION: u32 = 1;
/// Longest note, in bytes.
pub(super) const MOST_BYTES: u64 = 256 << 10;
/// Most values in a note.
const MOST_VALUES: usize = 4096;
/// Most bytes of what a step has said.
const MOST_WORDS: usize = 2000;

/// What is noted of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Version of the note.
    pub version: u32,
    /// Its name.
    pub plan: String,
    /// What tells it from an earlier plan of its name. `None`: it was noted before there were such,
    /// and its name alone tells what it has taken.
    #[serde(default)]
    pub id: Option<PlanId>,
    /// The vault of its last run; `None`: none is known.
    #[serde(default)]
    pub vault: Option<NotedVault>,
    /// Since when anything is noted: what there is of before was noted, and is lost. `None`: that
    /// was not noted yet.
    #[serde(default)]
    pub noted_since: Option<Timestamp>,
    /// What told the plan's file from any other at its last run.
    #[serde(default)]
    pub file_hash: Option<String>,
    /// Since when the plan's file is known to be gone.
    #[serde(default)]
    pub gone_since: Option<Timestamp>,
    /// What its times followed from when this was noted.
    pub timing: String,
    /// Times up to this one are owed to nobody.
    pub since: Timestamp,
    /// Whether it was held back when this was noted.
    pub suspended: bool,
    /// The latest time for which there is a snapshot.
    pub served: Option<Timestamp>,
    /// The last try.
    pub last: Option<PlanTry>,
    /// The last one that took a snapshot.
    pub last_good: Option<PlanTry>,
    /// Since when each snapshot was less than was asked.
    #[serde(default)]
    pub below_since: Option<Timestamp>,
    /// Since when nothing is deleted, as the clock may be wrong.
    #[serde(default)]
    pub prune_held: Option<Timestamp>,
    /// Why.
    #[serde(default)]
    pub hold_reason: HoldReason,
    /// How steady the clock has been since.
    #[serde(default)]
    pub steady: Option<SteadyRuns>,
    /// The clocks after the last snapshot.
    #[serde(default)]
    pub clock: Option<ClockReading>,
    /// What is still to follow the last snapshot, by its name, and the time of its own that it is
    /// for. Noted before the first of it begins: what is cut off is owed.
    #[serde(default)]
    pub owed: BTreeMap<String, Option<Timestamp>>,
    /// How often it was begun.
    #[serde(default)]
    pub owed_tries: u32,
    /// What followed snapshots, by its name: the last try of each.
    pub steps: BTreeMap<String, PlanStep>,
}

/// The vault that a plan's run went to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedVault {
    /// As the plan's file named it then; `None`: it named none.
    pub named: Option<String>,
    /// The vault's ID. Its copy in a second place has the same.
    pub id: String,
    /// Where it was.
    pub place: String,
}

/// A try to take the plan's snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanTry {
    /// For which time; `None`: someone asked for it, and none was owed.
    pub time: Option<Timestamp>,
    /// How many there were for this time, this one among them.
    pub number: u32,
    /// When it began.
    pub began: Timestamp,
    /// When it ended; `None`: it goes on, or was cut off.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<StepOutcome>,
}

/// What followed a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The latest time for which it was done.
    pub served: Option<Timestamp>,
    /// When it was last tried.
    pub began: Timestamp,
    /// How that ended.
    pub outcome: StepOutcome,
}

/// How a command ended that a plan has run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// Its exit code.
    pub exit_code: u8,
    /// Its job.
    pub job: Option<String>,
    /// The snapshot that it took.
    pub snapshot: Option<String>,
    /// Its verdict, or why it failed.
    pub said: String,
    /// What to do about that.
    pub hint: Option<String>,
}

impl StepOutcome {
    /// Whether it has done what it was for, be it below what was asked.
    pub fn is_good(&self) -> bool {
        self.exit_code == DONE || self.exit_code == BELOW
    }

    /// Whether it has done what was asked.
    pub fn is_as_asked(&self) -> bool {
        self.exit_code == DONE
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(&self) -> bool {
        let signals = [libc::SIGINT, libc::SIGTERM];
        let signals = signals.map(|signal| code(ErrorKind::Interrupted(signal)));
        signals.contains(&self.exit_code)
    }

    /// The same, no longer than it may be.
    pub fn bounded(self) -> Self {
        Self {
            said: clip(&self.said, MOST_WORDS),
            hint: self.hint.map(|hint| clip(&hint, MOST_WORDS)),
            ..self
        }
    }
}

impl PlanTry {
    /// Whether it took a snapshot.
    pub fn is_good(&self) -> bool {
        self.outcome.as_ref().is_some_and(StepOutcome::is_good)
    }
}

impl PlanRecord {
    /// The note of a plan of which nothing is known: what came before its file was written is owed
    /// to nobody.
    pub fn new(plan: &SnapshotPlan, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            plan: plan.name.to_string(),
            id: plan.id.clone(),
            vault: None,
            noted_since: Some(now),
            file_hash: None,
            gone_since: None,
            timing: plan.timing(),
            since: since(plan, now),
            suspended: plan.suspended,
            served: None,
            last: None,
            last_good: None,
            below_since: None,
            prune_held: None,
            hold_reason: HoldReason::default(),
            steady: None,
            clock: None,
            owed: BTreeMap::new(),
            owed_tries: 0,
            steps: BTreeMap::new(),
        }
    }

    /// The same for the plan as it is now: where its times are other ones, or it is no longer held
    /// back, what came before its file was written is owed to nobody. What is noted of another plan
    /// of its name says nothing of this one.
    #[must_use]
    pub fn for_plan(mut self, plan: &SnapshotPlan, now: Timestamp) -> Self {
        if plan.id.is_some() && self.id != plan.id {
            return Self::new(plan, now);
        }
        let other = self.timing != plan.timing();
        if other || (self.suspended && !plan.suspended) {
            self.since = since(plan, now);
        }
        if other {
            // What was served were other times.
            self.served = None;
            self.steps.values_mut().for_each(|step| step.served = None);
        }
        self.timing = plan.timing();
        self.suspended = plan.suspended;
        self
    }

    /// Whether this is the note of another plan than the one of its name whose file has this hash:
    /// that one's file was gone, and what stands there now is no copy of it. An ID in the file says
    /// whose it is.
    pub fn is_of_another(&self, plan: &SnapshotPlan, hash: Option<&str>) -> bool {
        let is_same = hash.is_some() && self.file_hash.as_deref() == hash;
        plan.id.is_none() && self.gone_since.is_some() && !is_same
    }

    /// Up to which time nothing is owed at `now`. What was noted by a clock that was ahead says
    /// nothing of when the plan was written.
    pub(super) fn floor(&self, now: Timestamp) -> Timestamp {
        let since = Some(self.since).filter(|since| *since <= now);
        let since = since.unwrap_or(Timestamp::MIN);
        self.served.map_or(since, |served| served.max(since))
    }

    /// The latest moment that was noted.
    pub fn latest(&self) -> Option<Timestamp> {
        let tries = [&self.last, &self.last_good].into_iter().flatten();
        let tries = tries.flat_map(|one| [Some(one.began), one.ended]).flatten();
        let steps = self.steps.values().map(|step| step.began);
        [Some(self.since), self.served]
            .into_iter()
            .flatten()
            .chain(tries)
            .chain(steps)
            .max()
    }

    /// The bytes to write.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        json(self).map(String::into_bytes).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot write a plan's note").with_source(error)
        })
    }

    /// Decodes the note of the plan `name`.
    pub(super) fn decode(bytes: &[u8], name: &PlanName) -> Result<Self> {
        let wrong = |what: &str| {
            let what = format!("the note of the runs of plan {name} {what}");
            Error::new(ErrorKind::Failed, what)
        };
        let record: Self = from_json(bytes, MOST_VALUES)
            .map_err(|why| wrong("cannot be understood").with_source(why))?;
        if record.version != VERSION {
            return Err(wrong("is of another version"));
        }
        if record.plan != name.as_str() {
            return Err(wrong("is that of another plan"));
        }
        Ok(record)
    }
}

/// What came before the plan's file was written is owed to nobody. A file from after now says
/// nothing: then it is a run more, and never none at all.
fn since(plan: &SnapshotPlan, now: Timestamp) -> Timestamp {
    let written = plan.written.filter(|written| *written <= now);
    written.unwrap_or(Timestamp::MIN)
}
