//! Marks outlive processes, and nothing that ended is taken for going on.

use crate::support::host::{LoopDisk, losetup, skipped};
use crate::support::marks::pages;
use crate::support::tracked::{PrivateTracker, private_pins};
use std::os::unix::process::ExitStatusExt;
use stillpoint::ErrorKind;
use stillpoint::model::{BLOCK_SIZE, Bytes, DevNumber};
use stillpoint::sys::bpf::LoadedProgram;
use stillpoint::track::{
    ChangeSource, Moment, PinDir, ProofFailure, SelfTest, TrackedDisk, Tracker, unbroken,
};

const SIZE: u64 = 16 << 20;

#[test]
fn a_fresh_tracker_tries_itself_and_a_running_one_is_found() {
    let Some(tracker) = PrivateTracker::start("a_fresh_tracker") else {
        return;
    };
    let (_, again) = Tracker::start(&tracker.pins.0).unwrap();
    assert!(!again.loaded && again.replaced.is_none() && again.self_test.is_none());
    let (tracker, pins) = {
        let pins = private_pins();
        assert!(Tracker::open(&pins).unwrap().is_none());
        let (tracker, started) = Tracker::start(&pins).unwrap();
        assert!(started.loaded);
        assert_eq!(started.self_test, Some(SelfTest::Passed));
        (tracker, pins)
    };
    assert!(tracker.disks().unwrap().is_empty());
    assert!(Tracker::open(&pins).unwrap().is_some());
    tracker.stop().unwrap();
    assert!(Tracker::open(&pins).unwrap().is_none());
    assert!(!pins.path().exists());
}

#[test]
fn racing_starters_share_one_tracker() {
    let Some(tracker) = PrivateTracker::start("racing_starters") else {
        return;
    };
    Tracker::open(&tracker.pins.0)
        .unwrap()
        .unwrap()
        .stop()
        .unwrap();
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let race = || {
        let (mut tracker, started) = Tracker::start(&tracker.pins.0).unwrap();
        let witness = tracker
            .attach(&disk.described())
            .unwrap()
            .witness()
            .unwrap();
        (started.loaded, witness.programs, witness.map)
    };
    let all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(race)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(all.iter().filter(|(loaded, ..)| *loaded).count(), 1);
    assert!(
        all.iter()
            .all(|(_, programs, map)| (*programs, *map) == (all[0].1, all[0].2))
    );
}

/// Attaches to the pins and disk named in the environment, and dies of it.
#[test]
#[ignore = "run by marks_outlive_a_killed_process"]
fn attach_and_be_killed() {
    let Ok(pins) = std::env::var("STILLPOINT_TEST_PINS") else {
        return;
    };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let mut tracker = Tracker::open(&PinDir::named(&pins).unwrap())
        .unwrap()
        .unwrap();
    let described = TrackedDisk {
        dev: DevNumber {
            major: number("STILLPOINT_TEST_MAJOR") as u32,
            minor: number("STILLPOINT_TEST_MINOR") as u32,
        },
        size: Bytes(SIZE),
        diskseq: Some(number("STILLPOINT_TEST_DISKSEQ")),
    };
    tracker.attach(&described).unwrap().advance().unwrap();
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn marks_outlive_a_killed_process() {
    let Some(mut tracker) = PrivateTracker::start("marks_outlive") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let Some(diskseq) = disk.described().diskseq else {
        skipped("marks_outlive", "no disk sequence numbers");
        return;
    };
    let pins = tracker.pins.0.path().file_name().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "track::lifetime::attach_and_be_killed",
        ])
        .env("STILLPOINT_TEST_PINS", pins)
        .env("STILLPOINT_TEST_MAJOR", disk.dev().major.to_string())
        .env("STILLPOINT_TEST_MINOR", disk.dev().minor.to_string())
        .env("STILLPOINT_TEST_DISKSEQ", diskseq.to_string())
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(9));
    disk.write(4 * BLOCK_SIZE, 4096, 1);
    let mut changes = disk.track(&mut tracker);
    // Its epoch 2 goes on.
    assert_eq!(changes.witness().unwrap().epoch.0, 2);
    let since = changes.witness().unwrap().epoch;
    let seen: Vec<_> = changes.changed_since(since).unwrap().iter().collect();
    assert_eq!(seen, [stillpoint::model::BlockIndex(4)]);
    let status = tracker.tracker.disks().unwrap();
    assert_eq!(status.len(), 1);
    assert_eq!(status[0].disk, disk.described());
    assert_eq!(
        (status[0].epoch, status[0].grain),
        (since, Bytes(BLOCK_SIZE))
    );
}

#[test]
fn an_undisturbed_disk_has_a_proof_and_a_restarted_tracker_has_none() {
    let Some(mut tracker) = PrivateTracker::start("an_undisturbed_disk") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let identity = disk.identity();
    let mut changes = disk.track(&mut tracker);
    let parent = changes.cut().unwrap();
    let prove = |now: &stillpoint::track::Witness| {
        let moment = |witness| Moment {
            disk: &identity,
            witness,
        };
        unbroken(moment(&parent), moment(now))
    };
    disk.write(0, 4096, 1);
    drop(changes);
    let mut changes = disk.track(&mut tracker);
    assert_eq!(prove(&changes.cut().unwrap()), Ok(parent.epoch));

    tracker.tracker.detach(disk.dev()).unwrap();
    let gone = changes.witness().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::Inconsistent);
    assert_eq!(
        changes.changed_since(parent.epoch).unwrap_err().kind(),
        ErrorKind::Inconsistent
    );
    let mut renewed = disk.track(&mut tracker);
    assert_eq!(
        prove(&renewed.cut().unwrap()),
        Err(ProofFailure::MarksRenewed)
    );
    assert!(
        changes.witness().is_err(),
        "the old marks get no more marks"
    );

    Tracker::open(&tracker.pins.0)
        .unwrap()
        .unwrap()
        .stop()
        .unwrap();
    let refused = tracker.tracker.attach(&disk.described()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Inconsistent);
    let (mut restarted, _) = Tracker::start(&tracker.pins.0).unwrap();
    let mut changes = restarted.attach(&disk.described()).unwrap();
    assert_eq!(prove(&changes.cut().unwrap()), Err(ProofFailure::Restarted));
}

#[test]
fn another_disk_or_size_begins_anew() {
    let Some(mut tracker) = PrivateTracker::start("another_disk_or_size") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let mut changes = disk.track(&mut tracker);
    let first = changes.cut().unwrap();
    assert_eq!(disk.track(&mut tracker).witness().unwrap().map, first.map);

    let described = disk.described();
    std::fs::File::options()
        .write(true)
        .open(&disk.file)
        .and_then(|file| file.set_len(2 * SIZE))
        .unwrap();
    losetup(&["--set-capacity", &disk.device]);
    let stale = tracker.tracker.attach(&described).unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Inconsistent);
    let mut grown = disk.track(&mut tracker);
    let second = grown.cut().unwrap();
    assert_ne!(second.map, first.map);
    disk.write(2 * SIZE - 4096, 4096, 1);
    assert_eq!(grown.changed_since(second.epoch).unwrap().len(), 1);
    assert_eq!(grown.witness().unwrap().voids, 0);
}

#[test]
fn half_of_the_pins_is_not_a_tracker() {
    let Some(tracker) = PrivateTracker::start("half_of_the_pins") else {
        return;
    };
    let pins = &tracker.pins.0;
    for lost in ["link_a", "link_b", "disks", "fence"] {
        std::fs::remove_file(pins.path().join("v2").join(lost)).unwrap();
        assert!(Tracker::open(pins).unwrap().is_none(), "without {lost}");
        let (_, started) = Tracker::start(pins).unwrap();
        assert!(
            started.loaded && started.replaced.is_some(),
            "without {lost}"
        );
        assert!(Tracker::open(pins).unwrap().is_some());
    }
    // The copies in each other's place would be attached in the wrong order.
    let (a, b) = (pins.path().join("v2/link_a"), pins.path().join("v2/link_b"));
    let spare = pins.path().join("v2/spare");
    for (from, to) in [(&a, &spare), (&b, &a), (&spare, &b)] {
        std::fs::rename(from, to).unwrap();
    }
    assert!(Tracker::open(pins).unwrap().is_none());
}

/// The mark of a block, behind the header, the names and one page of summaries. A small epoch's
/// lower byte.
fn mark_of(pins: &PinDir, disk: &LoopDisk, block: usize) -> u8 {
    pages(pins, disk)[26][block * 2]
}

/// How many sectors the programs saw written.
fn seen(pins: &PinDir, disk: &LoopDisk) -> u64 {
    let header = pages(pins, disk)[0];
    u64::from_ne_bytes(header[128..136].try_into().unwrap())
}

#[test]
fn either_copy_marks_and_accounts_alone() {
    for (copy, lost) in ["link_a", "link_b"].into_iter().enumerate() {
        let Some(mut private) = PrivateTracker::start("either_copy") else {
            return;
        };
        let disk = LoopDisk::within("/tmp", SIZE, &[]);
        let mut changes = disk.track(&mut private);
        changes.advance().unwrap();
        disk.write(2 * BLOCK_SIZE, 4096, 1);
        let witness = changes.witness().unwrap();
        // Whoever has the links open keeps the programs attached.
        drop(changes);
        let pins = private.let_go();
        assert_eq!(mark_of(&pins.0, &disk, 2), 2, "without {lost}");
        std::fs::remove_file(pins.0.path().join("v2").join(lost)).unwrap();
        // The kernel detaches it in its own time.
        for _ in 0..500 {
            if LoadedProgram::by_id(witness.programs[copy]).is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let before = seen(&pins.0, &disk);
        disk.write(5 * BLOCK_SIZE, 4096, 1);
        assert_eq!(mark_of(&pins.0, &disk, 5), 2, "without {lost}");
        assert_eq!(seen(&pins.0, &disk), before + 8, "without {lost}");
    }
}

#[test]
fn disks_without_requests_are_refused() {
    let Some(mut tracker) = PrivateTracker::start("disks_without_requests") else {
        return;
    };
    let Ok(zram) = std::fs::read_to_string("/sys/block/zram0/dev") else {
        skipped("disks_without_requests", "no zram0 here");
        return;
    };
    let (major, minor) = zram.trim().split_once(':').unwrap();
    let described = TrackedDisk {
        dev: DevNumber {
            major: major.parse().unwrap(),
            minor: minor.parse().unwrap(),
        },
        size: Bytes(SIZE),
        diskseq: None,
    };
    let refused = tracker.tracker.attach(&described).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.hint().is_some());
}

#[test]
fn a_host_that_tracks_has_no_fatal_obstacle() {
    let Some(_tracker) = PrivateTracker::start("a_host_that_tracks") else {
        return;
    };
    assert_eq!(stillpoint::track::obstacles(), []);
}

#[test]
fn only_marks_of_ones_own_are_taken_away() {
    let Some(mut tracker) = PrivateTracker::start("only_marks_of_ones_own") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    drop(disk.track(&mut tracker));
    let tracker = &mut tracker.tracker;
    let first = tracker.marks_of(disk.dev()).unwrap().unwrap();
    tracker.detach(disk.dev()).unwrap();
    assert_eq!(tracker.marks_of(disk.dev()).unwrap(), None);
    // Somebody else begins anew.
    drop(tracker.attach(&disk.described()).unwrap());
    let second = tracker.marks_of(disk.dev()).unwrap();
    tracker.detach_if(disk.dev(), first).unwrap();
    assert_eq!(tracker.marks_of(disk.dev()).unwrap(), second);
    tracker.detach_if(disk.dev(), second.unwrap()).unwrap();
    assert_eq!(tracker.marks_of(disk.dev()).unwrap(), None);
}

#[test]
fn who_holds_programs_that_were_replaced_does_not_stop_their_successors() {
    let Some(old) = PrivateTracker::start("who_holds_programs_that_were_replaced") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", SIZE, &[]);
    let PrivateTracker { pins, tracker: old } = old;
    Tracker::open(&pins.0).unwrap().unwrap().stop().unwrap();
    let (mut new, _) = Tracker::start(&pins.0).unwrap();
    drop(new.attach(&disk.described()).unwrap());
    old.stop_if_idle().unwrap();
    let found = Tracker::open(&pins.0).unwrap().unwrap();
    assert!(found.marks_of(disk.dev()).unwrap().is_some());
    // One that is in use is not idle.
    found.stop_if_idle().unwrap();
    let found = Tracker::open(&pins.0).unwrap().unwrap();
    new.detach(disk.dev()).unwrap();
    found.stop_if_idle().unwrap();
    assert!(Tracker::open(&pins.0).unwrap().is_none());
}
