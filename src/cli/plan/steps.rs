//! Runs the commands of a plan in this process, each as a job of its own, as if it had been typed.

use super::super::args::{Command, CommandLine, Common};
use super::super::progress::ProgressDisplay;
use super::super::{job, thaw};
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::model::exit::{DONE, code};
use crate::model::printable::one_line;
use crate::plan::{SnapshotPlan, StepOutcome};
use crate::report::{self, Report};
use clap::Parser;

/// What runs a command.
pub type Dispatch = fn(&Command, &Common, &ProgressDisplay) -> Result<Report>;

/// Runs commands in a plan's words.
pub struct StepRunner<'a> {
    pub common: &'a Common,
    pub dispatch: Dispatch,
    /// The vault that a flag names: it goes before the plan's.
    pub vault: Option<&'a str>,
    /// Somebody has looked at the clock.
    pub clock_is_right: bool,
    /// No time service is believed.
    pub distrust_clock: bool,
    /// What is to be done before a run of a plan's own begins.
    pub begins: &'a dyn Fn(&SnapshotPlan),
}

impl StepRunner<'_> {
    /// Runs a command, whatever becomes of it.
    pub fn run(&self, words: Vec<String>) -> StepOutcome {
        let name = words.first().cloned().unwrap_or_default();
        match self.line(words) {
            Ok(line) => outcome(&self.run_line(&name, &line)),
            Err(error) => outcome(&Err(error)),
        }
    }

    fn line(&self, words: Vec<String>) -> Result<CommandLine> {
        let all = ["stillpoint".to_owned()].into_iter().chain(words.clone());
        let parsed = CommandLine::try_parse_from(all).map_err(|error| {
            let said = error.to_string();
            let what = said.lines().next().unwrap_or_default().to_owned();
            Error::new(
                ErrorKind::Usage,
                format!("the plan's {}: {what}", words.join(" ")),
            )
        })?;
        let vault = match self.vault {
            Some(vault) => Some(vault.to_owned()),
            None => parsed.common.vault,
        };
        let common = Common {
            vault,
            words: Some(words),
            as_job: None,
            ..self.common.clone()
        };
        Ok(CommandLine {
            common,
            command: parsed.command,
        })
    }

    fn run_line(&self, name: &str, line: &CommandLine) -> Result<Report> {
        let CommandLine { command, common } = line;
        let warnings = match command {
            Command::Snapshot(_) => thaw::before_a_run(common),
            _ => Vec::new(),
        };
        let progress = ProgressDisplay::start(common);
        for warning in &warnings {
            progress.tell(Event::Warning(warning.clone()));
        }
        let result = job::run_as_job(name, common, &progress, &warnings, || {
            (self.dispatch)(command, common, &progress)
        });
        progress.finish();
        result
    }
}

fn outcome(result: &Result<Report>) -> StepOutcome {
    let text = |report: &Report, key: &str| report.json[key].as_str().map(str::to_owned);
    let outcome = match result {
        Ok(report) => StepOutcome {
            exit_code: report.code,
            job: text(report, "job"),
            snapshot: text(report, "snapshot"),
            said: said(report),
            hint: None,
        },
        Err(error) => StepOutcome {
            exit_code: code(error.kind()),
            job: None,
            snapshot: None,
            said: one_line(&error.to_string()).into_owned(),
            hint: Some(report::error::advice(error).into_owned()),
        },
    };
    outcome.bounded()
}

/// The verdict, and the first reason why it is below what was asked.
fn said(report: &Report) -> String {
    let verdict = report.text.trim_end().lines().last().unwrap_or_default();
    let warning = report.json["warnings"][0].as_str();
    let left_out = &report.json["left_out"][0];
    let left_out = left_out["disk"].as_str().zip(left_out["reason"].as_str());
    let left_out = left_out.map(|(disk, why)| format!("left out: {disk}: {why}"));
    let why = warning.map(str::to_owned).or(left_out);
    match why.filter(|_| report.code != DONE) {
        Some(why) => format!("{verdict}; {}", one_line(&why)),
        None => verdict.to_owned(),
    }
}
