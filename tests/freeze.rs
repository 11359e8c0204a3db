//! Freezing and thawing for real: filesystems on loop devices, a real guardian process, and an
//! engine process (this binary again) that is killed at each step. Nothing but mounts made here is
//! ever frozen.

use crate::support::loops::{LoopDisk, Mounted, attempt, available, format, run};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use stillpoint::ErrorKind;
use stillpoint::freeze::{FreezeTarget, Guardian, GuardianOptions, MountOutcome, ThawReport, thaw};
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
        source: fields[1].to_owned(),
        fstype: fields[2].to_owned(),
    }
}

/// A directory for records, in memory as /run is.
fn memory_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

fn options(run_dir: &Path, mounts: &[&Mounted], deadline: Duration) -> GuardianOptions {
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
fn assert_thawed(mounts: &[&Mounted]) {
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
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Whether a process runs (a zombie does not).
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

// ---- In this process ----

#[test]
fn freezes_and_thaws_every_kind_of_filesystem() {
    if !available("freeze: every kind") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs", "btrfs"].map(Mounted::new);
    let mounts: Vec<&Mounted> = mounts.iter().collect();
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
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "a zombie is left"
    );
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_dropped_guardian_thaws_and_leaves_no_trace() {
    if !available("freeze: drop") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Mounted::new("ext4");
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
    let mounts = [Mounted::new("ext4"), Mounted::new("xfs")];
    let mounts: Vec<&Mounted> = mounts.iter().collect();
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
    let mounts = ["ext4", "xfs", "ext4"].map(Mounted::new);
    let all: Vec<&Mounted> = mounts.iter().collect();
    run("fsfreeze", &["--freeze", mounts[1].path()]);
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
    let mount = Mounted::new("ext4");
    let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], FAR)).unwrap();
    guardian.freeze().unwrap();
    run("fsfreeze", &["--unfreeze", mount.path()]);
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent);
    assert!(
        error.to_string().contains("thawed by someone else"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_frozen_is_named_and_the_rest_thawed() {
    if !available("freeze: unsupported") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Mounted::new("ext4");
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
    let mount = Mounted::new("ext4");
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
    let mounts = ["ext4", "ext4"].map(Mounted::new);
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
    let mount = Mounted::new("btrfs");
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
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        run("mount", &["--bind", from, to]);
        let mut options = options(run_dir.path(), &[], FAR);
        options.targets.push(target(Path::new(to)));
        let result = Guardian::start(options).and_then(|mut guardian| {
            guardian.freeze()?;
            assert!(is_frozen(&mount.place));
            guardian.thaw()
        });
        run("umount", &[to]);
        result.unwrap();
        assert_thawed(&[&mount]);
    }
}

#[test]
fn signals_that_end_others_do_not_end_the_guardian() {
    if !available("freeze: signals") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Mounted::new("ext4");
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
    assert_eq!(told("oom_score_adj").trim(), "-1000");
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
fn the_engine_thaws_when_the_guardian_is_killed() {
    if !available("freeze: guardian killed") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs"].map(Mounted::new);
    let mounts: Vec<&Mounted> = mounts.iter().collect();
    let mut guardian = Guardian::start(options(run_dir.path(), &mounts, FAR)).unwrap();
    guardian.freeze().unwrap();
    signal(guardian.pid().unwrap(), Signal::SIGKILL);
    wait_until("the end of the guardian", || !guardian.is_holding());
    assert!(is_frozen(mounts[0].place.as_path()), "who thawed it?");
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert_thawed(&mounts);
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn the_engine_thaws_when_the_guardian_is_stopped() {
    if !available("freeze: guardian stopped") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Mounted::new("ext4");
    let short = Duration::from_secs(1);
    let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], short)).unwrap();
    guardian.freeze().unwrap();
    let pid = guardian.pid().unwrap();
    signal(pid, Signal::SIGSTOP);
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert_thawed(&[&mount]);
    assert!(!runs(pid));
}

#[test]
fn a_guardian_killed_before_the_freeze_freezes_nothing() {
    if !available("freeze: guardian killed early") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs"].map(Mounted::new);
    // A foreign freeze must survive the engine's own thaw: the record says what was not reached.
    run("fsfreeze", &["--freeze", mounts[1].path()]);
    let all: Vec<&Mounted> = mounts.iter().collect();
    let mut options = options(run_dir.path(), &all, FAR);
    // Writing out a frozen filesystem is no work: it must not block.
    options.sync_within = LONG;
    let mut guardian = Guardian::start(options).unwrap();
    signal(guardian.pid().unwrap(), Signal::SIGKILL);
    guardian.freeze().unwrap_err();
    drop(guardian);
    assert_thawed(&[&mounts[0]]);
    assert!(is_frozen(&mounts[1].place), "thawed what it had not frozen");
    assert!(records(run_dir.path()).is_empty());
}

// ---- A freeze that does not come back ----

#[test]
fn the_deadline_thaws_the_rest_while_one_freeze_is_stuck_on_a_stranger() {
    if !available("freeze: stuck on a stranger") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Mounted::new("ext4");
    let inner = Mounted::within("ext4", &outer.place, 64);
    let other = Mounted::new("xfs");
    let short = Duration::from_secs(1);
    let mut guardian = Guardian::start(options(run_dir.path(), &[&other, &inner], short)).unwrap();
    let pid = guardian.pid().unwrap();
    // The inner one's blocks lie on what a stranger freezes just before its turn. Synced now, as
    // its sync could not come to an end later.
    guardian.sync(LONG).unwrap();
    run("fsfreeze", &["--freeze", outer.path()]);
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert!(error.to_string().contains(inner.path()), "{error}");
    assert_thawed(&[&other]);
    assert!(runs(pid), "the guardian must stay with what is stuck");
    assert_eq!(records(run_dir.path()).len(), 1);
    let report = thaw(&run_dir.path().join("run")).unwrap();
    assert_eq!(report.verdict().unwrap_err().kind(), ErrorKind::Busy);
    drop(guardian);
    assert!(is_frozen(&outer.place), "thawed what it had not frozen");
    run("fsfreeze", &["--unfreeze", outer.path()]);
    wait_until("the end of the guardian", || !runs(pid));
    assert_thawed(&[&inner, &outer]);
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_wrong_order_ends_at_the_deadline_and_leaves_nothing_frozen() {
    if !available("freeze: wrong order") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Mounted::new("ext4");
    let inner = Mounted::within("ext4", &outer.place, 64);
    let all = [&outer, &inner];
    let short = Duration::from_secs(1);
    let mut guardian = Guardian::start(options(run_dir.path(), &all, short)).unwrap();
    let pid = guardian.pid().unwrap();
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    drop(guardian);
    wait_until("the end of the guardian", || !runs(pid));
    assert_thawed(&[&outer, &inner]);
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn writing_out_is_bounded_and_comes_before_the_freeze() {
    if !available("freeze: stuck sync") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Mounted::new("ext4");
    let inner = Mounted::within("ext4", &outer.place, 64);
    let other = Mounted::new("ext4");
    let mut options = options(run_dir.path(), &[&other, &inner], FAR);
    options.sync_within = Duration::from_millis(500);
    let mut guardian = Guardian::start(options).unwrap();
    std::fs::write(inner.place.join("dirty"), vec![1; 8 << 20]).unwrap();
    run("fsfreeze", &["--freeze", outer.path()]);
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert!(error.to_string().contains("write out"), "{error}");
    assert_thawed(&[&other]);
    drop(guardian);
    run("fsfreeze", &["--unfreeze", outer.path()]);
    assert_thawed(&[&inner, &outer, &other]);
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_loop_disk_is_frozen_before_what_it_lies_on() {
    if !available("freeze: nested") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Mounted::new("xfs");
    let inner = Mounted::within("ext4", &outer.place, 64);
    let all = [&inner, &outer];
    let mut guardian = Guardian::start(options(run_dir.path(), &all, FAR)).unwrap();
    guardian.freeze().unwrap();
    guardian.thaw().unwrap();
    assert_thawed(&all);
}

// ---- An engine that dies ----

const ROLE: &str = "STILLPOINT_TEST_ENGINE";

/// Not a test: what the engine process does, when this binary is started as one. It takes one step
/// for each line it is sent.
#[test]
fn engine_role() {
    let Ok(told) = std::env::var(ROLE) else {
        return;
    };
    let mut told = told.split('\n');
    let run_dir = PathBuf::from(told.next().unwrap());
    let deadline = Duration::from_millis(told.next().unwrap().parse().unwrap());
    let mut options = options(&run_dir, &[], deadline);
    options.targets = told.map(|place| target(Path::new(place))).collect();
    let mut guardian = Guardian::start(options).unwrap();
    let mut steps = std::io::stdin().lines();
    say(&format!("started {}", guardian.pid().unwrap()));
    steps.next().unwrap().unwrap();
    say("freezing");
    guardian.freeze().unwrap();
    say("frozen");
    let step = steps.next().unwrap().unwrap();
    if step == "chatter" {
        std::io::stdout().write_all(&[b'x'; 1 << 20]).unwrap();
    }
    say("thawing");
    let result = guardian.thaw();
    say(if result.is_ok() { "thawed" } else { "spoilt" });
    steps.next();
}

fn say(word: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n@{word}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// An engine process, killed when dropped.
struct Engine {
    child: Child,
    said: BufReader<ChildStdout>,
    guardian: u32,
}

impl Engine {
    fn start(run_dir: &Path, mounts: &[&Mounted], deadline: Duration) -> Self {
        let mut told = format!("{}\n{}", run_dir.display(), deadline.as_millis());
        for mount in mounts {
            told += &format!("\n{}", mount.path());
        }
        // Descriptor 9 is one that a careless starter leaves open.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 9>&1", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "freeze::engine_role", "--nocapture"])
            .env(ROLE, told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut engine = Self {
            child,
            said,
            guardian: 0,
        };
        let started = engine.hear("started");
        engine.guardian = started.rsplit(' ').next().unwrap().parse().unwrap();
        engine
    }

    fn hear(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).unwrap();
            assert!(read > 0, "the engine ended before it was {word}");
            if line.starts_with(&format!("@{word}")) {
                return line.trim().to_owned();
            }
        }
    }

    fn tell(&mut self, step: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{step}\n").as_bytes()).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_engine_killed_at_any_step_leaves_nothing_frozen() {
    if !available("freeze: engine killed") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs", "btrfs"].map(Mounted::new);
    let mounts: Vec<&Mounted> = mounts.iter().collect();
    for step in ["started", "freezing", "frozen", "thawing", "thawed"] {
        let mut engine = Engine::start(run_dir.path(), &mounts, FAR);
        assert_eq!(records(run_dir.path()).len(), 1);
        if step != "started" {
            engine.tell("freeze");
            engine.hear("freezing");
        }
        if !["started", "freezing"].contains(&step) {
            engine.hear("frozen");
            assert!(mounts.iter().all(|mount| is_frozen(&mount.place)));
        }
        if ["thawing", "thawed"].contains(&step) {
            engine.tell("thaw");
            engine.hear(step);
        }
        engine.kill();
        let guardian = engine.guardian;
        wait_until("the end of the guardian", || !runs(guardian));
        assert_thawed(&mounts);
        assert!(records(run_dir.path()).is_empty(), "killed when {step}");
    }
}

#[test]
fn an_engine_killed_while_it_freezes_leaves_nothing_frozen() {
    if !available("freeze: engine killed while freezing") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs", "btrfs"].map(Mounted::new);
    let mounts: Vec<&Mounted> = mounts.iter().collect();
    for round in 0..12 {
        let mut engine = Engine::start(run_dir.path(), &mounts, FAR);
        for mount in &mounts {
            std::fs::write(mount.place.join("dirty"), vec![round; 4 << 20]).unwrap();
        }
        engine.tell("freeze");
        engine.hear("freezing");
        std::thread::sleep(Duration::from_millis(u64::from(round) * 4));
        engine.kill();
        let guardian = engine.guardian;
        wait_until("the end of the guardian", || !runs(guardian));
        assert_thawed(&mounts);
        assert!(records(run_dir.path()).is_empty());
    }
}

#[test]
fn the_emergency_thaw_finds_what_two_dead_processes_left() {
    if !available("freeze: both killed") {
        return;
    }
    for run_dir in [memory_dir(), tempfile::tempdir_in("/tmp").unwrap()] {
        let mounts = ["ext4", "xfs", "ext4"].map(Mounted::new);
        let ours = [&mounts[0], &mounts[1]];
        run("fsfreeze", &["--freeze", mounts[2].path()]);
        let mut engine = Engine::start(run_dir.path(), &ours, FAR);
        engine.tell("freeze");
        engine.hear("frozen");
        let dir = run_dir.path().join("run");
        let busy = thaw(&dir).unwrap();
        assert_eq!(busy.verdict().unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(busy.alive[0].pid, engine.guardian);
        assert!(is_frozen(&mounts[0].place));
        signal(engine.guardian, Signal::SIGKILL);
        engine.kill();
        wait_until("the end of the guardian", || !runs(engine.guardian));
        assert!(ours.iter().all(|mount| is_frozen(&mount.place)));
        let report = thaw(&dir).unwrap();
        report.verdict().unwrap();
        let outcomes: Vec<_> = report.mounts.iter().map(|m| m.outcome.clone()).collect();
        assert_eq!(outcomes, [MountOutcome::Thawed, MountOutcome::Thawed]);
        assert_thawed(&ours);
        assert!(is_frozen(&mounts[2].place), "no record names it");
        assert!(records(run_dir.path()).is_empty());
        assert!(thaw(&dir).unwrap().mounts.is_empty());
    }
}

#[test]
fn the_guardian_inherits_nothing_from_the_engine() {
    if !available("freeze: inheritance") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Mounted::new("ext4");
    let engine = Engine::start(run_dir.path(), &[&mount], FAR);
    let fds = |pid: u32| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = entries.map(|entry| std::fs::read_link(entry.unwrap().path()));
        links.filter_map(Result::ok).collect()
    };
    let leaked = &std::fs::read_link(format!("/proc/{}/fd/9", engine.child.id())).unwrap();
    assert!(leaked.to_str().unwrap().starts_with("pipe:"));
    assert!(!fds(engine.guardian).contains(leaked));
    assert!(fds(engine.guardian).contains(&mount.place));
}

#[test]
fn an_engine_that_waits_for_a_reader_on_the_frozen_disk_is_ended_by_the_deadline() {
    if !available("freeze: full pipe") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Mounted::new("ext4");
    let mut engine = Engine::start(run_dir.path(), &[&mount], Duration::from_secs(1));
    engine.tell("freeze");
    engine.hear("frozen");
    engine.tell("chatter");
    // This is the reader: it blocks here until the thaw, and the engine on its full pipe.
    std::fs::write(mount.place.join("log"), "line").unwrap();
    engine.hear("spoilt");
    let guardian = engine.guardian;
    wait_until("the end of the guardian", || !runs(guardian));
    assert_thawed(&[&mount]);
}

// ---- In another mount namespace ----

/// A filesystem mounted only where one other process sees it.
struct Hidden {
    shell: Child,
    place: PathBuf,
    _disk: LoopDisk,
    _dir: TempDir,
}

impl Hidden {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = LoopDisk::new(&dir.path().join("disk.img"), 64);
        format("ext4", &disk.device);
        let place = dir.path().join("mnt");
        std::fs::create_dir(&place).unwrap();
        let mut shell = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount \"$0\" \"$1\" && echo ready && exec sleep 600")
            .args([&disk.device, place.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self {
            shell,
            place,
            _disk: disk,
            _dir: dir,
        }
    }

    fn inside(&self, args: &[&str]) -> std::process::Output {
        let pid = self.shell.id().to_string();
        attempt("nsenter", &[&["--mount", "--target", &pid], args].concat())
    }

    fn target(&self) -> FreezeTarget {
        let place = self.place.to_str().unwrap();
        let told = self.inside(&["findmnt", "-rnvo", "MAJ:MIN", "--mountpoint", place]);
        let told = String::from_utf8(told.stdout).unwrap();
        let (major, minor) = told.trim().split_once(':').unwrap();
        FreezeTarget {
            mount_point: self.place.clone(),
            namespace_pid: Some(self.shell.id()),
            dev: DevNumber {
                major: major.parse().unwrap(),
                minor: minor.parse().unwrap(),
            },
            source: self._disk.device.clone(),
            fstype: "ext4".into(),
        }
    }

    fn is_frozen(&self) -> bool {
        let place = self.place.to_str().unwrap();
        let free = self
            .inside(&["fsfreeze", "--freeze", place])
            .status
            .success();
        if free {
            self.inside(&["fsfreeze", "--unfreeze", place]);
        }
        !free
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.inside(&["fsfreeze", "--unfreeze", self.place.to_str().unwrap()]);
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_filesystem_in_another_mount_namespace_is_reached() {
    if !available("freeze: mount namespace") {
        return;
    }
    let run_dir = memory_dir();
    let hidden = Hidden::new();
    let mut options = options(run_dir.path(), &[], FAR);
    options.targets = vec![hidden.target()];
    let mut here = options.clone();
    here.targets[0].namespace_pid = None;
    assert!(Guardian::start(here).is_err(), "it is not mounted here");
    let mut guardian = Guardian::start(options).unwrap();
    guardian.freeze().unwrap();
    assert!(hidden.is_frozen());
    guardian.thaw().unwrap();
    assert!(!hidden.is_frozen());
}
