//! The door that commands of this process use: what they see, and that nothing stays.

use super::attached::{assert_nothing_attached, what_is_attached};
use super::scene::{Taken, assert_same_tree, disk_of, listing, make};
use crate::support::host::available;
use crate::support::rig::Ear;
use crate::support::vaults::{Take, take, vault_options};
use std::path::Path;
use std::process::{Command, Stdio};
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use stillpoint::engine::{LookIntoOptions, MountPlan, PlannedDisk, SnapshotLook, look_into};
use stillpoint::export::{Image, RAW, ServeOptions, ServedDisk, ViewOptions, with_view};
use stillpoint::format::Manifest;
use stillpoint::model::Bytes;
use stillpoint::store::{FaultStore, MemoryStore, Vault};
use stillpoint::{ErrorKind, Result};

/// A snapshot of a disk with these bytes.
struct Shot {
    vault: Arc<Vault>,
    store: Arc<MemoryStore>,
    manifest: Manifest,
    run_dir: tempfile::TempDir,
    ear: Ear,
}

impl Shot {
    fn of(bytes: &[u8]) -> Self {
        let store = Arc::new(MemoryStore::new());
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let disk = disk_of(0, bytes);
        let taken = take(&vault, from_ref(&disk), Take::default()).unwrap();
        Self {
            vault,
            store,
            manifest: taken.manifest,
            run_dir: tempfile::tempdir().unwrap(),
            ear: Ear::default(),
        }
    }

    fn disks(&self) -> Vec<PlannedDisk<'_>> {
        let record = &self.manifest.disks[0];
        let image = Image::open(&self.vault, record, &|| Ok(())).unwrap();
        let image = Arc::new(image);
        vec![PlannedDisk { record, image }]
    }

    fn look<T: Send>(&self, work: impl FnOnce(&SnapshotLook<'_>) -> Result<T> + Send) -> Result<T> {
        let options = LookIntoOptions {
            vault: &self.vault,
            manifest: &self.manifest,
            disks: self.manifest.disks.iter().collect(),
            run_dir: self.run_dir.path(),
        };
        look_into(&options, &self.ear, work)
    }
}

/// The tree of the only filesystem, and why its log was not replayed.
fn seen(shot: &Shot) -> (String, Option<String>) {
    shot.look(|look| {
        assert_eq!(look.plan.filesystems.len(), 1, "{:?}", look.plan);
        let attached = look.attach(0)?;
        Ok((listing(&attached.path), attached.without_log))
    })
    .unwrap()
}

fn is_seen(test: &str, kind: &str, mib: u64, taken: Taken) {
    if !available(test) {
        return;
    }
    let made = make(kind, mib, taken);
    let shot = Shot::of(&made.bytes);
    drop(made.bytes);
    let (tree, without_log) = seen(&shot);
    assert_eq!(without_log, None);
    assert_same_tree(&tree, &made.tree);
    assert!(shot.ear.0.lock().unwrap().is_empty());
}

#[test]
fn ext4_is_seen_as_it_was() {
    is_seen("ext4", "ext4", 24, Taken::Clean);
}

#[test]
fn xfs_is_seen_as_it_was() {
    is_seen("xfs", "xfs", 40, Taken::Clean);
}

#[test]
fn btrfs_is_seen_as_it_was() {
    is_seen("btrfs", "btrfs", 128, Taken::Clean);
}

#[test]
fn what_is_in_the_log_of_ext4_alone_is_seen() {
    is_seen("ext4 log", "ext4", 24, Taken::Dirty);
}

#[test]
fn what_is_in_the_log_of_xfs_alone_is_seen() {
    is_seen("xfs log", "xfs", 40, Taken::Dirty);
}

#[test]
fn what_is_in_the_log_of_btrfs_alone_is_seen() {
    is_seen("btrfs log", "btrfs", 128, Taken::Dirty);
}

#[test]
fn nothing_stays_whatever_becomes_of_the_work() {
    if !available("door") {
        return;
    }
    let made = make("ext4", 24, Taken::Clean);
    let shot = Shot::of(&made.bytes);
    let failed = shot.look(|look| {
        let attached = look.attach(0)?;
        assert!(attached.path.join("etc").is_dir());
        assert!(!what_is_attached(shot.run_dir.path()).is_empty());
        // One that stays open.
        std::mem::forget(std::fs::File::open(attached.path.join("etc/hostname")));
        Err::<(), _>(stillpoint::Error::new(ErrorKind::Failed, "as it happens"))
    });
    assert_eq!(failed.unwrap_err().to_string(), "as it happens");
    let panicked = shot.look(|look| -> Result<()> {
        look.attach(0)?;
        panic!("as it happens");
    });
    assert!(panicked.unwrap_err().to_string().contains("panicked"));
    assert_nothing_attached(shot.run_dir.path());
    // The next one is not in the way of what was there before.
    assert_same_tree(&seen(&shot).0, &made.tree);
}

/// A vault that answers until it is told to hang.
fn hanging(inner: Arc<MemoryStore>) -> (Arc<Vault>, Arc<AtomicBool>) {
    let hangs = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&hangs);
    let store = FaultStore::new(inner, move |_| {
        while asked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    (Arc::new(Vault::open(Arc::new(store)).unwrap()), hangs)
}

#[test]
fn a_vault_that_hangs_gives_errors_in_time_and_keeps_nobody() {
    if !available("hanging vault") {
        return;
    }
    let made = make("ext4", 24, Taken::Clean);
    let mut shot = Shot::of(&made.bytes);
    let (vault, hangs) = hanging(shot.store.clone());
    shot.vault = vault;
    let disks = shot.disks();
    let plan = MountPlan::of(&disks).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let said = Arc::clone(&told);
    let serve = ServeOptions {
        disks: vec![ServedDisk {
            file: "vda.img".into(),
            image: disks[0].image.clone(),
        }],
        time: SystemTime::now(),
        within: Duration::from_secs(1),
        scratch: Bytes(1 << 20),
        on_failure: Arc::new(move |what| said.lock().unwrap().push(what)),
    };
    let options = ViewOptions {
        serve,
        folder: shot.run_dir.path().join("view"),
    };
    let begun = with_view(options, |view| {
        let attached = view.attach(&plan.filesystems[0].attach)?;
        hangs.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let read = std::fs::read(attached.path.join("etc/deep/er/one"));
        assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EIO));
        let raw = std::fs::read(view.images().join(RAW).join("vda.img"));
        assert_eq!(raw.unwrap_err().raw_os_error(), Some(libc::EIO));
        Ok(begun)
    });
    assert!(begun.unwrap().elapsed() < Duration::from_secs(30));
    assert!(
        told.lock()
            .unwrap()
            .iter()
            .any(|line| line.contains("did not answer in time"))
    );
    assert_nothing_attached(shot.run_dir.path());
    hangs.store(false, Ordering::Relaxed);
}

/// Set for the process that [`nothing_stays_of_a_process_that_is_killed`] kills: its run directory.
const TO_BE_KILLED: &str = "STILLPOINT_TEST_TO_BE_KILLED";

#[test]
fn nothing_stays_of_a_process_that_is_killed() {
    if let Some(run_dir) = std::env::var_os(TO_BE_KILLED) {
        return wait_to_be_killed(Path::new(&run_dir));
    }
    if !available("killed door") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "mount::door::nothing_stays_of_a_process_that_is_killed";
    command
        .args(["--exact", name, "--nocapture"])
        .env(TO_BE_KILLED, dir.path());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !dir.path().join("reads").exists() {
        assert!(Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    // By now it waits for the kernel, and the kernel for it.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!what_is_attached(dir.path()).is_empty());
    child.kill().unwrap();
    let ended = Instant::now();
    child.wait().unwrap();
    assert!(ended.elapsed() < Duration::from_secs(20));
    assert_nothing_attached(dir.path());
}

fn wait_to_be_killed(run_dir: &Path) {
    let made = make("ext4", 24, Taken::Clean);
    let mut shot = Shot::of(&made.bytes);
    let (vault, hangs) = hanging(shot.store.clone());
    shot.vault = vault;
    let options = LookIntoOptions {
        vault: &shot.vault,
        manifest: &shot.manifest,
        disks: shot.manifest.disks.iter().collect(),
        run_dir,
    };
    let looked = look_into(&options, &shot.ear, |look| {
        let attached = look.attach(0)?;
        hangs.store(true, Ordering::Relaxed);
        std::fs::write(run_dir.join("reads"), "").unwrap();
        let _ = std::fs::read(attached.path.join("etc/deep/er/one"));
        Ok(())
    });
    looked.unwrap();
    panic!("nobody has killed it");
}
