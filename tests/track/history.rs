//! What is of another history is not taken for this one: cuts by their names, disks whose contents
//! became others without a request.

use crate::support::host::{LoopDisk, losetup, run, skipped};
use crate::support::pace;
use crate::support::tracked::PrivateTracker;
use std::fs::File;
use std::path::Path;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::track::{
    ChangeSource, CutName, DiskTracker, Epoch, Moment, ProofFailure, Recall, SelfTest, Tracker,
    Witness, unbroken,
};

const SIZE: u64 = 16 << 20;
/// How many names are kept.
const NAMES: u32 = 4096;

#[test]
fn a_cut_is_known_by_its_name_until_others_have_taken_its_place() {
    let Some(mut tracker) = PrivateTracker::start("a_cut_is_known") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let mut changes = disk.track(&mut tracker);
    let cut = changes.cut().unwrap();
    assert_ne!(cut.name, changes.cut().unwrap().name);
    // Whoever asks.
    drop(changes);
    let mut changes = disk.track(&mut tracker);
    let mut recall = |change: fn(&mut Witness)| {
        let mut asked = cut.clone();
        change(&mut asked);
        changes.recall(&asked).unwrap()
    };
    assert_eq!(recall(|_| ()), Recall::Known);
    assert_eq!(recall(|cut| cut.name = None), Recall::Nameless);
    let other = |cut: &mut Witness| cut.name = Some(CutName([7; 16]));
    assert_eq!(recall(other), Recall::Unknown);
    assert_eq!(recall(|cut| cut.epoch.0 += 1), Recall::Unknown);
    assert_eq!(recall(|cut| cut.epoch.0 = 0), Recall::Unknown);

    let last = |changes: &mut DiskTracker, count: u32| {
        for number in 0..count {
            changes.name(Epoch(10 + number)).unwrap();
        }
        changes.recall(&cut).unwrap()
    };
    assert_eq!(last(&mut changes, NAMES - 2), Recall::Known);
    assert_eq!(last(&mut changes, 1), Recall::Forgotten);
    // Names leave the marks alone.
    changes.advance().unwrap();
    assert!(changes.changed_since(Epoch(1)).unwrap().is_empty());
    // Begun anew, nothing is known.
    tracker.tracker.detach(disk.dev()).unwrap();
    let mut changes = disk.track(&mut tracker);
    assert_eq!(changes.recall(&cut).unwrap(), Recall::Unknown);
}

/// What the tracker says of the time between the parent and now.
fn verdict(
    disk: &LoopDisk,
    parent: &Witness,
    changes: &mut DiskTracker,
) -> Result<Epoch, ProofFailure> {
    let (identity, now) = (disk.identity(), changes.cut().unwrap());
    let moment = |witness| Moment {
        disk: &identity,
        witness,
    };
    unbroken(moment(parent), moment(&now))
}

#[test]
fn a_capacity_that_was_set_and_set_back_is_noticed() {
    let Some(mut tracker) = PrivateTracker::start("a_capacity_that_was_set") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let mut changes = disk.track(&mut tracker);
    let resized = |size: u64| {
        let file = File::options().write(true).open(&disk.file).unwrap();
        file.set_len(size).unwrap();
        losetup(&["--set-capacity", &disk.device]);
    };
    let parent = changes.cut().unwrap();
    assert_eq!(verdict(&disk, &parent, &mut changes), Ok(parent.epoch));
    resized(SIZE / 2);
    resized(SIZE);
    assert_eq!(
        verdict(&disk, &parent, &mut changes),
        Err(ProofFailure::CapacitySet)
    );
    let parent = changes.cut().unwrap();
    assert_eq!(verdict(&disk, &parent, &mut changes), Ok(parent.epoch));
    // What one process has read of it, another that began before does not count again.
    let mut other = disk.track(&mut tracker);
    assert_eq!(verdict(&disk, &parent, &mut other), Ok(parent.epoch));
    assert_eq!(verdict(&disk, &parent, &mut changes), Ok(parent.epoch));
    if parent.capacity.is_none() {
        skipped(
            "a_capacity_that_was_set to what it was",
            "this kernel does not tell",
        );
        return;
    }
    // The kernel looked at the file when it was whole again.
    resized(SIZE);
    assert_eq!(
        verdict(&disk, &parent, &mut changes),
        Err(ProofFailure::CapacitySet)
    );
    let parent = changes.cut().unwrap();
    disk.write(0, 4096, 1);
    assert_eq!(verdict(&disk, &parent, &mut changes), Ok(parent.epoch));
}

/// Has Python do something to a loop device; `false`, said loudly, where there is none.
fn python(test: &str, script: &str, args: &[&str]) -> bool {
    pace::before_a_capacity_is_set();
    let all: Vec<&str> = ["-c", script].iter().chain(args).copied().collect();
    if !Path::new("/usr/bin/python3").exists() && !Path::new("/usr/local/bin/python3").exists() {
        skipped(test, "no python3");
        return false;
    }
    run("python3", &all);
    true
}

/// LOOP_GET_STATUS64, LOOP_SET_STATUS64; `lo_offset` is the fourth number.
const MOVE: &str = "
import fcntl, struct, sys
with open(sys.argv[1], 'rb+') as device:
    info = bytearray(232)
    fcntl.ioctl(device, 0x4C05, info)
    struct.pack_into('=Q', info, 24, int(sys.argv[2]))
    fcntl.ioctl(device, 0x4C04, info)
";

/// LOOP_CHANGE_FD.
const REPLACE: &str = "
import fcntl, sys
with open(sys.argv[1], 'rb') as device, open(sys.argv[2], 'rb') as other:
    fcntl.ioctl(device, 0x4C06, other.fileno())
";

#[test]
fn a_loop_device_that_shows_another_part_of_its_file_is_noticed() {
    let test = "a_loop_device_that_shows_another_part";
    let Some(mut tracker) = PrivateTracker::start(test) else {
        return;
    };
    let half = format!("--sizelimit={}", SIZE / 2);
    let disk = LoopDisk::within("/tmp", SIZE, &[&half]);
    let mut changes = disk.track(&mut tracker);
    if changes.witness().unwrap().capacity.is_none() {
        skipped(test, "this kernel cannot tell");
        return;
    }
    let parent = changes.cut().unwrap();
    let before = disk.described();
    let second = (SIZE / 2).to_string();
    for offset in [&second, "0"] {
        if !python(test, MOVE, &[&disk.device, offset]) {
            return;
        }
        assert_eq!(disk.described(), before);
        assert_eq!(
            verdict(&disk, &parent, &mut changes),
            Err(ProofFailure::CapacitySet)
        );
    }
}

#[test]
fn a_file_put_in_the_place_of_another_is_noticed() {
    let test = "a_file_put_in_the_place_of_another";
    let Some(mut tracker) = PrivateTracker::start(test) else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &["--read-only"]);
    let mut changes = disk.track(&mut tracker);
    let (parent, identity) = (changes.cut().unwrap(), disk.identity());
    if identity.diskseq.is_none() {
        skipped(test, "no disk sequence numbers");
        return;
    }
    let other = disk.file.with_file_name("other.img");
    File::create(&other).unwrap().set_len(SIZE).unwrap();
    if !python(test, REPLACE, &[&disk.device, other.to_str().unwrap()]) {
        return;
    }
    assert!(changes.witness().is_err(), "the marks are of another disk");
    let mut changes = disk.track(&mut tracker);
    let now = (changes.cut().unwrap(), disk.identity());
    let then = Moment {
        disk: &identity,
        witness: &parent,
    };
    let now = Moment {
        disk: &now.1,
        witness: &now.0,
    };
    assert_eq!(unbroken(then, now), Err(ProofFailure::OtherDisk));
}

#[test]
fn without_a_watch_on_capacities_tracking_works_and_proves_nothing_of_before() {
    let Some(mut private) = PrivateTracker::start("without_a_watch") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let mut changes = disk.track(&mut private);
    let parent = changes.cut().unwrap();
    if parent.capacity.is_none() {
        skipped("without_a_watch", "this kernel cannot tell");
        return;
    }
    drop(changes);
    let pins = private.let_go();
    let at = |name: &str| pins.0.path().join("v2").join(name);
    std::fs::remove_file(at("link_c")).unwrap();
    assert!(Tracker::open(&pins.0).unwrap().is_none(), "one of two");
    std::fs::remove_file(at("link_d")).unwrap();
    let mut tracker = Tracker::open(&pins.0).unwrap().unwrap();
    let mut changes = tracker.attach(&disk.described()).unwrap();
    assert_eq!(
        verdict(&disk, &parent, &mut changes),
        Err(ProofFailure::Restarted)
    );
    let parent = changes.cut().unwrap();
    assert_eq!(parent.capacity, None);
    disk.write(3 * BLOCK_SIZE, 4096, 1);
    assert_eq!(verdict(&disk, &parent, &mut changes), Ok(parent.epoch));
}

#[test]
fn what_another_version_pinned_is_replaced_in_words_or_swept_away() {
    let Some(old) = PrivateTracker::start("what_another_version_pinned") else {
        return;
    };
    let pins = old.let_go();
    let older = || {
        let at = |version: &str| pins.0.path().join(version);
        std::fs::rename(at("v2"), at("v1")).unwrap();
        assert!(Tracker::open(&pins.0).unwrap().is_none());
    };
    older();
    let (_, started) = Tracker::start(&pins.0).unwrap();
    let why = started.replaced.unwrap();
    assert!(why.contains("another version"), "{why}");
    assert_eq!(started.self_test, Some(SelfTest::Passed));
    assert!(!pins.0.path().join("v1").exists());
    // A running one is not swept away.
    Tracker::sweep(&pins.0).unwrap();
    assert!(Tracker::open(&pins.0).unwrap().is_some());
    older();
    Tracker::sweep(&pins.0).unwrap();
    assert!(!pins.0.path().exists());
    Tracker::sweep(&pins.0).unwrap();
}
