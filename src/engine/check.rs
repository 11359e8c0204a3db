//! `check`: tries the place of a vault, and says on which disks of this host it lies.

use super::places::Places;
use super::snapshot::VaultPlace;
use crate::device::HostLayout;
use crate::error::{ErrorKind, Result};
use crate::store::{self, CheckOptions, CheckRow, Location, RowState, StoreCheck};
use crate::track::Tracker;
use std::path::Path;

const OWN_DISK: &str = "put the vault on a disk of its own: on one of a snapshot it would be lost \
                        with it";

/// Tries a place.
///
/// # Errors
/// It was stopped, or the place cannot be looked at at all.
pub fn check(place: &Location, places: &Places, options: CheckOptions) -> Result<StoreCheck> {
    let mut found = store::check(place, options)?;
    if let Some(path) = place.path() {
        match disk_of(path, places, options) {
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => {
                return Err(found.stopped(error));
            }
            row => found.rows.push(row.unwrap_or_else(|error| CheckRow {
                name: "disk",
                state: RowState::Unknown,
                found: error.to_string(),
                remedy: error.hint().map(str::to_owned),
            })),
        }
    }
    Ok(found)
}

/// On which disks a directory lies; it may hang.
fn disk_of(path: &Path, places: &Places, options: CheckOptions) -> Result<CheckRow> {
    let (at, places) = (path.to_owned(), places.clone());
    options.within(&path.display().to_string(), move || {
        let layout = HostLayout::scan_mounts()?;
        let lies = VaultPlace::of_directory(&at, &layout)?;
        Ok(lies_on(&lies, &layout, &places))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::track::PinDir;
    use std::time::Duration;

    /// Opening a pipe waits for another to write to it.
    #[test]
    fn a_path_that_hangs_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let options = CheckOptions {
            small: Duration::from_secs(3),
            ..CheckOptions::until(|| Ok(()))
        };
        let places = Places {
            run_dir: folder.path().into(),
            pins: PinDir::default(),
            notes: folder.path().into(),
            program: pipe.clone(),
        };
        let error = disk_of(&pipe, &places, options).unwrap_err();
        // The thread goes on.
        let opened = std::fs::OpenOptions::new().write(true).open(&pipe);
        assert!(error.to_string().contains("did not answer"), "{error}");
        drop(opened);
    }
}
