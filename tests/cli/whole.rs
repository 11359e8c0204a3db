//! Disks that are unusual and must work all the same, to the last sector; and restores onto devices
//! that held something else before.

use super::lab::{Disk, Lab, noise};
use std::fs::File;
use std::os::unix::fs::FileExt;

fn write(disk: &Disk, offset: u64, bytes: &[u8]) {
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(bytes, offset).unwrap();
    device.sync_all().unwrap();
}

fn contents(disk: &Disk) -> Vec<u8> {
    // Through the device: what a user of it sees.
    let device = File::open(&disk.device).unwrap();
    let mut bytes = vec![0; disk.image.metadata().unwrap().len() as usize];
    device.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A snapshot, a second one after a change at the very end, and both restored.
fn to_the_last_sector(test: &str, size: u64, options: &[&str]) {
    let Some(lab) = Lab::with_vault(test) else {
        return;
    };
    let disk = lab.disk_with("disk", size, options);
    write(&disk, 0, &noise(size.min(70_000) as usize / 4096 * 4096, 1));
    write(&disk, size - 4096, &noise(4096, 2));
    let first = contents(&disk);
    lab.run(&["snapshot", &disk.device, "--all-blocks"])
        .expect(0);
    write(&disk, size - 4096, &noise(4096, 3));
    let second = contents(&disk);
    assert!(first != second);
    let taken = lab.json(&["snapshot", &disk.device]);
    // Or compared, where the kernel has hidden a write from tracking and that was found out.
    let reason = taken["disks"][0]["reason"].as_str().unwrap();
    let found_out = reason.contains("did not see");
    assert!(
        taken["disks"][0]["mode"] == "incremental" || found_out,
        "{taken}"
    );
    assert_eq!(taken["disks"][0]["size_bytes"], size);
    let list = lab.json(&["list"]);
    for (number, expected) in [second, first].iter().enumerate() {
        let id = list["snapshots"][number]["snapshot"].as_str().unwrap();
        let target = lab.at(&format!("out{number}"));
        lab.run(&["restore", id, &target]).expect(0);
        assert!(&std::fs::read(&target).unwrap() == expected, "to a file");
        let device = lab.disk_with(&format!("target{number}"), size, options);
        write(&device, 0, &noise(size as usize / 4096 * 4096, 9));
        lab.run(&["restore", id, &device.device, "--yes"]).expect(0);
        assert!(
            &contents(&device) == expected,
            "to a device full of garbage"
        );
    }
    lab.run(&["verify", "--all"]).expect(0);
}

#[test]
fn a_disk_that_ends_in_the_middle_of_a_block() {
    let size = (5 << 20) + 3 * 4096 + 512;
    // Its last write must be of whole sectors of it.
    to_the_last_sector("cli: odd size", size, &["--direct-io=on"]);
}

#[test]
fn a_disk_with_sectors_of_4_kib() {
    let size = (5 << 20) + 3 * 4096;
    let options = ["--direct-io=on", "--sector-size", "4096"];
    to_the_last_sector("cli: 4 KiB sectors", size, &options);
}

#[test]
fn a_disk_smaller_than_a_block() {
    to_the_last_sector("cli: tiny", 9 * 4096, &[]);
}

#[test]
fn holes_become_zeros_and_what_is_beyond_stays() {
    let Some(lab) = Lab::with_vault("cli: holes") else {
        return;
    };
    let size = 24 << 20;
    let mut disk = lab.disk("disk", size);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), noise(3 << 20, 1)).unwrap();
    let taken = lab.json(&["snapshot", &disk.device]);
    assert!(taken["disks"][0]["free_skipped_bytes"].as_u64().unwrap() > 0);
    disk.unmount();
    // Larger, and full of garbage.
    let target = lab.disk("target", 2 * size);
    let garbage = noise(2 * size as usize, 9);
    write(&target, 0, &garbage);
    lab.run(&["restore", "latest", &target.device, "--yes"])
        .expect(0);
    let restored = contents(&target);
    // But for the last MiB, where labels of what the device was part of would stand.
    let last = restored.len() - (1 << 20);
    assert!(
        restored[size as usize..last] == garbage[size as usize..last],
        "beyond"
    );
    assert!(restored[last..].iter().all(|byte| *byte == 0), "old labels");
    lab.run(&["restore", "latest", &lab.at("out")]).expect(0);
    let file = std::fs::read(lab.path("out")).unwrap();
    assert!(
        restored[..size as usize] == file[..],
        "device and file differ"
    );
    let mut target = target;
    let place = target.mount_again("ext4");
    assert!(std::fs::read(place.join("file")).unwrap() == noise(3 << 20, 1));
}

#[test]
fn force_replaces_a_file_and_leaves_no_other() {
    let Some(lab) = Lab::with_vault("cli: force") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    write(&disk, 4096, &noise(4096, 1));
    lab.run(&["snapshot", &disk.device]).expect(0);
    std::fs::create_dir(lab.path("to")).unwrap();
    let target = lab.at("to/file");
    std::fs::write(&target, "old").unwrap();
    lab.run(&["restore", "latest", &target]).expect(1);
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
    lab.run(&["restore", "latest", &target, "--force"])
        .expect(0);
    assert!(std::fs::read(&target).unwrap() == contents(&disk));
    assert_eq!(std::fs::read_dir(lab.path("to")).unwrap().count(), 1);
}
