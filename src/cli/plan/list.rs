//! `plan list`: the plans of this host, and how they stand.

use super::super::args::Common;
use super::look::{PlansFound, look_at_all};
use super::places::PlanPlaces;
use crate::error::Result;
use crate::report::{self, Report};

pub fn run(common: &Common) -> Result<Report> {
    let places = PlanPlaces::of(common);
    let PlansFound { seen, unread } = look_at_all(&places, common)?;
    Ok(report::plan::list(&seen, &unread, places.folder.path()))
}
