//! `--detach`: the command goes on as a job in a process of its own.

use super::super::args::{Command, Common};
use super::super::{context, dispatch, mirror, thaw};
use super::directory::directory_path;
use super::run::new_job;
use crate::error::Result;
use crate::job::{self, JobId, Settled, StartOptions};
use crate::report::{self, Report};
use crate::store;
use crate::sys::locked::LockExt;
use jiff::Timestamp;
use std::ffi::OsString;
use std::sync::{Arc, Mutex};

/// Starts the command as a job of its own.
pub fn detach(command: &Command, common: &Common) -> Result<Report> {
    let (id, warnings) = detach_as(command, common)?;
    Ok(report::job::started(id, &warnings))
}

/// The same; returns the job, and warnings for the user.
pub fn detach_as(command: &Command, common: &Common) -> Result<(JobId, Vec<String>)> {
    dispatch::check(command, common)?;
    let directory = directory_path(common)?;
    let id = JobId::generate(Timestamp::now())?;
    let mut args = vec![format!("--as-job={id}").into()];
    args.extend(without_detach(std::env::args_os().skip(1)));
    let warnings = job::start(StartOptions {
        id,
        directory,
        args,
    })?;
    Ok((id, warnings))
}

/// The arguments for the process that does the work.
fn without_detach(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut only_names = false;
    args.filter(|arg| {
        // Behind `--` it is a name like any other.
        only_names |= arg == "--";
        only_names || arg != "--detach"
    })
    .collect()
}

/// The first steps of the process that [`detach`] has started.
pub fn settle(id: JobId, command: &Command, common: &Common) -> Result<Settled> {
    let word = command.job().map_or("", |job| job.word);
    let place = match command {
        Command::Mirror(args) => mirror::source_place(args, common),
        _ => context::vault_named(common, common.vault.as_deref()),
    };
    let foresee = dispatch::foresight(command);
    let thawed = Arc::new(Mutex::new(Vec::new()));
    let thaws =
        matches!(command, Command::Snapshot(_)).then(|| (Arc::clone(&thawed), common.clone()));
    let mut settled = job::settle(new_job(id, word, common), move || {
        // First of all: the log and the record may go to a filesystem that a dead run left frozen.
        if let Some((thawed, common)) = thaws {
            // Held until it is done: whoever asks what was thawed waits for it.
            let mut thawed = thawed.locked();
            *thawed = thaw::before_a_run(&common);
        }
        foresee(&Arc::new(store::open(&place?)?))
    })?;
    let mut thawed = thawed.locked();
    settled.warnings.append(&mut thawed);
    Ok(settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flag_goes() {
        let kept = |args: &[&str]| without_detach(args.iter().map(OsString::from));
        assert_eq!(kept(&["snapshot", "--detach", "vda"]), ["snapshot", "vda"]);
        assert_eq!(
            kept(&["snapshot", "--detach", "--", "--detach"]),
            ["snapshot", "--", "--detach"]
        );
    }
}
