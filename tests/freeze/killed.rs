//! Processes that die: an engine (this binary again) at each step, its guardian, and both.

use super::*;
use crate::cli::lab::{Lab, finish};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdout, Stdio};

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

/// Whether the stand-in for the switch says that grace periods are expedited.
fn expedited(run_dir: &Path) -> bool {
    let text = std::fs::read_to_string(run_dir.join("run/rcu_expedited"));
    text.unwrap() == "1\n"
}

/// An engine process, killed when dropped.
pub struct Engine {
    child: Child,
    said: BufReader<ChildStdout>,
    guardian: u32,
}

impl Engine {
    fn start(run_dir: &Path, mounts: &[&Filesystem], deadline: Duration) -> Self {
        let places = mounts.iter().map(|mount| mount.place.as_path());
        Self::start_at(run_dir, &places.collect::<Vec<_>>(), deadline)
    }

    pub fn start_at(run_dir: &Path, places: &[&Path], deadline: Duration) -> Self {
        let mut told = format!("{}\n{}", run_dir.display(), deadline.as_millis());
        for place in places {
            told += &format!("\n{}", place.display());
        }
        // Descriptor 9 is one that a careless starter leaves open.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 9>&1", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "freeze::killed::engine_role", "--nocapture"])
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

    pub fn hear(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).unwrap();
            assert!(read > 0, "the engine ended before it was {word}");
            if line.starts_with(&format!("@{word}")) {
                return line.trim().to_owned();
            }
        }
    }

    pub fn tell(&mut self, step: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{step}\n").as_bytes()).unwrap();
    }

    /// Both, and neither has time to help the other.
    pub fn kill_with_guardian(&mut self) {
        assert!(tree::halt(self.child.id()));
        signal(self.guardian, Signal::SIGKILL);
        self.kill();
        wait_until("the end of the guardian", || !runs(self.guardian));
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
    let mounts = ["ext4", "xfs", "btrfs"].map(Filesystem::new);
    let mounts: Vec<&Filesystem> = mounts.iter().collect();
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
            assert!(expedited(run_dir.path()));
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
        assert!(!expedited(run_dir.path()), "killed when {step}");
    }
}

/// A runner that ends all that it has started walks from parent to child.
#[test]
fn whoever_kills_the_whole_tree_of_the_engine_leaves_nothing_frozen() {
    if !available("freeze: tree killed") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs"].map(Filesystem::new);
    let mounts: Vec<&Filesystem> = mounts.iter().collect();
    for step in ["started", "frozen"] {
        let mut engine = Engine::start(run_dir.path(), &mounts, FAR);
        let (root, guardian) = (engine.child.id(), engine.guardian);
        if step == "frozen" {
            engine.tell("freeze");
            engine.hear("frozen");
        }
        assert!(!tree::below(root).contains(&guardian), "killed with it");
        let name = std::fs::read_to_string(format!("/proc/{guardian}/comm")).unwrap();
        let words = std::fs::read_to_string(format!("/proc/{guardian}/cmdline")).unwrap();
        assert!(!name.contains("stillpoint"), "{name}: killed by its name");
        assert!(!words.contains("stillpoint"), "{words}: killed by its name");
        tree::strike(root, Signal::SIGKILL);
        engine.child.wait().unwrap();
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
    let mounts = ["ext4", "xfs", "btrfs"].map(Filesystem::new);
    let mounts: Vec<&Filesystem> = mounts.iter().collect();
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
fn the_engine_thaws_when_the_guardian_is_killed() {
    if !available("freeze: guardian killed") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs"].map(Filesystem::new);
    let mounts: Vec<&Filesystem> = mounts.iter().collect();
    let mut guardian = Guardian::start(options(run_dir.path(), &mounts, FAR)).unwrap();
    guardian.freeze().unwrap();
    assert!(expedited(run_dir.path()));
    signal(guardian.pid().unwrap(), Signal::SIGKILL);
    wait_until("the end of the guardian", || !guardian.is_holding());
    assert!(is_frozen(mounts[0].place.as_path()), "who thawed it?");
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert_thawed(&mounts);
    assert!(records(run_dir.path()).is_empty());
    assert!(!expedited(run_dir.path()));
}

#[test]
fn the_engine_thaws_when_the_guardian_is_stopped() {
    if !available("freeze: guardian stopped") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    let short = Duration::from_secs(5);
    let mut guardian = Guardian::start(options(run_dir.path(), &[&mount], short)).unwrap();
    guardian.freeze().unwrap();
    let pid = guardian.pid().unwrap();
    assert!(tree::halt(pid));
    let error = guardian.thaw().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert_thawed(&[&mount]);
    assert!(!expedited(run_dir.path()));
    assert!(!runs(pid));
}

#[test]
fn a_guardian_killed_before_the_freeze_freezes_nothing() {
    if !available("freeze: guardian killed early") {
        return;
    }
    let run_dir = memory_dir();
    let mounts = ["ext4", "xfs"].map(Filesystem::new);
    // A foreign freeze must survive the engine's own thaw: the record says what was not reached.
    let _stranger = Stranger::freezes(&mounts[1]);
    let all: Vec<&Filesystem> = mounts.iter().collect();
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

#[test]
fn the_emergency_thaw_finds_what_two_dead_processes_left() {
    if !available("freeze: both killed") {
        return;
    }
    for run_dir in [memory_dir(), dir_in("/tmp")] {
        let mounts = ["ext4", "xfs", "ext4"].map(Filesystem::new);
        let ours = [&mounts[0], &mounts[1]];
        let _stranger = Stranger::freezes(&mounts[2]);
        let mut engine = Engine::start(run_dir.path(), &ours, FAR);
        engine.tell("freeze");
        engine.hear("frozen");
        let dir = run_dir.path().join("run");
        let busy = thaw(&dir).unwrap();
        assert_eq!(busy.verdict().unwrap_err().kind(), ErrorKind::Busy);
        assert_eq!(busy.alive[0].pid, engine.guardian);
        assert!(is_frozen(&mounts[0].place));
        engine.kill_with_guardian();
        assert!(ours.iter().all(|mount| is_frozen(&mount.place)));
        // Only what cannot block is written while something is frozen.
        if dir.starts_with("/dev/shm") {
            assert!(expedited(run_dir.path()));
        }
        let report = thaw(&dir).unwrap();
        report.verdict().unwrap();
        assert!(!expedited(run_dir.path()));
        let outcomes: Vec<_> = report.mounts.iter().map(|m| m.outcome.clone()).collect();
        assert_eq!(outcomes, [MountOutcome::Thawed, MountOutcome::Thawed]);
        let told = report.mounts[0].message();
        assert!(told.contains(mounts[0].path()), "{told}");
        assert!(told.contains("the kernel"), "{told}");
        assert_thawed(&ours);
        assert!(is_frozen(&mounts[2].place), "no record names it");
        assert!(records(run_dir.path()).is_empty());
        assert!(thaw(&dir).unwrap().mounts.is_empty());
    }
}

/// Has the record say that the guardian should have thawed long ago.
pub(super) fn make_overdue(record: &Path) {
    let text = std::fs::read_to_string(record).unwrap();
    let at = text.find("\"due\":\"").unwrap() + 7;
    let file = std::fs::File::options().write(true).open(record).unwrap();
    file.write_all_at(b"00000000000000000001", at as u64)
        .unwrap();
}

/// Stopped by a signal, by a debugger, or as part of a checkpoint: alive, and of no use.
#[test]
fn past_its_deadline_a_guardian_that_is_stopped_is_trusted_no_more() {
    if !available("freeze: both stopped") {
        return;
    }
    for run_dir in [memory_dir(), dir_in("/tmp")] {
        let mounts = ["ext4", "xfs"].map(Filesystem::new);
        let all = [&mounts[0], &mounts[1]];
        let mut engine = Engine::start(run_dir.path(), &all, FAR);
        engine.tell("freeze");
        engine.hear("frozen");
        assert!(tree::halt(engine.child.id()) && tree::halt(engine.guardian));
        let dir = run_dir.path().join("run");
        let busy = thaw(&dir).unwrap();
        assert_eq!(busy.verdict().unwrap_err().kind(), ErrorKind::Busy);
        assert!(runs(engine.guardian) && is_frozen(&mounts[0].place));

        make_overdue(&records(run_dir.path())[0]);
        let report = thaw(&dir).unwrap();
        report.verdict().unwrap();
        let outcomes: Vec<_> = report.mounts.iter().map(|m| m.outcome.clone()).collect();
        assert_eq!(outcomes, [MountOutcome::Thawed, MountOutcome::Thawed]);
        let told = report.mounts[0].message();
        assert!(told.contains("deadline"), "{told}");
        assert!(!runs(engine.guardian), "it could wake up");
        assert_thawed(&all);
        assert!(records(run_dir.path()).is_empty());

        // The engine wakes up, finds its guardian dead, and leaves alone what is another's now.
        let _stranger = Stranger::freezes(&mounts[1]);
        signal(engine.child.id(), Signal::SIGCONT);
        engine.tell("thaw");
        engine.hear("spoilt");
        assert!(is_frozen(&mounts[1].place), "thawed what it had not frozen");
    }
}

/// A reboot thaws everything: what is frozen now, others have frozen.
#[test]
fn a_record_of_an_earlier_boot_thaws_nothing() {
    if !available("freeze: earlier boot") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
    let mut engine = Engine::start(run_dir.path(), &[&mount], FAR);
    engine.tell("freeze");
    engine.hear("frozen");
    engine.kill_with_guardian();
    let record = &records(run_dir.path())[0];
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = std::fs::read_to_string(record).unwrap();
    let earlier = "0".repeat(boot.trim().len());
    std::fs::write(record, text.replace(boot.trim(), &earlier)).unwrap();
    let report = thaw(&run_dir.path().join("run")).unwrap();
    assert!(report.mounts.is_empty());
    assert!(is_frozen(&mount.place));
    assert!(records(run_dir.path()).is_empty());
    run("fsfreeze", &["--unfreeze", mount.path()]);
}

/// Where the control groups cannot be changed, what kills the engine's kills the guardian too: told
/// at each snapshot, as nothing else tells of it until it is too late.
#[test]
fn a_guardian_that_cannot_leave_its_starters_control_group_is_told() {
    let Some(lab) = Lab::with_vault("freeze: shared control group") else {
        return;
    };
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    if groups.lines().all(|line| line.ends_with(":/")) {
        crate::support::host::skipped("freeze: shared control group", "all run in the top one");
        return;
    }
    let mut disk = lab.disk("disk", 160 << 20);
    disk.mount("ext4");
    let hide = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    let prefix = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    let args = ["snapshot", &disk.device, "--json", "-v"];
    let mut command = lab.command_with(&prefix, &args);
    let told = finish(&mut command).expect(3);
    let warnings = &told.json()["warnings"];
    assert!(warnings.to_string().contains("could not leave"), "{told:?}");
    let lacks = "runs without a control group of its own";
    assert!(told.stderr.contains(lacks), "{told:?}");
    lab.run(&["snapshot", &disk.device]).expect(0);
}

#[test]
fn the_guardian_inherits_nothing_from_the_engine() {
    if !available("freeze: inheritance") {
        return;
    }
    let run_dir = memory_dir();
    let mount = Filesystem::new("ext4");
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
    let mount = Filesystem::new("ext4");
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
