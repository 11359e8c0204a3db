//! A job directory that cannot take a record: a run that is waited for goes on and says so, one
//! that is to go on by itself does not begin. And a folder on the very disk that is frozen.

use super::detached::{Job, full_disk};
use super::gate::Gate;
use crate::cli::lab::{Lab, finish, noise, tool, try_tool};
use crate::support::held::frozen;
use crate::support::tree;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use stillpoint::job::JobState;

/// A small filesystem in memory.
struct Small(PathBuf);

impl Small {
    fn new(place: &Path) -> Self {
        std::fs::create_dir(place).unwrap();
        let options = "size=64k,mode=0700";
        tool(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                options,
                "tmpfs",
                place.to_str().unwrap(),
            ],
        );
        Self(place.into())
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[7; 512]).is_ok() {}
    }

    fn read_only(&self) {
        tool("mount", &["-o", "remount,ro", self.0.to_str().unwrap()]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        try_tool("umount", &["--lazy", self.0.to_str().unwrap()]);
    }
}

/// The run was good but for its record, and says so; to go on by itself is refused.
fn goes_on_without_a_record(lab: &Lab, jobs: &str, disk: &str) {
    let run = lab.run(&["snapshot", disk, "--job-dir", jobs]).expect(3);
    let lines: Vec<&str> = run.stdout.lines().collect();
    let (verdict, before) = lines.split_last().unwrap();
    assert!(verdict.starts_with("snapshot 01"), "{run:?}");
    assert!(before.last().unwrap().contains("record"), "{run:?}");
    let document = lab
        .run(&["verify", "--all", "--json", "--job-dir", jobs])
        .expect(3)
        .json();
    let warning = document["warnings"][0].as_str().unwrap();
    assert!(warning.contains("record"), "{document}");
    // A failure keeps its own code.
    lab.run(&["snapshot", "no-such", "--job-dir", jobs])
        .expect(1);
    let before = lab.vault_files();
    let refused = lab.run(&["snapshot", disk, "--job-dir", jobs, "--detach", "--json"]);
    assert!([1, 5].contains(&refused.code), "{refused:?}");
    let message = refused.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("cannot start"), "{message}");
    assert_eq!(lab.vault_files(), before, "nothing was done");
}

#[test]
fn a_full_or_read_only_folder_stops_no_run_but_a_detached_one() {
    let Some(lab) = Lab::with_vault("job: full folder") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    let full = Small::new(&lab.path("full"));
    let jobs = lab.at("full/jobs");
    lab.run(&["snapshot", &disk.device, "--job-dir", &jobs])
        .expect(0);
    full.fill();
    goes_on_without_a_record(&lab, &jobs, &disk.device);
    let names = std::fs::read_dir(&jobs).unwrap().count();
    assert_eq!(names, 1, "half a record or a log stays");
    let fixed = Small::new(&lab.path("fixed"));
    fixed.read_only();
    goes_on_without_a_record(&lab, &lab.at("fixed/jobs"), &disk.device);
    // Not a folder of one's own.
    std::os::unix::fs::symlink(lab.path("jobs"), lab.path("link")).unwrap();
    goes_on_without_a_record(&lab, &lab.at("link"), &disk.device);
    File::create(lab.path("file")).unwrap();
    goes_on_without_a_record(&lab, &lab.at("file/jobs"), &disk.device);
}

#[test]
fn a_folder_that_gets_full_meanwhile_still_learns_of_the_end() {
    let Some(lab) = Lab::with_vault("job: gets full") else {
        return;
    };
    let (disk, _place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    let small = Small::new(&lab.path("jobs"));
    let job = Job::start(&lab, &gate.before(&["snapshot", &disk.device]));
    gate.wait();
    small.fill();
    gate.open();
    let waited = lab.run(&["job", "wait", &job.id.to_string()]).expect(3);
    assert!(waited.stdout.contains("exit code 3"), "{waited:?}");
    assert_eq!(job.record().state, JobState::Done);
    assert_eq!(
        lab.json(&["list"])["snapshots"].as_array().unwrap().len(),
        1
    );
}

/// The threads of a process: name, and what its descriptors are.
fn threads(pid: Pid) -> Vec<(String, Vec<PathBuf>)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .filter_map(|task| {
            let task = task.unwrap().path();
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            let fds = std::fs::read_dir(task.join("fd")).ok()?;
            let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
            Some((name.trim().to_owned(), links.collect()))
        })
        .collect()
}

/// What the record writer of a run has open.
fn sockets_of_writer(run: Pid) -> Vec<PathBuf> {
    let children = std::fs::read_to_string(format!("/proc/{run}/task/{run}/children"));
    let children = children.unwrap_or_default();
    let name = |pid: &&str| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "stillpoint-rec")
    };
    let writer = children
        .split_whitespace()
        .find(name)
        .expect("no record writer");
    let fds = std::fs::read_dir(format!("/proc/{writer}/fd")).unwrap();
    fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .collect()
}

#[test]
fn a_folder_on_the_frozen_disk_holds_nothing_up() {
    let Some(lab) = Lab::with_vault("job: frozen folder") else {
        return;
    };
    let mut disk = lab.disk("disk", 48 << 20);
    let place = disk.mount("ext4");
    let jobs = place.join("jobs");
    let jobs = jobs.to_str().unwrap();
    for round in 0..5 {
        std::fs::write(place.join("file"), noise(4 << 20, round)).unwrap();
        let args = ["snapshot", &disk.device, "-v", "--job-dir", jobs];
        let (log, mut command) = (place.join("log"), lab.command(&args));
        // Its words go to the frozen disk as well.
        let log = || {
            Stdio::from(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .unwrap(),
            )
        };
        let status = command.stdout(log()).stderr(log()).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let status = lab.json(&["job", "status", "latest", "--job-dir", jobs]);
        assert_eq!(status["state"], "done");
        assert_eq!(status["result"]["level"], "filesystem");
    }
}

/// It answers only when the run is over, or nearly so: the record is whole nevertheless.
#[test]
fn a_folder_that_is_slow_at_first_gets_its_record() {
    let Some(lab) = Lab::with_vault("job: slow folder") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    let jobs = place.join("jobs");
    let jobs = jobs.to_str().unwrap();
    tool("fsfreeze", &["--freeze", place.to_str().unwrap()]);
    let args = ["verify", "--all", "--job-dir", jobs];
    let mut run = lab.command(&args);
    let mut run = run.stdout(Stdio::null()).spawn().unwrap();
    // Longer than is waited for it at the beginning.
    std::thread::sleep(Duration::from_secs(4));
    tool("fsfreeze", &["--unfreeze", place.to_str().unwrap()]);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let status = lab.json(&["job", "status", "latest", "--job-dir", jobs]);
    assert_eq!(status["state"], "done");
}

/// Until it answers, which may be never: what it holds up is left behind, and is no run.
#[test]
fn a_folder_that_never_answers_holds_up_no_end() {
    let Some(lab) = Lab::with_vault("job: silent folder") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    // One that is there, and one that would have to be made.
    let jobs = place.join("jobs");
    std::fs::create_dir(&jobs).unwrap();
    std::fs::set_permissions(&jobs, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let other = place.join("other");
    let held = frozen(&place);
    for folder in [&jobs, &other] {
        let folder = folder.to_str().unwrap();
        let args = ["verify", "--all", "--detach", "--job-dir", folder];
        let run = lab.run(&args).expect(1);
        assert!(run.stderr.contains("answer"), "{run:?}");
        let verdict = run.stderr.lines().last().unwrap();
        assert!(verdict.contains("cannot start"), "{run:?}");
    }
    let args = ["verify", "--all", "--job-dir", jobs.to_str().unwrap()];
    let run = lab.run(&args).expect(3);
    let no_record = "no whole record of this job: the job directory does not answer";
    assert!(run.stdout.contains(no_record), "{run:?}");
    drop(held);
    // What was left behind takes back what it had begun; the run that ended has one record.
    let left = || {
        let names = std::fs::read_dir(&jobs).unwrap();
        names
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    let is_record = |name: &std::ffi::OsString| name.to_str().unwrap().ends_with(".json");
    crate::hooks::killed::wait_for(|| left().iter().all(is_record) && left().len() <= 1);
    crate::hooks::killed::wait_for(|| {
        !other.exists() || std::fs::read_dir(&other).unwrap().count() == 0
    });
}

#[test]
fn threads_that_may_stand_still_hold_nothing_that_the_guardian_listens_to() {
    let Some(lab) = Lab::with_vault("job: own descriptors") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    let is_socket = |link: &PathBuf| {
        link.to_str()
            .is_some_and(|link| link.starts_with("socket:"))
    };
    for round in 0..20 {
        std::fs::write(place.join("file"), noise(4 << 20, round)).unwrap();
        let mut command = lab.command(&["snapshot", &disk.device, "--max-freeze", "30s"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = command.spawn().unwrap();
        let pid = Pid::from_raw(run.id().cast_signed());
        let until = Instant::now() + Duration::from_secs(60);
        while lab.freeze_records().is_empty() && run.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "never freezes");
        }
        let stopped = tree::halt(run.id());
        let threads = threads(pid);
        let writer = sockets_of_writer(pid);
        let _ = kill(pid, Signal::SIGCONT);
        crate::cli::lab::wait(&mut run, "a run that was looked at");
        let Some((_, engine)) = threads.iter().find(|(name, _)| name == "stillpoint") else {
            continue;
        };
        if !stopped || !engine.iter().any(is_socket) {
            // Looked at too late.
            continue;
        }
        let (_, files) = threads.iter().find(|(name, _)| name == "progress").unwrap();
        assert!(!files.iter().any(is_socket), "{files:?}");
        let shared = |link: &&PathBuf| is_socket(link) && engine.contains(link);
        assert_eq!(writer.iter().find(shared), None, "of the record writer");
        finish(&mut lab.command(&["verify", "--all"])).expect(0);
        return;
    }
    panic!("the guardian was never met");
}
