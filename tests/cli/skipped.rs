//! What is not copied because a filesystem calls it free space: its word counts for its own bytes
//! alone, only while it is whole, and only now. Each case ends with a restore that is looked into.

use super::lab::{Disk, Lab, noise, tool, try_tool};
use crate::support::host::{attach, detach};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const MIB: usize = 1 << 20;

/// A loop device on something of the test's, with what is mounted from it.
struct Over {
    device: PathBuf,
    mounted: Option<PathBuf>,
}

impl Over {
    fn new(below: &Path, options: &[&str]) -> Self {
        let device = attach(below, options);
        Self {
            device,
            mounted: None,
        }
    }

    fn mount(mut self, place: PathBuf, options: &str) -> Self {
        fs::create_dir_all(&place).unwrap();
        let (device, at) = (self.device.to_str().unwrap(), place.to_str().unwrap());
        tool("mount", &["-o", options, device, at]);
        self.mounted = Some(place);
        self
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        if let Some(place) = &self.mounted {
            try_tool("umount", &[place.to_str().unwrap()]);
        }
        detach(&self.device);
    }
}

fn write_out(place: &Path) {
    nix::unistd::syncfs(File::open(place).unwrap()).unwrap();
}

fn kept(place: &Path) -> Vec<u8> {
    let bytes = noise(24 * MIB, 5);
    fs::write(place.join("kept"), &bytes).unwrap();
    write_out(place);
    bytes
}

/// Takes a snapshot, restores it, and looks for the file in the filesystem at that offset.
fn file_is_there(lab: &Lab, disk: &Disk, offset: usize, bytes: &[u8], round: u32) {
    lab.run(&["snapshot", &disk.device]).expect(0);
    let target = lab.at(&format!("restored{round}"));
    lab.run(&["restore", "latest", &target]).expect(0);
    let offset = offset.to_string();
    let options = ["--read-only", "--offset", &offset];
    let place = lab.path(&format!("look{round}"));
    let copy = Over::new(Path::new(&target), &options).mount(place.clone(), "ro,noload");
    assert!(fs::read(place.join("kept")).unwrap() == bytes, "it is lost");
    drop(copy);
}

#[test]
fn an_image_in_a_file_says_nothing_of_the_disk_below_it() {
    let Some(lab) = Lab::with_vault("cli: a mounted image in a file") else {
        return;
    };
    let mut disk = lab.disk("disk", 160 << 20);
    let place = disk.mount("ext4");
    let bytes = kept(&place);
    // Its free space is at the offsets at which the disk has the file.
    let image = place.join("image");
    File::create(&image).unwrap().set_len(100 << 20).unwrap();
    tool("mkfs.ext4", &["-qF", image.to_str().unwrap()]);
    for (round, fstype) in (0..).zip(["ext4", "ext4 with another image"]) {
        let inner = Over::new(&image, &[]).mount(lab.path("inner"), "rw");
        fs::write(lab.path("inner").join("x"), fstype).unwrap();
        write_out(&lab.path("inner"));
        write_out(&place);
        file_is_there(&lab, &disk, 0, &bytes, round);
        drop(inner);
    }
}

#[test]
fn a_loop_device_on_a_partition_says_nothing_of_its_disk() {
    let Some(lab) = Lab::with_vault("cli: a loop device on a partition") else {
        return;
    };
    let disk = lab.disk("disk", 160 << 20);
    crate::support::host::partition(Path::new(&disk.device), &[(40960, 200_000)]);
    let part = format!("{}p1", disk.device);
    let over = Over::new(Path::new(&part), &[]);
    tool("mkfs.ext4", &["-qF", over.device.to_str().unwrap()]);
    let over = over.mount(lab.path("over"), "rw");
    let bytes = kept(&lab.path("over"));
    file_is_there(&lab, &disk, 20 * MIB, &bytes, 0);
    drop(over);
}

/// The filesystem of the whole disk believes this part to be free, and never writes there: with its
/// 1 KiB blocks, metadata of its next groups stands from 128 MiB on. Something else lies there.
#[test]
fn what_lies_in_the_free_space_of_another_is_copied() {
    let Some(lab) = Lab::with_vault("cli: a device in free space") else {
        return;
    };
    let mut disk = lab.disk("disk", 160 << 20);
    disk.mount("ext4");
    let options = ["--offset", "104857600", "--sizelimit", "20971520"];
    let over = Over::new(Path::new(&disk.device), &options);
    let hidden = noise(20 * MIB, 8);
    let device = File::options().write(true).open(&over.device).unwrap();
    device.write_all_at(&hidden, 0).unwrap();
    device.sync_all().unwrap();
    drop(device);
    lab.run(&["snapshot", &disk.device]);
    assert!(contents(&disk)[100 * MIB..][..hidden.len()] == hidden);
    drop(over);
    lab.run(&["restore", "latest", &lab.at("restored")])
        .expect(0);
    let mut found = vec![0; hidden.len()];
    let restored = File::open(lab.at("restored")).unwrap();
    restored.read_exact_at(&mut found, 104_857_600).unwrap();
    assert!(found == hidden, "it is lost");
}

fn contents(disk: &Disk) -> Vec<u8> {
    let device = File::open(&disk.device).unwrap();
    let mut bytes = vec![0; disk.image.metadata().unwrap().len() as usize];
    device.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_nobody_calls_free_any_more_is_read_though_it_was_not_written() {
    let Some(lab) = Lab::with_vault("cli: free then, used now") else {
        return;
    };
    for (round, fstype) in (0..).zip(["ext4", "xfs"]) {
        let mut disk = lab.disk(&format!("disk{round}"), 320 << 20);
        let place = disk.mount(fstype);
        let gone = kept(&place);
        let end = gone.len() - 1000;
        fs::remove_file(place.join("kept")).unwrap();
        write_out(&place);
        lab.run(&["snapshot", &disk.device]).expect(0);
        let bytes = contents(&disk);
        let middle = &gone[end / 2..end / 2 + 64];
        assert!(bytes.windows(64).any(|part| part == middle), "the test");
        // Who knows what these bytes are, now that nothing is mounted?
        disk.unmount();
        let taken = lab.json(&["snapshot", &disk.device]);
        let mode = taken["disks"][0]["mode"].as_str().unwrap();
        assert!(mode == "incremental" || mode == "compare", "{taken}");
        let target = lab.at(&format!("restored{round}"));
        lab.run(&["restore", "latest", &target]).expect(0);
        assert!(fs::read(&target).unwrap() == contents(&disk), "{fstype}");
    }
}

/// The owner is told, and all blocks are copied: those that memory calls free are in use on the
/// disk, as the frees were never committed.
#[test]
fn a_filesystem_that_gave_up_is_copied_whole() {
    let Some(lab) = Lab::with_vault("cli: a filesystem that gave up") else {
        return;
    };
    let mut disk = lab.disk("disk", 160 << 20);
    let place = disk.mount("ext4");
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", disk.name());
    if !Path::new(&trigger).exists() {
        return crate::support::host::skipped("cli: a filesystem that gave up", "no trigger");
    }
    tool(
        "mount",
        &["-o", "remount,errors=remount-ro", place.to_str().unwrap()],
    );
    kept(&place);
    lab.run(&["snapshot", &disk.device]).expect(0);
    fs::remove_file(place.join("kept")).unwrap();
    fs::write(&trigger, "1").unwrap();
    for _ in 0..2 {
        let run = lab.run(&["snapshot", &disk.device, "--level", "crash", "--json"]);
        let taken = run.expect(3).json();
        let warnings = taken["warnings"].to_string();
        assert!(warnings.contains("free space"), "{taken}");
        assert_eq!(taken["disks"][0]["free_skipped_bytes"], 0, "{taken}");
    }
    lab.run(&["restore", "latest", &lab.at("restored")])
        .expect(0);
    // What the disk has: memory has more, which is never written out.
    assert!(fs::read(lab.at("restored")).unwrap() == fs::read(&disk.image).unwrap());
}

/// What the kernel's memory knows is no filesystem's any more, once the disk holds another.
#[test]
fn a_filesystem_whose_superblock_is_gone_is_copied_whole() {
    let Some(lab) = Lab::with_vault("cli: a superblock that is gone") else {
        return;
    };
    for (round, fstype, offset) in [(0, "ext4", 1024), (1, "xfs", 0)] {
        let mut disk = lab.disk(&format!("disk{round}"), 320 << 20);
        let place = disk.mount(fstype);
        kept(&place);
        let before = lab.json(&["snapshot", &disk.device]);
        assert_ne!(before["disks"][0]["free_skipped_bytes"], 0, "{before}");
        // Behind the filesystem's back, as by another machine.
        let image = File::options().write(true).open(&disk.image).unwrap();
        image.write_all_at(&noise(512, 3), offset).unwrap();
        let again = [
            "snapshot",
            &disk.device,
            "--full",
            "--level",
            "crash",
            "--json",
        ];
        let taken = lab.run(&again).expect(3).json();
        assert!(
            taken["warnings"].to_string().contains("no superblock"),
            "{taken}"
        );
        assert_eq!(taken["disks"][0]["free_skipped_bytes"], 0, "{taken}");
    }
}

/// Trims a filesystem until it is dropped, as fast as it goes.
struct Trimming(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Trimming {
    fn start(place: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, place) = (Arc::clone(&stop), place.to_str().unwrap().to_owned());
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                tool("fstrim", &[&place]);
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Trimming {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let ended = self.1.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// What is trimmed is free space, which is not copied anyway; on a large disk that takes minutes.
#[test]
fn a_trim_keeps_nobody_from_a_snapshot() {
    let Some(lab) = Lab::with_vault("cli: a trim") else {
        return;
    };
    for (round, fstype) in (0..).zip(["ext4", "xfs"]) {
        let mut disk = lab.disk(&format!("disk{round}"), 500 << 20);
        let place = disk.mount(fstype);
        let bytes = kept(&place);
        lab.run(&["snapshot", &disk.device]).expect(0);
        let trimming = Trimming::start(&place);
        for _ in 0..3 {
            lab.run(&["snapshot", &disk.device]).expect(0);
        }
        drop(trimming);
        let target = lab.at(&format!("restored{round}"));
        lab.run(&["restore", "latest", &target]).expect(0);
        let options = if fstype == "xfs" {
            "ro,norecovery,nouuid"
        } else {
            "ro,noload"
        };
        let look = lab.path(&format!("look{round}"));
        let copy = Over::new(Path::new(&target), &["--read-only"]).mount(look.clone(), options);
        assert!(fs::read(look.join("kept")).unwrap() == bytes, "it is lost");
        drop(copy);
    }
}
