//! `track`: starts, stops and shows the tracking of changed blocks.

use super::args::{Common, TrackAction, TrackArgs};
use super::context;
use super::progress::ProgressDisplay;
use crate::device::HostLayout;
use crate::engine::{start_tracking, stop_tracking};
use crate::error::Result;
use crate::report::{self, Report};
use crate::track::{TrackedStatus, Tracker};

pub fn run(args: &TrackArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    context::need_root()?;
    let places = common.places()?;
    let layout = HostLayout::scan()?;
    let disks = layout.resolve(&args.disks)?;
    let before = match args.action {
        TrackAction::Start => {
            start_tracking(&disks, &places, progress)?;
            Vec::new()
        }
        TrackAction::Stop => stop_tracking(&disks, &places)?,
        TrackAction::Status => Vec::new(),
    };
    let tracker = Tracker::open(&places.pins)?;
    let tracked = tracked(tracker.as_ref())?;
    Ok(report::track::report(&layout, &before, &tracked))
}

fn tracked(tracker: Option<&Tracker>) -> Result<Vec<TrackedStatus>> {
    tracker.map_or(Ok(Vec::new()), Tracker::disks)
}
