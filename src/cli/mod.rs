//! The command line: the only place that knows clap, the terminal, the environment and signals. One
//! command a file; it must never do the engine's work.

mod against;
mod args;
mod config;
mod confirm;
mod delete;
mod diff;
mod disks;
mod doctor;
mod doubtful;
mod exit;
mod help;
mod hooks;
mod init;
mod job;
mod list;
mod listed;
mod outcome;
mod output;
mod pick;
mod progress;
mod restore;
mod schema;
mod show;
mod signals;
mod snapshot;
mod thaw;
mod track;
mod usage;
mod verify;

use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{
    GUARDIAN_COMMAND, HOOK_KEEPER_COMMAND, THROTTLE_KEEPER_COMMAND, guardian_main,
    hook_keeper_main, throttle_keeper_main,
};
use crate::store::{History, SnapshotRef, Vault};
use args::{Command, Common, Line};
use clap::Parser;
use outcome::Outcome;
use progress::Progress;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Most snapshots of doubtful time that are named with `latest`; `list` names all.
const MOST_DOUBTS: usize = 3;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Not for users, and before anything else is set up: see there.
    let hidden = std::env::args_os().nth(1).unwrap_or_default();
    if hidden == GUARDIAN_COMMAND {
        return guardian_main();
    }
    if hidden == HOOK_KEEPER_COMMAND {
        return hook_keeper_main();
    }
    if hidden == THROTTLE_KEEPER_COMMAND {
        return throttle_keeper_main();
    }
    if hidden == job::RECORD_KEEPER_COMMAND {
        return job::record_keeper_main(std::env::args_os().nth(2).as_deref());
    }
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return usage::refused(&error),
    };
    // Before any thread, which would keep what was inherited.
    let watched = signals::watch(line.common.as_job.is_some());
    let settle = |id| job::settle(id, &line.command, &line.common);
    let settled = match line.common.as_job.map(settle).transpose() {
        Ok(settled) => settled,
        Err(error) => return output::conclude_error(&error, line.common.json),
    };
    let progress = Progress::start(&line.common);
    let warnings = settled.as_ref().map_or(&[][..], |job| &job.warnings);
    let result = watched.and_then(|()| work(&line, warnings, &progress));
    progress.finish();
    let code = output::conclude(result, &line.common, patience(&line));
    if let Some(settled) = settled {
        settled.leave();
    }
    code
}

/// How long the answer waits for a reader. What is started by `--detach` goes on without it.
fn patience(line: &Line) -> Duration {
    match line.command.job() {
        Some((_, true)) => Duration::from_secs(1),
        _ => output::PATIENCE,
    }
}

/// Runs the command: as a job, if it is of that sort.
fn work(line: &Line, warnings: &[String], progress: &Progress) -> Result<Outcome> {
    // Of a job that goes on by itself, that is for the job: a thaw may wait in the kernel.
    let only_starts = line.common.as_job.is_none() && line.command.job().is_some_and(|job| job.1);
    let thawed = match line.command {
        Command::Snapshot(_) if !only_starts => thaw::before_a_run(&line.common, progress),
        _ => Vec::new(),
    };
    let mut outcome = attend(line, warnings, progress)?;
    thawed.iter().for_each(|warning| outcome.warn(warning));
    Ok(outcome)
}

fn attend(line: &Line, warnings: &[String], progress: &Progress) -> Result<Outcome> {
    let Line { command, common } = line;
    match command.job() {
        Some((word, true)) if common.as_job.is_none() => job::detach(word, command, common),
        Some((word, _)) => job::attend(word, common, progress, warnings, || {
            dispatch(command, common, progress)
        }),
        None => dispatch(command, common, progress),
    }
}

fn dispatch(command: &Command, common: &Common, progress: &Progress) -> Result<Outcome> {
    let result = match command {
        Command::Init(args) => init::run(args),
        Command::Disks => disks::run(common),
        Command::Doctor(args) => doctor::run(args, common),
        Command::Track(args) => track::run(args, common, progress),
        Command::Snapshot(args) => snapshot::run(args, common, progress),
        Command::List(args) => list::run(args, common),
        Command::Show(args) => show::run(args, common, progress),
        Command::Diff(args) => diff::run(args, common, progress),
        Command::Verify(args) => verify::run(args, common, progress),
        Command::Restore(args) => restore::run(args, common, progress),
        Command::Delete(args) => delete::run(args, common, progress),
        Command::Thaw => thaw::run(common),
        Command::Job(args) => job::run(args, common),
        Command::Schema(args) => schema::run(args),
        Command::Help(args) => help::run(args, common),
    };
    result.map_err(|error| match error.kind() {
        ErrorKind::Interrupted(_) => stopped(command, error),
        _ => error,
    })
}

/// What a signal has left, and whether the same command goes on. A restore says it itself.
fn stopped(command: &Command, error: Error) -> Error {
    match command {
        Command::Snapshot(_) | Command::Doctor(_) | Command::Track(_) => {
            error.and_said("nothing is frozen")
        }
        Command::Verify(_) => error
            .and_said("nothing was changed, and what was read so far was not judged")
            .with_hint("the same command begins anew"),
        _ => error,
    }
}

/// The vault that `--vault` or `STILLPOINT_VAULT` names.
fn open_vault(common: &Common) -> Result<Arc<Vault>> {
    open_named(common.vault.as_deref())
}

fn open_named(name: Option<&str>) -> Result<Arc<Vault>> {
    let named = name.filter(|name| !name.is_empty());
    let vault = named.ok_or_else(|| {
        Error::new(ErrorKind::Usage, "no vault was named")
            .with_hint("give --vault DIRECTORY, or set STILLPOINT_VAULT")
    })?;
    refuse_remote(vault)?;
    Vault::open_local(std::path::Path::new(vault)).map(Arc::new)
}

fn refuse_remote(vault: &str) -> Result<()> {
    if vault.contains("://") {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{vault}: this version keeps vaults in directories only"),
        )
        .with_hint("name a directory on another disk"));
    }
    Ok(())
}

/// Only root may read disks, freeze and track.
fn need_root() -> Result<()> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "only root can read, freeze and track disks",
    )
    .with_hint("run it as root, with sudo for example"))
}

/// How many threads to use.
fn workers() -> usize {
    // More would only wait: each takes its share of memory too.
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(1, 8)
}

/// The snapshot that a user means: an ID, the start of one, or `latest`; with disks, the newest
/// that has them. What is doubtful about its place in time is told.
fn find(vault: &Vault, text: &str, disks: &[&str], monitor: &dyn Monitor) -> Result<SnapshotRef> {
    if text != "latest" {
        return vault.find(text);
    }
    let home = nix::unistd::gethostname().unwrap_or_default();
    let meant = vault.meant_by_latest(&home.to_string_lossy())?;
    let history = History::read(vault, &meant, &signals::check)?;
    for doubtful in history.doubtful.iter().rev().take(MOST_DOUBTS) {
        monitor.tell(Event::Warning(doubtful.to_string()));
    }
    pick::newest_with(vault, &history.order, disks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_signal_has_left_is_told() {
        let said = |args: &[&str]| {
            let all = ["stillpoint"].iter().chain(args);
            let line = Line::try_parse_from(all).unwrap();
            let error = Error::new(ErrorKind::Interrupted(2), "stopped by a signal");
            let error = stopped(&line.command, error);
            (error.to_string(), error.hint().map(str::to_owned))
        };
        let (snapshot, _) = said(&["snapshot", "vda"]);
        assert_eq!(snapshot, "stopped by a signal; nothing is frozen");
        let (verify, hint) = said(&["verify", "--all"]);
        assert!(verify.contains("nothing was changed") && !verify.contains("frozen"));
        assert_eq!(hint.as_deref(), Some("the same command begins anew"));
        // It says itself what is whole.
        let (restore, _) = said(&["restore", "latest", "/dev/vdb"]);
        assert_eq!(restore, "stopped by a signal");
    }

    #[test]
    fn who_detaches_waits_for_no_reader_for_long() {
        let patience = |args: &[&str]| {
            let all = ["stillpoint"].iter().chain(args);
            patience(&Line::try_parse_from(all).unwrap())
        };
        assert_eq!(patience(&["verify", "--all"]), output::PATIENCE);
        assert!(patience(&["verify", "--all", "--detach"]) <= Duration::from_secs(1));
    }
}
