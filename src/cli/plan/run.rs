//! `plan run`: runs a plan now, or those that are due, one after another. What becomes of one keeps
//! no other from being run.

use super::super::args::{CommandLine, Common, PlanRunArgs};
use super::super::notify::{Notifier, RunWent};
use super::super::{context, signals};
use super::places::PlanPlaces;
use super::steps::{Dispatch, StepRunner};
use super::work::PlanWork;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{PlanName, StepOutcome};
use crate::report::plan::{PlanRun, PlanRunEnd, PlanRunReport};
use crate::report::{self, Report};
use clap::CommandFactory;
use clap::parser::ValueSource;
use std::collections::BTreeSet;
use std::io::IsTerminal;

pub fn run(args: &PlanRunArgs, common: &Common, dispatch: Dispatch) -> Result<Report> {
    context::need_root_to("run plans")?;
    let places = PlanPlaces::of(common);
    let names = names(args, &places)?;
    let quiet = args.due && !common.verbose && !std::io::stderr().is_terminal();
    let common = Common {
        quiet: common.quiet || quiet,
        ..common.clone()
    };
    let vault = common.vault.as_deref().filter(|_| vault_is_a_flag());
    refuse_due_elsewhere(args, vault)?;
    let notifier = Notifier::of(&common);
    let steps = StepRunner {
        begins: &|plan| notifier.begins(plan),
        common: &common,
        dispatch,
        vault,
        clock_is_right: args.clock_is_right,
        distrust_clock: args.distrust_clock,
    };
    let mut runs = Vec::new();
    for name in names {
        if let Err(stopped) = signals::check() {
            match runs.is_empty() {
                true => return Err(stopped),
                // What was done before is told.
                false => break,
            }
        }
        // Others may have run for hours.
        let places = PlanPlaces::of(&common);
        let shown = name.as_ref().ok().map(ToString::to_string);
        let known = name.as_ref().ok().cloned();
        let end = name.and_then(|name| match args.due {
            true => run_if_due(places, &name, &steps),
            false => run_now(places, &name, &steps),
        });
        if let (Some(name), Some(went), None) = (known, went(&end), vault) {
            notifier.ran(&name, went, unrun(&end));
        }
        match end {
            Ok(end) => runs.push(PlanRun { name: shown, end }),
            // The plan that somebody has named is all that there is to do.
            Err(error) if args.name.is_some() => {
                notifier.look();
                return Err(error);
            }
            Err(error) => runs.push(PlanRun {
                name: shown,
                end: PlanRunEnd::Unrun(error),
            }),
        }
    }
    let ran = runs
        .iter()
        .any(|run| matches!(run.end, PlanRunEnd::Ran { .. }));
    let mut report = report::plan::ran(&PlanRunReport {
        runs,
        due: args.due,
        verbose: common.verbose,
    });
    // Whoever looks each minute gets no mail for it; `status` tells.
    notifier.conclude(&mut report, ran || common.verbose || common.json);
    Ok(report)
}

/// Why there was none.
fn unrun(end: &Result<PlanRunEnd>) -> Option<&Error> {
    match end {
        Ok(PlanRunEnd::Unrun(error)) | Err(error) => Some(error),
        Ok(_) => None,
    }
}

fn refuse_due_elsewhere(args: &PlanRunArgs, vault: Option<&str>) -> Result<()> {
    if !args.due || vault.is_none() {
        return Ok(());
    }
    let what = "--vault with --due: what is due goes to the vault of its plan; nothing was run";
    Err(Error::new(ErrorKind::Usage, what)
        .with_hint("name the plan, without --due, to have a snapshot there besides"))
}

/// The plans that are meant; of those whose files are gone that is noted.
fn names(args: &PlanRunArgs, places: &PlanPlaces) -> Result<Vec<Result<PlanName>>> {
    let names = match &args.name {
        Some(name) => vec![name.parse::<PlanName>()],
        None => places.folder.names()?,
    };
    if args.due {
        note_gone(places, &names);
    }
    Ok(names)
}

/// Notes whose files are gone: what comes by such a name later is another plan. What cannot be
/// noted is seen again by the next look, and `status` tells of the file.
fn note_gone(places: &PlanPlaces, named: &[Result<PlanName>]) {
    let noted = places.notes.names().into_iter();
    let named = named.iter().filter_map(|name| name.as_ref().ok()).cloned();
    for name in noted.chain(named).collect::<BTreeSet<_>>() {
        let found = places.folder.settings_path(&name);
        if found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let _ = places.notes.note_gone(&name, places.now);
        }
    }
}

/// How a run went; `None`: there was none.
fn went(end: &Result<PlanRunEnd>) -> Option<RunWent> {
    match end {
        Ok(PlanRunEnd::Ran {
            snapshot,
            followed,
            unnoted,
            ..
        }) => {
            let followed = followed.iter().map(|step| &step.outcome);
            let mut all = [snapshot].into_iter().chain(followed);
            let stopped = all.clone().any(|outcome| outcome.exit_code >= 128);
            Some(match all.all(StepOutcome::is_good) && unnoted.is_none() {
                true => RunWent::Well,
                false if stopped => RunWent::Neither,
                false => RunWent::Wrong,
            })
        }
        // It took no snapshot, so it is no word for one; what was owed may have gone wrong.
        Ok(PlanRunEnd::CaughtUp {
            followed, unnoted, ..
        }) => {
            let mut wrong = followed.iter().filter(|step| !step.outcome.is_good());
            let wrong = wrong.next().map(|step| match step.outcome.exit_code {
                128.. => RunWent::Neither,
                _ => RunWent::Wrong,
            });
            wrong.or(unnoted.is_some().then_some(RunWent::Wrong))
        }
        Err(error) if error.kind() == ErrorKind::Busy => None,
        Ok(PlanRunEnd::Unrun(_)) | Err(_) => Some(RunWent::Wrong),
        Ok(PlanRunEnd::Waits(_) | PlanRunEnd::RunsNow(_)) => None,
    }
}

/// Whether `--vault` stands on the command line: it goes before what a plan says, and the
/// environment does not.
pub fn vault_is_a_flag() -> bool {
    let matches = CommandLine::command().try_get_matches().ok();
    let plan = matches.as_ref().and_then(|all| all.subcommand());
    let action = plan.and_then(|(_, plan)| plan.subcommand());
    action.is_some_and(|(_, args)| args.value_source("vault") == Some(ValueSource::CommandLine))
}

/// The error of who would run a plan that somebody runs.
pub fn runs_now(places: &PlanPlaces, name: &PlanName) -> Error {
    let pids = places.notes.runners(name).into_iter();
    let pids: Vec<String> = pids.take(4).map(|pid| pid.to_string()).collect();
    let by = match pids.is_empty() {
        true => String::new(),
        false => format!(" (process {})", pids.join(", ")),
    };
    let what = format!("plan {name} is being run{by}");
    Error::new(ErrorKind::Busy, what).with_hint(
        "`stillpoint job list` shows how far it is. To stop it: `stillpoint plan suspend`, or it \
         is tried again; then `stillpoint job cancel`",
    )
}

fn run_now(places: PlanPlaces, name: &PlanName, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
    places.folder.settings_path(name)?;
    let Some(_lock) = places.notes.lock(name)? else {
        return Err(runs_now(&places, name).and_said("nothing was begun"));
    };
    let work = PlanWork::begin(places, name)?;
    work.run_asked_for(steps)
}

fn run_if_due(places: PlanPlaces, name: &PlanName, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
    places.folder.settings_path(name)?;
    let Some(_lock) = places.notes.lock(name)? else {
        return Ok(PlanRunEnd::RunsNow(runs_now(&places, name).to_string()));
    };
    PlanWork::begin(places, name)?.run_if_due(steps)
}
