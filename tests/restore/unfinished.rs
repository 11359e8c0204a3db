//! Restores that are killed, stopped or fail: a device says that it is not whole, and holds nothing
//! that looks whole; the same command again makes it so.

use crate::cli::lab::{Disk, Lab, noise, tool, try_tool, wait};
use crate::support::host::partition;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 192 * MIB;
const MARK: &[u8] = b"STILLPOINT: THIS DISK IS NOT WHOLE. ";

/// A disk with a GPT and ext4 on its partition, or ext4 on the whole of it, full of noise.
fn source(lab: &Lab, table: bool) -> Disk {
    let mut disk = lab.disk("disk", SIZE);
    let mut part = disk.device.clone();
    if table {
        partition(Path::new(&disk.device), &[(2048, SIZE / 512 - 4096)]);
        part = format!("{}p1", disk.device);
    }
    tool("mkfs.ext4", &["-q", &part]);
    let place = lab.path("mnt");
    std::fs::create_dir(&place).unwrap();
    tool("mount", &[&part, place.to_str().unwrap()]);
    disk.mounted = Some(place.clone());
    std::fs::write(place.join("file"), noise(120 << 20, 1)).unwrap();
    disk.unmount();
    disk
}

fn head(disk: &Disk) -> Vec<u8> {
    let mut head = vec![0; MIB as usize];
    let device = File::open(&disk.device).unwrap();
    device.read_exact_at(&mut head, 0).unwrap();
    head
}

/// Nothing on the device looks whole or bootable.
fn is_marked(target: &Disk, snapshot: &str) {
    let head = head(target);
    assert!(head.starts_with(MARK), "{:?}", &head[..64]);
    let text = String::from_utf8_lossy(&head[..256]);
    assert!(text.contains(snapshot) && text.contains("again"), "{text}");
    assert!(head[512..].iter().all(|byte| *byte == 0));
    let found = try_tool("blkid", &["-p", &target.device]);
    assert!(!found, "blkid finds something on it");
    let mut last = [0; 512];
    let device = File::open(&target.device).unwrap();
    let size = target.image.metadata().unwrap().len();
    device.read_exact_at(&mut last, size - 512).unwrap();
    assert!(
        !last.starts_with(b"EFI PART"),
        "the backup of what was there before"
    );
}

fn struck_in_the_middle(test: &str, table: bool) {
    let Some(lab) = Lab::with_vault(test) else {
        return;
    };
    let disk = source(&lab, table);
    let taken = lab.json(&["snapshot", &disk.device]);
    let snapshot = taken["snapshot"].as_str().unwrap();
    let raw = lab.at("raw");
    lab.run(&["restore", "latest", &raw]).expect(0);
    let whole = std::fs::read(&raw).unwrap();
    // Larger, and with a table of its own, of which nothing may be left.
    let target = lab.disk("target", SIZE + 16 * MIB);
    partition(Path::new(&target.device), &[(2048, 4096)]);
    let args = [
        "restore",
        "latest",
        &target.device,
        "--yes",
        "--no-move-gpt",
    ];
    let mut unfinished = 0;
    for (round, signal) in [Signal::SIGKILL, Signal::SIGTERM]
        .into_iter()
        .cycle()
        .take(12)
        .enumerate()
    {
        // What the last one has left must not be taken for this one's.
        let device = File::options().write(true).open(&target.device).unwrap();
        device.write_all_at(&[7; 4096], 0).unwrap();
        drop(device);
        let mut command = lab.command(&args);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Once it has begun to overwrite, and then a little longer each time.
        while !head(&target).starts_with(MARK) && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(4 * round as u64));
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        let status = wait(&mut child, "a restore that was struck");
        if status.success() {
            assert!(std::fs::read(&target.device).unwrap()[..whole.len()] == whole[..]);
            continue;
        }
        unfinished += 1;
        is_marked(&target, snapshot);
        if signal == Signal::SIGTERM {
            assert_eq!(status.code(), Some(143));
            for words in ["the target is not whole", "the same command again"] {
                assert!(said.contains(words), "{said}");
            }
        }
    }
    println!("{test}: {unfinished} were not finished");
    assert!(unfinished > 3, "hardly any was struck");
    if head(&target).starts_with(MARK) {
        // What was confirmed once need not be confirmed again.
        lab.run(&["restore", "latest", &target.device, "--no-move-gpt"])
            .expect(0);
    }
    assert!(std::fs::read(&target.device).unwrap()[..whole.len()] == whole[..]);
}

#[test]
fn a_device_that_is_not_whole_says_so() {
    struck_in_the_middle("restore: killed, with a table", true);
}

#[test]
fn also_without_a_partition_table() {
    struck_in_the_middle("restore: killed, without a table", false);
}

/// The device's own file has no room: an error in the middle.
#[test]
fn a_device_that_fails_says_how_to_go_on() {
    let Some(lab) = Lab::with_vault("restore: failing device") else {
        return;
    };
    let disk = lab.disk("disk", 32 * MIB);
    std::fs::write(&disk.device, noise(32 << 20, 1)).unwrap();
    tool("sync", &["-d", &disk.device]);
    let taken = lab.json(&["snapshot", &disk.device]);
    let place = lab.path("small");
    std::fs::create_dir(&place).unwrap();
    let at = place.to_str().unwrap();
    if !try_tool("mount", &["-t", "tmpfs", "-o", "size=16m", "tmpfs", at]) {
        return crate::support::host::skipped("restore: failing device", "no tmpfs");
    }
    let unmount = super::qcow2::Unmount(at.to_owned());
    let target = lab.disk("small/target", 32 * MIB);
    let run = lab.run(&["restore", "latest", &target.device]).expect(1);
    for words in ["the target is not whole", "again"] {
        assert!(run.stderr.contains(words), "{run:?}");
    }
    is_marked(&target, taken["snapshot"].as_str().unwrap());
    drop(target);
    drop(unmount);
}
