//! What it takes to snapshot loop disks from within a test: a vault, a tracker and a run directory
//! of its own, and an eye on the disks while they stand still. It must never leave anything behind.

use super::host::LoopDisk;
use super::run_dirs;
use super::tracked::{forget_pins, private_pins};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stillpoint::Result;
use stillpoint::device::HostLayout;
use stillpoint::engine::{
    Destination, Event, HookSettings, Monitor, OnBusy, Places, Quiesce, RestoreOptions,
    SnapshotOptions, restore, snapshot_through,
};
use stillpoint::format::{BlockDedup, Compression, DiskRecord, Manifest};
use stillpoint::model::{BLOCK_SIZE, BlockSet, Bytes, Cancel, DevNumber, Epoch, Level, Mode};
use stillpoint::store::{Vault, VaultOptions};
use stillpoint::track::{ChangeSource, DiskTracker, Tracker};
use tempfile::TempDir;

/// How many times as long as usual the tests shall run: `STILLPOINT_TEST_ROUNDS`.
pub fn rounds(usual: usize) -> usize {
    let times = std::env::var("STILLPOINT_TEST_ROUNDS").ok();
    usual * times.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Tells the test's outcome past the harness that keeps the output of tests that pass.
pub fn told(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Keeps the warnings.
#[derive(Default)]
pub struct Ear(pub Mutex<Vec<String>>);

impl Monitor for Ear {
    fn tell(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

impl Cancel for Ear {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// A vault, and places of its own to snapshot from.
pub struct Rig {
    pub vault: Arc<Vault>,
    pub places: Places,
    /// Warnings of all runs so far.
    pub ear: Ear,
    /// On a filesystem in memory where there is one.
    pub dir: TempDir,
}

/// Where the files behind the disks are.
pub fn parent() -> &'static str {
    if Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "/tmp"
    }
}

impl Rig {
    /// `None` when this host cannot, which is said loudly.
    pub fn new(test: &str) -> Option<Self> {
        let reason = if !nix::unistd::geteuid().is_root() {
            "not root"
        } else if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            "no /sys/kernel/btf/vmlinux"
        } else if !Path::new("/dev/loop-control").exists() {
            "no /dev/loop-control"
        } else {
            return Some(Self::make());
        };
        told(&format!("SKIPPED: {test}: {reason}"));
        None
    }

    fn make() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("stillpoint-rig-")
            .tempdir_in(parent())
            .unwrap();
        run_dirs::make(&dir.path().join("run"));
        let places = Places {
            run_dir: dir.path().join("run"),
            pins: private_pins(),
            notes: dir.path().join("sent"),
            program: env!("CARGO_BIN_EXE_stillpoint").into(),
        };
        Self {
            vault: new_vault(&dir.path().join("vault")),
            places,
            ear: Ear::default(),
            dir,
        }
    }

    /// A snapshot into the rig's vault, `change` being made to the usual options.
    pub fn snapshot(
        &self,
        disks: &[&LoopDisk],
        change: impl FnOnce(&mut SnapshotOptions),
    ) -> Result<Manifest> {
        self.snapshot_to(&self.vault, disks, change, |quiesce| quiesce)
    }

    /// The same into any vault and with something laid around the freeze.
    pub fn snapshot_to(
        &self,
        vault: &Arc<Vault>,
        disks: &[&LoopDisk],
        change: impl FnOnce(&mut SnapshotOptions),
        around: impl FnOnce(Box<dyn Quiesce>) -> Box<dyn Quiesce>,
    ) -> Result<Manifest> {
        let layout = HostLayout::scan()?;
        let names: Vec<String> = disks.iter().map(|disk| disk.device.clone()).collect();
        let mut options = SnapshotOptions {
            disks: layout.resolve(&names)?,
            layout,
            level: Level::Filesystem,
            full: false,
            all_blocks: false,
            tags: BTreeMap::new(),
            keep: None,
            max_freeze: Duration::from_secs(20),
            on_busy: OnBusy::Freeze,
            allow_fuzzy: false,
            workers: 2,
            limit_read: None,
            idle: true,
            hooks: HookSettings::default(),
            encryption_alarm: true,
        };
        change(&mut options);
        snapshot_through(vault, &options, &self.places, &self.ear, around)
    }

    /// A disk of a snapshot as a file.
    pub fn restore(&self, vault: &Vault, manifest: &Manifest, disk: &LoopDisk) -> PathBuf {
        let name = disk.device.trim_start_matches("/dev/");
        let target = self.dir.path().join(format!("{name}.raw"));
        let destination = Destination::To {
            disk: Some(name.to_owned()),
            target: target.clone(),
        };
        let mut options = RestoreOptions::new(destination, 2);
        options.force = true;
        restore(vault, manifest, &options, &self.ear).unwrap();
        target
    }

    /// The marks of a disk, to ask while it stands still.
    pub fn marks(&self, disk: &LoopDisk) -> DiskTracker {
        let (mut tracker, _) = Tracker::start(&self.places.pins).unwrap();
        tracker.attach(&disk.described()).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        forget_pins(&self.places.pins);
    }
}

/// An empty vault.
pub fn new_vault(path: &Path) -> Arc<Vault> {
    let options = VaultOptions {
        name: "test".into(),
        description: None,
        compression: Compression::default(),
        dedup: BlockDedup::Disk,
        encrypt: None,
    };
    Arc::new(Vault::create_local(path, options).unwrap())
}

/// A hash of each block of a disk, the last of which may be short.
pub type Hashes = Vec<blake3::Hash>;

/// The hashes of what is in a file now.
pub fn hashes(path: &Path) -> Hashes {
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; BLOCK_SIZE as usize];
    let mut all = Vec::new();
    loop {
        let mut have = 0;
        while have < buffer.len() {
            match file.read(&mut buffer[have..]).unwrap() {
                0 => break,
                more => have += more,
            }
        }
        if have == 0 {
            return all;
        }
        all.push(blake3::hash(&buffer[..have]));
    }
}

/// The blocks in which two states of one disk differ.
pub fn differing(one: &Hashes, other: &Hashes) -> BlockSet {
    assert_eq!(one.len(), other.len(), "not the same size");
    let mut set = BlockSet::new();
    for (n, (one, other)) in (0..).zip(one.iter().zip(other)) {
        if one != other {
            set.insert_range(n..n + 1);
        }
    }
    set
}

/// One disk as it was seen while all stood still.
#[derive(Default)]
pub struct Sight {
    /// As it was when the freeze had just been done.
    pub before: Hashes,
    /// As it was just before the thaw.
    pub after: Hashes,
    /// What tracking had marked since the epoch asked for.
    pub marked: BlockSet,
}

/// A disk to look at, and the marks to ask with the epoch since when.
pub struct Watched {
    pub file: PathBuf,
    pub marks: Option<(DiskTracker, Epoch)>,
}

/// Looks at the disks while they stand still; of the last attempt.
pub struct Watching {
    pub inner: Box<dyn Quiesce>,
    pub disks: Vec<Watched>,
    pub sights: Arc<Mutex<Vec<Sight>>>,
    /// Called when all stands still, and again before it is let go.
    pub also: Box<dyn FnMut(bool)>,
}

impl Quiesce for Watching {
    fn throttle(
        &mut self,
        disks: &[DevNumber],
        rate: Bytes,
        monitor: &dyn Monitor,
    ) -> Result<bool> {
        self.inner.throttle(disks, rate, monitor)
    }

    fn flush(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.inner.flush(monitor)
    }

    fn quiesce_apps(&mut self, monitor: &dyn Monitor) -> Result<bool> {
        self.inner.quiesce_apps(monitor)
    }

    fn resume_apps(&mut self, cut: bool, monitor: &dyn Monitor) -> Result<bool> {
        self.inner.resume_apps(cut, monitor)
    }

    fn freeze(&mut self) -> Result<Instant> {
        let deadline = self.inner.freeze()?;
        (self.also)(true);
        let mut sights = self.sights.lock().unwrap();
        sights.clear();
        for disk in &self.disks {
            sights.push(Sight {
                before: hashes(&disk.file),
                ..Sight::default()
            });
        }
        (self.also)(false);
        Ok(deadline)
    }

    fn thaw(&mut self) -> Result<Duration> {
        (self.also)(true);
        let mut sights = self.sights.lock().unwrap();
        for (disk, sight) in self.disks.iter_mut().zip(sights.iter_mut()) {
            sight.after = hashes(&disk.file);
            if let Some((marks, since)) = &mut disk.marks {
                sight.marked = marks.changed_since(*since)?;
            }
        }
        let thawed = self.inner.thaw();
        (self.also)(false);
        thawed
    }

    fn freezes(&self) -> bool {
        self.inner.freezes()
    }
}

/// The disk was captured in this way. Some kernels now and then hide a write from the programs that
/// track; it is found out, and the disk is compared: that is right, too, and no mode to insist on.
#[track_caller]
pub fn assert_mode(record: &DiskRecord, mode: Mode) {
    let found_out = record.mode == Mode::Compare && was_hidden(record);
    assert!(
        record.mode == mode || found_out,
        "{:?}: {}",
        record.mode,
        record.reason
    );
    if record.mode != mode {
        told(&format!(
            "a write was hidden from tracking: {}",
            record.reason
        ));
    }
}

/// Whether the kernel hid a write from tracking, or other tests' disks filled its log, and it was
/// found out.
pub fn was_hidden(record: &DiskRecord) -> bool {
    ["did not see", "the kernel's log had no room"]
        .iter()
        .any(|sign| record.reason.contains(sign))
}
