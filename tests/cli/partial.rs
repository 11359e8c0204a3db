//! Sets of disks of which one cannot be had: all or nothing, unless the rest was asked for.

use super::lab::{Lab, is_frozen, noise, tool};
use crate::support::held::frozen;
use std::fs::{self, File};

/// A loop device answers EIO to reads past the end of the file behind it.
fn break_disk(disk: &super::lab::Disk) {
    let file = File::options().write(true).open(&disk.image).unwrap();
    file.set_len(1 << 20).unwrap();
}

#[test]
fn one_disk_that_cannot_be_read_fails_the_set_unless_the_rest_will_do() {
    let test = "one_disk_that_cannot_be_read_fails_the_set";
    let Some(lab) = Lab::with_vault(test) else {
        return;
    };
    let mut good = lab.disk("good", 24 << 20);
    let place = good.mount("ext4");
    fs::write(place.join("file"), noise(3 << 20, 1)).unwrap();
    let bad = lab.disk("bad", 8 << 20);
    break_disk(&bad);
    let both = ["snapshot", &good.device, &bad.device, "--json"];
    let failed = lab.run(&both).expect(1).json();
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains(bad.name()), "{message}");
    let none = lab.json(&["list"]);
    assert_eq!(none["snapshots"].as_array().unwrap().len(), 0);

    let partial = [&both[..], &["--partial"]].concat();
    let rest = lab.run(&partial).expect(3).json();
    let disks = rest["disks"].as_array().unwrap();
    assert_eq!(disks.len(), 1);
    assert_eq!(disks[0]["disk"], good.name());
    assert_eq!(disks[0]["level"], "filesystem");
    assert_eq!(rest["left_out"][0]["disk"], bad.name());
    let warnings = rest["warnings"].to_string();
    assert!(!warnings.contains("twice"), "{warnings}");
    lab.run(&["verify", "--all"]).expect(0);

    // Of a set of one nothing is left.
    lab.run(&["snapshot", &bad.device, "--partial"]).expect(1);
}

#[test]
fn one_disk_whose_filesystem_a_stranger_holds_frozen_is_left_out() {
    let Some(lab) = Lab::with_vault("partial: a foreign freeze") else {
        return;
    };
    let mut disks = [lab.disk("one", 24 << 20), lab.disk("two", 24 << 20)];
    let places = disks.each_mut().map(|disk| disk.mount("ext4"));
    tool("sync", &["-f", places[0].to_str().unwrap()]);
    let held = frozen(&places[0]);
    let args = ["snapshot", &disks[0].device, &disks[1].device, "--partial"];
    let run = lab.run(&[&args[..], &["--json"]].concat()).expect(3);
    assert!(is_frozen(&places[0]), "thawed what it had not frozen");
    assert!(!is_frozen(&places[1]));
    drop(held);
    let rest = run.json();
    assert_eq!(rest["disks"].as_array().unwrap().len(), 1);
    assert_eq!(rest["disks"][0]["disk"], disks[1].name());
    assert_eq!(rest["disks"][0]["level"], "filesystem");
    assert_eq!(rest["left_out"][0]["disk"], disks[0].name());
    let why = rest["left_out"][0]["reason"].as_str().unwrap();
    assert!(why.contains("frozen already"), "{why}");
    // What does not exist is no disk to be left out.
    let args = ["snapshot", &disks[1].device, "no-such", "--partial"];
    lab.run(&args).expect(1);
}

#[test]
fn a_full_vault_is_no_disks_fault() {
    let Some(lab) = Lab::with_vault("a_full_vault_is_no_disks_fault") else {
        return;
    };
    // Past what a file may grow to, as on a disk that is full.
    let (one, two) = (lab.disk("one", 48 << 20), lab.disk("two", 1 << 20));
    fs::write(&one.device, noise(40 << 20, 3)).unwrap();
    let limited = ["prlimit", "--fsize=1048576"];
    let args = ["snapshot", &one.device, &two.device, "--partial", "--json"];
    let run = super::lab::finish(&mut lab.command_with(&limited, &args));
    assert_eq!(run.code, 1, "{run:?}");
    let error = &run.json()["error"];
    assert_eq!(error["kind"], "no_space", "{error}");
    assert!(error["hint"].to_string().contains("ulimit -f"), "{error}");
    let none = lab.json(&["list"]);
    assert_eq!(none["snapshots"].as_array().unwrap().len(), 0);
}
