//! The disks that are tracked.

use super::Report;
use crate::device::HostLayout;
use crate::track::TrackedStatus;
use serde_json::{Value, json};
use std::fmt::Write;

/// What `track` reports: the disks that are tracked now, and those of `before` that are no longer.
pub fn report(layout: &HostLayout, before: &[TrackedStatus], tracked: &[TrackedStatus]) -> Report {
    let mut text = stopped(layout, before, tracked);
    let mut documents: Vec<Value> = Vec::new();
    for status in tracked {
        let (name, document) = describe(layout, status);
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
    Report::done(json!({"tracked": documents}), text)
}

/// The disks that are no longer tracked, a line each.
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
