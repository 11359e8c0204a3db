//! Where the plans of a host are, which host this is to them, and what time it is.

use super::super::args::Common;
use crate::plan::{PlanFolder, PlanNotes};
use crate::sys::machine::{host_name, machine_uuid};
use jiff::Timestamp;

/// What all commands on plans need.
pub struct PlanPlaces {
    pub folder: PlanFolder,
    pub notes: PlanNotes,
    /// What tells this host from others that have the same plans.
    pub host: String,
    pub now: Timestamp,
}

impl PlanPlaces {
    pub fn of(common: &Common) -> Self {
        let place = common.config_place();
        Self {
            folder: PlanFolder::within(place.folder()),
            notes: PlanNotes::at(common.plan_notes.clone()),
            host: format!("{} {}", host_name(), machine_uuid().unwrap_or_default()),
            now: Timestamp::now(),
        }
    }
}
