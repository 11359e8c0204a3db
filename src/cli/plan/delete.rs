//! `plan delete`: the plan goes, and what it has taken stays. Where it stopped half-way, it
//! goes on.

use super::super::args::{Common, PlanNameArgs};
use super::super::context;
use super::places::PlanPlaces;
use super::run::runs_now;
use super::systemd::Systemd;
use crate::error::{ErrorKind, Result};
use crate::notify::NotifyPlaces;
use crate::plan::{PlanId, PlanName};
use crate::report::{self, Report};
use crate::sys::machine::host_name;

pub fn run(args: &PlanNameArgs, common: &Common) -> Result<Report> {
    context::need_root_to("delete plans")?;
    let places = PlanPlaces::of(common);
    let name: PlanName = args.name.parse()?;
    // One that cannot be understood can be deleted too, and one whose file is gone.
    let file = places.folder.settings_path(&name);
    let noted = places.notes.names().contains(&name);
    let Some(_lock) = places.notes.lock(&name)? else {
        return Err(runs_now(&places, &name).and_said("nothing was deleted"));
    };
    let id = id_of(&places, &name);
    // What starts it first: else a timer of a plan that is gone would fail for ever.
    let units = Systemd::here(common).map_or(Ok(false), |systemd| systemd.remove(&name));
    let was_there = noted || !matches!(units, Ok(false));
    match file {
        Ok(_) => places.folder.remove(&name)?,
        Err(error) if error.kind() == ErrorKind::NotFound && was_there => {}
        Err(error) => return Err(error),
    }
    let mut report = report::plan::deleted(&name, &host_name(), id.as_ref());
    let told = NotifyPlaces {
        notes: common.plan_notes.clone(),
        run_dir: common.run_dir.clone(),
    };
    // What cannot be forgotten now the next look forgets.
    let _ = told.forget(name.as_str(), places.now);
    for error in [units.err(), places.notes.forget(&name).err()]
        .into_iter()
        .flatten()
    {
        let hint = error
            .hint()
            .map_or(String::new(), |hint| format!(" ({hint})"));
        report.warn(&format!("{error}{hint}"));
    }
    Ok(report)
}

/// What its snapshots bear, as far as that is known.
fn id_of(places: &PlanPlaces, name: &PlanName) -> Option<PlanId> {
    let plan = places.folder.plan(name).ok();
    let noted = || places.notes.noted(name).ok().flatten()?.id;
    plan.and_then(|plan| plan.id).or_else(noted)
}
