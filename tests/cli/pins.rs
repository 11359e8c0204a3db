//! What a run that fails leaves of tracking: what was there before it, and nothing else.

use super::lab::{Disk, Lab, is_full, noise, rounds, tool, try_tool, wait};
use crate::hooks::Stage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A vault with room for very little.
struct Tiny(PathBuf);

impl Tiny {
    fn new(lab: &Lab) -> Self {
        Self::named(lab, "tiny")
    }

    fn named(lab: &Lab, name: &str) -> Self {
        let path = lab.path(name);
        std::fs::create_dir(&path).unwrap();
        let at = path.to_str().unwrap();
        tool("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs", at]);
        lab.run(&["init", at]).expect(0);
        Self(path)
    }

    fn at(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        try_tool("umount", &[self.at()]);
    }
}

fn filled(lab: &Lab, name: &str, seed: u64) -> Disk {
    let disk = lab.disk(name, 16 << 20);
    std::fs::write(&disk.device, noise(16 << 20, seed)).unwrap();
    disk
}

fn tracked(lab: &Lab) -> Vec<String> {
    let said = lab.json(&["track", "status"]);
    let disks = said["tracked"].as_array().unwrap().iter();
    disks
        .map(|disk| disk["disk"].as_str().unwrap().to_owned())
        .collect()
}

fn pinned(lab: &Lab) -> bool {
    Path::new("/sys/fs/bpf").join(lab.pins()).exists()
}

#[test]
fn a_first_run_that_fails_leaves_nothing_pinned() {
    let Some(lab) = Lab::with_vault("a_first_run_that_fails_leaves_nothing_pinned") else {
        return;
    };
    let tiny = Tiny::new(&lab);
    let disk = filled(&lab, "disk", 1);
    let full = ["snapshot", "--vault", tiny.at(), disk.name()];
    let run = lab.run(&full).expect(1);
    assert!(is_full(&run.stderr), "{run:?}");
    assert!(!pinned(&lab));
    // The next one begins as if it had never been.
    lab.run(&["snapshot", disk.name()]).expect(0);
    assert_eq!(tracked(&lab), [disk.name()]);
}

#[test]
fn a_run_that_fails_keeps_what_was_tracked_before() {
    let Some(lab) = Lab::with_vault("a_run_that_fails_keeps_what_was_tracked_before") else {
        return;
    };
    let tiny = Tiny::new(&lab);
    let (old, new) = (filled(&lab, "old", 2), filled(&lab, "new", 3));
    lab.run(&["snapshot", old.name()]).expect(0);
    let both = [old.name(), new.name()];
    let run = lab.run(&[&["snapshot", "--vault", tiny.at()][..], &both].concat());
    assert!(is_full(&run.stderr), "{run:?}");
    assert_eq!(tracked(&lab), [old.name()]);
    lab.run(&[&["snapshot"][..], &both].concat()).expect(0);
    let mut all = [old.name(), new.name()];
    all.sort_unstable();
    let mut now = tracked(&lab);
    now.sort_unstable();
    assert_eq!(now, all);
}

fn stop(mut child: Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let status = wait(&mut child, "a run that is stopped");
    assert_eq!(status.code(), Some(143));
}

#[test]
fn a_first_run_that_is_stopped_leaves_nothing_pinned() {
    let Some(stage) = Stage::new("a_first_run_that_is_stopped_leaves_nothing_pinned") else {
        return;
    };
    let child = stage.at_work();
    assert!(pinned(&stage.lab));
    stop(child);
    assert!(!pinned(&stage.lab));
    // Wherever it is: before it tracks, while it begins to, while it copies.
    let mut stopped = 0;
    for late in (0..rounds(40)).map(|round| Duration::from_millis(u64::from(round) * 8)) {
        let mut command = stage
            .lab
            .command(&["snapshot", stage.disk.name(), "--full"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(late);
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        match wait(&mut child, "a run that is stopped").code() {
            Some(0) => {
                stage.lab.run(&["track", "stop"]).expect(0);
            }
            // Before it listens, the signal ends it.
            Some(143) | None => stopped += 1,
            other => panic!("{other:?} after {late:?}"),
        }
        assert!(!pinned(&stage.lab), "stopped after {late:?}");
    }
    assert!(stopped > 0, "each was faster");
}

#[test]
fn what_is_asked_for_is_not_taken_back_by_a_run_that_fails() {
    let Some(stage) = Stage::new("what_is_asked_for_is_not_taken_back_by_a_run_that_fails") else {
        return;
    };
    let (lab, disk) = (&stage.lab, stage.disk.name());
    lab.run(&["track", "start", disk]).expect(0);
    let child = stage.at_work();
    // While it is at work it is busy: it cannot be asked for what may be taken back.
    let start = lab.run(&["track", "start", disk]).expect(6);
    assert!(start.stderr.contains("and tracks it"), "{start:?}");
    // Nor is it robbed of what it needs.
    lab.run(&["track", "stop"]).expect(6);
    lab.run(&["track", "stop", disk]).expect(6);
    stop(child);
    assert_eq!(tracked(lab), [disk]);
}

/// Each takes back what it has begun, and with the last disk the programs, which another may have
/// found running and is about to use.
#[test]
fn runs_that_fail_side_by_side_do_not_rob_each_other() {
    let Some(lab) = Lab::with_vault("runs_that_fail_side_by_side") else {
        return;
    };
    // Each with a vault of its own: it has room for the run to begin, and not for the disk.
    let pairs = [("one", "one vault"), ("two", "another vault")].map(|(disk, vault)| {
        let disk = filled(&lab, disk, vault.len() as u64);
        (disk, Tiny::named(&lab, vault))
    });
    std::thread::scope(|scope| {
        for (disk, tiny) in &pairs {
            let lab = &lab;
            scope.spawn(move || {
                for _ in 0..rounds(10) {
                    let run = lab.run(&["snapshot", "--vault", tiny.at(), disk.name()]);
                    let run = run.expect(1);
                    assert!(is_full(&run.stderr), "{run:?}");
                }
            });
        }
    });
    assert!(!pinned(&lab));
}
