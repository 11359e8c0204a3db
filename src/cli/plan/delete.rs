//! `plan delete`: the plan goes, and what it has taken stays.

use super::super::args::{Common, PlanNameArgs};
use super::super::context;
use super::places::PlanPlaces;
use super::run::runs_now;
use crate::error::Result;
use crate::plan::PlanName;
use crate::report::{self, Report};

pub fn run(args: &PlanNameArgs, common: &Common) -> Result<Report> {
    context::need_root_to("delete plans")?;
    let places = PlanPlaces::of(common);
    let name: PlanName = args.name.parse()?;
    // One that cannot be understood can be deleted too.
    places.folder.settings_path(&name)?;
    let Some(_lock) = places.notes.lock(&name)? else {
        return Err(runs_now(&places, &name).and_said("nothing was deleted"));
    };
    places.folder.remove(&name)?;
    let mut report = report::plan::deleted(&name);
    if let Err(error) = places.notes.forget(&name) {
        report.warn(&error.to_string());
    }
    Ok(report)
}
