//! The door that commands of this process use: what they see, and that nothing stays.

use super::attached::{assert_nothing_attached, what_is_attached};
use super::scene::{Taken, assert_same_tree, listing, make, make_spread};
use super::shot::{Serving, Shot, hanging};
use crate::support::host::{attempt, available};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stillpoint::engine::{LookIntoOptions, MountPlan, look_into};
use stillpoint::export::{RAW, with_view};
use stillpoint::model::Bytes;
use stillpoint::{ErrorKind, Result};

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

#[test]
fn a_vault_that_hangs_gives_errors_in_time_and_keeps_nobody() {
    if !available("hanging vault") {
        return;
    }
    let made = make("ext4", 24, Taken::Clean);
    let mut shot = Shot::of(&made.bytes);
    let (vault, hangs) = hanging(shot.store.clone());
    shot.vault = vault;
    let plan = MountPlan::of(&shot.disks()).unwrap();
    let (options, told) = shot.view(Serving {
        within: Duration::from_secs(1),
        scratch: Bytes(1 << 20),
    });
    // The clock looks twice a second. However often the kernel asks again, nobody waits anew.
    let most = Duration::from_millis(2500);
    let begun = with_view(options, |view| {
        let attached = view.attach(&plan.filesystems[0].attach)?;
        hangs.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let read = std::fs::read(attached.path.join("etc/deep/er/one"));
        assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(begun.elapsed() < most, "{:?}", begun.elapsed());
        // Now it is asked once more, and by many at the same time.
        std::thread::sleep(Duration::from_millis(1200));
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for number in 250..256 {
                let path = attached.path.join(format!("etc/deep/file{number}"));
                scope.spawn(move || std::fs::read(path).unwrap_err());
            }
        });
        let raw = std::fs::read(view.images().join(RAW).join("vda.img"));
        assert_eq!(raw.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(begun.elapsed() < most, "{:?}", begun.elapsed());
        Ok(Instant::now())
    });
    let down = begun.unwrap().elapsed();
    assert!(down < Duration::from_secs(2), "{down:?}");
    assert!(
        told.lock()
            .unwrap()
            .iter()
            .any(|line| line.contains("did not answer in time"))
    );
    assert_nothing_attached(shot.run_dir.path());
    hangs.store(false, Ordering::Relaxed);
}

#[test]
fn a_disk_that_answers_again_is_read_again() {
    if !available("vault that hung") {
        return;
    }
    let made = make("ext4", 24, Taken::Clean);
    let mut shot = Shot::of(&made.bytes);
    let (vault, hangs) = hanging(shot.store.clone());
    shot.vault = vault;
    let (options, _) = shot.view(Serving {
        within: Duration::from_secs(1),
        scratch: Bytes(1 << 20),
    });
    let plan = MountPlan::of(&shot.disks()).unwrap();
    let tree = with_view(options, |view| {
        let raw = view.images().join(RAW).join("vda.img");
        hangs.store(true, Ordering::Relaxed);
        std::fs::read(&raw).unwrap_err();
        hangs.store(false, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1600));
        let attached = view.attach(&plan.filesystems[0].attach)?;
        Ok(listing(&attached.path))
    });
    assert_same_tree(&tree.unwrap(), &made.tree);
}

/// Set for the process that [`nothing_stays_of_a_process_that_is_killed`] kills: its run directory.
const TO_BE_KILLED: &str = "STILLPOINT_TEST_TO_BE_KILLED";

#[test]
fn nothing_stays_of_a_process_that_is_killed() {
    ends_with("nothing_stays_of_a_process_that_is_killed", Signal::SIGKILL);
}

/// A dump has threads that serve stand still, with the device open.
#[test]
fn nothing_stays_of_a_process_that_would_be_dumped() {
    ends_with(
        "nothing_stays_of_a_process_that_would_be_dumped",
        Signal::SIGABRT,
    );
}

fn ends_with(test: &str, signal: Signal) {
    if let Some(run_dir) = std::env::var_os(TO_BE_KILLED) {
        return wait_to_be_killed(Path::new(&run_dir));
    }
    if !available(test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("mount::door::{test}"), "--nocapture"])
        .env(TO_BE_KILLED, dir.path())
        .current_dir(dir.path());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !dir.path().join("reads").exists() {
        assert!(Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    // It waits for the kernel, and the kernel for it.
    while !waits_deaf(child.id()) {
        assert!(Instant::now() < until, "it does not wait");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!what_is_attached(dir.path()).is_empty());
    let number = Pid::from_raw(child.id() as i32);
    kill(number, signal).unwrap();
    let ended = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if ended.elapsed() > Duration::from_secs(20) {
            let shown = what_is_attached(dir.path());
            end_by_force(&mut child, &shown);
            panic!("it does not end: {shown:#?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_nothing_attached(dir.path());
}

/// Whether the thread that looks waits in a way that no signal ends.
fn waits_deaf(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let mut stats = threads.flatten().filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat"));
        stat.ok()
    });
    stats.any(|stat| stat.contains("(view) D "))
}

/// Has the kernel give errors to those who wait for a server that stands still.
fn end_by_force(child: &mut Child, shown: &[String]) {
    let connections = "/sys/fs/fuse/connections";
    attempt("mount", &["-t", "fusectl", "none", connections]);
    for line in shown
        .iter()
        .filter(|line| line.contains(" fuse.stillpoint "))
    {
        let device = line.split(' ').nth(2).unwrap_or_default();
        let minor = device.trim_start_matches("0:");
        let _ = std::fs::write(format!("{connections}/{minor}/abort"), "1");
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn wait_to_be_killed(run_dir: &Path) {
    setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY).unwrap();
    let mut shot = Shot::of(&make_spread());
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
        for number in (0..30).rev() {
            let folder = attached.path.join(format!("folder{number}"));
            let _ = std::fs::read_dir(folder).map(Iterator::count);
        }
        Ok(())
    });
    looked.unwrap();
    panic!("nobody has killed it");
}
