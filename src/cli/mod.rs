//! The command line: the only place that knows clap, the terminal, the environment and signals. One
//! command a file; it must never do the engine's work.

mod args;
mod delete;
mod diff;
mod disks;
mod doctor;
mod exit;
mod init;
mod list;
mod outcome;
mod output;
mod progress;
mod restore;
mod show;
mod signals;
mod snapshot;
mod thaw;
mod track;
mod verify;

use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{GUARDIAN_COMMAND, guardian_main};
use crate::store::{SnapshotRef, Vault};
use args::{Command, Common, Line};
use clap::Parser;
use outcome::Outcome;
use progress::Progress;
use std::process::ExitCode;
use std::sync::Arc;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Not for users, and before anything else is set up: see there.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == GUARDIAN_COMMAND)
    {
        return guardian_main();
    }
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => return args::refused(&error),
    };
    let progress = Progress::start(&line.common);
    let result = signals::watch().and_then(|()| dispatch(&line.command, &line.common, &progress));
    progress.finish();
    output::conclude(result, &line.common)
}

fn dispatch(command: &Command, common: &Common, progress: &Progress) -> Result<Outcome> {
    match command {
        Command::Init(args) => init::run(args),
        Command::Disks => disks::run(common),
        Command::Doctor(args) => doctor::run(args, common),
        Command::Track(args) => track::run(args, common, progress),
        Command::Snapshot(args) => snapshot::run(args, common, progress),
        Command::List(args) => list::run(args, common),
        Command::Show(args) => show::run(args, common),
        Command::Diff(args) => diff::run(args, common),
        Command::Verify(args) => verify::run(args, common, progress),
        Command::Restore(args) => restore::run(args, common, progress),
        Command::Delete(args) => delete::run(args, common),
        Command::Thaw => thaw::run(common),
    }
}

/// The vault that `--vault` or `STILLPOINT_VAULT` names.
fn open_vault(common: &Common) -> Result<Arc<Vault>> {
    let named = common.vault.as_deref().filter(|name| !name.is_empty());
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

/// The snapshot that a user means.
fn find(vault: &Vault, text: &str) -> Result<SnapshotRef> {
    let home = nix::unistd::gethostname().unwrap_or_default();
    vault.find_from(&home.to_string_lossy(), text)
}
