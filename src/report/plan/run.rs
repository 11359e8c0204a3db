//! What became of plans that were to be run.

use super::words::{outcome, shown, waiting, why};
use crate::error::Error;
use crate::model::exit::{BELOW, DAMAGED, code};
use crate::model::printable::one_line;
use crate::plan::{PlanWait, StepOutcome};
use crate::report::Report;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;

/// What became of a plan that was to be run.
pub struct PlanRun {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// What became of it.
    pub end: PlanRunEnd,
}

/// What became of a plan that was to be run.
pub enum PlanRunEnd {
    /// It was run.
    Ran {
        /// For which time.
        time: Option<Timestamp>,
        /// Which try for it.
        number: u32,
        /// How the snapshot ended.
        snapshot: StepOutcome,
        /// What followed.
        followed: Vec<FollowedStep>,
        /// What else is to be said.
        said: Vec<String>,
        /// Why it could not be noted, or not all that follows was done.
        unnoted: Option<Error>,
        /// When it runs next.
        next: Option<Timestamp>,
    },
    /// It is not due, and what had followed its last snapshot was cut off: that was done.
    CaughtUp {
        /// What followed.
        followed: Vec<FollowedStep>,
        /// What else is to be said.
        said: Vec<String>,
        /// Why it could not be noted, or not all was done.
        unnoted: Option<Error>,
        /// When it runs next.
        next: Option<Timestamp>,
    },
    /// It is not due.
    Waits(PlanWait),
    /// Somebody else runs it.
    RunsNow(String),
    /// It could not be.
    Unrun(Error),
}

/// What followed a snapshot.
pub struct FollowedStep {
    /// The command.
    pub name: &'static str,
    /// How it ended.
    pub outcome: StepOutcome,
}

/// What `plan run` has to report.
pub struct PlanRunReport {
    /// Each plan.
    pub runs: Vec<PlanRun>,
    /// Whether only those were run that are due.
    pub due: bool,
    /// Whether those are told of that are not.
    pub verbose: bool,
}

/// What `plan run` reports.
pub fn ran(done: &PlanRunReport) -> Report {
    let mut text = String::new();
    let mut worst = 0;
    for run in &done.runs {
        let name = run.name.as_deref().unwrap_or("of no name");
        let code = end_code(&run.end);
        if rank(code) > rank(worst) {
            worst = code;
        }
        run_lines(&mut text, name, &run.end, done.verbose);
    }
    // Where nothing was due nothing is said: whoever runs this each minute gets no mail.
    if done.due && done.verbose && done.runs.is_empty() {
        text.push_str("there is no plan\n");
    }
    let document = json!({"plans": done.runs.iter().map(run_document).collect::<Vec<_>>()});
    let mut report = Report::done(document, text);
    report.code = worst;
    report
}

fn run_lines(text: &mut String, name: &str, end: &PlanRunEnd, verbose: bool) {
    // Writing to a string cannot fail.
    let _ = match end {
        PlanRunEnd::Ran {
            snapshot,
            followed,
            said,
            unnoted,
            next,
            ..
        } => {
            let lines = RunLines {
                snapshot: Some(snapshot),
                followed,
                said,
                unnoted: unnoted.as_ref(),
                next: *next,
            };
            lines.write(text, name, end_code(end))
        }
        PlanRunEnd::CaughtUp {
            followed,
            said,
            unnoted,
            next,
        } => {
            let lines = RunLines {
                snapshot: None,
                followed,
                said,
                unnoted: unnoted.as_ref(),
                next: *next,
            };
            lines.write(text, name, end_code(end))
        }
        PlanRunEnd::Waits(wait) if verbose => {
            let until = wait.until.map_or_else(|| "not by itself".into(), shown);
            writeln!(
                text,
                "plan {name} is not due: {}; next run: {until}",
                why(wait.reason)
            )
        }
        PlanRunEnd::Waits(_) => Ok(()),
        PlanRunEnd::RunsNow(said) => writeln!(text, "{}", one_line(said)),
        PlanRunEnd::Unrun(error) => {
            let hint = crate::report::error::advice(error);
            writeln!(text, "hint: {hint}\nplan {name} was NOT RUN: {error}")
        }
    };
}

/// What is said of a run.
struct RunLines<'a> {
    snapshot: Option<&'a StepOutcome>,
    followed: &'a [FollowedStep],
    said: &'a [String],
    unnoted: Option<&'a Error>,
    next: Option<Timestamp>,
}

impl RunLines<'_> {
    fn write(&self, text: &mut String, name: &str, code: u8) -> std::fmt::Result {
        for line in self.said {
            writeln!(text, "plan {name}: {}", one_line(line))?;
        }
        let snapshot = self.snapshot.map(|outcome| ("snapshot", outcome));
        let steps = self.followed.iter().map(|step| (step.name, &step.outcome));
        for (step, outcome) in snapshot.into_iter().chain(steps) {
            writeln!(text, "plan {name}: {step}: {}", one_line(&outcome.said))?;
            if let Some(hint) = &outcome.hint {
                writeln!(text, "  hint: {}", one_line(hint))?;
            }
        }
        if let Some(error) = self.unnoted {
            writeln!(text, "plan {name}: what follows was left out: {error}")?;
        }
        let next = self.next.map_or_else(|| "none by itself".into(), shown);
        let how = match code {
            0 => "is done".into(),
            BELOW => format!("is done with warnings, exit code {code}"),
            _ => format!("FAILED, exit code {code}"),
        };
        writeln!(text, "plan {name} {how}; next run: {next}")
    }
}

fn end_code(end: &PlanRunEnd) -> u8 {
    match end {
        PlanRunEnd::Ran {
            snapshot,
            followed,
            unnoted,
            ..
        } => {
            if !snapshot.is_good() {
                return snapshot.exit_code;
            }
            code_after(followed, unnoted.as_ref()).unwrap_or(snapshot.exit_code)
        }
        PlanRunEnd::CaughtUp {
            followed, unnoted, ..
        } => code_after(followed, unnoted.as_ref()).unwrap_or(0),
        PlanRunEnd::Waits(_) | PlanRunEnd::RunsNow(_) => 0,
        PlanRunEnd::Unrun(error) => code(error.kind()),
    }
}

/// What makes a run whose snapshot is there less than was asked; `None`: nothing.
fn code_after(followed: &[FollowedStep], unnoted: Option<&Error>) -> Option<u8> {
    let codes = followed.iter().map(|step| step.outcome.exit_code);
    let worst = codes.max_by_key(|code| rank(*code)).unwrap_or(0);
    let unnoted = unnoted.map(|error| code(error.kind()));
    match (worst, unnoted) {
        (_, Some(stopped)) if stopped >= 128 => Some(stopped),
        (0, None) => None,
        (code, _) if code == DAMAGED || code >= 128 => Some(code),
        _ => Some(BELOW),
    }
}

/// Which of several exit codes is told: the later in this list.
fn rank(code: u8) -> usize {
    const ORDER: [u8; 7] = [0, BELOW, 2, 6, 5, 1, 4];
    let place = ORDER.iter().position(|known| *known == code);
    place.unwrap_or(ORDER.len())
}

fn steps_document(followed: &[FollowedStep]) -> Value {
    let step = |one: &FollowedStep| json!({"step": one.name, "outcome": outcome(&one.outcome)});
    followed.iter().map(step).collect()
}

fn run_document(run: &PlanRun) -> Value {
    let mut document = json!({
        "plan": run.name,
        "state": "unrun",
        "exit_code": end_code(&run.end),
        "time": null,
        "try": null,
        "snapshot": null,
        "steps": [],
        "said": [],
        "next": null,
        "waits": null,
        "error": null,
    });
    match &run.end {
        PlanRunEnd::Ran {
            time,
            number,
            snapshot,
            followed,
            said,
            unnoted,
            next,
        } => {
            document["error"] = match unnoted {
                Some(error) => crate::report::error::document(error),
                None => Value::Null,
            };
            document["state"] = "ran".into();
            document["time"] = json!(time.map(shown));
            document["try"] = json!(number);
            document["snapshot"] = outcome(snapshot);
            document["steps"] = steps_document(followed);
            document["said"] = json!(said);
            document["next"] = json!(next.map(shown));
        }
        PlanRunEnd::CaughtUp {
            followed,
            said,
            unnoted,
            next,
        } => {
            document["error"] = json!(unnoted.as_ref().map(crate::report::error::document));
            document["state"] = "caught_up".into();
            document["steps"] = steps_document(followed);
            document["said"] = json!(said);
            document["next"] = json!(next.map(shown));
        }
        PlanRunEnd::Waits(wait) => {
            document["state"] = "waits".into();
            document["waits"] = waiting(wait);
            document["next"] = json!(wait.until.map(shown));
        }
        PlanRunEnd::RunsNow(said) => {
            document["state"] = "running".into();
            document["said"] = json!([said]);
        }
        PlanRunEnd::Unrun(error) => document["error"] = crate::report::error::document(error),
    }
    document
}
