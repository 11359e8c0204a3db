//! What a run that fails leaves of tracking: what was there before it, and nothing else.

use super::lab::{Disk, Lab, noise, tool, try_tool, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A vault with room for very little.
struct Tiny(PathBuf);

impl Tiny {
    fn new(lab: &Lab) -> Self {
        let path = lab.path("tiny");
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
    assert!(run.stderr.contains("No space left"), "{run:?}");
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
    assert!(run.stderr.contains("No space left"), "{run:?}");
    assert_eq!(tracked(&lab), [old.name()]);
    lab.run(&[&["snapshot"][..], &both].concat()).expect(0);
    let mut all = [old.name(), new.name()];
    all.sort_unstable();
    let mut now = tracked(&lab);
    now.sort_unstable();
    assert_eq!(now, all);
}

#[test]
fn a_first_run_that_is_stopped_leaves_nothing_pinned() {
    let Some(lab) = Lab::with_vault("a_first_run_that_is_stopped_leaves_nothing_pinned") else {
        return;
    };
    let disk = filled(&lab, "disk", 4);
    let mut command = lab.command(&["snapshot", disk.name()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    while !pinned(&lab) && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // It may have ended this very moment: then the assertion below says so.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    let status = wait(&mut child, "a run that is stopped");
    assert_eq!(status.code(), Some(143));
    assert!(!pinned(&lab));
}

#[test]
fn what_is_asked_for_is_not_taken_back_by_a_run_that_fails() {
    let test = "what_is_asked_for_is_not_taken_back_by_a_run_that_fails";
    let Some(lab) = Lab::with_vault(test) else {
        return;
    };
    let disk = filled(&lab, "disk", 5);
    lab.run(&["track", "start", disk.name()]).expect(0);
    let mut command = lab.command(&["snapshot", disk.name()]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    // While it is at work, it is busy, and it cannot be asked for what may be taken back.
    let (mut busy, mut stopped) = (0, false);
    while child.try_wait().unwrap().is_none() {
        let start = lab.run(&["track", "start", disk.name()]);
        assert!([0, 6].contains(&start.code), "{start:?}");
        if start.code == 6 {
            assert!(start.stderr.contains("and tracks it"), "{start:?}");
            // Nor is it robbed of what it needs.
            for stop in [&["track", "stop"][..], &["track", "stop", disk.name()]] {
                match lab.run(stop).code {
                    0 => stopped = true,
                    code => assert_eq!(code, 6),
                }
            }
            busy += 1;
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        }
    }
    assert!(busy > 0, "it never met the run at work");
    if !stopped {
        assert_eq!(tracked(&lab), [disk.name()]);
    }
}
