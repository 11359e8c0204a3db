//! Which places of a disk differ between two snapshots.

use super::Report;
use super::text::counted;
use crate::model::{Bytes, Extent, SnapshotId};
use crate::restore::TablePartition;
use serde_json::json;
use std::fmt::Write;

/// Most places that are printed for people.
const SHOWN: usize = 50;

/// What differs between a disk of an older snapshot and that of a newer one.
pub struct Difference {
    /// The older one.
    pub from: SnapshotId,
    /// The newer one.
    pub to: SnapshotId,
    /// The places that differ.
    pub places: Vec<Extent>,
    /// The partitions of the newer one, as far as its table can be read.
    pub partitions: Vec<TablePartition>,
}

/// What `diff` reports. A map, where one was drawn, stands in place of the list for people.
pub fn report(difference: &Difference, map: Option<String>) -> Report {
    let Difference {
        from,
        to,
        places,
        partitions,
    } = difference;
    let sum = Bytes(places.iter().map(|place| place.length.0).sum());
    let mut text = map.unwrap_or_else(|| listed_places(places, partitions));
    for (partition, count, bytes) in each(places, partitions) {
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
    let by_partition: Vec<_> = each(places, partitions)
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
        "from": from.to_string(),
        "to": to.to_string(),
        "changed_bytes": sum,
        "ranges": ranges,
        "partitions": by_partition,
    });
    Report::done(json, text)
}

/// The first places, by their bytes, each with the partition in which it begins.
fn listed_places(places: &[Extent], partitions: &[TablePartition]) -> String {
    let mut text = String::new();
    for place in places.iter().take(SHOWN) {
        let begins_in =
            |one: &&TablePartition| (one.place.offset..one.place.end()).contains(&place.offset);
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
    partitions: &'a [TablePartition],
) -> impl Iterator<Item = (&'a TablePartition, usize, Bytes)> {
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
