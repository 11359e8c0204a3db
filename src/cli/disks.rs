//! `disks`: what there is to snapshot here.

use super::args::Common;
use super::context;
use crate::device::{Disk, HostLayout};
use crate::engine::{Silent, find_parents};
use crate::error::Result;
use crate::model::{DevNumber, SnapshotId};
use crate::report::Report;
use crate::report::disks::{HostDisks, report};
use crate::sys::machine::host_name;
use crate::track::Tracker;
use std::collections::HashMap;

pub fn run(common: &Common) -> Result<Report> {
    let layout = HostLayout::scan()?;
    let tracked = match Tracker::open(&common.places()?.pins) {
        Ok(Some(tracker)) => tracker.disks().unwrap_or_default(),
        // Without root or BPF there is no tracking to show.
        Ok(None) | Err(_) => Vec::new(),
    };
    // The disks are listed even if the vault cannot be read.
    let (last, unknown) = match last_snapshots(common, &layout) {
        Ok(last) => (last, None),
        Err(error) => (HashMap::new(), Some(error)),
    };
    Ok(report(HostDisks {
        layout,
        tracked,
        last,
        unknown,
    }))
}

/// The newest snapshot of each disk, which the next one would build on. Empty without a vault.
fn last_snapshots(common: &Common, layout: &HostLayout) -> Result<HashMap<DevNumber, SnapshotId>> {
    if !context::has_vault(common) {
        return Ok(HashMap::new());
    }
    let vault = context::open_vault(common)?;
    let known = vault.snapshots_of(&host_name())?;
    let disks: Vec<Disk> = layout.topology.disks().cloned().collect();
    let found = find_parents(&vault, &known, &layout.topology, &disks, &Silent)?;
    let found = disks.iter().zip(found);
    Ok(found
        .filter_map(|(disk, newest)| Some((disk.dev(), newest?.0)))
        .collect())
}
