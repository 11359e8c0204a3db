//! What uses a disk without a trace in any mount table is not frozen, and the level says so.

use super::lab::{Disk, Lab, tool};
use std::fs::File;
use std::io::Write;
use std::path::Path;

fn unmount_lazily(disk: &mut Disk) {
    let place = disk.mounted.take().unwrap();
    tool("umount", &["--lazy", place.to_str().unwrap()]);
    wait_until_unlisted(&place);
}

/// Another test's mount namespace may have been made while it was mounted.
fn wait_until_unlisted(place: &Path) {
    let place = place.to_str().unwrap();
    let lists = |process: std::fs::DirEntry| {
        let table = std::fs::read_to_string(process.path().join("mountinfo"));
        table.is_ok_and(|table| table.contains(place))
    };
    for _ in 0..1000 {
        let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
        if !processes.any(lists) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("{place} stays mounted somewhere");
}

#[test]
fn a_filesystem_unmounted_lazily_lowers_the_level() {
    let Some(lab) = Lab::with_vault("claims: unmounted lazily") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    let mut file = File::create(place.join("file")).unwrap();
    let frozen = lab.json(&["snapshot", &disk.device]);
    assert_eq!(frozen["level"], "filesystem");

    unmount_lazily(&mut disk);
    file.write_all(&[7; 100_000]).unwrap();
    let run = lab.run(&["snapshot", &disk.device, "--json"]).expect(3);
    let taken = run.json();
    assert_eq!(taken["level"], "crash", "{taken}");
    assert_eq!(taken["disks"][0]["level"], "crash");
    let warnings = taken["warnings"].to_string();
    let words = format!("{} is in use, and no mount table tells", disk.name());
    assert!(warnings.contains(&words), "{warnings}");

    // At the level `crash` nothing was to be frozen.
    let args = ["snapshot", &disk.device, "--level", "crash"];
    assert_eq!(lab.json(&args)["level"], "crash");
    drop(file);
    wait_until_free(&disk.device);
    let taken = lab.json(&["snapshot", &disk.device]);
    assert_eq!(taken["warnings"].as_array().unwrap().len(), 0, "{taken}");
}

/// The superblock goes away a moment after the last file.
fn wait_until_free(device: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_EXCL);
    for _ in 0..1000 {
        if options.open(device).is_ok() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("{device} stays in use");
}

#[test]
fn a_partition_in_unknown_use_lowers_the_level_beside_a_frozen_one() {
    let Some(lab) = Lab::with_vault("claims: a partition") else {
        return;
    };
    let mut disk = lab.disk_with("disk", 40 << 20, &["--direct-io=on", "--partscan"]);
    let parts = [(2048, 32768), (40960, 32768)];
    crate::support::host::partition(Path::new(&disk.device), &parts);
    let part = |number: u32| format!("{}p{number}", disk.device);
    let lazy = ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    for number in [1, 2] {
        tool("mkfs.ext4", &[&lazy[..], &[&part(number)]].concat());
    }
    let place = |name: &str| {
        let place = lab.at(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let (kept, lost) = (place("kept"), place("lost"));
    tool("mount", &[&part(1), &kept]);
    let first = lab.run(&["snapshot", &disk.device, "--json"]);
    tool("mount", &[&part(2), &lost]);
    let file = File::create(Path::new(&lost).join("file")).unwrap();
    tool("umount", &["--lazy", &lost]);
    wait_until_unlisted(Path::new(&lost));
    let second = lab.run(&["snapshot", &disk.device, "--json"]);
    drop(file);
    disk.mounted = Some(kept.into());
    assert_eq!(first.expect(0).json()["level"], "filesystem");
    let second = second.expect(3).json();
    assert_eq!(second["level"], "crash", "{second}");
    assert_eq!(
        second["disks"][0]["filesystems"].as_array().unwrap().len(),
        1
    );
    let warnings = second["warnings"].to_string();
    assert!(
        warnings.contains(&format!("{}p2 is in use", disk.name())),
        "{warnings}"
    );
    wait_until_free(&part(2));
}

#[test]
fn asking_for_applications_where_nothing_is_mounted_says_why_it_is_less() {
    let Some(lab) = Lab::with_vault("claims: nothing mounted") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    let hook = |name: &str| {
        let path = lab.at(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        tool("chmod", &["0700", &path]);
        path
    };
    let (before, after) = (hook("pre"), hook("post"));
    let args = ["snapshot", &disk.device, "--level", "application", "--json"];
    let hooks = ["--prescript", &before, "--postscript", &after];
    let taken = lab.run(&[&args[..], &hooks].concat()).expect(3).json();
    assert_eq!(taken["level"], "crash");
    let warnings = taken["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{taken}");
    let words = format!("nothing is mounted on {}", disk.name());
    assert!(warnings[0].as_str().unwrap().contains(&words), "{taken}");
}
