//! Devices that hold something: what is on them is told, and they are overwritten only when that
//! was asked for. And the restored disk that stands beside its original.

use crate::cli::lab::{Disk, Lab, PROGRAM, noise, tool, wait};
use crate::support::host::{partition, skipped};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};

const MIB: u64 = 1 << 20;

fn put(disk: &Disk, at: u64, bytes: &[u8]) {
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(bytes, at).unwrap();
    device.sync_all().unwrap();
}

/// A snapshot of a small disk of noise.
fn taken(test: &str) -> Option<(Lab, Disk)> {
    let lab = Lab::with_vault(test)?;
    let disk = lab.disk("disk", 4 * MIB);
    put(&disk, 0, &noise(70_000 / 512 * 512, 1));
    lab.run(&["snapshot", &disk.device]).expect(0);
    Some((lab, disk))
}

fn bytes(disk: &Disk) -> Vec<u8> {
    std::fs::read(&disk.device).unwrap()
}

/// Refused with words that hold all of these, and nothing was written.
fn refused(lab: &Lab, target: &Disk, words: &[&str]) {
    let before = bytes(target);
    let run = lab.run(&["restore", "latest", &target.device]).expect(2);
    for words in words
        .iter()
        .chain(&["--yes", "nothing was written", target.name()])
    {
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    let run = lab
        .run(&["restore", "latest", &target.device, "--json"])
        .expect(2);
    assert_eq!(run.json()["error"]["kind"], "usage");
    assert!(bytes(target) == before);
}

/// What blkid says of a device; it has been seen to say nothing right after mkfs, on a machine with
/// much to do.
fn told_by_blkid(tag: &str, device: &str) -> String {
    let args = ["-p", "-s", tag, "-o", "value", device];
    for _ in 0..50 {
        if crate::cli::lab::try_tool("blkid", &args) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    tool("blkid", &args)
}

#[test]
fn what_is_on_a_device_is_told_before_it_is_lost() {
    let Some((lab, disk)) = taken("restore: confirm") else {
        return;
    };
    let restored = bytes(&disk);
    let check = |target: &Disk, words: &[&str]| {
        refused(&lab, target, words);
        lab.run(&["restore", "latest", &target.device, "--yes"])
            .expect(0);
        assert!(bytes(target)[..restored.len()] == restored[..]);
    };
    for (n, (kind, size)) in [("ext4", 32), ("xfs", 320), ("btrfs", 128)]
        .iter()
        .enumerate()
    {
        let target = lab.disk(&format!("whole{n}"), size * MIB);
        tool(&format!("mkfs.{kind}"), &["-q", &target.device]);
        let uuid = told_by_blkid("UUID", &target.device);
        check(&target, &[&format!("holds {kind} ({uuid})")]);
    }
    let swap = lab.disk("swap", 32 * MIB);
    tool("mkswap", &[&swap.device]);
    let uuid = told_by_blkid("UUID", &swap.device);
    check(&swap, &[&format!("holds swap ({uuid})")]);
    let table = lab.disk("table", 32 * MIB);
    partition(Path::new(&table.device), &[(2048, 20480), (22528, 2048)]);
    let part = format!("{}p1", table.name());
    tool("mkfs.ext4", &["-q", &format!("/dev/{part}")]);
    let guid = told_by_blkid("PTUUID", &table.device);
    let first = format!("{part}, 10.00 MiB: ext4 (");
    let second = format!("{}p2, 1.00 MiB: nothing known", table.name());
    check(
        &table,
        &[&format!("(GPT {guid})"), &first, &second, "32.00 MiB"],
    );
    let mbr = lab.disk("mbr", 32 * MIB);
    mbr.partition();
    put(&mbr, 440, &[0xcd, 0xab, 0x34, 0x12]);
    check(&mbr, &["(MBR 1234abcd)"]);
}

#[test]
fn a_blank_device_needs_no_yes_but_any_byte_at_its_ends_does() {
    let Some((lab, _)) = taken("restore: blank") else {
        return;
    };
    for (n, at) in [0, 512 * 2047, 8 * MIB - 512].into_iter().enumerate() {
        let target = lab.disk(&format!("target{n}"), 8 * MIB);
        put(&target, at, &[0; 511]);
        let mut one = [0; 512];
        one[511] = 1;
        put(&target, at, &one);
        refused(&lab, &target, &["data of no kind known here"]);
        put(&target, at, &[0; 512]);
        lab.run(&["restore", "latest", &target.device]).expect(0);
    }
    // A disk that was restored holds something too.
    let target = lab.disk("again", 8 * MIB);
    lab.run(&["restore", "latest", &target.device]).expect(0);
    refused(&lab, &target, &[]);
}

/// A pseudo-terminal: what a user sees and types.
struct Terminal {
    master: File,
    slave: OwnedFd,
}

impl Terminal {
    fn new() -> Option<Self> {
        let pty = nix::pty::openpty(None, None).ok()?;
        Some(Self {
            master: File::from(pty.master),
            slave: pty.slave,
        })
    }

    fn start(&self, lab: &Lab, args: &[&str]) -> Child {
        let end = || Stdio::from(self.slave.as_fd().try_clone_to_owned().unwrap());
        let mut command = lab.command(args);
        command.stdin(end()).stderr(end()).stdout(Stdio::null());
        command.spawn().unwrap()
    }

    /// Reads until this was shown.
    fn shows(&mut self, words: &str) -> String {
        self.shows_all(&[words])
    }

    /// Reads until all of these were shown, in whichever order.
    fn shows_all(&mut self, words: &[&str]) -> String {
        let mut text = String::new();
        let mut some = [0; 1024];
        while !words.iter().all(|words| text.contains(words)) {
            let count = self.master.read(&mut some).unwrap();
            text.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        text
    }
}

#[test]
fn on_a_terminal_it_asks() {
    let Some((lab, disk)) = taken("restore: terminal") else {
        return;
    };
    let Some(mut terminal) = Terminal::new() else {
        return skipped("restore: terminal", "there are no pseudo-terminals");
    };
    assert!(PROGRAM.contains("stillpoint"));
    let target = lab.disk("target", 32 * MIB);
    tool("mkfs.ext4", &["-q", &target.device]);
    let before = bytes(&target);
    let args = ["restore", "latest", &target.device];
    for (answer, code) in [("no\n", 2), ("\n", 2), ("y\n", 2), ("yes\n", 0)] {
        assert!(bytes(&target) == before);
        let mut child = terminal.start(&lab, &args);
        let shown = terminal.shows("Type yes to go on: ");
        assert!(shown.contains("ext4 ("), "{shown}");
        assert!(shown.contains(&format!("{} of 01", disk.name())), "{shown}");
        terminal.master.write_all(answer.as_bytes()).unwrap();
        if code != 0 {
            let words = ["type the whole word, yes", "not confirmed"];
            let shown = terminal.shows_all(&words);
            assert!(!shown.contains("this would be lost"), "{shown}");
        }
        let status = wait(&mut child, "an answered question");
        assert_eq!(status.code(), Some(code), "{answer:?}");
    }
    assert!(bytes(&target).starts_with(&bytes(&disk)));
    // A signal ends the question too.
    let mut child = terminal.start(&lab, &args);
    terminal.shows("Type yes to go on: ");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = wait(&mut child, "a question that was interrupted");
    assert_eq!(status.code(), Some(130));
}

#[test]
fn the_original_beside_its_copy_is_named() {
    let Some(lab) = Lab::with_vault("restore: twins") else {
        return;
    };
    let with_table = lab.disk("table", 24 * MIB);
    partition(Path::new(&with_table.device), &[(2048, 2048)]);
    let guid = told_by_blkid("PTUUID", &with_table.device);
    let whole = lab.disk("whole", 24 * MIB);
    tool("mkfs.ext4", &["-q", &whole.device]);
    let uuid = told_by_blkid("UUID", &whole.device);
    for (disk, words) in [(&with_table, "disk GUID"), (&whole, "ext4 UUID")] {
        let id = if words.starts_with("disk") {
            &guid
        } else {
            &uuid
        };
        lab.run(&["snapshot", &disk.device]).expect(0);
        let target = lab.disk(&format!("target-of-{}", disk.name()), 24 * MIB);
        // A drill with the original attached is quite normal: it is said, and that is all.
        let answer = lab.json(&["restore", "latest", &target.device]);
        let note = answer["notes"][0].as_str().unwrap();
        let expected = format!("{}, attached too, has the same {words} {id}", disk.name());
        assert!(note.starts_with(&expected), "{note}");
        // Not of itself: onto the original it is no copy.
        let other = lab.disk(&format!("image-of-{}", disk.name()), 24 * MIB);
        drop(target);
        let answer = lab.json(&["restore", "latest", &disk.device, "--yes"]);
        assert_eq!(answer["notes"].as_array().unwrap().len(), 0, "{answer}");
        drop(other);
        let answer = lab.json(&["restore", "latest", &lab.at("image"), "--force"]);
        assert_eq!(answer["notes"].as_array().unwrap().len(), 0, "{answer}");
    }
}
