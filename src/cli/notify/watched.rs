//! What is watched of the plans of this host: how their snapshots and what follows them stand, and
//! the figures of them.

use super::super::plan::PlansFound;
use crate::error::Error;
use crate::model::clip;
use crate::model::printable::one_line;
use crate::notify::{PartState, PlanFigures, StepFigures, WatchedPart};
use crate::plan::{Decision, FollowUp, PlanCase, PlanHealth, PlanTry, StepOutcome};
use crate::report::error::advice;
use crate::report::plan::SeenPlan;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// Most bytes of what is said of a part.
const MOST_SAID: usize = 1000;
/// From here on an exit code is that of a signal.
const SIGNALS: u8 = 128;
/// A run that takes longer is late, unless the interval is longer.
const LONG_RUN: SignedDuration = SignedDuration::from_hours(25);

/// All parts of all plans but those that are held back. `may_be_late`: whether the machine is up
/// for so long that what was missed should have begun.
pub fn watched(found: &PlansFound, may_be_late: bool) -> Vec<WatchedPart> {
    let mut parts: Vec<WatchedPart> = Vec::new();
    for seen in found.seen.iter().filter(|seen| !seen.plan.suspended) {
        parts.push(snapshots(seen, may_be_late));
        parts.extend(steps(seen));
    }
    for unread in &found.unread {
        let plan = unread.name.clone().unwrap_or_default();
        if parts.iter().any(|part| part.plan == plan) {
            continue;
        }
        parts.push(unfit(&plan, &unread.error));
    }
    parts
}

/// The plans of which nobody is told.
pub fn silent(found: &PlansFound) -> BTreeSet<String> {
    let silent = found.seen.iter().filter(|seen| seen.plan.notify.silent);
    silent.map(|seen| seen.plan.name.to_string()).collect()
}

/// A plan that cannot be run.
pub fn unfit(plan: &str, error: &Error) -> WatchedPart {
    WatchedPart {
        plan: plan.to_owned(),
        state: Some(PartState::Failed),
        said: said(&error.to_string()),
        hint: Some(advice(error).into_owned()),
        ..WatchedPart::default()
    }
}

fn base(seen: &SeenPlan) -> WatchedPart {
    WatchedPart {
        plan: seen.plan.name.to_string(),
        last_good: seen.record.last_good.as_ref().map(|good| good.began),
        next: seen.clock.next(seen.now),
        ..WatchedPart::default()
    }
}

fn snapshots(seen: &SeenPlan, may_be_late: bool) -> WatchedPart {
    if let Some(error) = &seen.unread {
        return unfit(seen.plan.name.as_str(), error);
    }
    let last = seen.record.last.as_ref();
    let outcome = last.and_then(|last| last.outcome.as_ref());
    let mut part = WatchedPart {
        state: state(seen, last),
        tried: last.and_then(|last| last.ended),
        ..base(seen).with_outcome(outcome)
    };
    if outcome.is_none() && part.state == Some(PartState::Failed) {
        part.said = "the last run was cut off".into();
    }
    let PlanHealth::Overdue(since) = seen.health() else {
        return part;
    };
    if !may_be_late || (seen.running && !runs_for_too_long(seen, last)) {
        return part;
    }
    let name = &seen.plan.name;
    let last = match (seen.running, part.said.as_str()) {
        (true, _) => "; it is being run".to_owned(),
        (_, "") => String::new(),
        (_, said) => format!("; the last try: {said}"),
    };
    part.said = said(&format!("a snapshot is owed since {since:.0}{last}"));
    part.hint = Some(format!(
        "does its timer run? `stillpoint plan show {name}`, `stillpoint job list`"
    ));
    part.since = Some(since);
    part.state = Some(PartState::Overdue);
    part
}

fn case(seen: &SeenPlan, now: Timestamp) -> PlanCase<'_> {
    PlanCase {
        plan: &seen.plan,
        record: &seen.record,
        clock: &seen.clock,
        now,
    }
}

/// `None` while it runs, before it has run, and where what was cut off is tried again at once.
fn state(seen: &SeenPlan, last: Option<&PlanTry>) -> Option<PartState> {
    let last = last.filter(|_| !seen.running)?;
    let cut_off = last
        .outcome
        .as_ref()
        .is_none_or(|outcome| outcome.exit_code >= SIGNALS);
    let again = || matches!(case(seen, seen.now).decide(), Decision::Now(_));
    match &last.outcome {
        _ if cut_off && last.time.is_some() && again() => None,
        None => Some(PartState::Failed),
        Some(outcome) => Some(of_outcome(outcome)),
    }
}

fn of_outcome(outcome: &StepOutcome) -> PartState {
    match outcome {
        outcome if !outcome.is_good() => PartState::Failed,
        outcome if !outcome.is_as_asked() => PartState::Warned,
        _ => PartState::Good,
    }
}

fn runs_for_too_long(seen: &SeenPlan, last: Option<&PlanTry>) -> bool {
    let most = seen.clock.interval().max(LONG_RUN);
    last.is_some_and(|last| seen.now.duration_since(last.began) > most)
}

fn steps(seen: &SeenPlan) -> Vec<WatchedPart> {
    let follow_ups = seen.plan.follow_ups().into_iter();
    let parts = follow_ups.filter_map(|one| {
        let step = seen.record.steps.get(one.name);
        let part = WatchedPart {
            step: Some(one.name.to_owned()),
            ..base(seen)
        };
        if let Some(good) = left_out(seen, &one) {
            let what =
                format!("it was to follow the snapshot of {good:.0}, and has not come to its end");
            return Some(WatchedPart {
                state: Some(PartState::Failed),
                said: what,
                hint: Some("it is tried after the next snapshot; what ended it?".into()),
                ..part
            });
        }
        let step = step?;
        let part = part.with_outcome(Some(&step.outcome));
        Some(WatchedPart {
            state: (!seen.running).then(|| of_outcome(&step.outcome)),
            tried: Some(step.began),
            ..part
        })
    });
    parts.collect()
}

/// The snapshot that this was to follow and of which nothing is noted: it was killed, or never
/// begun. What a plan was given since, no snapshot has come before.
fn left_out(seen: &SeenPlan, one: &FollowUp) -> Option<Timestamp> {
    let good = seen.record.last_good.as_ref().filter(|_| !seen.running)?;
    let is_new = seen.plan.written.is_none_or(|written| written > good.began);
    let step = seen.record.steps.get(one.name);
    let is_noted = step.is_some_and(|step| step.began >= good.began);
    let was_due = case(seen, good.began).follow_up(one).is_some();
    (!is_new && !is_noted && was_due).then_some(good.began)
}

impl WatchedPart {
    fn with_outcome(self, outcome: Option<&StepOutcome>) -> Self {
        let Some(outcome) = outcome else {
            return self;
        };
        Self {
            said: said(&outcome.said),
            hint: outcome.hint.as_deref().map(said),
            exit_code: Some(outcome.exit_code),
            job: outcome.job.clone(),
            snapshot: outcome.snapshot.clone(),
            ..self
        }
    }
}

fn said(text: &str) -> String {
    clip(&one_line(text), MOST_SAID)
}

/// The figures of all plans.
pub fn figures(found: &PlansFound) -> Vec<PlanFigures> {
    found.seen.iter().map(of_plan).collect()
}

fn of_plan(seen: &SeenPlan) -> PlanFigures {
    let last = seen.record.last.as_ref();
    let follow_ups = seen.plan.follow_ups().into_iter();
    let steps = follow_ups.filter_map(|one| {
        let step = seen.record.steps.get(one.name)?;
        Some(StepFigures {
            name: one.name.to_owned(),
            began: step.began,
            exit_code: step.outcome.exit_code,
        })
    });
    let next = |now: Timestamp| match seen.plan.suspended {
        true => None,
        false => seen.clock.next(now),
    };
    PlanFigures {
        name: seen.plan.name.to_string(),
        state: seen.health().name(),
        interval: seen.clock.interval().as_secs(),
        began: last.map(|last| last.began),
        ended: last.and_then(|last| last.ended),
        exit_code: last.and_then(|last| Some(last.outcome.as_ref()?.exit_code)),
        last_good: seen.record.last_good.as_ref().map(|good| good.began),
        next: next(seen.now),
        steps: steps.collect(),
    }
}
