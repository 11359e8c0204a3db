//! Calls that do not come back: a loop disk on a frozen filesystem can be neither written out nor
//! frozen, until what it lies on is thawed.

use super::*;

#[test]
fn the_deadline_thaws_the_rest_while_one_freeze_is_stuck_on_a_stranger() {
    if !available("freeze: stuck on a stranger") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Filesystem::new("ext4");
    let inner = Filesystem::within("ext4", &outer.place, 64);
    let other = Filesystem::new("xfs");
    let short = Duration::from_secs(1);
    let mut guardian = Guardian::start(options(run_dir.path(), &[&other, &inner], short)).unwrap();
    let pid = guardian.pid().unwrap();
    // The inner one's blocks lie on what a stranger freezes just before its turn. Synced now, as
    // its sync could not come to an end later.
    guardian.sync().unwrap();
    let stranger = Stranger::freezes(&outer);
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert!(error.to_string().contains(inner.path()), "{error}");
    assert_thawed(&[&other]);
    assert!(runs(pid), "the guardian must stay with what is stuck");
    assert_eq!(records(run_dir.path()).len(), 1);
    let report = thaw(&run_dir.path().join("run")).unwrap();
    assert_eq!(report.verdict().unwrap_err().kind(), ErrorKind::Busy);
    // However late: were it ended, what comes unstuck would stay frozen.
    killed::make_overdue(&records(run_dir.path())[0]);
    let report = thaw(&run_dir.path().join("run")).unwrap();
    assert_eq!(report.verdict().unwrap_err().kind(), ErrorKind::Busy);
    assert!(runs(pid));
    drop(guardian);
    assert!(is_frozen(&outer.place), "thawed what it had not frozen");
    drop(stranger);
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
    let outer = Filesystem::new("ext4");
    let inner = Filesystem::within("ext4", &outer.place, 64);
    let all = [&outer, &inner];
    let short = Duration::from_secs(1);
    let mut guardian = Guardian::start(in_turn(options(run_dir.path(), &all, short))).unwrap();
    let pid = guardian.pid().unwrap();
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    drop(guardian);
    wait_until("the end of the guardian", || !runs(pid));
    assert_thawed(&[&outer, &inner]);
    assert!(records(run_dir.path()).is_empty());
}

/// Whether a thread of this name waits in the kernel, whatever signal comes.
fn hangs(pid: u32, name: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut stats = tasks.filter_map(|task| {
        let stat = task.ok()?.path().join("stat");
        std::fs::read_to_string(stat).ok()
    });
    stats.any(|stat| stat.contains(&format!("({name}) D ")))
}

fn has_thread(pid: u32, name: &str) -> bool {
    let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.any(|task| {
        let told = std::fs::read_to_string(task.unwrap().path().join("comm"));
        told.is_ok_and(|told| told.trim() == name)
    })
}

#[test]
fn writing_out_is_bounded_and_comes_before_the_freeze() {
    if !available("freeze: stuck sync") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Filesystem::new("ext4");
    let inner = Filesystem::within("ext4", &outer.place, 64);
    let other = Filesystem::new("ext4");
    let mut options = options(run_dir.path(), &[&other, &inner], FAR);
    options.sync_within = Duration::from_millis(500);
    let mut guardian = Guardian::start(options).unwrap();
    let pid = guardian.pid().unwrap();
    std::fs::write(inner.place.join("dirty"), vec![1; 8 << 20]).unwrap();
    let stranger = Stranger::freezes(&outer);
    let error = guardian.freeze().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    assert!(error.to_string().contains("write out"), "{error}");
    assert_thawed(&[&other]);
    // The call that does not come back is not one of ours: this process could not end otherwise.
    assert!(hangs(pid, "writer"), "the guardian does not write out");
    drop(guardian);
    assert!(records(run_dir.path()).is_empty(), "nothing was frozen");
    drop(stranger);
    wait_until("the end of the guardian", || !runs(pid));
    assert_thawed(&[&inner, &outer, &other]);
    assert!(records(run_dir.path()).is_empty());
}

#[test]
fn a_loop_disk_is_frozen_before_what_it_lies_on() {
    if !available("freeze: nested") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Filesystem::new("xfs");
    let inner = Filesystem::within("ext4", &outer.place, 64);
    let all = [&inner, &outer];
    let mut guardian = Guardian::start(in_turn(options(run_dir.path(), &all, FAR))).unwrap();
    guardian.freeze().unwrap();
    guardian.thaw().unwrap();
    assert_thawed(&all);
}

#[test]
fn a_guardian_killed_in_a_stuck_freeze_is_outlived_by_its_engine() {
    if !available("freeze: guardian killed while stuck") {
        return;
    }
    let run_dir = memory_dir();
    let outer = Filesystem::new("ext4");
    let inner = Filesystem::within("ext4", &outer.place, 64);
    let other = Filesystem::new("xfs");
    // Long enough for the killer to come first.
    let short = Duration::from_secs(5);
    let mut guardian = Guardian::start(options(run_dir.path(), &[&other, &inner], short)).unwrap();
    let pid = guardian.pid().unwrap();
    let stranger = Stranger::freezes(&outer);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            // Not by trying to freeze, which could come between.
            wait_until("the stuck freeze", || {
                let told = std::fs::read_to_string(&records(run_dir.path())[0]).unwrap();
                told.starts_with("{\"progress\":\"Ff\"")
            });
            signal(pid, Signal::SIGKILL);
        });
        let error = guardian.freeze().unwrap_err();
        println!("{error}");
        killer.join().unwrap();
    });
    assert_thawed(&[&other]);
    drop(guardian);
    assert!(
        !records(run_dir.path()).is_empty(),
        "it still has something to tell"
    );
    let report = thaw(&run_dir.path().join("run")).unwrap();
    assert_eq!(report.verdict().unwrap_err().kind(), ErrorKind::Failed);
    drop(stranger);
    wait_until("the late thaw", || records(run_dir.path()).is_empty());
    // Those that were given up return, too, and thaw what somebody else has frozen by then: so does
    // whoever asks the kernel whether it is frozen (LIMITS.md).
    wait_until("all late thaws", || {
        !has_thread(std::process::id(), "thawer")
    });
    assert_thawed(&[&inner, &outer, &other]);
    assert!(!runs(pid));
}
