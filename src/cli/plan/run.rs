//! `plan run`: runs a plan now, or those that are due. Each try is noted before it begins and when
//! it has ended, so that one that was cut off is known and tried again.

use super::super::args::{CommandLine, Common, PlanRunArgs};
use super::super::{context, signals};
use super::places::PlanPlaces;
use super::steps::{Dispatch, StepRunner};
use super::words;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{
    Decision, DueOrAsked, HostClock, PlanCase, PlanName, PlanRecord, PlanStep, PlanTry,
    SnapshotPlan, WaitReason,
};
use crate::report::plan::{FollowedStep, PlanRun, PlanRunEnd, PlanRunReport};
use crate::report::{self, Report};
use clap::CommandFactory;
use clap::parser::ValueSource;
use jiff::Timestamp;
use std::io::IsTerminal;

pub fn run(args: &PlanRunArgs, common: &Common, dispatch: Dispatch) -> Result<Report> {
    context::need_root_to("run plans")?;
    let places = PlanPlaces::of(common);
    let names = match &args.name {
        Some(name) => vec![name.parse::<PlanName>()],
        None => places.folder.names()?,
    };
    let quiet = args.due && !common.verbose && !std::io::stderr().is_terminal();
    let common = Common {
        quiet: common.quiet || quiet,
        ..common.clone()
    };
    let vault = common.vault.as_deref().filter(|_| vault_is_a_flag());
    let steps = StepRunner {
        common: &common,
        dispatch,
        vault,
    };
    let mut runs = Vec::new();
    for name in names {
        signals::check()?;
        let shown = name.as_ref().ok().map(ToString::to_string);
        let end = name.and_then(|name| match args.due {
            true => run_if_due(&places, &name, &steps),
            false => run_now(&places, &name, &steps),
        });
        match end {
            Ok(end) => runs.push(PlanRun { name: shown, end }),
            // The plan that somebody has named is all that there is to do.
            Err(error) if args.name.is_some() => return Err(error),
            Err(error) => runs.push(PlanRun {
                name: shown,
                end: PlanRunEnd::Unrun(error),
            }),
        }
    }
    Ok(report::plan::ran(&PlanRunReport {
        runs,
        due: args.due,
        verbose: common.verbose,
    }))
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
        "`stillpoint job list` shows how far it is, and `stillpoint job cancel` stops it",
    )
}

fn run_now(places: &PlanPlaces, name: &PlanName, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
    let plan = places.folder.plan(name)?;
    let Some(_lock) = places.notes.lock(name)? else {
        return Err(runs_now(places, name).and_said("nothing was begun"));
    };
    let work = PlanWork::begin(places, &plan)?;
    let time = match work.case().asked_for() {
        DueOrAsked::Due(time) => Some(time),
        DueOrAsked::Asked => None,
    };
    work.run(time, steps)
}

fn run_if_due(places: &PlanPlaces, name: &PlanName, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
    let plan = places.folder.plan(name)?;
    let Some(_lock) = places.notes.lock(name)? else {
        return Ok(PlanRunEnd::RunsNow(runs_now(places, name).to_string()));
    };
    let mut work = PlanWork::begin(places, &plan)?;
    match work.case().decide() {
        Decision::Later(wait) => {
            // Whether it was held back decides what is owed when it goes on.
            let is_news = wait.reason == WaitReason::Suspended && !work.noted_suspended;
            if is_news {
                places.notes.write(name, &work.record)?;
            }
            Ok(PlanRunEnd::Waits(wait))
        }
        Decision::Now(due) => {
            if due.clock_was_ahead {
                work.said.push(
                    "what was noted before is of a clock that was ahead: it counts for nothing"
                        .into(),
                );
            }
            if due.missed > 0 {
                work.said.push(format!(
                    "{} earlier times have passed without a snapshot: this one is for all of them",
                    due.missed
                ));
            }
            work.run(Some(due.time), steps)
        }
    }
}

/// A run of a plan.
struct PlanWork<'a> {
    places: &'a PlanPlaces,
    plan: &'a SnapshotPlan,
    clock: HostClock,
    record: PlanRecord,
    /// Whether the note says that it was held back.
    noted_suspended: bool,
    /// What is to be told of it.
    said: Vec<String>,
}

impl<'a> PlanWork<'a> {
    fn begin(places: &'a PlanPlaces, plan: &'a SnapshotPlan) -> Result<Self> {
        let mut said = Vec::new();
        let noted = places.notes.noted(&plan.name);
        let noted_suspended = matches!(&noted, Ok(Some(record)) if record.suspended);
        let record = match noted {
            Ok(Some(record)) => record.for_plan(plan, places.now),
            Ok(None) => PlanRecord::new(plan, places.now),
            // Who cannot tell what was done does it once more.
            Err(error) => {
                said.push(format!("{error}: it is written anew"));
                PlanRecord::new(plan, places.now)
            }
        };
        Ok(Self {
            places,
            plan,
            clock: HostClock::of(plan, &places.host),
            record,
            noted_suspended,
            said,
        })
    }

    fn case(&self) -> PlanCase<'_> {
        PlanCase {
            plan: self.plan,
            record: &self.record,
            clock: &self.clock,
            now: self.places.now,
        }
    }

    /// Takes the snapshot for `time`, if any is owed, and does what follows.
    fn run(mut self, time: Option<Timestamp>, steps: &StepRunner<'_>) -> Result<PlanRunEnd> {
        let before = self.record.last.as_ref();
        let before = before.filter(|last| last.time == time && time.is_some());
        let number = before.map_or(1, |last| last.number.saturating_add(1));
        let mut this = PlanTry {
            time,
            number,
            began: self.places.now,
            ended: None,
            outcome: None,
        };
        self.record.last = Some(this.clone());
        // A run that nobody could note would be begun again and again.
        self.note()?;
        let outcome = steps.run(words::snapshot(self.plan));
        this.ended = Some(Timestamp::now());
        this.outcome = Some(outcome.clone());
        let good = this.is_good();
        if good {
            self.record.served = time.or(self.record.served);
            self.record.last_good = Some(this.clone());
        }
        self.record.last = Some(this);
        self.note()?;
        let mut followed = Vec::new();
        if good {
            self.follow_up(steps, &mut followed)?;
        }
        let said = std::mem::take(&mut self.said);
        Ok(PlanRunEnd::Ran {
            time,
            number,
            snapshot: outcome,
            followed,
            said,
            next: self.next(),
        })
    }

    fn follow_up(
        &mut self,
        steps: &StepRunner<'_>,
        followed: &mut Vec<FollowedStep>,
    ) -> Result<()> {
        for follow_up in self.plan.follow_ups() {
            let Some(due) = self.case().follow_up(&follow_up) else {
                continue;
            };
            let Some(words) = words::follow_up(self.plan, follow_up.name) else {
                continue;
            };
            // What a signal has left out is tried after the next snapshot.
            signals::check()?;
            let before = self.record.steps.get(follow_up.name);
            let served = before.and_then(|step| step.served);
            let began = Timestamp::now();
            let outcome = steps.run(words);
            let served = match outcome.is_good() {
                true => due.0.or(served),
                false => served,
            };
            let step = PlanStep {
                served,
                began,
                outcome: outcome.clone(),
            };
            self.record.steps.insert(follow_up.name.to_owned(), step);
            self.note()?;
            followed.push(FollowedStep {
                name: follow_up.name,
                outcome,
            });
        }
        Ok(())
    }

    fn note(&self) -> Result<()> {
        self.places.notes.write(&self.plan.name, &self.record)
    }

    fn next(&self) -> Option<Timestamp> {
        let case = PlanCase {
            now: Timestamp::now(),
            ..self.case()
        };
        match case.decide() {
            Decision::Now(_) => Some(case.now),
            Decision::Later(wait) => wait.until,
        }
    }
}
