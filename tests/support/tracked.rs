//! Loop disks under a private tracker. Everything is undone when it is dropped, also in a panic.

use super::host::{LoopDisk, run, skipped};
use super::pace;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use stillpoint::model::{BLOCK_SIZE, BlockSet, Bytes, DevNumber, DiskIdentity};
use stillpoint::track::{DiskTracker, PinDir, TrackedDisk, Tracker};

/// A tracker of this test alone, stopped at the end.
pub struct PrivateTracker {
    pub pins: Pins,
    pub tracker: Tracker,
}

impl PrivateTracker {
    /// `None` when this host cannot track, which is said loudly.
    pub fn start(test: &str) -> Option<Self> {
        let reason = if !nix::unistd::geteuid().is_root() {
            "not root"
        } else if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            "no /sys/kernel/btf/vmlinux"
        } else if !Path::new("/dev/loop-control").exists() {
            "no /dev/loop-control"
        } else {
            let pins = private_pins();
            let (tracker, _) = Tracker::start(&pins).expect("the tracker starts");
            return Some(Self {
                pins: Pins(pins),
                tracker,
            });
        };
        skipped(test, reason);
        None
    }
}

impl PrivateTracker {
    /// Lets go of the tracker, as a process does that ends; the pins stay until they are dropped.
    pub fn let_go(self) -> Pins {
        self.pins
    }
}

/// A private pin directory; everything in it goes when it is dropped.
pub struct Pins(pub PinDir);

impl Drop for Pins {
    fn drop(&mut self) {
        forget_pins(&self.0);
    }
}

/// Takes all pins away, whatever state they are in.
pub fn forget_pins(pins: &PinDir) {
    for version in std::fs::read_dir(pins.path())
        .into_iter()
        .flatten()
        .flatten()
    {
        for pin in std::fs::read_dir(version.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::remove_file(pin.path());
        }
        let _ = std::fs::remove_dir(version.path());
    }
    let _ = std::fs::remove_dir(pins.path());
}

/// A name that nobody else has; a tracker that starts there may try itself on a loop device.
pub fn private_pins() -> PinDir {
    pace::before_a_capacity_is_set();
    unpaced_pins()
}

/// A name that nobody else has. What killed test runs have left is swept away.
pub fn unpaced_pins() -> PinDir {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    const PREFIX: &str = "stillpoint-test-";
    for entry in std::fs::read_dir("/sys/fs/bpf")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            forget_pins(&PinDir::named(&name).unwrap());
        }
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    PinDir::named(&format!("{PREFIX}{}-{count}", std::process::id())).unwrap()
}

/// What tests of tracking do to a disk.
impl LoopDisk {
    fn sysfs(&self, name: &str) -> Option<String> {
        let disk = self.device.trim_start_matches("/dev/");
        let text = std::fs::read_to_string(format!("/sys/block/{disk}/{name}"));
        text.ok().map(|text| text.trim().to_owned())
    }

    pub fn dev(&self) -> DevNumber {
        let text = self.sysfs("dev").unwrap();
        let (major, minor) = text.split_once(':').unwrap();
        DevNumber {
            major: major.parse().unwrap(),
            minor: minor.parse().unwrap(),
        }
    }

    /// As it is now: the size may have changed.
    pub fn described(&self) -> TrackedDisk {
        TrackedDisk {
            dev: self.dev(),
            size: Bytes(self.sysfs("size").unwrap().parse::<u64>().unwrap() * 512),
            diskseq: self.sysfs("diskseq").map(|text| text.parse().unwrap()),
        }
    }

    pub fn identity(&self) -> DiskIdentity {
        let described = self.described();
        DiskIdentity {
            name: self.device.trim_start_matches("/dev/").to_owned(),
            dev: described.dev,
            size: described.size,
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: described.diskseq,
            table_id: None,
        }
    }

    pub fn track(&self, tracker: &mut PrivateTracker) -> DiskTracker {
        let attached = tracker.tracker.attach(&self.described());
        attached.expect("the disk is tracked")
    }

    /// Writes past every cache. Offset and length in whole sectors of the disk.
    pub fn write(&self, offset: u64, length: usize, byte: u8) {
        #[repr(align(4096))]
        #[derive(Clone)]
        struct Aligned([u8; 4096]);
        let device = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(&self.device)
            .unwrap();
        let page = Aligned([byte; 4096]);
        let mut done = 0;
        while done < length {
            let part = (length - done).min(4096);
            let at = offset + done as u64;
            device.write_all_at(&page.0[..part], at).unwrap();
            done += part;
        }
    }

    /// Everything that caches above the disk still hold is on it afterwards.
    pub fn flush(&self) {
        run("blockdev", &["--flushbufs", &self.device]);
        run("sync", &["--data", &self.device]);
    }

    /// The whole contents, from below.
    pub fn contents(&self) -> Vec<u8> {
        std::fs::read(&self.file).unwrap()
    }
}

/// Blocks in which two states of a disk differ.
pub fn differing(before: &[u8], after: &[u8]) -> BlockSet {
    assert_eq!(before.len(), after.len());
    let block = BLOCK_SIZE as usize;
    let mut set = BlockSet::new();
    for (n, (old, new)) in before.chunks(block).zip(after.chunks(block)).enumerate() {
        if old != new {
            set.insert_range(n as u64..n as u64 + 1);
        }
    }
    set
}
