//! `diff`: which places of a disk differ between two snapshots.

use super::args::{Common, DiffArgs};
use super::context;
use super::find::{find_disk, find_snapshot};
use super::outcome::{Outcome, counted};
use super::progress::Progress;
use crate::engine::{diff, partitions_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::{Bytes, Extent};
use crate::restore::Partition;
use crate::store::{Dated, History};
use jiff::Timestamp;
use serde_json::json;
use std::fmt::Write;

/// Most places that are printed for people.
const SHOWN: usize = 50;

pub fn run(args: &DiffArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    let vault = context::open_vault(common)?;
    let disk = args.disk.as_deref();
    let find = |text: &str| -> Result<(Dated, Manifest)> {
        let found = find_snapshot(&vault, text, disk.as_slice(), progress)?;
        let manifest = vault.manifest(&found)?;
        Ok((Dated::new(&found, &manifest), manifest))
    };
    let ((older, one), (newer, two)) = (find(&args.one)?, find(&args.two)?);
    if one.host == two.host {
        refuse_backwards(older, newer)?;
    }
    let (from, to) = (
        find_disk(&vault, &one, disk)?,
        find_disk(&vault, &two, disk)?,
    );
    let places = diff(&vault, from, to, progress)?;
    // What cannot be read is no partition of anybody's.
    let partitions = partitions_of(&vault, to, progress).unwrap_or_default();
    let sum = Bytes(places.iter().map(|place| place.length.0).sum());
    let mut text = listed_places(&places, &partitions);
    for (partition, count, bytes) in each(&places, &partitions) {
        let (number, count) = (partition.number, counted(count, "place"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "partition {number}: {count}, {bytes}");
    }
    let differ = if places.len() == 1 {
        "differs"
    } else {
        "differ"
    };
    let count = counted(places.len(), "place");
    let _ = write!(text, "{count} {differ}, {sum} in all");
    let ranges: Vec<_> = places
        .iter()
        .map(|place| json!({"offset": place.offset, "length": place.length}))
        .collect();
    let partitions: Vec<_> = each(&places, &partitions)
        .map(|(partition, count, bytes)| {
            json!({
                "partition": partition.number,
                "offset": partition.place.offset,
                "length": partition.place.length,
                "places": count,
                "changed_bytes": bytes,
            })
        })
        .collect();
    let json = json!({
        "from": one.snapshot.to_string(),
        "to": two.snapshot.to_string(),
        "changed_bytes": sum,
        "ranges": ranges,
        "partitions": partitions,
    });
    Ok(Outcome::done(json, text))
}

/// What changed is told from the older to the newer one.
fn refuse_backwards(one: Dated, two: Dated) -> Result<()> {
    let (first, second) = (one.snapshot.id, two.snapshot.id);
    let order = History::of(vec![one, two], Timestamp::now()).order;
    if order.first().is_none_or(|oldest| oldest.id == first) {
        return Ok(());
    }
    let message = format!("{first} is newer than {second}");
    let hint = format!("the older one comes first: stillpoint diff {second} {first}");
    Err(Error::new(ErrorKind::Usage, message).with_hint(hint))
}

/// The first places, by their bytes, each with the partition in which it begins.
fn listed_places(places: &[Extent], partitions: &[Partition]) -> String {
    let mut text = String::new();
    for place in places.iter().take(SHOWN) {
        let begins_in =
            |one: &&Partition| (one.place.offset..one.place.end()).contains(&place.offset);
        let partition = partitions.iter().find(begins_in);
        let partition = partition.map(|one| format!(", in partition {}", one.number));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "bytes {place}{}", partition.unwrap_or_default());
    }
    if places.len() > SHOWN {
        let more = places.len() - SHOWN;
        let _ = writeln!(text, "... and {more} more; --json has all");
    }
    text
}

/// Each partition in which something differs, in how many places, and how much.
fn each<'a>(
    places: &'a [Extent],
    partitions: &'a [Partition],
) -> impl Iterator<Item = (&'a Partition, usize, Bytes)> {
    partitions.iter().filter_map(|partition| {
        let inside = |place: &Extent| {
            let from = place.offset.max(partition.place.offset);
            let to = place.end().min(partition.place.end());
            to.0.checked_sub(from.0).filter(|length| *length > 0)
        };
        let inside = places.iter().filter_map(inside);
        let (count, bytes) = inside.fold((0, 0), |(count, sum), next| (count + 1, sum + next));
        (count > 0).then_some((partition, count, Bytes(bytes)))
    })
}
