//! `diff`: which places of a disk differ between two snapshots.

use super::args::{Common, DiffArgs};
use super::outcome::Outcome;
use super::pick::pick;
use super::progress::Progress;
use crate::engine::diff;
use crate::error::Result;
use crate::model::Bytes;
use serde_json::json;
use std::fmt::Write;

/// Most places that are printed for people.
const SHOWN: usize = 50;

pub fn run(args: &DiffArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    let vault = super::open_vault(common)?;
    let disk = args.disk.as_deref();
    let find = |text: &str| vault.manifest(&super::find(&vault, text, disk.as_slice(), progress)?);
    let (one, two) = (find(&args.one)?, find(&args.two)?);
    let (from, to) = (pick(&vault, &one, disk)?, pick(&vault, &two, disk)?);
    let places = diff(&vault, from, to, progress)?;
    let sum = Bytes(places.iter().map(|place| place.length.0).sum());
    let mut text = String::new();
    for place in places.iter().take(SHOWN) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:>16} {}", place.offset.0, place.length);
    }
    if places.len() > SHOWN {
        let _ = writeln!(
            text,
            "... and {} more; --json has all",
            places.len() - SHOWN
        );
    }
    let _ = write!(text, "{} places differ, {sum} in all", places.len());
    let ranges: Vec<_> = places
        .iter()
        .map(|place| json!({"offset": place.offset, "length": place.length}))
        .collect();
    let json = json!({
        "from": one.snapshot.to_string(),
        "to": two.snapshot.to_string(),
        "changed_bytes": sum,
        "ranges": ranges,
    });
    Ok(Outcome::done(json, text))
}
