//! Superblocks that name devices of the host: none is opened, whatever a snapshot says.

use super::scene::fill;
use super::shot::Shot;
use crate::support::host::{LoopDisk, Mount, available, run};
use std::os::unix::fs::MetadataExt;
use stillpoint::Result;
use stillpoint::engine::SnapshotLook;
use stillpoint::export::{AttachOptions, AttachPart};
use stillpoint::model::{Bytes, Extent};

/// Where things are in the superblock of ext4.
const JOURNAL_DEVICE: usize = 1024 + 0xe4;
const MOUNT_OPTIONS: usize = 1024 + 0x200;

/// A filesystem with its log on a disk of its own, which the host has now, as after a crash.
struct LogElsewhere {
    journal: LoopDisk,
    log: Vec<u8>,
    bytes: Vec<u8>,
}

impl LogElsewhere {
    fn new() -> Self {
        let journal = LoopDisk::within("/dev/shm", 8 << 20, &[]);
        let disk = LoopDisk::within("/dev/shm", 24 << 20, &[]);
        let block = ["-b", "4096"];
        run(
            "mke2fs",
            &[&["-q", "-O", "journal_dev"], &block[..], &[&journal.device]].concat(),
        );
        let device = format!("device={}", journal.device);
        // Without checksums, so that a test can change the superblock.
        let args = ["-q", "-t", "ext4", "-O", "^metadata_csum", "-J", &device];
        run("mke2fs", &[&args, &block[..], &[&disk.device]].concat());
        let mount = Mount::somewhere(disk.path(), "rw");
        fill(&mount.place);
        run("sync", &["-f", mount.path()]);
        std::fs::write(mount.place.join("late"), "late").unwrap();
        std::fs::File::open(mount.place.join("late"))
            .unwrap()
            .sync_all()
            .unwrap();
        let bytes = std::fs::read(&disk.file).unwrap();
        let log = std::fs::read(&journal.file).unwrap();
        mount.end();
        // As it was before it was unmounted.
        journal.write_at(0, &log);
        Self {
            journal,
            log,
            bytes,
        }
    }

    #[track_caller]
    fn assert_untouched(&self) {
        run("blockdev", &["--flushbufs", &self.journal.device]);
        assert!(
            std::fs::read(&self.journal.file).unwrap() == self.log,
            "its log was changed"
        );
    }
}

/// Attaches all of the disk as an ext4.
fn attach_whole(look: &SnapshotLook<'_>, length: usize) -> Result<(Option<String>, String)> {
    let attached = look.view.attach(&AttachOptions {
        kind: "ext4".into(),
        parts: vec![AttachPart {
            disk: 0,
            place: Extent::new(Bytes(0), Bytes(length as u64)),
        }],
        name: "vda".into(),
        top_level: false,
    })?;
    let name = std::fs::read_to_string(attached.path.join("etc/hostname")).unwrap();
    Ok((attached.without_log, name))
}

#[test]
fn a_log_on_a_disk_of_the_host_is_neither_replayed_nor_written() {
    if !available("log elsewhere") {
        return;
    }
    let made = LogElsewhere::new();
    let shot = Shot::of(&made.bytes);
    let seen = shot.look(|look| attach_whole(look, made.bytes.len()));
    made.assert_untouched();
    let (without_log, name) = seen.unwrap();
    assert!(without_log.unwrap().contains("on another device"));
    assert_eq!(name, "before");
}

#[test]
fn options_in_a_superblock_name_no_disk_of_the_host() {
    if !available("options of a superblock") {
        return;
    }
    let mut made = LogElsewhere::new();
    let device = std::fs::metadata(made.journal.path()).unwrap().rdev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let number = (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
    for options in [
        format!("journal_path={}", made.journal.device),
        format!("journal_dev={number}"),
    ] {
        made.bytes[JOURNAL_DEVICE..JOURNAL_DEVICE + 4].fill(0);
        made.bytes[MOUNT_OPTIONS..MOUNT_OPTIONS + 64].fill(0);
        made.bytes[MOUNT_OPTIONS..][..options.len()].copy_from_slice(options.as_bytes());
        let shot = Shot::of(&made.bytes);
        let seen = shot.look(|look| attach_whole(look, made.bytes.len()));
        made.assert_untouched();
        assert!(seen.unwrap().0.is_some(), "{options}");
    }
}

#[test]
fn an_xfs_with_its_log_on_a_disk_of_the_host_is_not_opened() {
    if !available("xfs log elsewhere") {
        return;
    }
    let log = LoopDisk::within("/dev/shm", 16 << 20, &[]);
    let disk = LoopDisk::within("/dev/shm", 40 << 20, &[]);
    let device = format!("logdev={}", log.device);
    run(
        "mkfs.xfs",
        &["-q", "--unsupported", "-l", &device, &disk.device],
    );
    let (bytes, before) = (
        std::fs::read(&disk.file).unwrap(),
        std::fs::read(&log.file).unwrap(),
    );
    let shot = Shot::of(&bytes);
    let refused = shot.look(|look| look.attach(0).map(drop)).unwrap_err();
    assert!(
        refused.to_string().contains("log is on another device"),
        "{refused}"
    );
    run("blockdev", &["--flushbufs", &log.device]);
    assert!(std::fs::read(&log.file).unwrap() == before);
}
