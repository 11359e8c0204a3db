//! What it says of a vault, in words and as a document.

use super::*;
use crate::engine::{DiskHolding, Growth, HostHolding, RunSeen, UnreadPart};
use crate::error::{Error, ErrorKind};
use crate::format::{BlockDedup, Compression, VaultInfo};
use crate::model::{ObjectId, SnapshotId};
use crate::store::VaultRoom;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

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
    assert_eq!(worse.matches("not read: ").count(), MOST_TOLD);
    assert!(
        worse.find("killed, as it") < worse.find("not read: "),
        "{worse}"
    );
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
fn what_nobody_could_read_is_not_said_to_be_freed() {
    let mut found = much();
    found.dead = Bytes(1 << 20);
    found.unneeded.segments.objects = 3;
    let told = said(&found).text;
    assert!(
        told.contains("by no snapshot that could be read: `stillpoint gc` deletes nothing"),
        "{told}"
    );
    assert!(
        !told.contains("frees them") && !told.contains("needed no more"),
        "{told}"
    );
    assert!(told.contains("the vault is damaged: "), "{told}");
    let read = VaultHoldings {
        dead: found.dead,
        unneeded: found.unneeded,
        ..VaultHoldings::default()
    };
    let told = said(&read).text;
    assert!(
        told.contains("frees them") && told.contains("needed no more"),
        "{told}"
    );
}

#[test]
fn names_that_begin_alike_are_told_apart() {
    let mut found = much();
    let host = |number: u32| HostHolding {
        name: format!("ip-172-31-{number}-{}.ec2.internal.example.com", number * 7),
        ..HostHolding::default()
    };
    found.hosts = (10..30).map(host).collect();
    for number in 10..30 {
        let snapshot = &mut found.snapshots[number - 10];
        snapshot.host = format!("ip-172-31-4-{number}");
    }
    let text = tables(&found);
    for number in 10..30 {
        assert!(text.contains(&format!("ip-172-31-{number}")), "{text}");
        assert!(text.contains(&format!("…-4-{number} ")), "{text}");
    }
    assert_eq!(name("exactly-12-b", 12), "exactly-12-b");
    assert_eq!(name("one-more-than-12", 12), "one-…an-12");
    assert!(name(&"ä€".repeat(9), 12).len() <= 12);
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
        segments: 28,
        later_fulls: 2,
        weekly: Bytes(1 << 30),
    });
    let told = said(&found);
    assert!(
        told.text
            .contains("stored in a week: 1.00 GiB, by what is there since 2027-01-01,")
    );
    assert!(
        told.text
            .contains("; full about 2027-02-26, if nothing is deleted")
    );
    assert!(told.text.contains("; 2 later full copies are counted\n"));
    assert_eq!(told.json["growth"]["full_at"], "2027-02-26T00:00:00Z");
    // The schema says what is there, and no more.
    let schema = include_str!("../schema/info.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let growth = &schema["properties"]["growth"];
    let told_keys = keys(&told.json["growth"]);
    assert_eq!(keys(&growth["properties"]), told_keys);
    let required = growth["required"].as_array().unwrap().iter();
    let required: BTreeSet<String> = required.map(|key| key.as_str().unwrap().into()).collect();
    assert_eq!(required, told_keys);
    // Nobody knows where a bucket ends.
    found.room = None;
    let told = said(&found);
    assert!(!told.text.contains("full about") && !told.text.contains("free:"));
    assert_eq!(told.json["growth"]["full_at"], Value::Null);
    assert_eq!(told.json["free_bytes"], Value::Null);
}
