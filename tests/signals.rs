//! Runs that are stopped or killed at many moments: nothing stays frozen, nothing half-done can be
//! seen, and the next run is right.

use crate::cli::lab::{Disk, Lab, code_of, finish, is_frozen, noise, rounds, tool, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// When to strike.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the start.
    After(u64),
    /// So long after stderr has said this.
    Said(&'static str, u64),
}

const WORDS: [&str; 4] = [
    "copying, pass 1",
    "cutting",
    "storing the rest",
    "committing",
];

/// Milliseconds from the start, and from each word.
fn moments() -> Vec<Moment> {
    let mut all = Vec::new();
    for round in 0..u64::from(rounds(1)) {
        // Other moments each round.
        let odd = round * 7 % 19;
        all.extend([0, 5, 15, 40, 90, 160].map(|ms| Moment::After(ms + odd)));
        for word in WORDS {
            let delays: &[u64] = if word == "cutting" {
                &[0, 8, 20, 35, 50, 70]
            } else {
                &[0, 4]
            };
            all.extend(delays.iter().map(|ms| Moment::Said(word, ms + odd)));
        }
    }
    all
}

/// A process that is killed at the latest when the test ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a snapshot and sends it the signal at that moment; how it ended.
fn strike(lab: &Lab, disk: &Disk, signal: Signal, moment: Moment) -> i32 {
    let mut command = lab.command(&["snapshot", &disk.device, "-v", "--max-freeze", "3s"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let delay = match moment {
        Moment::After(ms) => ms,
        Moment::Said(word, ms) => {
            // At its end, if it never says so.
            lines.map_while(Result::ok).find(|line| line == word);
            ms
        }
    };
    std::thread::sleep(Duration::from_millis(delay));
    // Not waited for yet: the process id is still its own.
    let _ = kill(Pid::from_raw(child.0.id().cast_signed()), signal);
    code_of(wait(&mut child.0, "a run that was told to stop"))
}

fn snapshots(lab: &Lab) -> usize {
    lab.json(&["list"])["snapshots"].as_array().unwrap().len()
}

/// Objects with a name that is not of the vault, and sessions.
fn leftovers(lab: &Lab) -> Vec<PathBuf> {
    let files = lab.vault_files().into_iter().map(|(path, _)| path);
    let odd = |path: &PathBuf| {
        path.to_str().unwrap().contains("/.") || path.to_str().unwrap().contains("sessions/")
    };
    files.filter(odd).collect()
}

/// Writes something new, and what there is then.
fn change(place: &Path, round: usize) -> Vec<u8> {
    let bytes = noise(1 << 20, round as u64 + 100);
    std::fs::write(place.join("file"), &bytes).unwrap();
    bytes
}

/// The newest snapshot has this file.
fn assert_restores(lab: &Lab, expected: &[u8]) {
    let mut target = lab.disk("target", 24 << 20);
    lab.run(&["restore", "latest", &target.device]).expect(0);
    let place = target.mount_again("ext4");
    assert!(
        std::fs::read(place.join("file")).unwrap() == expected,
        "not what was there"
    );
    target.unmount();
    drop(target);
    std::fs::remove_file(lab.path("target")).unwrap();
}

fn thawed_soon(place: &Path) {
    let until = Instant::now() + Duration::from_secs(20);
    while is_frozen(place) {
        assert!(Instant::now() < until, "stays frozen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stopped_by(test: &str, signal: Signal, expected: i32) {
    let Some(lab) = Lab::with_vault(test) else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    let (mut stopped, mut count) = (0, 0);
    for (round, moment) in moments().into_iter().enumerate() {
        let bytes = change(&place, round);
        let before = lab.vault_files();
        let code = strike(&lab, &disk, signal, moment);
        assert!(!is_frozen(&place), "{moment:?}");
        assert!(lab.freeze_records().is_empty(), "{moment:?}");
        let left = leftovers(&lab);
        assert!(left.is_empty(), "{moment:?}: {left:?}");
        // Before signals are watched for, it dies of it.
        let early = -(signal as i32);
        if code == 0 {
            count += 1;
        } else {
            assert!([expected, early].contains(&code), "{moment:?}: {code}");
            assert_eq!(lab.vault_files(), before, "{moment:?}: objects are left");
            stopped += 1;
        }
        assert_eq!(snapshots(&lab), count, "{moment:?}");
        if round % 8 == 0 {
            lab.run(&["snapshot", &disk.device]).expect(0);
            count += 1;
            assert_restores(&lab, &bytes);
            lab.run(&["verify", "--all"]).expect(0);
        }
    }
    println!("{test}: {stopped} stopped, {count} snapshots");
    assert!(stopped > 3, "hardly any was stopped");
    let bytes = change(&place, 0);
    lab.run(&["snapshot", &disk.device]).expect(0);
    assert_restores(&lab, &bytes);
    lab.run(&["verify", "--all"]).expect(0);
}

#[test]
fn interrupted_at_any_moment() {
    stopped_by("signals: SIGINT", Signal::SIGINT, 130);
}

#[test]
fn terminated_at_any_moment() {
    stopped_by("signals: SIGTERM", Signal::SIGTERM, 143);
}

#[test]
fn killed_at_any_moment() {
    let Some(lab) = Lab::with_vault("signals: SIGKILL") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    let mut killed = 0;
    for (round, moment) in moments().into_iter().enumerate() {
        let bytes = change(&place, round);
        let count = snapshots(&lab);
        let code = strike(&lab, &disk, Signal::SIGKILL, moment);
        assert!([0, -9].contains(&code), "{moment:?}: {code}");
        killed += u32::from(code == -9);
        thawed_soon(&place);
        let now = snapshots(&lab);
        assert!(
            now == count + 1 || (now == count && code == -9),
            "{moment:?}"
        );
        // What is listed is whole, and the next run is as good as any.
        if now > count {
            assert_restores(&lab, &bytes);
        }
        if round % 4 == 0 {
            lab.run(&["verify", "--all"]).expect(0);
            lab.run(&["snapshot", &disk.device]).expect(0);
            assert_eq!(leftovers(&lab), Vec::<PathBuf>::new(), "{moment:?}");
            assert_restores(&lab, &bytes);
        }
    }
    println!("signals: SIGKILL: {killed} were killed");
    assert!(killed > 3, "hardly any was killed");
    let bytes = change(&place, 0);
    lab.run(&["snapshot", &disk.device]).expect(0);
    assert_restores(&lab, &bytes);
    lab.run(&["verify", "--all"]).expect(0);
}

/// The record of a freeze once something of it is frozen.
fn frozen_record(lab: &Lab) -> Option<serde_json::Value> {
    let path = lab.freeze_records().pop()?;
    let text = std::fs::read_to_string(path).ok()?;
    let record: serde_json::Value = serde_json::from_str(&text).ok()?;
    let progress = record["progress"].as_str()?.to_owned();
    progress.contains('F').then_some(record)
}

fn pid(record: &serde_json::Value, whose: &str) -> Pid {
    Pid::from_raw(i32::try_from(record[whose]["pid"].as_i64().unwrap()).unwrap())
}

#[test]
fn thaw_helps_when_engine_and_guardian_are_dead() {
    let Some(lab) = Lab::with_vault("signals: both killed") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    for round in 0..40 {
        change(&place, round);
        let mut command = lab.command(&["snapshot", &disk.device, "--max-freeze", "30s"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = Killed(command.spawn().unwrap());
        while child.0.try_wait().unwrap().is_none() {
            let Some(record) = frozen_record(&lab) else {
                continue;
            };
            let guardian = pid(&record, "guardian");
            assert_eq!(pid(&record, "engine").as_raw(), child.0.id().cast_signed());
            // Both at once: neither may do the other's work.
            let stopped = kill(guardian, Signal::SIGSTOP);
            child.0.kill().unwrap();
            if stopped.is_ok() {
                let _ = kill(guardian, Signal::SIGKILL);
            }
            break;
        }
        wait(&mut child.0, "a killed run");
        std::thread::sleep(Duration::from_millis(50));
        if !is_frozen(&place) {
            // Thawed before the blow.
            lab.run(&["thaw"]).expect(0);
            continue;
        }
        let run = lab.run(&["thaw"]).expect(0);
        assert!(run.stdout.contains(": thawed"), "{run:?}");
        assert!(!is_frozen(&place));
        assert!(lab.freeze_records().is_empty());
        lab.run(&["snapshot", &disk.device]).expect(0);
        tool("sync", &["-f", place.to_str().unwrap()]);
        return;
    }
    panic!("both were never killed while something was frozen");
}

/// Who starts us may have no interest in its children's exits, and leaves that to us through exec:
/// of ours the kernel would say nothing then, and no helper could be waited for.
#[test]
fn a_starter_that_ignores_the_exits_of_children_is_no_hindrance() {
    let Some(lab) = Lab::with_vault("signals: SIGCHLD") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    disk.mount("ext4");
    let args = ["snapshot", &disk.device, "--json"];
    let mut command = lab.command_with(&["env", "--ignore-signal=CHLD"], &args);
    let document = finish(&mut command).expect(0).json();
    assert_eq!(document["level"], "filesystem", "{document}");
}

#[test]
fn a_run_that_may_put_little_waits_and_hears_a_signal() {
    let Some(lab) = Lab::with_vault("signals: limit-write") else {
        return;
    };
    let disk = lab.disk("slow", 16 << 20);
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(&noise(8 << 20, 5), 0).unwrap();
    device.sync_all().unwrap();
    let mut command = lab.command(&["snapshot", &disk.device, "--limit-write", "4KiB/s"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = Killed(command.spawn().unwrap());
    // Without the limit it takes less than a second.
    std::thread::sleep(Duration::from_secs(4));
    assert!(run.0.try_wait().unwrap().is_none(), "nothing held it back");
    kill(Pid::from_raw(run.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(code_of(wait(&mut run.0, "a slow run")), 143);
    assert_eq!(snapshots(&lab), 0);
    // The next one has no limit, and nothing in its way.
    lab.run(&["snapshot", &disk.device]).expect(0);
}
