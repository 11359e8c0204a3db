//! Which function runs a command, what can be refused before it runs, and what is said when a
//! signal has stopped it.

use super::args::{Command, Common};
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::{
    check, client, completions, cp, delete, diff, disks, doctor, drill, fleet, gc, help, info, init,
};
use super::{job, keep, key, list, lock, ls, mirror, mount};
use super::{
    plan, prune, recover, repair, restore, schema, serve, show, snapshot, status, thaw, track,
    verify,
};
use crate::engine::Silent;
use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;
use crate::store::Vault;

/// Runs the command.
pub fn dispatch(command: &Command, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let result = match command {
        Command::Init(args) => init::run(args, common),
        Command::Check => check::run(common),
        Command::Info => info::run(common, progress),
        Command::Disks => disks::run(common),
        Command::Doctor(args) => doctor::run(args, common),
        Command::Status(args) => status::run(args, common, progress),
        Command::Track(args) => track::run(args, common, progress),
        Command::Snapshot(args) => snapshot::run(args, common, progress),
        Command::List(args) => list::run(args, common),
        Command::Show(args) => show::run(args, common, progress),
        Command::Diff(args) => diff::run(args, common, progress),
        Command::Ls(args) => ls::run(args, common, progress),
        Command::Cp(args) => cp::run(args, common, progress),
        Command::Verify(args) => verify::run(args, common, progress),
        Command::Restore(args) => restore::run(args, common, progress),
        Command::Serve(args) => serve::run(args, common, progress),
        Command::Mount(args) => mount::run(args, common, progress),
        Command::Unmount(args) => mount::unmount(args, common),
        Command::Drill(args) => drill::run(args, common, progress),
        Command::Mirror(args) => mirror::run(args, common, progress),
        Command::Repair(args) => repair::run(args, common, progress),
        Command::Recover(args) => recover::run(args, common, progress),
        Command::Delete(args) => delete::run(args, common, progress),
        Command::Prune(args) => prune::run(args, common, progress),
        Command::Keep(args) => keep::run(args, common, progress),
        Command::Lock(args) => lock::run(args, common, progress),
        Command::Key(args) => key::run(args, common),
        Command::Gc(args) => gc::run(args, common, progress),
        Command::Thaw => thaw::run(common, progress),
        Command::Job(args) => job::run(args, common),
        Command::Plan(args) => plan::run(args, common, dispatch),
        Command::Client(args) => client::run(args, common, progress, dispatch),
        Command::Fleet(args) => fleet::run(args, progress),
        Command::Completions(args) => completions::run(args),
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
            .with_hint("the same command starts over"),
        Command::Repair(_) => error
            .and_said("what was put right is right, and nothing else was changed")
            .with_hint("the same command goes on"),
        Command::Mirror(_) => error
            .and_said("what came to the second place is whole there")
            .with_hint("the same command goes on from it"),
        Command::Prune(_) => error
            .and_said("what stays by the rules is untouched")
            .with_hint("the same command goes on"),
        Command::Recover(_) => error
            .and_said("what is back is whole, and nothing was deleted")
            .with_hint("the same command goes on"),
        Command::Lock(_) => error
            .and_said("no lock became shorter")
            .with_hint("the same command goes on"),
        Command::Gc(_) => error
            .and_said("what was deleted was named by a plan and needed by no snapshot")
            .with_hint("the same command goes on from it"),
        _ => error,
    }
}

/// Refuses what is wrong with the arguments and can be seen without asking any disk.
pub fn check(command: &Command, common: &Common) -> Result<()> {
    match command {
        Command::Snapshot(args) => snapshot::check(args, common).map(drop),
        Command::Restore(args) => restore::check(args, common),
        Command::Cp(args) => cp::check(args, common),
        Command::Mirror(args) => mirror::second_place(args, common).map(drop),
        Command::Mount(args) => mount::check(args, common),
        Command::Repair(args) => repair::second_place(args, common).map(drop),
        _ => Ok(()),
    }
}

/// Whether standard output holds what was asked for, so that text and documents must not go there.
pub fn holds_stdout(command: &Command) -> bool {
    match command {
        Command::Restore(args) => restore::to_stdout(args),
        Command::Cp(args) => cp::to_stdout(args),
        Command::Client(args) => client::to_stdout(args),
        _ => false,
    }
}

/// Looks at a vault for what a command will need.
pub type Foresight = Box<dyn FnOnce(&Vault) -> Result<()> + Send>;

/// Finds out, before a command that nobody watches is said to run, whether what it names is there
/// and whether it may be done.
pub fn foresight(command: &Command) -> Foresight {
    match command {
        Command::Restore(args) => {
            let args = args.clone();
            Box::new(move |vault| restore::foresee(&args, vault))
        }
        Command::Verify(args) => named_are_there(&args.ids),
        Command::Mirror(args) => named_are_there(&args.ids),
        Command::Mount(args) => named_are_there(args.id.as_slice()),
        _ => Box::new(|_| Ok(())),
    }
}

fn named_are_there(ids: &[String]) -> Foresight {
    let ids = ids.to_vec();
    Box::new(move |vault| {
        let mut ids = ids.iter();
        ids.try_for_each(|id| find_snapshot(vault, id, &[], &Silent).map(drop))
    })
}

#[cfg(test)]
mod tests {
    use super::super::args::CommandLine;
    use super::*;
    use clap::Parser;

    #[test]
    fn what_a_signal_has_left_is_reported() {
        let said = |args: &[&str]| {
            let all = ["stillpoint"].iter().chain(args);
            let line = CommandLine::try_parse_from(all).unwrap();
            let error = Error::new(ErrorKind::Interrupted(2), "stopped by a signal");
            let error = stopped(&line.command, error);
            (error.to_string(), error.hint().map(str::to_owned))
        };
        let (snapshot, _) = said(&["snapshot", "vda"]);
        assert_eq!(snapshot, "stopped by a signal; nothing is frozen");
        let (verify, hint) = said(&["verify", "--all"]);
        assert!(verify.contains("nothing was changed") && !verify.contains("frozen"));
        assert_eq!(hint.as_deref(), Some("the same command starts over"));
        let (mirror, hint) = said(&["mirror", "--to", "/x"]);
        assert!(mirror.contains("is whole there") && hint.unwrap().contains("goes on"));
        // It says itself what is whole.
        let (restore, _) = said(&["restore", "latest", "/dev/vdb"]);
        assert_eq!(restore, "stopped by a signal");
    }
}
