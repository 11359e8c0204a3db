//! Devices that are larger than the disk was: the partition table fits them, and only it changes.

use crate::cli::lab::{Disk, Lab, noise, tool};
use crate::support::host::{partition, skipped};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn bytes(device: &str) -> Vec<u8> {
    std::fs::read(device).unwrap()
}

/// What `sgdisk` says of a table; it must find nothing wrong.
fn verified(device: &str, test: &str) {
    if !Path::new("/usr/sbin/sgdisk").exists() {
        return skipped(test, "needs sgdisk");
    }
    let said = tool("sgdisk", &["-v", device]);
    assert!(said.contains("No problems found"), "{said}");
}

/// The first 446 bytes and all partition entries in a disk with a GPT.
fn untouched(disk: &[u8], sector: usize) -> (&[u8], &[u8]) {
    (&disk[..446], &disk[2 * sector..2 * sector + 16384])
}

/// A disk with a GPT whose partitions have odd numbers, names and flags, as images have them, and
/// something in the places around them.
fn odd_disk(lab: &Lab, size: u64, sector: u32) -> Disk {
    let text = sector.to_string();
    let disk = lab.disk_with("disk", size, &["--sector-size", &text]);
    let per = MIB / u64::from(sector);
    partition(
        Path::new(&disk.device),
        &[(2 * per, per), (3 * per, 2 * per), (8 * per, 4 * per)],
    );
    let mut all = bytes(&disk.device);
    let s = sector as usize;
    // Partitions 1, 2, 3 become 1, 14, 15: the first entry stays, the others move.
    let array = 2 * s;
    let entry = |n: usize| array + n * 128..array + (n + 1) * 128;
    for (from, to) in [(2, 14), (1, 13)] {
        let moved = all[entry(from)].to_vec();
        all[entry(from)].fill(0);
        all[entry(to)].copy_from_slice(&moved);
        // An odd name, and the attributes of a partition that boots.
        all[entry(to)][48] = 5;
        all[entry(to)][56..60].copy_from_slice(&[0x00, 0xd8, b'x', 0]);
    }
    all[..446].copy_from_slice(&noise(446, 3));
    fix_sums(&mut all, s, size);
    std::fs::write(&disk.device, &all).unwrap();
    tool("sync", &["-d", &disk.device]);
    disk
}

/// Right checksums for both tables, the entries being those of the first.
fn fix_sums(all: &mut [u8], sector: usize, size: u64) {
    let array = all[2 * sector..2 * sector + 16384].to_vec();
    let last = size as usize / sector * sector - sector;
    let backup = last - 16384;
    all[backup..last].copy_from_slice(&array);
    for header in [sector, last] {
        let sum = crc32fast::hash(&array);
        all[header + 88..header + 92].copy_from_slice(&sum.to_le_bytes());
        all[header + 16..header + 20].fill(0);
        let sum = crc32fast::hash(&all[header..header + 92]);
        all[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
    }
}

fn moved_gpt(test: &str, sector: u32) {
    let Some(lab) = Lab::with_vault(test) else {
        return;
    };
    let size = 24 * MIB;
    let disk = odd_disk(&lab, size, sector);
    verified(&disk.device, test);
    let before = bytes(&disk.device);
    lab.run(&["snapshot", &disk.device, "--all-blocks"])
        .expect(0);
    let text = sector.to_string();
    let target = lab.disk_with("target", 40 * MIB + 3 * 4096, &["--sector-size", &text]);
    let answer = lab.json(&["restore", "latest", &target.device]);
    assert_eq!(answer["table"]["backup_moved"], true, "{answer}");
    assert_eq!(answer["table"]["type"], "gpt");
    assert_eq!(answer["table"]["grown"], Value::Null);
    verified(&target.device, test);
    let after = bytes(&target.device);
    let s = sector as usize;
    assert!(untouched(&before, s) == untouched(&after, s));
    // The protective MBR covers the new disk.
    let sectors = (after.len() / s - 1) as u32;
    assert_eq!(after[446 + 12..446 + 16], sectors.to_le_bytes());
    // What is in partitions and between them is the same, and the old backup is gone.
    assert!(before[MIB as usize..20 * MIB as usize] == after[MIB as usize..20 * MIB as usize]);
    let old = size as usize - 5 * 4096;
    assert!(before[old..].iter().any(|byte| *byte != 0));
    assert!(after[old..size as usize].iter().all(|byte| *byte == 0));
    // Off on request: as it was.
    let other = lab.disk_with("other", 40 * MIB, &["--sector-size", &text]);
    lab.json(&["restore", "latest", &other.device, "--no-move-gpt"]);
    assert!(bytes(&other.device)[..size as usize] == before[..]);
    // Nothing changes on a device of the same size.
    let same = lab.disk_with("same", size, &["--sector-size", &text]);
    let answer = lab.json(&["restore", "latest", &same.device]);
    assert_eq!(answer["table"], Value::Null);
    assert!(bytes(&same.device) == before);
}

#[test]
fn the_backup_gpt_moves_to_the_end() {
    moved_gpt("restore: GPT", 512);
}

#[test]
fn with_sectors_of_4_kib_too() {
    moved_gpt("restore: GPT of 4 KiB sectors", 4096);
}

/// A disk with one partition that holds this filesystem.
fn disk_with(lab: &Lab, name: &str, fstype: &str, size: u64) -> Disk {
    let disk = lab.disk(name, size);
    let per = MIB / 512;
    partition(Path::new(&disk.device), &[(per, size / 512 - 2 * per)]);
    let part = format!("{}p1", disk.device);
    let quiet: &[&str] = if fstype == "swap" { &[] } else { &["-q"] };
    let make = if fstype == "swap" {
        "mkswap".to_owned()
    } else {
        format!("mkfs.{fstype}")
    };
    tool(&make, &[quiet, &[&part]].concat());
    tool("sync", &["-d", &disk.device]);
    disk
}

fn growing(lab: &Lab, fstype: &str, size: u64) -> Value {
    let disk = disk_with(lab, &format!("{fstype}-disk"), fstype, size);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let target = lab.disk(&format!("{fstype}-target"), 2 * size + 5 * 512);
    let answer = lab.json(&["restore", "latest", &target.device, "--grow"]);
    let grown = &answer["table"]["grown"];
    assert_eq!(grown["partition"], 1, "{answer}");
    assert_eq!(grown["offset"], MIB);
    // To the last whole MiB before the backup table.
    assert_eq!(grown["length"], 2 * size - 2 * MIB, "{answer}");
    assert_eq!(grown["length_before"], size - 2 * MIB);
    verified(&target.device, "restore: grow");
    tool("partx", &["-u", &target.device]);
    let part = format!("{}p1", target.device);
    if fstype == "ext4" {
        // As the note says.
        let note = answer["notes"].to_string();
        let (_, command) = note.split_once("grows with: ").unwrap();
        let command = command.split(['"', ',']).next().unwrap();
        assert_eq!(command, format!("e2fsck -f {part} && resize2fs {part}"));
        tool("sh", &["-c", &command.replace("-f", "-fy")]);
        let said = tool("dumpe2fs", &["-h", &part]);
        let blocks = said
            .lines()
            .find(|line| line.starts_with("Block count"))
            .unwrap();
        let blocks: u64 = blocks.split_whitespace().last().unwrap().parse().unwrap();
        assert!(blocks * 1024 > size, "{said}");
    }
    answer["notes"].clone()
}

#[test]
fn the_last_partition_grows_and_the_filesystem_has_a_command() {
    let Some(lab) = Lab::with_vault("restore: grow") else {
        return;
    };
    let notes = |fstype, size| growing(&lab, fstype, size).to_string();
    assert!(notes("ext4", 32 * MIB).contains("resize2fs"));
    assert!(notes("swap", 16 * MIB).contains("mkswap"));
    let xfs = notes("xfs", 320 * MIB);
    assert!(
        xfs.contains("xfs_growfs") && xfs.contains("nouuid"),
        "{xfs}"
    );
    assert!(notes("btrfs", 128 * MIB).contains("btrfs filesystem resize max"));
}

/// Four bytes of a partition in an MBR: type; then start and length in sectors.
fn mbr(disk: &Disk, parts: &[(usize, u8, u32, u32)]) {
    let mut sector = vec![0; 512];
    sector[..446].copy_from_slice(&noise(446, 9));
    for (n, kind, start, length) in parts {
        let entry = &mut sector[446 + 16 * n..446 + 16 * (n + 1)];
        entry[4] = *kind;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..].copy_from_slice(&length.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(&sector, 0).unwrap();
    device.sync_all().unwrap();
}

#[test]
fn in_an_mbr_the_last_primary_partition_grows() {
    let Some(lab) = Lab::with_vault("restore: MBR") else {
        return;
    };
    let disk = lab.disk("disk", 24 * MIB);
    // Not in the order of their places.
    mbr(&disk, &[(0, 0x83, 20480, 8192), (3, 0x83, 2048, 4096)]);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let before = bytes(&disk.device);
    let target = lab.disk("target", 48 * MIB + 512);
    lab.run(&["restore", "latest", &target.device]).expect(0);
    let after = bytes(&target.device);
    assert!(
        after[..before.len()] == before[..],
        "nothing changes unasked"
    );
    let answer = lab.json(&["restore", "latest", &target.device, "--grow", "--yes"]);
    assert_eq!(answer["table"]["grown"]["partition"], 1, "{answer}");
    assert_eq!(answer["table"]["grown"]["length"], 38 * MIB);
    let after = bytes(&target.device);
    let differ: Vec<usize> = (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect();
    let entry = 446 + 5..446 + 16;
    assert!(differ.iter().all(|at| entry.contains(at)), "{differ:?}");
    assert_eq!(after[446 + 12..446 + 16], (38 * 2048_u32).to_le_bytes());
}

#[test]
fn an_extended_partition_is_not_grown() {
    let Some(lab) = Lab::with_vault("restore: extended") else {
        return;
    };
    let disk = lab.disk("disk", 24 * MIB);
    mbr(&disk, &[(0, 0x83, 2048, 4096), (1, 0x05, 8192, 8192)]);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let target = lab.disk("target", 48 * MIB);
    let run = lab
        .run(&["restore", "latest", &target.device, "--grow"])
        .expect(5);
    assert!(run.stderr.contains("extended"), "{run:?}");
    assert!(
        bytes(&target.device).iter().all(|byte| *byte == 0),
        "before anything is written"
    );
    lab.run(&["restore", "latest", &target.device]).expect(0);
}

#[test]
fn without_a_table_there_is_nothing_to_change_but_the_filesystem() {
    let Some(lab) = Lab::with_vault("restore: no table") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 * MIB);
    disk.mount("ext4");
    lab.run(&["snapshot", &disk.device]).expect(0);
    let target = lab.disk("target", 48 * MIB);
    let run = lab
        .run(&["restore", "latest", &target.device, "--grow"])
        .expect(0);
    let words = format!(
        "there is no partition table to change; its filesystem grows with: \
        e2fsck -f {0} && resize2fs {0}",
        target.device
    );
    assert!(run.stdout.contains(&words), "{run:?}");
    tool("e2fsck", &["-fy", &target.device]);
    tool("resize2fs", &[&target.device]);
    // An image has the size of its disk.
    let run = lab
        .run(&["restore", "latest", &lab.at("image"), "--grow"])
        .expect(2);
    assert!(run.stderr.contains("--grow is for devices"), "{run:?}");
}

/// A table that is not understood is left alone, and that is said.
#[test]
fn a_damaged_gpt_stays_as_it_is() {
    let Some(lab) = Lab::with_vault("restore: damaged GPT") else {
        return;
    };
    for (n, at) in [512 + 60, 1024 + 40].into_iter().enumerate() {
        let name = format!("disk{n}");
        let disk = lab.disk(&name, 24 * MIB);
        partition(Path::new(&disk.device), &[(2048, 2048)]);
        let device = File::options()
            .read(true)
            .write(true)
            .open(&disk.device)
            .unwrap();
        let mut byte = [0];
        device.read_exact_at(&mut byte, at).unwrap();
        device.write_all_at(&[byte[0] ^ 1], at).unwrap();
        device.sync_all().unwrap();
        lab.run(&["snapshot", &disk.device]).expect(0);
        let target = lab.disk(&format!("target{n}"), 32 * MIB);
        let answer = lab.json(&["restore", "latest", &target.device, "--grow"]);
        let notes = answer["notes"].to_string();
        assert!(
            notes.contains("left as it was") && notes.contains("damaged"),
            "{notes}"
        );
        assert_eq!(answer["table"], Value::Null);
        let before = bytes(&disk.device);
        assert!(bytes(&target.device)[..before.len()] == before[..]);
    }
}

/// The kernel finds the partitions of a disk that was restored.
#[test]
fn the_kernel_reads_the_new_table() {
    let Some(lab) = Lab::with_vault("restore: partitions") else {
        return;
    };
    let disk = disk_with(&lab, "disk", "ext4", 32 * MIB);
    lab.run(&["snapshot", &disk.device]).expect(0);
    // Not every kernel knows partition tables.
    let control = crate::support::host::attach(&disk.image, &["--partscan", "--read-only"]);
    let name = control.file_name().unwrap().to_str().unwrap();
    let knows = Path::new(&format!("/sys/block/{name}/{name}p1")).exists();
    crate::support::host::detach(&control);
    if !knows {
        return skipped("restore: partitions", "the kernel knows no GPT");
    }
    let target = lab.disk_with("target", 64 * MIB, &["--partscan"]);
    lab.run(&["restore", "latest", &target.device, "--grow"])
        .expect(0);
    let size = std::fs::read_to_string(format!("/sys/block/{0}/{0}p1/size", target.name()));
    assert_eq!(size.unwrap().trim(), (62 * 2048).to_string());
    let checked = Command::new("e2fsck")
        .args(["-fn", &format!("{}p1", target.device)])
        .output();
    assert!(checked.unwrap().status.success());
}
