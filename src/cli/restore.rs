//! `restore`: a disk comes back.

use super::args::{Common, FormatArg, RestoreArgs};
use super::exit::DAMAGED;
use super::outcome::Outcome;
use super::progress::Progress;
use crate::engine::{RestoreOptions, restore};
use crate::error::{Error, ErrorKind, Result};
use serde_json::json;
use std::fmt::Write;
use std::time::Instant;

pub fn run(args: &RestoreArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    if matches!(args.format, FormatArg::Qcow2) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this version restores to block devices and raw files only; nothing was written",
        )
        .with_hint("restore to a raw file, then: qemu-img convert -O qcow2 FILE.raw FILE.qcow2"));
    }
    let vault = super::open_vault(common)?;
    let manifest = vault.manifest(&super::find(&vault, &args.id)?)?;
    let begun = Instant::now();
    let options = RestoreOptions {
        disk: args.disk.clone(),
        target: args.target.clone(),
        force: args.force,
        keep_going: args.keep_going,
        workers: super::workers(),
    };
    let (disk, report) = restore(&vault, &manifest, &options, progress)?;
    let target = args.target.display();
    let json = json!({
        "snapshot": manifest.snapshot.to_string(),
        "host": manifest.host,
        "disk": disk.identity.name,
        "target": target.to_string(),
        "size_bytes": disk.identity.size,
        "data_bytes": report.data,
        "hole_bytes": report.holes,
        "damaged_bytes": report.damaged_bytes,
        "damaged": report.damaged.iter().map(|damage| json!({
            "offset": damage.place.offset,
            "length": damage.place.length,
            "what": damage.what,
        })).collect::<Vec<_>>(),
    });
    let mut text = String::new();
    for damage in &report.damaged {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "lost: bytes {}: {}", damage.place, damage.what);
    }
    let _ = write!(
        text,
        "restored {} of {} (host {}) to {target}: {} of data, {} of holes, in {:.1} s",
        disk.identity.name,
        manifest.snapshot,
        manifest.host,
        report.data,
        report.holes,
        begun.elapsed().as_secs_f64()
    );
    let mut outcome = Outcome::done(json, text);
    if report.damaged_bytes.0 > 0 {
        let _ = write!(
            outcome.text,
            "; {} could not be restored",
            report.damaged_bytes
        );
        outcome.code = DAMAGED;
    }
    Ok(outcome)
}
