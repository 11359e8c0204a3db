//! `verify`: whether what the vault holds is whole.

use super::args::{Common, VerifyArgs};
use super::exit::DAMAGED;
use super::outcome::Outcome;
use super::progress::Progress;
use crate::engine::{VerifyOptions, verify};
use crate::error::Result;
use serde_json::json;
use std::fmt::Write;

pub fn run(args: &VerifyArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    let vault = super::open_vault(common)?;
    let snapshots = if args.all {
        vault.snapshots()?
    } else {
        args.ids
            .iter()
            .map(|id| super::find(&vault, id))
            .collect::<Result<Vec<_>>>()?
    };
    let options = VerifyOptions {
        sample: args.sample,
        workers: super::workers(),
    };
    let report = verify(&vault, &snapshots, &options, progress)?;
    let mut text = String::new();
    for broken in &report.broken {
        let disk = broken
            .disk
            .as_deref()
            .map(|disk| format!(", {disk}"))
            .unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "damaged: {}{disk}: {}", broken.snapshot, broken.what);
        for place in &broken.places {
            let _ = writeln!(text, "  cannot be restored: bytes {place}");
        }
    }
    let damaged: std::collections::BTreeSet<_> =
        report.broken.iter().map(|broken| broken.snapshot).collect();
    let _ = match damaged.len() {
        0 => write!(
            text,
            "{} snapshots are whole: {} segments, {} read",
            report.snapshots, report.segments, report.bytes
        ),
        count => write!(
            text,
            "{count} of {} snapshots are damaged; the others are whole, and of these \
             `restore --keep-going` gets what is not lost",
            report.snapshots
        ),
    };
    let json = json!({
        "snapshots": report.snapshots,
        "segments": report.segments,
        "read_bytes": report.bytes,
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
    if !damaged.is_empty() {
        outcome.code = DAMAGED;
    }
    Ok(outcome)
}
