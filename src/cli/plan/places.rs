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
    /// A label for this machine, which no other has.
    pub machine: String,
    pub now: Timestamp,
}

impl PlanPlaces {
    pub fn of(common: &Common) -> Self {
        let place = common.config_place();
        Self {
            folder: PlanFolder::within(place.folder()),
            notes: PlanNotes::at(common.plan_notes.clone()),
            host: format!("{} {}", host_name(), machine_uuid().unwrap_or_default()),
            machine: machine(),
            now: Timestamp::now(),
        }
    }
}

/// What tells this machine from copies of its image, and from others of its name: made of the IDs
/// of its installation and its firmware. Empty where it has neither.
fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let uuid = machine_uuid().unwrap_or_default();
    if id.trim().is_empty() && uuid.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    for part in [id.trim(), &uuid] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let hash = hasher.finalize().to_hex();
    hash.as_str().chars().take(16).collect()
}
