//! A plan as it was seen: how it stands, in words and as a document.

use super::words::{attempt, drill, notify, outcome, retention, shown, waiting, why};
use crate::error::Error;
use crate::model::printable::one_line;
use crate::plan::{
    Decision, FollowUp, HostClock, PlanCase, PlanDisks, PlanHealth, PlanRecord, PlanWait,
    SnapshotPlan, StepOutcome, UnitState, WaitReason,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Who looks while it is noted sees a time of a moment ago.
const MUCH_AHEAD: SignedDuration = SignedDuration::from_mins(5);
/// So many of its next times are told.
const TIMES: usize = 5;

/// A plan as it was seen.
#[derive(Debug)]
pub struct SeenPlan {
    /// The plan.
    pub plan: SnapshotPlan,
    /// Its file.
    pub file: PathBuf,
    /// What is noted of its runs.
    pub record: PlanRecord,
    /// Why that is not known.
    pub unread: Option<Error>,
    /// Its times on this host.
    pub clock: HostClock,
    /// When it was seen.
    pub now: Timestamp,
    /// Whether somebody runs it.
    pub running: bool,
    /// What runs it by itself.
    pub runner: PlanRunner,
}

/// What runs a plan by itself.
#[derive(Debug)]
pub enum PlanRunner {
    /// Its timer.
    Timer(SeenTimer),
    /// Nothing that is known of; such a line of cron would.
    Cron(String),
}

/// The timer of a plan, as it was seen.
#[derive(Debug)]
pub struct SeenTimer {
    /// Its unit.
    pub unit: String,
    /// Its file.
    pub file: PathBuf,
    /// How it is.
    pub state: UnitState,
    /// Whether it is started; `None`: nobody could be asked.
    pub active: Option<bool>,
    /// Why how it is is not known.
    pub problem: Option<String>,
}

impl PlanRunner {
    fn timer(&self) -> Option<&SeenTimer> {
        match self {
            Self::Timer(timer) => Some(timer),
            Self::Cron(_) => None,
        }
    }

    fn cron(&self) -> Option<&str> {
        match self {
            Self::Timer(_) => None,
            Self::Cron(line) => Some(line),
        }
    }

    /// What runs it, or why nothing does, in a sentence.
    pub(super) fn described(&self, name: &str) -> String {
        let timer = match self {
            Self::Cron(line) => {
                return format!(
                    "no timer runs it: have this line in /etc/cron.d/stillpoint, once for all \
                     plans: {line}"
                );
            }
            Self::Timer(timer) => timer,
        };
        let unit = &timer.unit;
        let again = format!("`stillpoint plan modify {name}` writes it");
        match (timer.state, timer.active) {
            _ if timer.problem.is_some() => {
                format!(
                    "what runs it is not known: {}",
                    timer.problem.as_deref().unwrap_or("")
                )
            }
            (UnitState::Absent, _) => format!("NO TIMER RUNS IT: {unit} is not there; {again}"),
            (UnitState::Foreign, _) => format!(
                "NO TIMER RUNS IT: {} is not stillpoint's, and is left alone",
                timer.file.display()
            ),
            (_, Some(false)) => format!("NO TIMER RUNS IT: {unit} is not started; {again} anew"),
            (UnitState::Stale, _) => {
                format!("run by {unit}, which is of an earlier state of the plan; {again} anew")
            }
            (UnitState::Written, None) => format!("run by {unit}; nobody says if it is started"),
            (UnitState::Written, Some(true)) => format!("run by {unit}"),
        }
    }
}

impl SeenTimer {
    fn document(&self) -> Value {
        let state = match self.state {
            UnitState::Written => "written",
            UnitState::Stale => "stale",
            UnitState::Absent => "absent",
            UnitState::Foreign => "foreign",
        };
        json!({
            "unit": self.unit,
            "file": self.file.display().to_string(),
            "state": state,
            "active": self.active,
            "problem": self.problem,
        })
    }
}

/// A file that holds no plan.
#[derive(Debug)]
pub struct UnreadPlan {
    /// The plan's name, if it is one.
    pub name: Option<String>,
    /// What is wrong.
    pub error: Error,
}

impl SeenPlan {
    fn case(&self) -> PlanCase<'_> {
        PlanCase {
            plan: &self.plan,
            record: &self.record,
            clock: &self.clock,
            now: self.now,
        }
    }

    /// How it stands.
    pub fn health(&self) -> PlanHealth {
        self.case().health(self.running)
    }

    /// That nothing runs it by itself, where that is known.
    pub(in crate::report) fn not_run(&self) -> Option<String> {
        let timer = self.runner.timer().filter(|_| !self.plan.suspended)?;
        let gone = matches!(timer.state, UnitState::Absent | UnitState::Foreign);
        let name = self.plan.name.as_str();
        let nothing = gone || timer.active == Some(false) || timer.problem.is_some();
        nothing.then(|| format!("plan {name}: {}", self.runner.described(name)))
    }

    /// That its note is of a clock that was ahead, or this one is behind: then nobody knows what it
    /// owes.
    pub(in crate::report) fn noted_ahead(&self) -> Option<String> {
        let latest = self.record.latest().filter(|latest| {
            let ahead = latest.duration_since(self.now);
            ahead > MUCH_AHEAD
        })?;
        Some(format!(
            "plan {}: its note is of {}, which is after now: which clock is wrong, that of then or \
             this one?",
            self.plan.name,
            shown(latest)
        ))
    }

    /// When it runs next, and why not now; `None`: it is due now.
    pub(super) fn waits(&self) -> Option<PlanWait> {
        match self.case().decide() {
            Decision::Now(_) => None,
            Decision::Later(wait) => Some(wait),
        }
    }

    /// Its next times; none while it is held back.
    pub(in crate::report) fn next(&self) -> Vec<Timestamp> {
        match self.plan.suspended {
            true => Vec::new(),
            false => self.clock.following(self.now).take(TIMES).collect(),
        }
    }

    /// The plan as scripts know it.
    pub(in crate::report) fn document(&self) -> Value {
        let plan = &self.plan;
        let (disks, exclude) = match &plan.disks {
            PlanDisks::AllBut(excluded) => (Value::Null, json!(excluded)),
            PlanDisks::These(disks) => (json!(disks), json!([])),
        };
        let health = self.health();
        let overdue = match health {
            PlanHealth::Overdue(since) => Some(shown(since)),
            _ => None,
        };
        let next: Vec<String> = self.next().into_iter().map(shown).collect();
        let follow_ups = plan.follow_ups();
        let steps: Vec<Value> = follow_ups.iter().map(|one| self.step(one)).collect();
        json!({
            "plan": plan.name.as_str(),
            "id": self.record.id.as_ref().map(ToString::to_string),
            "file": self.file.display().to_string(),
            "state": health.name(),
            "overdue_since": overdue,
            "suspended": plan.suspended,
            "running": self.running,
            "disks": disks,
            "exclude": exclude,
            "partial": plan.partial,
            "vault": plan.vault,
            "level": plan.level.to_string(),
            "start": plan.schedule.start.to_string(),
            "zone": plan.zone_name,
            "every": plan.schedule.every.to_string(),
            "jitter_seconds": plan.jitter.as_secs(),
            "window": plan.window.map(|window| window.to_string()),
            "retention": retention(plan.retention.as_ref()),
            "limit_read": plan.limit_read,
            "limit_write": plan.limit_write,
            "mirror": plan.mirror.as_ref().map(|one| &one.to),
            "verify": plan.verify.as_ref().map(|one| &one.sample),
            "notify": notify(&plan.notify),
            "drill": plan.drill.as_ref().map(drill),
            "next": next,
            "waits": self.waits().map(|wait| waiting(&wait)),
            "last": self.record.last.as_ref().map(attempt),
            "last_good": self.record.last_good.as_ref().map(attempt),
            "steps": steps,
            "held_since": self.record.prune_held.map(shown),
            "below_since": self.record.below_since.map(shown),
            "note_problem": self.unread.as_ref().map(ToString::to_string),
            "timer": self.runner.timer().map(SeenTimer::document),
            "cron": self.runner.cron(),
        })
    }

    fn step(&self, one: &FollowUp) -> Value {
        let step = self.record.steps.get(one.name);
        json!({
            "step": one.name,
            "every": one.every.map(|every| every.to_string()),
            "owed": self.record.owed.contains_key(one.name),
            "began": step.map(|step| shown(step.began)),
            "outcome": step.map(|step| outcome(&step.outcome)),
        })
    }

    /// How it stands, in a line.
    pub(in crate::report) fn verdict(&self) -> String {
        let name = &self.plan.name;
        let next = self.waits().map_or_else(
            || "as soon as it is looked at".into(),
            |wait| {
                let until = wait.until.map_or_else(|| "not by itself".into(), shown);
                match wait.reason {
                    WaitReason::NotYet => until,
                    reason => format!("{until} ({})", why(reason)),
                }
            },
        );
        let state = match self.health() {
            PlanHealth::Good => "is good".to_owned(),
            PlanHealth::New => "has not run yet".to_owned(),
            PlanHealth::Running => "is being run".to_owned(),
            PlanHealth::Due => "is due".to_owned(),
            PlanHealth::Overdue(since) => {
                let last = self.record.last.as_ref();
                let why = match last.is_some_and(|last| !self.running && !last.is_good()) {
                    true => format!(": the last try FAILED: {}", self.failed()),
                    false => String::new(),
                };
                format!("is OVERDUE since {}{why}", shown(since))
            }
            PlanHealth::Failed => format!("FAILED: {}", self.failed()),
            PlanHealth::Warned => {
                let since = self.record.below_since;
                let since =
                    since.map_or_else(String::new, |since| format!(" since {}", shown(since)));
                format!("did less than was asked{since}: {}", self.failed())
            }
            PlanHealth::Suspended => return format!("plan {name} is held back"),
        };
        format!("plan {name} {state}; next run: {next}")
    }

    /// What is still to follow the last snapshot.
    fn owed(&self) -> Vec<&'static str> {
        let names = self.plan.follow_ups().into_iter().map(|one| one.name);
        names
            .filter(|name| self.record.owed.contains_key(*name))
            .collect()
    }

    fn failed(&self) -> String {
        let only_good = self.health() != PlanHealth::Warned;
        let bad = |outcome: &&StepOutcome| match only_good {
            true => !outcome.is_good(),
            false => !outcome.is_as_asked(),
        };
        let last = self.record.last.as_ref();
        let cut_off = last.is_some_and(|last| last.outcome.is_none());
        let follow_ups = self.plan.follow_ups();
        let steps = follow_ups.iter().filter_map(|one| {
            let outcome = &self.record.steps.get(one.name)?.outcome;
            Some((one.name, outcome)).filter(|(_, outcome)| bad(outcome))
        });
        let first = last.and_then(|last| last.outcome.as_ref()).filter(bad);
        let first = first.map(|outcome| ("snapshot", outcome));
        match first.into_iter().chain(steps).next() {
            _ if cut_off => "the last run was cut off".into(),
            Some((name, outcome)) => one_line(&format!("{name}: {}", outcome.said)).into_owned(),
            None if !self.owed().is_empty() => {
                let owed = self.owed().join(", ");
                format!("what follows the last snapshot was cut off, and is still owed: {owed}")
            }
            None => "it is not known why".into(),
        }
    }
}
