//! `track`: noting what changes, without a snapshot.

use super::args::{Common, TrackAction, TrackArgs};
use super::context;
use super::outcome::Outcome;
use super::progress::Progress;
use crate::device::HostLayout;
use crate::engine::{start_tracking, stop_tracking};
use crate::error::Result;
use crate::track::{TrackedStatus, Tracker};
use serde_json::{Value, json};
use std::fmt::Write;

pub fn run(args: &TrackArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
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
    let mut text = stopped(&layout, &before, &tracked);
    let mut documents: Vec<Value> = Vec::new();
    for status in &tracked {
        let (name, document) = describe(&layout, status);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name}: epoch {}, one mark for {}, {} of kernel memory",
            status.epoch.0, status.grain, status.memory
        );
        documents.push(document);
    }
    let _ = match tracked.len() {
        1 => write!(text, "1 disk is tracked"),
        count => write!(text, "{count} disks are tracked"),
    };
    Ok(Outcome::done(json!({"tracked": documents}), text))
}

fn tracked(tracker: Option<&Tracker>) -> Result<Vec<TrackedStatus>> {
    tracker.map_or(Ok(Vec::new()), Tracker::disks)
}

/// Which disks are tracked no more, a line each.
fn stopped(layout: &HostLayout, before: &[TrackedStatus], now: &[TrackedStatus]) -> String {
    let is_tracked = |one: &&TrackedStatus| now.iter().any(|now| now.disk.dev == one.disk.dev);
    let gone = before.iter().filter(|one| !is_tracked(one));
    let line = |one: &TrackedStatus| {
        let name = describe(layout, one).0;
        format!("{name}: tracked no more; its next snapshot cannot be incremental\n")
    };
    gone.map(line).collect()
}

fn describe(layout: &HostLayout, status: &TrackedStatus) -> (String, Value) {
    let name = layout.topology.disk(status.disk.dev).map_or_else(
        || status.disk.dev.to_string(),
        |disk| disk.name().to_owned(),
    );
    let document = json!({
        "disk": name,
        "epoch": status.epoch,
        "grain_bytes": status.grain,
        "memory_bytes": status.memory,
        "voids": status.voids,
    });
    (name, document)
}
