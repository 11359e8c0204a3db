//! `track`: noting what changes, without a snapshot.

use super::args::{Common, TrackAction, TrackArgs};
use super::outcome::Outcome;
use super::progress::Progress;
use crate::engine::Scene;
use crate::error::Result;
use crate::track::{TrackedDisk, TrackedStatus, Tracker};
use serde_json::{Value, json};
use std::fmt::Write;

pub fn run(args: &TrackArgs, common: &Common, _: &Progress) -> Result<Outcome> {
    super::need_root()?;
    let pins = common.places()?.pins;
    let scene = Scene::look()?;
    let disks = scene.resolve(&args.disks)?;
    let mut tracker = match args.action {
        TrackAction::Start => Some(Tracker::start(&pins)?.0),
        TrackAction::Stop | TrackAction::Status => Tracker::open(&pins)?,
    };
    match args.action {
        TrackAction::Start => {
            for disk in &disks {
                let disk = TrackedDisk {
                    dev: disk.dev(),
                    size: disk.identity.size,
                    diskseq: disk.identity.diskseq,
                };
                if let Some(tracker) = &mut tracker {
                    tracker.attach(&disk)?;
                }
            }
        }
        TrackAction::Stop if disks.is_empty() => {
            if let Some(tracker) = tracker.take() {
                tracker.stop()?;
            }
        }
        TrackAction::Stop => {
            for disk in &disks {
                if let Some(tracker) = &mut tracker {
                    tracker.detach(disk.dev())?;
                }
            }
        }
        TrackAction::Status => {}
    }
    let tracked = tracker
        .as_ref()
        .map(Tracker::disks)
        .transpose()?
        .unwrap_or_default();
    let mut text = String::new();
    let mut documents: Vec<Value> = Vec::new();
    for status in &tracked {
        let (name, document) = describe(&scene, status);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name}: epoch {}, one mark for {}, {} of kernel memory",
            status.epoch.0, status.grain, status.memory
        );
        documents.push(document);
    }
    let _ = write!(text, "{} disks are tracked", tracked.len());
    Ok(Outcome::done(json!({"tracked": documents}), text))
}

fn describe(scene: &Scene, status: &TrackedStatus) -> (String, Value) {
    let name = scene.topology.disk(status.disk.dev).map_or_else(
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
