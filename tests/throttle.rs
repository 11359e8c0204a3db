//! Slowing down what writes, with folders that stand in for control groups: which limits are set
//! and when, and that none outlasts the run, however it ends. The writers obey the stand-in, as the
//! kernel would have them.

use crate::cli::lab::{Lab, finish, wait};
use crate::support::host::LoopDisk;
use crate::support::rig::{Rig, Watching, parent};
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stillpoint::ErrorKind;
use stillpoint::engine::OnBusy;
use stillpoint::freeze::{Throttle, ThrottleOptions};
use stillpoint::model::{Bytes, DevNumber, Level};

/// Control groups of a run directory's own: `busy` has no limit, `strict` has one already.
#[derive(Clone)]
struct Groups(PathBuf);

impl Groups {
    fn new(run_dir: &Path, disk: &str) -> Self {
        let groups = Self(run_dir.join("cgroup"));
        for name in ["busy", "strict", "empty"] {
            fs::create_dir_all(groups.0.join(name)).unwrap();
        }
        fs::write(groups.0.join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        fs::write(groups.0.join("busy/io.max"), "").unwrap();
        let strict = format!("{disk} rbps=77 wbps=max riops=max wiops=3\n");
        fs::write(groups.0.join("strict/io.max"), strict).unwrap();
        groups
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }

    /// Whether `busy` may write no more than so much.
    fn is_pressed(&self) -> bool {
        let text = self.read("busy/io.max");
        text.contains("wbps=") && !text.contains("wbps=max")
    }

    fn is_undone(&self, disk: &str) -> bool {
        self.read("busy/io.max") == format!("{disk} wbps=max wiops=max")
            && self.read("strict/io.max") == format!("{disk} wbps=max wiops=3")
            && self.read("cgroup.subtree_control") == "-io"
    }
}

/// What is left of throttles in a run directory, but for the lock.
fn notes(run_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(run_dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ours = |name: &String| name.starts_with("throttle-") || name == "io-controller";
    names.filter(ours).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn options(run_dir: &Path, minor: u32) -> ThrottleOptions {
    ThrottleOptions {
        program: env!("CARGO_BIN_EXE_stillpoint").into(),
        run_dir: run_dir.to_owned(),
        disks: vec![DevNumber { major: 7, minor }],
        rate: Bytes(10 << 20),
    }
}

#[test]
fn limits_are_set_lifted_and_put_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    crate::support::run_dirs::make(&dir.path().join("run"));
    let run_dir = dir.path().join("run");
    let groups = Groups::new(&run_dir, "7:300");
    let throttle = Throttle::begin(&options(&run_dir, 300)).unwrap();
    assert_eq!(throttle.count(), 2, "a group without io.max has no limit");
    assert_eq!(groups.read("cgroup.subtree_control"), "+io");
    let pressed = "7:300 wbps=10485760 wiops=160";
    assert_eq!(groups.read("busy/io.max"), pressed);
    let strict = "7:300 wbps=10485760 wiops=3";
    assert_eq!(groups.read("strict/io.max"), strict, "a stricter one stays");
    throttle.lift();
    assert_eq!(groups.read("busy/io.max"), "7:300 wbps=max wiops=max");
    throttle.press();
    assert_eq!(groups.read("busy/io.max"), pressed);
    assert_eq!(notes(&run_dir).len(), 2);
    // A run beside it: the controller is taken back by the last.
    let second = Throttle::begin(&options(&run_dir, 300)).unwrap();
    drop(second);
    fs::write(groups.0.join("cgroup.subtree_control"), "as it is").unwrap();
    throttle.lift();
    drop(throttle);
    assert_eq!(notes(&run_dir), [] as [&str; 0]);
    assert!(
        groups.is_undone("7:300"),
        "{:?}",
        groups.read("strict/io.max")
    );
}

#[test]
fn where_it_cannot_be_had_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    crate::support::run_dirs::make(&run_dir);
    let groups = Groups::new(&run_dir, "7:300");
    for name in ["busy", "strict"] {
        fs::remove_file(groups.0.join(name).join("io.max")).unwrap();
    }
    let error = Throttle::begin(&options(&run_dir, 300)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(groups.read("cgroup.subtree_control"), "-io");
    assert_eq!(notes(&run_dir), [] as [&str; 0]);
}

/// Takes out all of a disk, again and again, until it is dropped: so every pass leaves all of it,
/// however slow this machine is. It stops for good once the stand-in says that it has to be slow,
/// unless it is deaf.
struct Writers {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const SIZE: u64 = 320 << 20;

impl Writers {
    fn start(device: &str, groups: Option<&Groups>) -> Self {
        let (device, groups) = (device.to_owned(), groups.cloned());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let file = OpenOptions::new().write(true).open(device).unwrap();
            let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            while !stopped.load(Ordering::Relaxed) {
                if groups.as_ref().is_some_and(Groups::is_pressed) {
                    return;
                }
                fallocate(&file, punch, 0, SIZE as i64).unwrap();
                // The disk is still for an instant.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_busy_disk_is_cut_once_its_writers_are_slow_and_they_are_not_while_it_is_frozen() {
    let Some(rig) = Rig::new("throttle: a busy disk") else {
        return;
    };
    let disk = LoopDisk::within(parent(), SIZE, &[]);
    let name = disk.dev().to_string();
    let groups = Groups::new(&rig.places.run_dir, &name);
    let writers = Writers::start(&disk.device, Some(&groups));
    let pressed = Arc::new(Mutex::new(Vec::new()));
    let (seen, shown) = (Arc::clone(&pressed), groups.clone());
    let manifest = rig.snapshot_to(
        &rig.vault,
        &[&disk],
        |options| {
            options.on_busy = OnBusy::Throttle;
            options.max_freeze = Duration::from_millis(100);
        },
        |inner| {
            Box::new(Watching {
                inner,
                disks: Vec::new(),
                sights: Arc::default(),
                also: Box::new(move |_| seen.lock().unwrap().push(shown.is_pressed())),
            })
        },
    );
    drop(writers);
    // Nothing is mounted there.
    assert_eq!(manifest.unwrap().level, Level::Crash);
    let pressed = pressed.lock().unwrap();
    assert!(!pressed.is_empty(), "nothing was held");
    assert!(!pressed.contains(&true), "slow while frozen");
    assert_eq!(notes(&rig.places.run_dir), [] as [&str; 0]);
    assert!(groups.is_undone(&name), "{:?}", groups.read("busy/io.max"));
}

#[test]
fn a_killed_run_leaves_nobody_slowed_down() {
    let Some(lab) = Lab::with_vault("throttle: killed") else {
        return;
    };
    let disk = lab.disk_with("busy", SIZE, &[]);
    let run_dir = lab.path("run");
    let dev = fs::read_to_string(format!("/sys/class/block/{}/dev", disk.name())).unwrap();
    let name = dev.trim();
    let groups = Groups::new(&run_dir, name);
    // It goes on, so that the run does not come to its end by itself.
    let writers = Writers::start(&disk.device, None);
    let args = [
        "snapshot",
        &disk.device,
        "--on-busy",
        "throttle",
        "--max-freeze",
        "100ms",
    ];
    let mut engine = lab
        .command(&args)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut note = None;
    until("slowed down", || {
        let names = notes(&run_dir);
        let found = names.iter().find(|name| name.ends_with(".json"));
        note = found.and_then(|name| Some((name.clone(), fs::read(run_dir.join(name)).ok()?)));
        groups.is_pressed() && note.is_some()
    });
    engine.kill().unwrap();
    wait(&mut engine, "the killed engine");
    drop(writers);
    until("undone by the watcher", || notes(&run_dir).is_empty());
    assert!(groups.is_undone(name), "{:?}", groups.read("busy/io.max"));

    // As if the watcher had been killed too: the emergency thaw reads the note.
    let (path, text) = note.unwrap();
    let path = run_dir.join(path);
    fs::write(&path, text).unwrap();
    // Written by hand, and so for others to read: it is not believed.
    let refused = finish(&mut lab.command(&["thaw"])).expect(1);
    assert!(refused.stderr.contains("others than root"), "{refused:?}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(run_dir.join("io-controller"), "an earlier boot").unwrap();
    fs::write(
        groups.0.join("busy/io.max"),
        format!("{name} wbps=1 wiops=1"),
    )
    .unwrap();
    let thawed = finish(&mut lab.command(&["thaw"])).expect(0);
    assert!(thawed.stdout.contains("slowed down"), "{thawed:?}");
    assert!(!groups.is_pressed());
    assert_eq!(notes(&run_dir), [] as [&str; 0]);
    assert_eq!(lab.json(&["thaw"])["throttles"], 0);
}

#[test]
fn a_host_that_cannot_says_so_and_goes_on() {
    let Some(rig) = Rig::new("throttle: cannot") else {
        return;
    };
    let disk = LoopDisk::within(parent(), SIZE, &[]);
    let groups = Groups::new(&rig.places.run_dir, &disk.dev().to_string());
    for name in ["busy", "strict"] {
        fs::remove_file(groups.0.join(name).join("io.max")).unwrap();
    }
    let writers = Writers::start(&disk.device, None);
    let taken = rig.snapshot(&[&disk], |options| {
        options.on_busy = OnBusy::Throttle;
        options.max_freeze = Duration::from_millis(100);
    });
    drop(writers);
    let warnings = rig.ear.0.lock().unwrap();
    let error = taken.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert!(!hint.contains("throttle"), "{hint}");
    let said = warnings
        .iter()
        .find(|one| one.contains("cannot be slowed down"));
    assert!(said.is_some(), "{error}: {warnings:?}");
}
