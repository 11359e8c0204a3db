//! A clock that was ahead, or set back: what was taken last is the latest all the same, and it is
//! said.

use super::lab::{Lab, finish, noise, try_tool};
use crate::support::host::skipped;
use serde_json::Value;
use std::fs;
use stillpoint::format::{Manifest, Sealer};
use stillpoint::model::SnapshotId;
use stillpoint::store::Vault;

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

/// Days in which nobody takes the clock for right.
const YEAR: i64 = 365 * 24 * 3600 * 1000;

fn id_of(document: &Value) -> SnapshotId {
    document["snapshot"].as_str().unwrap().parse().unwrap()
}

/// Makes a snapshot what it were, had the host's clock been so far ahead; answers its name.
fn put_ahead(lab: &Lab, id: SnapshotId, ms: i64) -> SnapshotId {
    changed(lab, id, |manifest| {
        let ahead = std::time::Duration::from_millis(ms.try_into().unwrap());
        manifest.time += ahead;
        manifest.started += ahead;
        manifest.snapshot = SnapshotId::generate(id.unix_ms() + ms.cast_unsigned());
    })
}

/// Makes a snapshot what an early version wrote, whose cuts have no names.
fn made_early(lab: &Lab, id: SnapshotId) {
    changed(lab, id, |manifest| {
        let cuts = manifest
            .disks
            .iter_mut()
            .filter_map(|disk| disk.cut.as_mut());
        cuts.for_each(|cut| cut.name = None);
    });
}

fn changed(lab: &Lab, id: SnapshotId, change: impl FnOnce(&mut Manifest)) -> SnapshotId {
    let vault = Vault::open_local(&lab.path("vault")).unwrap();
    let paths = lab.vault_files().into_iter().map(|(path, _)| path);
    let mut paths = paths.filter(|path| path.ends_with(id.to_string()));
    let path = paths.next().unwrap();
    let bytes = fs::read(&path).unwrap();
    let mut manifest = Manifest::decode(&bytes, &SEALER, id, vault.info().id).unwrap();
    change(&mut manifest);
    fs::remove_file(&path).unwrap();
    let name = path.with_file_name(manifest.snapshot.to_string());
    fs::write(name, manifest.encode(&SEALER).unwrap()).unwrap();
    manifest.snapshot
}

fn listed(lab: &Lab, args: &[&str]) -> Vec<SnapshotId> {
    let list = lab.json(&[&["list"], args].concat());
    list["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .map(id_of)
        .collect()
}

#[test]
fn what_was_taken_last_is_the_latest_whatever_the_clock_said() {
    let Some(lab) = Lab::with_vault("what_was_taken_last_is_the_latest") else {
        return;
    };
    let (disk, other) = (lab.disk("disk", 1 << 20), lab.disk("other", 1 << 20));
    let take = |disk: &str, code: i32| lab.run(&["snapshot", disk, "--json"]).expect(code).json();
    let write = |seed: u64| fs::write(&disk.device, noise(1 << 20, seed)).unwrap();
    write(1);
    let first = id_of(&take(disk.name(), 0));
    let ahead = put_ahead(&lab, id_of(&take(disk.name(), 0)), YEAR);
    assert_eq!(listed(&lab, &[]), [ahead, first]);

    // It is said; it is the parent; and what comes next is newer.
    write(2);
    let next = take(disk.name(), 3);
    assert_eq!(next["disks"][0]["parent"], ahead.to_string());
    let said = next["warnings"][0].as_str().unwrap();
    assert!(said.contains(&format!("snapshot {ahead} says ")), "{said}");
    assert!(said.contains("later"), "{said}");
    let next = id_of(&next);
    assert!(next > ahead, "names go on from the newest");
    assert_eq!(listed(&lab, &[]), [next, ahead, first]);
    write(3);
    let last = take(disk.name(), 3);
    assert_eq!(last["disks"][0]["parent"], next.to_string(), "{last}");
    let last = id_of(&last);
    // Another disk, which no parent ties to the others; and one that has no parent at all.
    let others = id_of(&take(other.name(), 3));
    let full = lab.run(&["snapshot", disk.name(), "--full", "--json"]);
    let full = id_of(&full.expect(3).json());
    assert_eq!(listed(&lab, &[]), [full, others, last, next, ahead, first]);

    let restored = lab
        .run(&["restore", "latest", &lab.at("restored")])
        .expect(0);
    assert!(
        restored.stderr.contains("warning: snapshot"),
        "{restored:?}"
    );
    assert!(restored.stdout.contains(&full.to_string()), "{restored:?}");
    assert_eq!(fs::read(lab.path("restored")).unwrap(), noise(1 << 20, 3));
    let with = ["restore", "latest", "--disk", other.name(), &lab.at("with")];
    assert_eq!(id_of(&lab.json(&with)), others);
    let list = lab.json(&["list"]);
    assert_eq!(list["doubtful"][0]["snapshot"], ahead.to_string());
    let text = lab.run(&["list"]).expect(0).stdout;
    assert!(
        text.contains(&format!("clock: snapshot {ahead} says ")),
        "{text}"
    );
    // Its age says nothing, so it is not what makes all well.
    let status = lab.run(&["status", "--max-age", "26h", "--json"]).expect(3);
    let status = status.json();
    let problems = status["problems"].to_string();
    assert!(
        problems.contains(&format!("snapshot {ahead} is from ")),
        "{status}"
    );
    assert!(problems.contains("which is after now"), "{status}");
    let disks = lab.json(&["disks"]);
    let shown = disks["disks"].as_array().unwrap().iter();
    let mut shown = shown.filter(|one| one["disk"] == disk.name());
    assert_eq!(shown.next().unwrap()["last_snapshot"], full.to_string());

    // Nothing is said any more when what was ahead is gone, and the order stays.
    lab.run(&["delete", &ahead.to_string()]).expect(0);
    let after = id_of(&take(disk.name(), 0));
    assert_eq!(listed(&lab, &[]), [after, full, others, last, next, first]);
    assert_eq!(lab.json(&["list"])["doubtful"].as_array().unwrap().len(), 0);
}

#[test]
fn what_an_earlier_version_named_by_a_wrong_clock_is_put_in_order_by_its_marks() {
    let Some(lab) = Lab::with_vault("what_an_earlier_version_named_by_a_wrong_clock") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    fs::write(&disk.device, noise(1 << 20, 1)).unwrap();
    let take = |code: i32| {
        lab.run(&["snapshot", disk.name(), "--json"])
            .expect(code)
            .json()
    };
    let before = id_of(&take(0));
    let newest = id_of(&take(0));
    made_early(&lab, before);
    made_early(&lab, newest);
    // Its child's name says less, as an earlier version had it; the marks tell.
    let ahead = put_ahead(&lab, before, YEAR);
    assert_eq!(listed(&lab, &[]), [newest, ahead]);
    assert_eq!(id_of(&lab.json(&["show", "latest"])), newest);
    let next = take(3);
    assert_eq!(next["disks"][0]["parent"], newest.to_string(), "{next}");
    assert_eq!(listed(&lab, &[]), [id_of(&next), newest, ahead]);
}

/// No date can be told by it, so nothing is dated by it; what is frozen is thawed all the same.
#[test]
fn a_clock_beyond_all_calendars_is_an_error_in_words() {
    let test = "cli: a clock beyond all calendars";
    let Some(lab) = Lab::new(test) else {
        return;
    };
    let ahead = ["faketime", "-f", "+8500y"];
    let is_there = std::process::Command::new("faketime")
        .arg("--version")
        .output();
    if is_there.is_err() || !try_tool("faketime", &["-f", "+8500y", "true"]) {
        return skipped(test, "no faketime, which shows a program another time");
    }
    let far = |args: &[&str]| finish(&mut lab.command_with(&ahead, args));
    for args in [&["status"][..], &["plan", "list"], &["snapshot", "--all"]] {
        let run = far(args).expect(5);
        assert!(run.stderr.contains("in no calendar"), "{run:?}");
        assert!(run.stderr.contains("timedatectl"), "{run:?}");
        let document = far(&[args, &["--json"]].concat()).expect(5).json();
        assert_eq!(document["error"]["kind"], "unsupported", "{document}");
    }
    far(&["thaw"]).expect(0);
    assert!(far(&["help", "rescue"]).expect(0).stdout.len() > 1000);
}
