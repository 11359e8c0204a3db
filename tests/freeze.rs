//! Freezing and thawing for real: filesystems on loop devices, a real guardian process, and an
//! engine process (this binary again) that is killed at each step. Nothing but mounts made here is
//! ever frozen.

mod bad_notes;
mod controller;
mod killed;
mod namespace;
mod next_run;
mod stuck;

use crate::support::host::{Filesystem, LoopDisk, attempt, available, format, run};
use crate::support::{run_dirs, tree};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stillpoint::ErrorKind;
use stillpoint::freeze::{FreezeTarget, Guardian, GuardianOptions, MountOutcome, thaw};
use stillpoint::model::DevNumber;
use tempfile::TempDir;

/// Nothing here takes so long unless it hangs.
const LONG: Duration = Duration::from_secs(60);
/// A deadline that no test waits for.
const FAR: Duration = Duration::from_secs(120);

fn target(place: &Path) -> FreezeTarget {
    let path = place.to_str().unwrap();
    let told = run(
        "findmnt",
        &["-rnvo", "MAJ:MIN,SOURCE,FSTYPE", "--mountpoint", path],
    );
    // The last one mounted hides the others.
    let fields: Vec<&str> = told.lines().last().unwrap().split_whitespace().collect();
    let (major, minor) = fields[0].split_once(':').unwrap();
    FreezeTarget {
        mount_point: place.to_owned(),
        namespace_pid: None,
        dev: DevNumber {
            major: major.parse().unwrap(),
            minor: minor.parse().unwrap(),
        },
        wave: 0,
        source: fields[1].to_owned(),
        fstype: fields[2].to_owned(),
    }
}

/// A directory for records, in memory as /run is.
fn memory_dir() -> TempDir {
    dir_in("/dev/shm")
}

/// With a folder `run` in it.
fn dir_in(place: &str) -> TempDir {
    let dir = tempfile::tempdir_in(place).unwrap();
    run_dirs::make(&dir.path().join("run"));
    dir
}

/// A freeze by somebody else, undone when dropped. To be made after the mounts that lie on it, so
/// that it is dropped before they are unmounted.
struct Stranger<'a>(&'a Filesystem);

impl<'a> Stranger<'a> {
    fn freezes(mount: &'a Filesystem) -> Self {
        run("fsfreeze", &["--freeze", mount.path()]);
        Self(mount)
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        attempt("fsfreeze", &["--unfreeze", self.0.path()]);
    }
}

/// A bind mount, undone when dropped.
struct Bind<'a>(&'a Path);

impl<'a> Bind<'a> {
    fn new(from: &Path, to: &'a Path) -> Self {
        let (from, place) = (from.to_str().unwrap(), to.to_str().unwrap());
        run("mount", &["--bind", from, place]);
        Self(to)
    }
}

impl Drop for Bind<'_> {
    fn drop(&mut self) {
        // Whoever looks at all mounts of this machine just now keeps it busy for a moment.
        attempt("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

/// Targets in the order given, one after the other.
fn in_turn(mut options: GuardianOptions) -> GuardianOptions {
    for (wave, target) in options.targets.iter_mut().enumerate() {
        target.wave = wave.try_into().unwrap();
    }
    options
}

fn options(run_dir: &Path, mounts: &[&Filesystem], deadline: Duration) -> GuardianOptions {
    let targets = mounts.iter().map(|mount| target(&mount.place)).collect();
    GuardianOptions {
        program: env!("CARGO_BIN_EXE_stillpoint").into(),
        run_dir: run_dir.join("run"),
        ..GuardianOptions::new(targets, deadline)
    }
}

/// By asking the kernel: what is frozen cannot be frozen again.
fn is_frozen(path: &Path) -> bool {
    let path = path.to_str().unwrap();
    let tried = attempt("fsfreeze", &["--freeze", path]);
    if tried.status.success() {
        run("fsfreeze", &["--unfreeze", path]);
        return false;
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(said.contains("busy"), "fsfreeze {path}: {said}");
    true
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < until, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Thawed, and good for writing.
fn assert_thawed(mounts: &[&Filesystem]) {
    for mount in mounts {
        wait_until("thaw", || !is_frozen(&mount.place));
        let file = format!("of={}/probe", mount.path());
        let mut write = Command::new("dd")
            .args(["if=/dev/zero", &file, "bs=4k", "count=1", "conv=fsync"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = write.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < until,
                "{} does not take writes",
                mount.path()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success());
    }
}

fn records(run_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run_dir.join("run"));
    let entries = entries.into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let of_runs = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    paths.filter(of_runs).collect()
}

/// Whether a process runs (a zombie does not).
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[test]
fn freezes_and_thaws_every_kind_of_filesystem() {
    if !available("freeze: every kind") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs", "btrfs"].map(Filesystem::new);
    let mounts: Vec<&Filesystem> = mounts.iter().collect();
    let mut guardian = Guardian::start(options(run_dir.path(), &mounts, FAR)).unwrap();
    assert!(guardian.watch().is_none());
    assert_thawed(&mounts);
    let times = guardian.freeze().unwrap();
    assert_eq!(times.each.len(), 3);
    assert!(mounts.iter().all(|mount| is_frozen(&mount.place)));
    assert!(guardian.is_holding());
    assert!(guardian.watch().unwrap().remaining() > Duration::ZERO);
    let mode = std::fs::metadata(&records(run_dir.path())[0])
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let pid = guardian.pid().unwrap();
    let thawed = guardian.thaw().unwrap();
    println!("froze in {times:?}, thawed {thawed:?}");
    assert!(thawed.frozen_for >= times.total);
    assert_thawed(&mounts);
    // Once dead it is init's to collect, not ours.
    wait_until("the end of the guardian", || !runs(pid));
    assert_ne!(tree::parent(pid), Some(std::process::id()));
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_dropped_guardian_thaws_and_leaves_no_trace() {
    if !available("freeze: drop") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    for freeze in [false, true] {
        let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], FAR)).unwrap();
        let pid = guardian.pid().unwrap();
        if freeze {
            guardian.freeze().unwrap();
        }
        drop(guardian);
        assert_thawed(&[&mount]);
        assert!(!runs(pid));
        assert!(records(run_dir.path()).is_empty());
    }
}

#[test]
fn the_deadline_thaws_and_spoils_the_snapshot() {
    if !available("freeze: deadline") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = [Filesystem::new("ext4"), Filesystem::new("xfs")];
    let mounts: Vec<&Filesystem> = mounts.iter().collect();
    let short = Duration::from_millis(700);
    let mut guardian = Guardian::start(options(run_dir.path(), &mounts, short)).unwrap();
    guardian.freeze().unwrap();
    assert_thawed(&mounts);
    assert!(!guardian.is_holding());
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent);
    assert!(error.to_string().contains("deadline"), "{error}");
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_foreign_freeze_is_named_and_left_alone() {
    if !available("freeze: foreign freeze") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs", "ext4"].map(Filesystem::new);
    let all: Vec<&Filesystem> = mounts.iter().collect();
    let _stranger = Stranger::freezes(&mounts[1]);
    let mut guardian = Guardian::start(options(run_dir.path(), &all, FAR)).unwrap();
    let error = guardian.freeze().unwrap_err();
    drop(guardian);
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains(mounts[1].path()), "{error}");
    assert!(error.hint().unwrap().contains("fsfreeze --unfreeze"));
    assert!(is_frozen(&mounts[1].place), "thawed what it had not frozen");
    assert_thawed(&[&mounts[0], &mounts[2]]);
    assert!(records(run_dir.path()).is_empty());
    thaw(&run_dir.path().join("run")).unwrap();
    assert!(is_frozen(&mounts[1].place), "no record names it");
}

#[test]
fn a_thaw_by_someone_else_spoils_the_snapshot() {
    if !available("freeze: foreign thaw") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], FAR)).unwrap();
    guardian.freeze().unwrap();
    run("fsfreeze", &["--unfreeze", mount.path()]);
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent);
    assert!(error.to_string().contains("someone else"), "{error}");
}

#[test]
fn what_cannot_be_frozen_is_named_and_the_rest_thawed() {
    if !available("freeze: unsupported") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    let mut options = options(run_dir.path(), &[&mount], FAR);
    options.targets.push(target(Path::new("/dev/shm")));
    let mut guardian = Guardian::start(options).unwrap();
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("/dev/shm"), "{error}");
    assert_thawed(&[&mount]);
}

#[test]
fn a_read_only_mount_freezes_like_any_other() {
    if !available("freeze: read-only") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    run("mount", &["-o", "remount,ro", mount.path()]);
    let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], FAR)).unwrap();
    guardian.freeze().unwrap();
    guardian.thaw().unwrap();
    run("mount", &["-o", "remount,rw", mount.path()]);
    assert_thawed(&[&mount]);
}

#[test]
fn a_path_that_leads_elsewhere_is_refused_before_anything_is_frozen() {
    if !available("freeze: wrong path") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "ext4"].map(Filesystem::new);
    let mut swapped = options(run_dir.path(), &[&mounts[0], &mounts[1]], FAR);
    swapped.targets[1].mount_point = "/tmp".into();
    let error = Guardian::start(swapped.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    swapped.targets[1].mount_point = mounts[0].place.clone();
    swapped.targets[1].dev = swapped.targets[0].dev;
    let error = Guardian::start(swapped).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_bind_mount_is_as_good_a_way_in() {
    if !available("freeze: bind mount") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("btrfs");
    let volume = mount.place.join("volume");
    run(
        "btrfs",
        &["-q", "subvolume", "create", volume.to_str().unwrap()],
    );
    let file = volume.join("file");
    std::fs::write(&file, "x").unwrap();
    let places = tempfile::tempdir().unwrap();
    for (from, name) in [(&volume, "dir"), (&file, "file")] {
        let to = places.path().join(name);
        if name == "dir" {
            std::fs::create_dir(&to).unwrap();
        } else {
            std::fs::write(&to, "").unwrap();
        }
        let bound = Bind::new(from, &to);
        let mut options = options(run_dir.path(), &[], FAR);
        options.targets.push(target(&to));
        let mut guardian = Guardian::start(options).unwrap();
        guardian.freeze().unwrap();
        assert!(is_frozen(&mount.place));
        guardian.thaw().unwrap();
        drop(bound);
        assert_thawed(&[&mount]);
    }
}

#[test]
fn signals_that_end_others_do_not_end_the_guardian() {
    if !available("freeze: signals") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], FAR)).unwrap();
    let pid = guardian.pid().unwrap();
    let session = nix::unistd::getsid(Some(Pid::from_raw(pid.cast_signed()))).unwrap();
    assert_eq!(
        session.as_raw(),
        pid.cast_signed(),
        "not a session of its own"
    );
    println!("weaknesses: {:?}", guardian.weaknesses());
    let told = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let hard_to_kill = !guardian
        .weaknesses()
        .iter()
        .any(|w| w.contains("oom_score_adj"));
    assert!(!hard_to_kill || told("oom_score_adj").trim() == "-1000");
    assert!(!told("status").contains("VmLck:\t       0 kB"));
    let grouped = !guardian
        .weaknesses()
        .iter()
        .any(|w| w.contains("control group"));
    assert!(!grouped || told("cgroup").contains("stillpoint-guardian"));
    guardian.freeze().unwrap();
    for one in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
        Signal::SIGALRM,
    ] {
        let group = Pid::from_raw(-pid.cast_signed());
        kill(group, one).unwrap();
    }
    assert!(guardian.is_holding());
    assert!(is_frozen(&mount.place));
    guardian.thaw().unwrap();
    assert_thawed(&[&mount]);
}

#[test]
fn a_guardian_is_used_again_for_the_same_only_and_while_it_is_there() {
    if !available("freeze: used again") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs"].map(Filesystem::new);
    let of = |mounts: &[&Filesystem]| options(run_dir.path(), mounts, FAR);
    let (one, both) = (of(&[&mounts[0]]), of(&[&mounts[0], &mounts[1]]));
    let (one_target, two_targets) = (one.targets.clone(), both.targets.clone());
    let mut guardian = Guardian::start(one).unwrap();
    guardian.sync().unwrap();
    assert!(guardian.is_ready_for(&one_target));
    assert!(!guardian.is_ready_for(&two_targets));
    guardian.freeze().unwrap();
    assert!(!guardian.is_ready_for(&one_target), "it freezes once only");
    guardian.thaw().unwrap();
    let killed = Guardian::start(both).unwrap();
    assert!(killed.is_ready_for(&two_targets));
    signal(killed.pid().unwrap(), Signal::SIGKILL);
    let until = Instant::now() + LONG;
    while killed.is_ready_for(&two_targets) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!killed.is_ready_for(&two_targets), "it is dead");
}
