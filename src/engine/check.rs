//! `check`: tries the place of a vault, and says on which disks of this host it lies.

use super::places::Places;
use super::snapshot::VaultPlace;
use crate::device::HostLayout;
use crate::error::Result;
use crate::store::{self, CheckOptions, CheckRow, Location, RowState, StoreCheck};
use crate::track::Tracker;

const OWN_DISK: &str = "put the vault on a disk of its own: on one of a snapshot it would be lost \
                        with it";

/// Tries a place.
///
/// # Errors
/// It was stopped, or the place cannot be looked at at all.
pub fn check(place: &Location, places: &Places, options: CheckOptions) -> Result<StoreCheck> {
    let mut found = store::check(place, options)?;
    if let Some(path) = place.path() {
        let row = HostLayout::scan_mounts().and_then(|layout| {
            let lies = VaultPlace::of_directory(path, &layout)?;
            Ok(lies_on(&lies, &layout, places))
        });
        found.rows.push(row.unwrap_or_else(|error| CheckRow {
            name: "disk",
            state: RowState::Unknown,
            found: error.to_string(),
            remedy: error.hint().map(str::to_owned),
        }));
    }
    Ok(found)
}

/// What it means that a vault lies on these disks.
fn lies_on(lies: &VaultPlace, layout: &HostLayout, places: &Places) -> CheckRow {
    let row = |state, found: String| CheckRow {
        name: "disk",
        state,
        found,
        remedy: (state != RowState::Good).then(|| OWN_DISK.to_owned()),
    };
    if let Some(doubt) = &lies.doubt {
        return row(RowState::Warning, doubt.clone());
    }
    let disks = lies.disks.iter();
    let disks = disks.filter_map(|dev| layout.topology.disk(*dev));
    let names: Vec<&str> = disks.map(|disk| disk.name()).collect();
    let names = names.join(", ");
    if names.is_empty() {
        return row(RowState::Good, "it lies on no disk of this host".to_owned());
    }
    // Without root nobody may ask.
    let tracker = Tracker::open(&places.pins).ok().flatten();
    let tracked = tracker.and_then(|tracker| tracker.disks().ok());
    let tracked = tracked.unwrap_or_default();
    if tracked.iter().any(|one| lies.disks.contains(&one.disk.dev)) {
        let what = format!("it lies on {names}, of which snapshots are taken");
        return row(RowState::Warning, what);
    }
    let what = format!("it lies on {names}, of which no snapshot can be stored there");
    row(RowState::Good, what)
}
