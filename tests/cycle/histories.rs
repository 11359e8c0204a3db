//! Machines, vaults and disks that are taken back to what they were, or were never what they seem:
//! whatever the tracker believes, each snapshot is the disk as it is.

use super::load::Raw;
use super::proofs::{Bench, SIZE};
use crate::support::host::{losetup, run, skipped};
use crate::support::marks::{pages, put_back};
use crate::support::rig::new_vault;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stillpoint::model::Mode;

/// Puts the bytes below the disk, past everything that could mark them.
fn put_below(bench: &Bench, bytes: &[u8]) {
    bench.disk.flush();
    let file = File::options().write(true).open(&bench.disk.file).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    bench.disk.flush();
}

#[test]
fn a_machine_taken_back_to_an_earlier_state_is_compared() {
    let test = "a_machine_taken_back_to_an_earlier_state_is_compared";
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    bench.taken(Mode::Full, "first snapshot");
    bench.taken(Mode::Incremental, "tracked since");
    bench.disk.flush();
    let pins = bench.rig.places.pins.clone();
    let saved = (bench.disk.contents(), pages(&pins, &bench.disk));
    // What happens now will not have happened, but for the vault, which is elsewhere.
    let size = bench.disk.described().size.0;
    Raw::open(&bench.disk.device, size).write(4096, &[0xee; 2 << 20]);
    let future = bench.taken(Mode::Incremental, "tracked since");
    assert_ne!(bench.disk.contents(), saved.0);
    put_below(&bench, &saved.0);
    put_back(&pins, &bench.disk, &saved.1);
    assert_eq!(bench.disk.contents(), saved.0);
    // The same history has other snapshots, until its epochs have passed the parent's.
    let daily = new_vault(&bench.rig.dir.path().join("daily"));
    let passed = future.disks[0].cut.as_ref().unwrap().epoch;
    while bench.taken_to(&daily, false).1.cut.unwrap().epoch <= passed {
        bench.change();
    }
    bench.broken("does not know of the parent's cut");
    // The other chain goes on.
    let (_, record) = bench.taken_to(&daily, false);
    assert!(record.reason.contains("tracked since"), "{}", record.reason);
}

/// All files below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => _ = all.insert(path),
        }
    }
    all
}

#[test]
fn a_vault_put_back_to_an_earlier_state_is_built_on() {
    let test = "a_vault_put_back_to_an_earlier_state_is_built_on";
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    bench.taken(Mode::Full, "first snapshot");
    let known = bench.taken(Mode::Incremental, "tracked since");
    let folder = bench.rig.vault.local_path().unwrap().to_owned();
    // Objects never change: what the vault was is the files that it had.
    let before = files(&folder);
    for _ in 0..2 {
        bench.taken(Mode::Incremental, "tracked since");
    }
    for path in files(&folder).difference(&before) {
        std::fs::remove_file(path).unwrap();
    }
    assert!(before.iter().all(|path| path.exists()));
    bench.taken(Mode::Incremental, &known.snapshot.to_string());
    bench.taken(Mode::Incremental, "tracked since");
}

#[test]
fn two_machines_that_began_as_one_share_a_vault() {
    let test = "two_machines_that_began_as_one_share_a_vault";
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    let vault = Arc::clone(&bench.rig.vault);
    bench.taken(Mode::Full, "first snapshot");
    bench.disk.flush();
    let pins = bench.rig.places.pins.clone();
    let mut asleep = (bench.disk.contents(), pages(&pins, &bench.disk));
    // They take turns: each has its own disk and its own memory.
    for turn in 0..4 {
        bench.change();
        let (_, record) = bench.taken_to(&vault, false);
        let mode = if turn == 0 {
            Mode::Incremental
        } else {
            Mode::Compare
        };
        let words = if turn == 0 {
            "tracked since"
        } else {
            "does not know of"
        };
        assert_eq!(record.mode, mode, "turn {turn}: {}", record.reason);
        assert!(record.reason.contains(words), "{}", record.reason);
        let awake = (bench.disk.contents(), pages(&pins, &bench.disk));
        put_below(&bench, &asleep.0);
        put_back(&pins, &bench.disk, &asleep.1);
        asleep = awake;
    }
}

#[test]
fn a_disk_made_smaller_and_as_large_again_is_compared() {
    let test = "a_disk_made_smaller_and_as_large_again_is_compared";
    let Some(mut bench) = Bench::new(test) else {
        return;
    };
    let first = bench.taken(Mode::Full, "first snapshot");
    let watched = first.disks[0].cut.as_ref().unwrap().capacity.is_some();
    if !watched {
        skipped(test, "unseen: this kernel does not tell");
    }
    let whole = std::fs::metadata(&bench.disk.file).unwrap().len();
    for times in [2, 1].into_iter().take(1 + usize::from(watched)) {
        bench.taken(Mode::Incremental, "tracked since");
        let file = File::options().write(true).open(&bench.disk.file).unwrap();
        let told = told_in_the_log(&bench.disk.device);
        for _ in 0..30 {
            // The second time nobody is told that it was smaller.
            for size in [SIZE / 4, whole].into_iter().enumerate() {
                file.set_len(size.1).unwrap();
                if size.0 == 1 || times == 2 {
                    losetup(&["--set-capacity", &bench.disk.device]);
                }
            }
            // Of ten changes in five seconds, of whatever disks, the kernel's log tells no more.
            if watched || told_in_the_log(&bench.disk.device) > told {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        bench.broken("its capacity was set");
    }
}

/// How often the kernel's log tells that the disk's capacity has changed.
fn told_in_the_log(device: &str) -> usize {
    let sign = format!("{}: detected capacity change", &device["/dev/".len()..]);
    run("dmesg", &[]).matches(&sign).count()
}
