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

    /// After a plan's file was written: one from after now would say nothing of when that was, and
    /// times of before would be owed.
    pub fn look_at_the_clock(&mut self) {
        self.now = Timestamp::now();
    }
}

/// What tells this machine from copies of its image, and from others of its name: made of the IDs
/// of its installation and its firmware. Empty where it has neither.
fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    label(id.trim(), &machine_uuid().unwrap_or_default())
}

/// Before the first boot an image says "uninitialized", as all its copies do (machine-id(5)).
fn label(id: &str, uuid: &str) -> String {
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = if is_id { id } else { "" };
    if id.is_empty() && uuid.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new();
    for part in [id, uuid] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let hash = hasher.finalize().to_hex();
    hash.as_str().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_label_of_its_own_or_none() {
        let (one, other) = ("0123456789abcdef0123456789abcdef", "4c4c4544-0031");
        let labels = [label(one, ""), label(one, other), label("", other)];
        for (at, made) in labels.iter().enumerate() {
            assert_eq!(made.len(), 16, "{made}");
            assert!(labels[at + 1..].iter().all(|next| next != made));
        }
        for no_id in [
            "",
            "uninitialized",
            "0123",
            "x123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(label(no_id, ""), "");
            assert_eq!(label(no_id, other), labels[2]);
        }
    }
}
