//! `plan show`: all of a plan.

use super::super::args::{Common, PlanNameArgs};
use super::look::look;
use super::places::PlanPlaces;
use crate::error::Result;
use crate::report::{self, Report};

pub fn run(args: &PlanNameArgs, common: &Common) -> Result<Report> {
    let places = PlanPlaces::of(common);
    let seen = look(&places, &args.name.parse()?, common)?;
    Ok(report::plan::show(&seen))
}
