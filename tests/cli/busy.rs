//! What someone else holds: a disk that another run works on, a filesystem frozen by a stranger, a
//! freeze that does not come back.

use super::lab::{Disk, Lab, finish, is_frozen, tool, wait};
use super::table::two_sentences;
use crate::hooks::Stage;
use crate::support::held::frozen;
use std::time::{Duration, Instant};

#[test]
fn two_runs_on_one_disk_are_one_too_many() {
    let Some(stage) = Stage::new("cli: two runs") else {
        return;
    };
    let (lab, disk) = (&stage.lab, &stage.disk);
    let mut first = stage.at_work();
    let second = lab.run(&["snapshot", &disk.device]);
    stage.let_go();
    let status = wait(&mut first, "the first run");
    assert_eq!(status.code(), Some(0));
    assert_eq!(second.code, 6, "{second:?}");
    let (message, hint) = two_sentences("two runs", &second.stderr);
    assert!(
        message.contains("another run") && message.contains(disk.name()),
        "{message}"
    );
    assert!(hint.contains("wait"), "{hint}");
    lab.run(&["snapshot", &disk.device]).expect(0);
    let list = lab.json(&["list"]);
    assert_eq!(list["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn a_foreign_freeze_is_named_and_stays() {
    let Some(lab) = Lab::with_vault("cli: foreign freeze") else {
        return;
    };
    let mut disks = [lab.disk("one", 24 << 20), lab.disk("two", 24 << 20)];
    let places = disks.each_mut().map(|disk| disk.mount("ext4"));
    tool("sync", &["-f", places[0].to_str().unwrap()]);
    tool("sync", &["-f", places[1].to_str().unwrap()]);
    let before = lab.files();
    let held = frozen(&places[0]);
    for command in [&["snapshot"][..], &["doctor", "--freeze-test"]] {
        let args = [command, &[&disks[0].device, &disks[1].device]].concat();
        let run = lab.run(&args).expect(6);
        let (message, _) = two_sentences("foreign freeze", &run.stderr);
        assert!(message.contains(places[0].to_str().unwrap()), "{message}");
        assert!(is_frozen(&places[0]), "thawed what it had not frozen");
        assert!(!is_frozen(&places[1]));
        assert!(lab.freeze_records().is_empty());
        lab.run(&["thaw"]).expect(0);
        assert!(is_frozen(&places[0]), "no record names it");
    }
    assert_eq!(lab.files(), before);
    drop(held);
    lab.run(&["snapshot", &disks[0].device, &disks[1].device])
        .expect(0);
}

/// A disk that lies in a file of another one.
fn inside(outer: &std::path::Path, mib: u64) -> Disk {
    let image = outer.join("inner");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(mib << 20)
        .unwrap();
    let device = crate::support::host::attach(&image, &[]);
    Disk {
        device: device.to_str().unwrap().to_owned(),
        image,
        mounted: None,
    }
}

#[test]
fn a_freeze_that_does_not_come_back_ends_at_the_deadline() {
    let Some(lab) = Lab::with_vault("cli: stuck freeze") else {
        return;
    };
    let mut outer = lab.disk("outer", 96 << 20);
    let outside = outer.mount("ext4");
    let mut inner = inside(&outside, 24);
    let device = inner.device.clone();
    let folder = lab.at("inner.mnt");
    std::fs::create_dir(&folder).unwrap();
    tool(
        "mkfs.ext4",
        &[
            "-q",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            &device,
        ],
    );
    tool("mount", &[&device, &folder]);
    inner.mounted = Some(folder.clone().into());
    let mut other = lab.disk("other", 24 << 20);
    let beside = other.mount("ext4");
    for place in [&folder, beside.to_str().unwrap(), outside.to_str().unwrap()] {
        tool("sync", &["-f", place]);
    }
    let before = lab.vault_files();
    let held = frozen(&outside);
    let begun = Instant::now();
    let args = ["snapshot", &other.device, &device, "--max-freeze", "1s"];
    let run = finish(&mut lab.command(&args));
    let took = begun.elapsed();
    // Before anything is asserted: what is stuck must come loose.
    drop(held);
    assert_eq!(run.code, 1, "{run:?}");
    let (message, _) = two_sentences("stuck freeze", &run.stderr);
    assert!(
        message.contains("deadline") && message.contains(&folder),
        "{message}"
    );
    println!("ended after {took:?}");
    assert!(!is_frozen(&beside));
    let until = Instant::now() + Duration::from_secs(30);
    while is_frozen(folder.as_ref()) {
        assert!(Instant::now() < until, "the inner one stays frozen");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(lab.vault_files(), before);
    lab.run(&["snapshot", &other.device]).expect(0);
}

#[test]
fn the_freeze_test_tells_how_long_and_leaves_nothing_frozen() {
    let Some(lab) = Lab::with_vault("cli: freeze test") else {
        return;
    };
    let mut disks = [lab.disk("one", 24 << 20), lab.disk("two", 24 << 20)];
    let places = disks.each_mut().map(|disk| disk.mount("ext4"));
    let bare = lab.disk("bare", 1 << 20);
    let args = [
        "doctor",
        "--freeze-test",
        &disks[0].device,
        &disks[1].device,
        &bare.device,
    ];
    let run = lab.run(&[&args[..], &["--json"]].concat());
    assert!([0, 3].contains(&run.code), "{run:?}");
    let test = &run.json()["freeze_test"];
    let filesystems = test["filesystems"].as_array().unwrap();
    let mut targets: Vec<_> = filesystems
        .iter()
        .map(|one| one["target"].as_str().unwrap())
        .collect();
    targets.sort_unstable();
    let expected = places.each_ref().map(|place| place.to_str().unwrap());
    assert_eq!(targets, expected);
    for one in filesystems {
        assert!(one["freeze_ms"].as_f64().unwrap() > 0.0, "{one}");
    }
    assert!(test["freeze_ms"].as_f64().unwrap() > 0.0);
    let run = lab.run(&args);
    assert!(run.stdout.contains("frozen in all"), "{run:?}");
    assert!(places.iter().all(|place| !is_frozen(place)));
    assert!(lab.freeze_records().is_empty());
    lab.run(&["doctor", "--freeze-test", "no-such"]).expect(1);
}
