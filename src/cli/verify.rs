//! `verify`: whether what the vault holds is whole.

use super::args::{Common, VerifyArgs};
use super::exit::DAMAGED;
use super::outcome::{Outcome, counted, listed};
use super::progress::Progress;
use crate::engine::{VerifyOptions, VerifyReport, verify};
use crate::error::Result;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Most bytes of the list of what is damaged.
const MOST_DAMAGE: usize = 9000;

pub fn run(args: &VerifyArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    if args.against_disk {
        return super::against::run(args, common, progress);
    }
    let vault = super::open_vault(common)?;
    let snapshots = if args.all {
        vault.snapshots()?
    } else {
        args.ids
            .iter()
            .map(|id| super::find(&vault, id, &[], progress))
            .collect::<Result<Vec<_>>>()?
    };
    let options = VerifyOptions {
        sample: args.sample,
        workers: super::workers(),
    };
    let report = verify(&vault, &snapshots, &options, progress)?;
    let damaged: BTreeSet<_> = report.broken.iter().map(|broken| broken.snapshot).collect();
    let text = describe(&report, damaged.len());
    let json = json!({
        "snapshots": report.snapshots,
        "segments": report.segments,
        "read_bytes": report.bytes,
        "unread_segments": report.unread,
        "damaged": report.broken.iter().map(|broken| json!({
            "snapshot": broken.snapshot.to_string(),
            "disk": broken.disk,
            "what": broken.what,
            "lost_bytes": broken.lost,
            "ranges": broken.places.iter().map(|place| json!({
                "offset": place.offset, "length": place.length,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    let mut outcome = Outcome::done(json, text);
    super::doubtful::warn(&vault, &snapshots, &mut outcome)?;
    if !damaged.is_empty() {
        outcome.code = DAMAGED;
    }
    Ok(outcome)
}

/// What is damaged, and the verdict.
fn describe(report: &VerifyReport, damaged: usize) -> String {
    let lines = report.broken.iter().flat_map(|broken| {
        let disk = broken.disk.as_deref();
        let disk = disk.map(|disk| format!(", {disk}")).unwrap_or_default();
        let places = broken.places.iter();
        let places = places.map(|place| format!("  cannot be restored: bytes {place}"));
        let head = format!("damaged: {}{disk}: {}", broken.snapshot, broken.what);
        std::iter::once(head).chain(places)
    });
    let mut text = listed(lines, MOST_DAMAGE, "--json tells all");
    let snapshots = counted(report.snapshots, "snapshot");
    let segments = counted(report.segments, "segment");
    // Writing to a string cannot fail.
    let _ = match (damaged, report.unread > 0) {
        (0, true) => write!(
            text,
            "nothing damaged was seen in {snapshots}, but of the data only a sample was read: \
             {segments}, {}",
            report.bytes
        ),
        (0, false) => write!(
            text,
            "all is whole: {snapshots}, {segments}, {} read",
            report.bytes
        ),
        (count, sampled) => write!(
            text,
            "of a damaged one `restore --keep-going` gets what is not lost; take the next with \
             `snapshot --full`, as others build on what is damaged\n{count} of {snapshots} \
             damaged{}",
            match (sampled, count < report.snapshots) {
                (true, _) => ", and of the data only a sample was read",
                (false, true) => "; the others are whole",
                (false, false) => "",
            }
        ),
    };
    text
}
