//! Targets that somebody uses, by whichever way to the same bytes: refused before a byte is
//! written.

use crate::cli::lab::{Disk, Lab, Run, noise, tool, try_tool};
use crate::support::host::{attach, partition, skipped};
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// A snapshot of a small disk.
fn taken(test: &str) -> Option<(Lab, Disk)> {
    let lab = Lab::with_vault(test)?;
    let disk = lab.disk("disk", 4 * MIB);
    fs::write(&disk.device, noise(MIB as usize, 1)).unwrap();
    tool("sync", &["-d", &disk.device]);
    lab.run(&["snapshot", &disk.device]).expect(0);
    Some((lab, disk))
}

/// Another loop device, on a file or a device.
fn loop_on(below: &str, options: &[&str]) -> Disk {
    let device = attach(Path::new(below), options);
    Disk {
        device: device.to_str().unwrap().to_owned(),
        image: below.into(),
        mounted: None,
    }
}

fn mount(disk: &mut Disk, place: &Path) {
    fs::create_dir_all(place).unwrap();
    tool("mount", &[&disk.device, place.to_str().unwrap()]);
    disk.mounted = Some(place.to_owned());
}

/// Refused as in use, with these words, and nothing of the target has changed.
fn refused(lab: &Lab, target: &str, words: &[&str]) -> Run {
    let before = fs::read(target).unwrap();
    let inode = fs::metadata(target).unwrap().ino();
    let args = ["restore", "latest", target, "--yes", "--force"];
    let run = lab.run(&args).expect(6);
    for words in words.iter().chain(&["is in use", "nothing was written"]) {
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    assert!(fs::read(target).unwrap() == before, "{run:?}");
    assert_eq!(fs::metadata(target).unwrap().ino(), inode);
    run
}

fn accepted(lab: &Lab, target: &str) {
    let args = ["restore", "latest", target, "--yes", "--force"];
    lab.run(&args).expect(0);
    assert!(
        fs::read(target)
            .unwrap()
            .starts_with(&noise(MIB as usize, 1))
    );
}

#[test]
fn a_loop_device_on_the_target_is_in_the_way() {
    let Some((lab, _disk)) = taken("in use: a loop on the device") else {
        return;
    };
    let target = lab.disk("target", 64 * MIB);
    let mut over = loop_on(&target.device, &["--offset", "1048576"]);
    tool("mkfs.ext4", &["-q", &over.device]);
    mount(&mut over, &lab.path("over"));
    let name = over.name().to_owned();
    let place = lab.at("over");
    refused(
        &lab,
        &target.device,
        &[&name, &format!("mounted at {place}")],
    );
    // Nothing mounted: whoever has it made has a use for it.
    over.unmount();
    refused(&lab, &target.device, &[&format!("{name} lies on it")]);
    // Also one above another.
    let top = loop_on(&over.device, &[]);
    let run = refused(&lab, &target.device, &[top.name()]);
    let hint = format!("losetup --detach {}", over.device);
    assert!(run.stderr.contains(&hint), "{run:?}");
    refused(&lab, &over.device, &[top.name()]);
    // What is on top has nobody above it.
    accepted(&lab, &top.device);
    drop(top);
    drop(over);
    accepted(&lab, &target.device);
    // By a node of another name.
    let node = lab.at("node");
    let number = fs::metadata(&target.device).unwrap().rdev();
    let number = [libc::major(number), libc::minor(number)].map(|part| part.to_string());
    if try_tool("mknod", &[&node, "b", &number[0], &number[1]]) {
        let over = loop_on(&node, &[]);
        refused(&lab, &target.device, &[over.name()]);
    }
}

#[test]
fn only_what_shows_the_same_bytes_is_in_the_way() {
    let Some((lab, _disk)) = taken("in use: loops on one file") else {
        return;
    };
    let target = lab.disk_with("target", 8 * MIB, &["--sizelimit", "4194304"]);
    fs::hard_link(lab.path("target"), lab.path("other name")).unwrap();
    let other = lab.at("other name");
    let beside = loop_on(&other, &["--offset", "4194304"]);
    accepted(&lab, &target.device);
    drop(beside);
    let over = loop_on(&other, &["--offset", "4190208"]);
    refused(
        &lab,
        &target.device,
        &[&format!("{} shows bytes", over.name())],
    );
    drop(over);
    accepted(&lab, &target.device);
}

#[test]
fn a_partition_of_a_disk_is_a_part_of_it() {
    let Some((lab, _disk)) = taken("in use: partitions") else {
        return;
    };
    let target = lab.disk("target", 64 * MIB);
    partition(Path::new(&target.device), &[(2048, 16384), (20480, 65536)]);
    let part = |number: u32| format!("{}p{number}", target.device);
    // A loop on a partition, and on the disk where the partition is.
    let over = loop_on(&part(2), &[]);
    refused(&lab, &target.device, &[over.name()]);
    refused(&lab, &part(2), &[over.name()]);
    accepted(&lab, &part(1));
    drop(over);
    let offset = (10 * MIB).to_string();
    let over = loop_on(&target.device, &["--offset", &offset]);
    refused(&lab, &part(2), &[&format!("{} shows bytes", over.name())]);
    accepted(&lab, &part(1));
    drop(over);
    // One mounted keeps the disk, and not its neighbour.
    tool("mkfs.ext4", &["-q", &part(2)]);
    let mut mounted = Disk {
        device: part(2),
        image: lab.path("part"),
        mounted: None,
    };
    mount(&mut mounted, &lab.path("mnt"));
    refused(
        &lab,
        &target.device,
        &[&format!("mounted at {}", lab.at("mnt"))],
    );
    refused(&lab, &part(2), &["unmount"]);
    accepted(&lab, &part(1));
    mounted.unmount();
    std::mem::forget(mounted);
}

#[test]
fn two_targets_of_a_run_must_not_be_one() {
    let Some(lab) = Lab::with_vault("in use: targets on one another") else {
        return;
    };
    let disks = ["one", "two"].map(|name| lab.disk(name, MIB));
    let names = [disks[0].name(), disks[1].name()];
    lab.run(&["snapshot", names[0], names[1]]).expect(0);
    let target = lab.disk("target", 16 * MIB);
    partition(Path::new(&target.device), &[(2048, 16384)]);
    let before = fs::read(&target.device).unwrap();
    let part = format!("{}p1", target.device);
    for (one, other) in [(&target.device, &part), (&part, &target.device)] {
        let map = format!("{}={one},{}={other}", names[0], names[1]);
        let run = lab
            .run(&["restore", "latest", "--map", &map, "--yes"])
            .expect(2);
        assert!(run.stderr.contains("is a part of"), "{run:?}");
    }
    // A file, and the loop device that shows it.
    let map = format!(
        "{}={},{}={}",
        names[0],
        target.device,
        names[1],
        lab.at("target")
    );
    let run = lab.run(&["restore", "latest", "--map", &map, "--yes", "--force"]);
    let words = format!("{} is in use: {} shows", lab.at("target"), target.name());
    assert!(run.expect(6).stderr.contains(&words));
    assert!(fs::read(&target.device).unwrap() == before);
}

#[test]
fn a_file_below_a_mounted_filesystem_is_not_replaced() {
    let Some((lab, _disk)) = taken("in use: file below a loop") else {
        return;
    };
    let mut over = lab.disk("image", 16 * MIB);
    let place = over.mount("ext4");
    fs::write(place.join("file"), "kept").unwrap();
    let mounted = format!("mounted at {}", place.display());
    fs::hard_link(lab.path("image"), lab.path("other")).unwrap();
    for name in ["image", "other"] {
        refused(&lab, &lab.at(name), &[over.name(), &mounted]);
    }
    over.unmount();
    refused(&lab, &lab.at("image"), &[&format!("{} shows", over.name())]);
    let place = over.mount_again("ext4");
    assert_eq!(fs::read(place.join("file")).unwrap(), b"kept");
    drop(over);
    accepted(&lab, &lab.at("image"));
    // Its other name still has what was there.
    assert_ne!(fs::metadata(lab.at("image")).unwrap().len(), 16 * MIB);
    assert_eq!(fs::metadata(lab.at("other")).unwrap().len(), 16 * MIB);
    // A folder with a link in it leads to the same file.
    let mut over = loop_on(&lab.at("other"), &[]);
    mount(&mut over, &lab.path("again"));
    fs::create_dir(lab.path("in")).unwrap();
    symlink("../in", lab.path("in/way")).unwrap();
    fs::hard_link(lab.path("other"), lab.path("in/third")).unwrap();
    refused(&lab, &lab.at("in/way/third"), &[over.name()]);
}

/// What a running machine does with its image: it has it open, and locked.
#[test]
fn what_is_open_or_locked_is_in_use() {
    let Some((lab, _disk)) = taken("in use: open and locked") else {
        return;
    };
    let target = lab.disk("target", 8 * MIB);
    fs::write(lab.path("image"), "an image").unwrap();
    let process = format!("(process {}) has it open for writing", std::process::id());
    for path in [target.device.clone(), lab.at("image")] {
        let open = File::options().read(true).write(true).open(&path).unwrap();
        let run = refused(&lab, &path, &[&process]);
        assert!(run.stderr.contains("stop process"), "{run:?}");
        drop(open);
        // Whoever only reads does not mind.
        let reader = File::open(&path).unwrap();
        let lock = Flock::lock(reader, FlockArg::LockExclusiveNonblock).unwrap();
        refused(&lab, &path, &["flock"]);
        let reader = lock.unlock().unwrap();
        let lock = libc::flock {
            l_type: libc::F_RDLCK as i16,
            l_whence: 0,
            l_start: 100,
            l_len: 1,
            l_pid: 0,
        };
        fcntl(reader.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        refused(&lab, &path, &["locked, as a running machine"]);
        let lock = libc::flock {
            l_type: libc::F_UNLCK as i16,
            ..lock
        };
        fcntl(reader.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        accepted(&lab, &path);
    }
    // The file behind the target is open, as one who serves it to a machine has it.
    let open = File::options()
        .write(true)
        .open(lab.path("target"))
        .unwrap();
    refused(&lab, &target.device, &[&process]);
    drop(open);
    accepted(&lab, &target.device);
}

#[test]
fn a_file_that_the_kernel_holds_is_not_replaced() {
    let Some((lab, _disk)) = taken("in use: held by the kernel") else {
        return;
    };
    fs::write(lab.path("image"), "an image").unwrap();
    fs::write(lab.path("over"), "another").unwrap();
    if !try_tool("mount", &["--bind", &lab.at("over"), &lab.at("image")]) {
        return skipped("in use: held by the kernel", "no bind mounts");
    }
    refused(
        &lab,
        &lab.at("image"),
        &["something is mounted over its name"],
    );
    tool("umount", &[&lab.at("image")]);
    accepted(&lab, &lab.at("image"));
}

#[test]
fn a_read_only_device_says_so() {
    let Some((lab, _disk)) = taken("in use: read-only") else {
        return;
    };
    let target = lab.disk("target", 8 * MIB);
    tool("blockdev", &["--setro", &target.device]);
    let run = lab.run(&["restore", "latest", &target.device]).expect(5);
    for words in ["it is read-only", "blockdev --setrw", "nothing was written"] {
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    tool("blockdev", &["--setrw", &target.device]);
    accepted(&lab, &target.device);
}

/// A disk to which a restore was begun is no disk to be kept.
#[test]
fn a_disk_that_is_not_whole_is_not_snapshotted() {
    let Some((lab, disk)) = taken("in use: not whole") else {
        return;
    };
    let mut bytes = fs::read(&disk.device).unwrap();
    let mark = b"STILLPOINT: THIS DISK IS NOT WHOLE. A restore of vda was begun.\n";
    bytes[..mark.len()].copy_from_slice(mark);
    fs::write(&disk.device, &bytes).unwrap();
    let before = lab.vault_files();
    let run = lab.run(&["snapshot", &disk.device]).expect(5);
    for words in [
        "is not whole",
        "A restore of vda was begun",
        "restore it again",
    ] {
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    assert_eq!(lab.vault_files(), before);
    let good = lab.disk("good", MIB);
    let args = ["snapshot", disk.name(), good.name(), "--partial", "--json"];
    let taken = lab.run(&args).expect(3).json();
    assert_eq!(taken["left_out"][0]["disk"], disk.name());
    bytes[..512].fill(0);
    fs::write(&disk.device, &bytes).unwrap();
    lab.run(&["snapshot", disk.name()]).expect(0);
}
