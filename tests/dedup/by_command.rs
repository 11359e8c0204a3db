//! By the command line: a vault is made so, and what a run found is told.

use crate::cli::lab::Lab;
use crate::support::host::noise;
use std::fs::{self, OpenOptions};
use std::io::Write;
use stillpoint::format::{BlockDedup, VaultInfo};

#[test]
fn two_disks_of_one_image_are_stored_once_and_it_is_told() {
    let Some(lab) = Lab::new("dedup: command") else {
        return;
    };
    let vault = lab.at("vault");
    let made = lab.json(&["init", &vault, "--dedup", "vault"]);
    assert_eq!(made["dedup"], "vault");
    lab.run(&["init", &lab.at("no"), "--dedup", "host"])
        .expect(2);
    let image = noise(24 << 20, 5);
    let disks = ["one", "two"].map(|name| lab.disk(name, 24 << 20));
    for disk in &disks {
        let mut device = OpenOptions::new().write(true).open(&disk.device).unwrap();
        device.write_all(&image).unwrap();
        device.sync_all().unwrap();
    }
    let snapshot = |number: usize| {
        let device = &disks[number].device;
        lab.run(&["snapshot", device, "--level", "crash", "--json"])
    };
    let first = snapshot(0).expect(0).json();
    assert_eq!(first["disks"][0]["shared_bytes"], 0);
    assert!(first["disks"][0]["stored_bytes"].as_u64().unwrap() > 24 << 20);
    assert_eq!(
        first["looked"],
        serde_json::json!({"read": 0, "left_out": 0})
    );
    let second = snapshot(1).expect(0).json();
    assert_eq!(second["disks"][0]["shared_bytes"], 24 << 20);
    assert_eq!(second["disks"][0]["stored_bytes"], 0);
    assert_eq!(
        second["looked"],
        serde_json::json!({"read": 1, "left_out": 0})
    );
    let shown = lab.json(&["show", "latest"]);
    assert_eq!(shown["disks"][0]["shared_bytes"], 24 << 20);

    // The one who has put it is gone.
    let id = first["snapshot"].as_str().unwrap();
    lab.run(&["delete", id]).expect(0);
    lab.run(&["gc"]).expect(0);
    let target = lab.at("out");
    lab.run(&["restore", "latest", &target]).expect(0);
    assert!(fs::read(&target).unwrap() == image);
    lab.run(&["verify", "--all"]).expect(0);

    let third = lab.run(&["snapshot", &disks[0].device, "--level", "crash"]);
    let text = third.expect(0).stdout;
    assert!(
        text.contains("24.00 MiB were in the vault from others"),
        "{text}"
    );
}

/// Somebody has changed the word since: it is told by the next run, and for as long as snapshots
/// say so; what is there is whole.
#[test]
fn a_word_that_was_changed_is_told() {
    let Some(lab) = Lab::new("dedup: a changed word") else {
        return;
    };
    let vault = lab.at("vault");
    lab.json(&["init", &vault]);
    let disk = lab.disk("one", 1 << 20);
    let snapshot = || lab.run(&["snapshot", &disk.device, "--level", "crash"]);
    snapshot().expect(0);
    lab.run(&["verify", "--all"]).expect(0);
    let path = std::path::Path::new(&vault).join("vault.json");
    let info = VaultInfo::decode(&fs::read(&path).unwrap()).unwrap();
    let changed = VaultInfo {
        dedup: BlockDedup::Vault,
        ..info
    };
    fs::write(&path, changed.encode().unwrap()).unwrap();
    let words = "vault.json says dedup `vault`, and said `disk` when snapshot";
    let told = lab.run(&["verify", "--all"]).expect(3);
    assert!(told.stdout.contains(words), "{told:?}");
    let told = snapshot().expect(3);
    assert!(told.stderr.contains(words), "{told:?}");
    // The run after that was told what it was told before.
    let told = snapshot().expect(0);
    assert!(!told.stderr.contains(words), "{told:?}");
    let told = lab.json(&["verify", "--all"]);
    assert!(told["warnings"][0].as_str().unwrap().contains(words));
}
