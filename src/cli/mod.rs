//! The command line: the only place that knows clap, the terminal, the environment and signals. One
//! command a file; it must never do the engine's work.

mod against_disk;
mod args;
mod browse;
mod check;
mod client;
mod completions;
mod confirm;
mod context;
mod cp;
mod delete;
mod diff;
mod disks;
mod dispatch;
mod doctor;
mod drill;
mod find_snapshot;
mod fleet;
mod gc;
mod help;
mod info;
mod init;
mod job;
mod keep;
mod key;
mod list;
mod lock;
mod ls;
mod may_lack;
mod mirror;
mod mount;
mod notify;
mod output;
mod plan;
mod progress;
mod prompt;
mod prune;
mod recover;
mod repair;
mod restore;
mod schema;
mod serve;
mod show;
mod signals;
mod snapshot;
mod status;
mod thaw;
mod track;
mod usage;
mod verify;

use crate::engine::{Event, MOUNT_WATCHER_COMMAND, Monitor, mount_watcher_main};
use crate::error::Result;
use crate::freeze::{
    GUARDIAN_COMMAND, THROTTLE_WATCHER_COMMAND, guardian_main, throttle_watcher_main,
};
use crate::hooks::{HOOK_SUPERVISOR_COMMAND, hook_supervisor_main};
use crate::job::{RECORD_WRITER_COMMAND, record_writer_main};
use crate::report::Report;
use crate::sys::clock_state::check_calendar;
use crate::sys::name_service;
use crate::sys::process::{keep_exits_of_children, survive_file_limits};
use args::{Command, CommandLine};
use clap::Parser;
use dispatch::dispatch;
use output::PrintOptions;
use progress::ProgressDisplay;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    keep_exits_of_children();
    survive_file_limits();
    name_service::keep_to_what_is_linked();
    // Helper processes of a run, not for users. Each needs a process with nothing set up.
    let hidden = std::env::args_os().nth(1).unwrap_or_default();
    if hidden == GUARDIAN_COMMAND {
        return guardian_main();
    }
    if hidden == HOOK_SUPERVISOR_COMMAND {
        return hook_supervisor_main();
    }
    if hidden == THROTTLE_WATCHER_COMMAND {
        return throttle_watcher_main();
    }
    if hidden == MOUNT_WATCHER_COMMAND {
        return mount_watcher_main();
    }
    if hidden == RECORD_WRITER_COMMAND {
        return record_writer_main(std::env::args_os().nth(2).as_deref());
    }
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return usage::refused(&error),
    };
    if let Err(error) = refuse_clock(&line.command) {
        return output::conclude_error(&error, line.common.json);
    }
    // Before any thread starts: a thread would keep inherited descriptors open.
    let watched = signals::watch(line.common.as_job.is_some());
    let settle = |id| job::settle(id, &line.command, &line.common);
    let settled = match line.common.as_job.map(settle).transpose() {
        Ok(settled) => settled,
        Err(error) => return output::conclude_error(&error, line.common.json),
    };
    let progress = ProgressDisplay::start(&line.common);
    let warnings = settled.as_ref().map_or(&[][..], |job| &job.warnings);
    let result = watched.and_then(|()| work(&line, warnings, &progress));
    progress.finish();
    let options = PrintOptions {
        as_json: line.common.json,
        aside: dispatch::holds_stdout(&line.command),
        patience: patience(&line),
    };
    let code = output::conclude(result, options);
    if let Some(settled) = settled {
        settled.leave();
    }
    code
}

/// Refuses a clock beyond all calendars. What is frozen is thawed, whatever the time.
fn refuse_clock(command: &Command) -> Result<()> {
    match command {
        Command::Thaw | Command::Completions(_) | Command::Schema(_) | Command::Help(_) => Ok(()),
        _ => check_calendar(SystemTime::now()),
    }
}

/// How long the report waits for a reader. The starter of a detached job must return soon.
fn patience(line: &CommandLine) -> Duration {
    match line.command.job() {
        Some(job) if job.detach => Duration::from_secs(1),
        _ => output::PATIENCE,
    }
}

/// Runs the command, after thawing what dead runs left frozen.
fn work(line: &CommandLine, warnings: &[String], progress: &ProgressDisplay) -> Result<Report> {
    // With `--detach`, the job does this itself: a thaw can block in the kernel, and the starter
    // must return at once.
    let only_starts =
        line.common.as_job.is_none() && line.command.job().is_some_and(|job| job.detach);
    let mut warnings = warnings.to_vec();
    if matches!(line.command, Command::Snapshot(_)) && !only_starts {
        warnings.extend(thaw::before_a_run(&line.common));
    }
    for warning in &warnings {
        progress.tell(Event::Warning(warning.clone()));
    }
    run_or_start(line, &warnings, progress)
}

/// Runs the command as a job if it is one; with `--detach`, starts the job.
fn run_or_start(
    line: &CommandLine,
    warnings: &[String],
    progress: &ProgressDisplay,
) -> Result<Report> {
    let CommandLine { command, common } = line;
    match command.job() {
        Some(as_job) if as_job.detach && common.as_job.is_none() => match command {
            Command::Mount(_) => {
                let (id, warnings) = job::detach_as(command, common)?;
                mount::await_mounted(id, &warnings, common)
            }
            _ => job::detach(command, common),
        },
        Some(as_job) => job::run_as_job(as_job.word, common, progress, warnings, || {
            dispatch(command, common, progress)
        }),
        None => dispatch(command, common, progress),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_detaches_waits_for_no_reader_for_long() {
        let patience = |args: &[&str]| {
            let all = ["stillpoint"].iter().chain(args);
            patience(&CommandLine::try_parse_from(all).unwrap())
        };
        assert_eq!(patience(&["verify", "--all"]), output::PATIENCE);
        assert!(patience(&["verify", "--all", "--detach"]) <= Duration::from_secs(1));
    }
}
