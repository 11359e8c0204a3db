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
/// Most bytes of a name in a table.
const MOST_NAME: usize = 12;
/// Characters of an ID in a table, at least and at most: as many as tell it from the others.
const LEAST_ID: usize = 12;
const MOST_ID: usize = 26;
/// Beside longer ones no name of a host has room.
const SHORT_ID: usize = 16;
/// Most bytes of each list of lines.
const MOST_LINES: usize = 2500;
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

fn name(text: &str) -> String {
    clip(&one_line(text), MOST_NAME)
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
        row.extend(has_room.then(|| name(&one.host)));
        row.extend(figures(&one.holding));
        row
    });
    let disks = table(&["DISK", "HOST", "SNAPSHOTS"], &found.disks, &|one| {
        let mut row = vec![name(&one.name), name(&one.host), one.snapshots.to_string()];
        row.extend(figures(&one.holding));
        row
    });
    let hosts = table(&["HOST", "SNAPSHOTS"], &found.hosts, &|one| {
        let mut row = vec![name(&one.name), one.snapshots.to_string()];
        row.extend(figures(&one.holding));
        row
    });
    format!("{snapshots}{disks}{hosts}")
}

fn text(info: &HoldingsReport<'_>) -> String {
    let found = info.found;
    let mut text = tables(found);
    // Each with room of its own: none pushes another one out.
    for lines in [unread(found), damage(found), beside(found), room(found)] {
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
fn unread(found: &VaultHoldings) -> Vec<String> {
    let unread = found.unread.iter();
    let unread = unread.map(|one| format!("not read: {}: {}", one.snapshot, one.why));
    let missing = found.missing.first.iter();
    let missing = missing
        .map(|name| format!("missing, or of an impossible length: {name}, which a snapshot needs"));
    missing.chain(unread).collect()
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
        let count = found.missing.objects;
        lines.push(format!(
            "the vault is damaged ({} missing): `stillpoint verify --all --fast` says what is hit",
            counted(count, "needed object"),
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

/// What no snapshot needs, and who works here.
fn beside(found: &VaultHoldings) -> Vec<String> {
    let mut lines = Vec::new();
    let (unneeded, at_work) = (found.unneeded.all(), found.at_work.all());
    if found.dead > Bytes(0) {
        lines.push(format!(
            "about {} in segments that are needed is needed no more",
            found.dead
        ));
    }
    if found.shared > Bytes(0) {
        lines.push(format!("{} is needed by several hosts", found.shared));
    }
    if unneeded.objects > 0 {
        lines.push(format!(
            "{}, {} are needed by no snapshot, left by deleted ones and by runs that were killed: \
             `stillpoint gc` frees them",
            counted(unneeded.objects, "object"),
            unneeded.bytes
        ));
    }
    if at_work.objects > 0 {
        lines.push(format!(
            "{}, {} are needed by no snapshot yet, and may be of a run that is at work",
            counted(at_work.objects, "object"),
            at_work.bytes
        ));
    }
    lines.extend(found.runs.iter().map(|run| match run.is_silent {
        false => format!("at work: {}", run.what),
        true => format!("killed, as it seems: {}", run.what),
    }));
    if let Some(since) = found.side.oldest_plan {
        lines.push(format!(
            "gc: {} to delete what nothing needs, the oldest of {}",
            counted(found.side.plans.len(), "plan"),
            since.strftime("%Y-%m-%d %H:%M:%S UTC")
        ));
    }
    lines
}

/// How much is stored in a week, and how much room is left.
fn room(found: &VaultHoldings) -> Vec<String> {
    let growth = found.growth.map(|growth| {
        format!(
            "stored in a week: {}, by {} since {}, first full copies of disks not counted",
            growth.weekly,
            match growth.snapshots {
                1 => "1 disk copy".to_owned(),
                count => format!("{count} disk copies"),
            },
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
mod tests {
    use super::*;
    use crate::engine::{DiskHolding, Growth, HostHolding, RunSeen, UnreadPart};
    use crate::error::{Error, ErrorKind};
    use crate::format::{BlockDedup, Compression, VaultInfo};
    use crate::model::{ObjectId, SnapshotId};
    use crate::store::VaultRoom;
    use jiff::Timestamp;
    use serde_json::Value;

    /// Figures and names as long as they get.
    fn much() -> VaultHoldings {
        let most = Bytes((1 << 60) - (1 << 50));
        let holding = Holding {
            logical: most,
            stored: most,
            unique: most,
            freed: most,
        };
        let host = "h\u{1b}[2J".repeat(40);
        let snapshot = |number: u64| SnapshotHolding {
            id: SnapshotId::generate(1_800_000_000_000 + number),
            host: host.clone(),
            time: Timestamp::UNIX_EPOCH,
            disks: vec!["vda".into()],
            holding,
            is_unread: number == 0,
        };
        let disk = DiskHolding {
            host: host.clone(),
            name: host.clone(),
            snapshots: 1 << 20,
            holding,
            ..DiskHolding::default()
        };
        let one = HostHolding {
            name: host.clone(),
            snapshots: 1 << 20,
            holding,
        };
        VaultHoldings {
            snapshots: (0..30).map(snapshot).collect(),
            disks: vec![disk],
            hosts: vec![one],
            unread: vec![UnreadPart {
                snapshot: SnapshotId::generate(1),
                why: Error::new(ErrorKind::Damaged, host.clone()),
            }],
            unread_manifests: 1,
            has_damage: true,
            runs: vec![RunSeen {
                what: host,
                is_silent: true,
            }],
            ..VaultHoldings::default()
        }
    }

    fn said(found: &VaultHoldings) -> Report {
        report(&HoldingsReport {
            found,
            location: "/vault",
            vault: &VaultInfo {
                format: 2,
                id: ObjectId([1; 16]),
                name: "test".into(),
                description: None,
                block_size: 65_536,
                created: Timestamp::UNIX_EPOCH,
                dedup: BlockDedup::Disk,
                compression: Compression::default(),
                encryption: None,
                lock: None,
            },
        })
    }

    #[test]
    fn its_tables_have_a_hundred_columns_whatever_things_are_called() {
        let mut found = much();
        let text = tables(&found);
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(
            widest <= 100 && !text.contains('\u{1b}'),
            "{widest}:\n{text}"
        );
        assert!(
            text.contains("\n... and 10 more: --json lists all\n"),
            "{text}"
        );
        // IDs that begin alike for long leave the name of the host no room.
        let id = found.snapshots[0].id.to_string();
        let twin = format!("{}{}", &id[..25], if id.ends_with('0') { '1' } else { '0' });
        found.snapshots[1].id = twin.parse().unwrap();
        let text = tables(&found);
        assert!(text.contains(&twin), "{text}");
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{widest}:\n{text}");
    }

    #[test]
    fn what_is_not_known_is_told_in_words_and_by_the_exit_code() {
        let damaged = said(&much());
        assert_eq!(damaged.code, DAMAGED);
        for words in [
            "what 2 snapshots need is not",
            "not read: 0",
            "killed, as it seems",
        ] {
            assert!(damaged.text.contains(words), "{words}: {}", damaged.text);
        }
        assert_eq!(damaged.json["unread_snapshots"], 2);
        // However much is damaged, the rest is told.
        let mut worse = much();
        let why = || Error::new(ErrorKind::Damaged, "it is damaged in some way or other");
        worse.unread.extend((0..999).map(|number| UnreadPart {
            snapshot: SnapshotId::generate(number),
            why: why(),
        }));
        let worse = said(&worse).text;
        for words in [
            "more lines like these",
            "what 2 snapshots need is not",
            "killed, as it",
        ] {
            assert!(worse.contains(words), "{words}: {worse}");
        }
        assert!(worse.len() < 12_000, "{}", worse.len());
        assert_eq!(damaged.json["snapshots"][0]["whole"], false);
        let mut older = much();
        older.has_damage = false;
        assert_eq!(said(&older).code, crate::model::exit::BELOW);
        let empty = said(&VaultHoldings::default());
        assert_eq!(empty.code, crate::model::exit::DONE);
        assert_eq!(
            empty.text,
            "0 snapshots of 0 hosts in /vault: 0 B, of which 0 B is needed"
        );
    }

    #[test]
    fn room_and_growth_are_told_where_there_are_any() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut found = VaultHoldings {
            room: Some(VaultRoom {
                all: Bytes(10 << 30),
                free: Bytes(4 << 30),
                free_files: Some(7),
            }),
            ..VaultHoldings::default()
        };
        assert!(
            said(&found)
                .text
                .starts_with("free: 4.00 GiB of 10.00 GiB and for 7 files\n")
        );
        found.growth = Some(Growth {
            from: time("2027-01-01T00:00:00Z"),
            to: time("2027-01-29T00:00:00Z"),
            snapshots: 28,
            weekly: Bytes(1 << 30),
        });
        let told = said(&found);
        assert!(
            told.text
                .contains("stored in a week: 1.00 GiB, by 28 disk copies since 2027-01-01")
        );
        assert!(
            told.text
                .contains("; full about 2027-02-26, if nothing is deleted")
        );
        assert_eq!(told.json["growth"]["full_at"], "2027-02-26T00:00:00Z");
        // Nobody knows where a bucket ends.
        found.room = None;
        let told = said(&found);
        assert!(!told.text.contains("full about") && !told.text.contains("free:"));
        assert_eq!(told.json["growth"]["full_at"], Value::Null);
        assert_eq!(told.json["free_bytes"], Value::Null);
    }
}
