//! What a vault holds, by snapshot, disk and host; what is free, and when it will be full.

mod document;

pub use document::HoldingsReport;

use super::Report;
use super::text::{cells, counted, listed, table_text};
use crate::engine::{Holding, SnapshotHolding, VaultHoldings};
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::model::{Bytes, clip};
use comfy_table::{Table, presets};
use document::document;

/// Most rows of a table.
const MOST_ROWS: usize = 20;
/// Most bytes of a name in the table of snapshots, of disks, and of hosts.
const MOST_NAMES: [usize; 3] = [12, 16, 36];
/// Characters of an ID in a table, at least and at most: as many as tell it from the others.
const LEAST_ID: usize = 12;
const MOST_ID: usize = 26;
/// Beside longer ones no name of a host has room.
const SHORT_ID: usize = 16;
/// Most bytes of each list of lines.
const MOST_LINES: usize = 2500;
/// Most lines of each list of what could not be read, and of who works here.
const MOST_TOLD: usize = 10;
/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists all";

/// What `info` reports.
pub fn report(info: &HoldingsReport<'_>) -> Report {
    let (found, json) = (info.found, document(info));
    let below = found.unread_snapshots() > 0 || json["left_out"] != 0;
    let mut report = Report::done(json, text(info)).below(below);
    if found.has_damage {
        report.code = DAMAGED;
    }
    report
}

/// Four cells.
fn figures(holding: &Holding) -> [String; 4] {
    let Holding {
        logical,
        stored,
        unique,
        freed,
    } = holding;
    [logical, stored, unique, freed].map(Bytes::to_string)
}

const FIGURES: [&str; 4] = ["LOGICAL", "STORED", "UNIQUE", "FREED"];

/// A table of the first rows, and how many more there are.
fn table<T>(head: &[&str], all: &[T], row: &dyn Fn(&T) -> Vec<String>) -> String {
    if all.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let head = head.iter().chain(&FIGURES);
    table.set_header(head.copied());
    for one in all.iter().take(MOST_ROWS) {
        let cells: Vec<String> = row(one)
            .iter()
            .flat_map(|cell| cells([cell.clone()]))
            .collect();
        table.add_row(cells);
    }
    let more = match all.len().checked_sub(MOST_ROWS) {
        Some(more) if more > 0 => format!("... and {more} more: {LISTS_ALL}\n"),
        _ => String::new(),
    };
    format!("{}\n{more}", table_text(&table))
}

/// A name of so many bytes at most: of a long one both ends, as many names of hosts begin alike.
fn name(text: &str, most: usize) -> String {
    let text = one_line(text);
    if text.len() <= most {
        return text.into();
    }
    let end = (most - '…'.len_utf8()).div_ceil(2);
    let begin = clip(&text, most - end);
    let from = (text.len() - end..).find(|&from| text.is_char_boundary(from));
    format!(
        "{begin}{}",
        from.and_then(|from| text.get(from..)).unwrap_or_default()
    )
}

/// The first lines, and how many more there are.
fn first_of(lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST_TOLD);
    let mut first: Vec<String> = lines.into_iter().take(MOST_TOLD).collect();
    if more > 0 {
        first.push(format!("... and {more} more lines like these: {LISTS_ALL}"));
    }
    first
}

/// So many characters tell all IDs apart.
fn id_length(all: &[SnapshotHolding]) -> usize {
    let mut ids: Vec<String> = all.iter().map(|one| one.id.to_string()).collect();
    ids.sort_unstable();
    let pairs = ids.windows(2).filter_map(|two| match two {
        [one, other] => {
            let both = one.bytes().zip(other.bytes());
            Some(both.take_while(|(a, b)| a == b).count() + 1)
        }
        _ => None,
    });
    pairs.max().unwrap_or_default().clamp(LEAST_ID, MOST_ID)
}

fn tables(found: &VaultHoldings) -> String {
    let [of_snapshot, of_disk, of_host] = MOST_NAMES;
    let length = id_length(&found.snapshots);
    let has_room = length <= SHORT_ID;
    let head: &[&str] = match has_room {
        true => &["SNAPSHOT", "TIME (UTC)", "HOST"],
        false => &["SNAPSHOT", "TIME (UTC)"],
    };
    let snapshots = table(head, &found.snapshots, &|one| {
        let id: String = one.id.to_string().chars().take(length).collect();
        let time = one.time.strftime("%Y-%m-%d %H:%M:%S").to_string();
        let mut row = vec![id, time];
        row.extend(has_room.then(|| name(&one.host, of_snapshot)));
        row.extend(figures(&one.holding));
        row
    });
    let disks = table(&["DISK", "HOST", "SNAPSHOTS"], &found.disks, &|one| {
        let names = [&one.name, &one.host].map(|text| name(text, of_disk));
        let mut row: Vec<String> = names.into();
        row.push(one.snapshots.to_string());
        row.extend(figures(&one.holding));
        row
    });
    let hosts = table(&["HOST", "SNAPSHOTS"], &found.hosts, &|one| {
        let mut row = vec![name(&one.name, of_host), one.snapshots.to_string()];
        row.extend(figures(&one.holding));
        row
    });
    format!("{snapshots}{disks}{hosts}")
}

fn text(info: &HoldingsReport<'_>) -> String {
    let found = info.found;
    let mut text = tables(found);
    // Each with room of its own: none pushes another one out. What may be long comes last.
    let [missing, unread] = unread(found).map(first_of);
    let at_work = first_of(at_work(found));
    for lines in [
        room(found),
        beside(found),
        at_work,
        damage(found),
        missing,
        unread,
    ] {
        text.push_str(&listed(lines, MOST_LINES, LISTS_ALL));
    }
    text.push_str(&format!(
        "{} of {} in {}: {}, of which {} is needed",
        counted(found.snapshots.len() + found.unread_manifests, "snapshot"),
        counted(found.hosts.len(), "host"),
        one_line(info.location),
        found.bytes(),
        found.needed.all().bytes,
    ));
    text
}

/// What could not be read, one by one.
fn unread(found: &VaultHoldings) -> [Vec<String>; 2] {
    let unread = found.unread.iter();
    let unread = unread.map(|one| format!("not read: {}: {}", one.snapshot, one.why));
    let missing = found.missing.first.iter();
    let missing = missing
        .map(|name| format!("missing, or of an impossible length: {name}, which a snapshot needs"));
    [missing.collect(), unread.collect()]
}

/// What that means.
fn damage(found: &VaultHoldings) -> Vec<String> {
    let mut lines = Vec::new();
    if found.unread_snapshots() > 0 {
        lines.push(format!(
            "what {} is not known as a whole: what is told as unique, as freed or as needed by \
             none may be less",
            match found.unread_snapshots() {
                1 => "1 snapshot needs".to_owned(),
                count => format!("{count} snapshots need"),
            }
        ));
    }
    if found.has_damage {
        let missing = match found.missing.objects {
            0 => String::new(),
            count => format!(" ({} missing)", counted(count, "needed object")),
        };
        lines.push(format!(
            "the vault is damaged{missing}: `stillpoint verify --all --fast` says what is hit",
        ));
    }
    if found.side.damage_lists > 0 {
        lines.push(
            "damage was found here before: `stillpoint verify --all` says whether it is \
                    still there"
                .to_owned(),
        );
    }
    lines
}

/// What no snapshot needs. Of what could not be read nobody knows what it needs: then gc deletes
/// nothing, and nothing here is called left behind.
fn beside(found: &VaultHoldings) -> Vec<String> {
    let mut lines = Vec::new();
    let (unneeded, at_work) = (found.unneeded.all(), found.at_work.all());
    let is_all_read = found.unread_snapshots() == 0;
    if found.dead > Bytes(0) {
        let dead = found.dead;
        lines.push(match is_all_read {
            true => format!("about {dead} in segments that are needed is needed no more"),
            false => format!(
                "about {dead} in segments that are needed is needed by no snapshot that could be \
                 read"
            ),
        });
    }
    if found.shared > Bytes(0) {
        lines.push(format!("{} is needed by several hosts", found.shared));
    }
    if unneeded.objects > 0 {
        let says = match is_all_read {
            true => {
                "are needed by no snapshot, left by deleted ones and by runs that were killed: \
                 `stillpoint gc` frees them, or what a killed run has put serves the next run of \
                 its host"
            }
            false => {
                "are needed by no snapshot that could be read: `stillpoint gc` deletes nothing \
                 until that is mended"
            }
        };
        let objects = counted(unneeded.objects, "object");
        lines.push(format!("{objects}, {} {says}", unneeded.bytes));
    }
    if at_work.objects > 0 {
        lines.push(format!(
            "{}, {} are needed by no snapshot yet, and may be of a run that is at work",
            counted(at_work.objects, "object"),
            at_work.bytes
        ));
    }
    if let Some(since) = found.side.oldest_plan {
        lines.push(format!(
            "gc: {} to delete what nothing needs, the oldest of {}",
            counted(found.side.plans.len(), "plan"),
            since.strftime("%Y-%m-%d %H:%M:%S UTC")
        ));
    }
    lines
}

/// Who works here.
fn at_work(found: &VaultHoldings) -> Vec<String> {
    let runs = found.runs.iter().map(|run| match run.is_silent {
        false => format!("at work: {}", run.what),
        true => format!("killed, as it seems: {}", run.what),
    });
    runs.collect()
}

/// How much is stored in a week, and how much room is left.
fn room(found: &VaultHoldings) -> Vec<String> {
    let growth = found.growth.map(|growth| {
        let fulls = match growth.later_fulls {
            0 => String::new(),
            1 => "; 1 later full copy is counted".to_owned(),
            count => format!("; {count} later full copies are counted"),
        };
        format!(
            "stored in a week: {}, by what is there since {}, first full copies of disks not \
             counted{fulls}",
            growth.weekly,
            growth.from.strftime("%Y-%m-%d")
        )
    });
    let room = found.room.map(|room| {
        let full = found.growth.and_then(|growth| growth.full_at(room.free));
        let full = full.map_or(String::new(), |time| {
            format!(
                "; full about {}, if nothing is deleted and nobody else writes there",
                time.strftime("%Y-%m-%d")
            )
        });
        let files = room
            .free_files
            .map_or(String::new(), |files| format!(" and for {files} files"));
        format!("free: {} of {}{files}{full}", room.free, room.all)
    });
    growth.into_iter().chain(room).collect()
}

#[cfg(test)]
mod tests;
