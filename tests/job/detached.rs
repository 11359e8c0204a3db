//! `--detach` against real runs: nothing that ends the starter ends the job, and the job can be
//! waited for, looked at, stopped and killed from outside.

use super::gate::Gate;
use crate::cli::lab::{Disk, Lab, PROGRAM, Run, code_of, finish, is_frozen, noise, wait};
use crate::support::tree;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use stillpoint::job::{JobDirectory, JobId, JobRecord, JobState};

/// More than a segment holds: one has been put when a run is before its gate.
const MIB: usize = 40;

/// A disk with a filesystem full of noise.
pub fn full_disk(lab: &Lab) -> (Disk, PathBuf) {
    let mut disk = lab.disk("disk", (MIB as u64 + 40) << 20);
    let place = disk.mount("ext4");
    let bytes = noise(8 << 20, 7);
    for n in 0..MIB / 8 {
        std::fs::write(
            place.join(format!("file-{n}")),
            [&[n as u8], &bytes[..]].concat(),
        )
        .unwrap();
    }
    crate::cli::lab::tool("sync", &["-f", place.to_str().unwrap()]);
    (disk, place)
}

/// A job of the lab; its process does not outlive the test.
pub struct Job {
    pub id: JobId,
    folder: JobDirectory,
}

impl Job {
    pub fn named(lab: &Lab, id: &str) -> Self {
        let folder = JobDirectory::open(&lab.path("jobs")).unwrap();
        let id = id.parse().unwrap();
        Self { id, folder }
    }

    /// Starts a job.
    pub fn start(lab: &Lab, args: &[&str]) -> Self {
        let run = lab.run(&[args, &["--detach", "--json"]].concat()).expect(0);
        Self::named(lab, run.json()["job"].as_str().unwrap())
    }

    pub fn record(&self) -> JobRecord {
        self.folder.look(self.id).unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.record().process.pid.cast_signed())
    }

    /// Waits until it is before the gate, and stops it there.
    #[track_caller]
    pub fn stop_at(&self, gate: &Gate) {
        gate.wait();
        assert!(tree::halt(self.pid().as_raw().cast_unsigned()));
    }

    /// Waits until it is in a phase that begins so, and stops it there; `None` if it had ended.
    pub fn stop_in(&self, phase: &str) -> Option<()> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let record = self.record();
            if record.state.is_end() {
                return None;
            }
            if record.phase.starts_with(phase) {
                tree::halt(self.pid().as_raw().cast_unsigned());
                // It may have gone on until it was hit.
                return (!self.record().state.is_end()).then_some(());
            }
            assert!(
                Instant::now() < until,
                "never came to {phase:?}: {record:?}"
            );
        }
    }

    /// Waits until its record names a phase.
    #[track_caller]
    fn is_told_to_be(&self, phase: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.record().phase != phase {
            assert!(Instant::now() < until, "{:?}", self.record());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn go_on(&self) {
        kill(self.pid(), Signal::SIGCONT).unwrap();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Ok(record) = self.folder.look(self.id) else {
            return;
        };
        if record.process.hold().is_some() && !record.state.is_end() {
            let pid = Pid::from_raw(record.process.pid.cast_signed());
            let _ = kill(pid, Signal::SIGKILL);
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
}

/// A runner's shell, in a process group of its own; nothing of that stays.
struct Starter(Child);

impl Drop for Starter {
    fn drop(&mut self) {
        // What `sh` alone leaves behind when it is killed is in its group still.
        let group = Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// A control group that a starter is put into.
pub struct Group(pub PathBuf);

impl Group {
    pub fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tops = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let top = tops
            .into_iter()
            .find(|top| top.join("cgroup.controllers").exists())?;
        let name = format!(
            "stillpoint-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let group = Self(top.join(name));
        std::fs::create_dir(&group.0).ok()?;
        group.0.join("cgroup.kill").exists().then_some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was killed takes a moment to leave.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn killing_the_starter_its_group_or_its_cgroup_does_not_touch_the_job() {
    let Some(lab) = Lab::with_vault("job: starter killed") else {
        return;
    };
    let (disk, place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    let cgroup = Group::new();
    if cgroup.is_none() {
        crate::support::host::skipped("job: cgroup killed", "no control group can be made");
    }
    for way in ["sh", "group", "cgroup"] {
        if way == "cgroup" && cgroup.is_none() {
            continue;
        }
        let group = cgroup.as_ref().filter(|_| way == "cgroup");
        gate.shut();
        let args = ["snapshot", "--full", "--detach", "--json", &disk.device];
        let (mut starter, job) = started_by_a_shell(&lab, &gate.before(&args), group);
        job.stop_at(&gate);
        let pid = Pid::from_raw(starter.0.id().cast_signed());
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", job.pid())).unwrap();
        assert!(!groups.contains("stillpoint-test-"), "{groups}");
        if cgroup.is_some() {
            assert_left_all(&groups, &job);
        }
        let session = nix::unistd::getsid(Some(job.pid())).unwrap();
        assert_eq!(session, job.pid(), "a session of its own");
        match way {
            "sh" => kill(pid, Signal::SIGKILL).unwrap(),
            "group" => nix::sys::signal::killpg(pid, Signal::SIGKILL).unwrap(),
            _ => {
                let file = cgroup.as_ref().unwrap().0.join("cgroup.kill");
                std::fs::write(file, "1").unwrap();
            }
        }
        assert_eq!(code_of(wait(&mut starter.0, "the starter")), -9, "{way}");
        assert_eq!(job.record().state, JobState::Running, "{way}");
        gate.open();
        job.go_on();
        let waited = lab
            .run(&["job", "wait", &job.id.to_string(), "--json"])
            .expect(0);
        let snapshot = waited.json()["snapshot"].as_str().unwrap().to_owned();
        lab.run(&["verify", &snapshot]).expect(0);
        assert!(!is_frozen(&place));
        let left = format!("stillpoint-job-{}", job.id);
        for top in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/unified",
            "/sys/fs/cgroup/freezer",
        ] {
            assert!(
                !Path::new(top).join(&left).exists(),
                "its control group stays"
            );
        }
    }
}

/// A starter, and its job.
fn started_by_a_shell(lab: &Lab, args: &[&str], group: Option<&Group>) -> (Starter, Job) {
    // It stays, as one does that a runner has started.
    let script = "[ -z \"$GROUP\" ] || echo $$ > \"$GROUP/cgroup.procs\"; \"$@\"; sleep 1000";
    let mut command = lab.command_with(&["sh", "-c", script, "sh"], args);
    command.process_group(0).stdout(Stdio::piped());
    if let Some(group) = group {
        command.env("GROUP", &group.0);
    }
    let mut starter = Starter(command.spawn().unwrap());
    let answer = first_line(&mut starter.0.stdout.take().unwrap());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let job = Job::named(lab, answer["job"].as_str().unwrap());
    (starter, job)
}

/// Every hierarchy that can be left has been: what is ended by `pids` or `memory` is not the job.
/// That of processors takes nobody into a group that has been given none.
fn assert_left_all(groups: &str, job: &Job) {
    let own = format!("/stillpoint-job-{}", job.id);
    for line in groups.lines().filter(|line| !line.contains(&own)) {
        let names = line.split(':').nth(1).unwrap();
        let mounted = Path::new("/sys/fs/cgroup").join(names.trim_start_matches("name="));
        assert!(names == "cpuset" || !mounted.is_dir(), "{line}: {groups}");
    }
}

pub fn first_line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn the_starter_is_let_go_and_the_job_tells_how_it_goes() {
    let Some(lab) = Lab::with_vault("job: told") else {
        return;
    };
    let (disk, _place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    // A copy of the runner's pipe is inherited too: it must not be held open by the job.
    let prefix = ["sh", "-c", "exec 7>&1; exec \"$@\"", "sh"];
    let args = gate.before(&["snapshot", "--detach", "--tag", "a=b", &disk.device]);
    let mut command = lab.command_with(&prefix, &args);
    command.env("AWS_SECRET_ACCESS_KEY", "geheim");
    let started = finish(&mut command).expect(0);
    let words: Vec<&str> = started.stdout.split_whitespace().collect();
    assert_eq!(words[0], "job", "{started:?}");
    let job = Job::named(&lab, words[1]);
    assert!(
        started
            .stdout
            .ends_with(&format!("stillpoint job status {}\n", job.id))
    );
    gate.wait(); // Its record is written beside the run, a moment later.
    job.is_told_to_be("holding applications");
    job.stop_at(&gate);
    let cmdline = std::fs::read(format!("/proc/{}/cmdline", job.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&cmdline).contains("geheim"));
    let record = std::fs::read_to_string(lab.path("jobs").join(format!("{}.json", job.id)));
    assert!(!record.unwrap().contains("geheim"));
    let input = std::fs::read_link(format!("/proc/{}/fd/0", job.pid())).unwrap();
    assert_eq!(input, Path::new("/dev/null"));

    let status = lab.json(&["job", "status", "latest"]);
    assert_eq!(status["state"], "running");
    assert_eq!(status["command"], "snapshot");
    assert_eq!(
        status["args"],
        serde_json::json!(gate.before(&["snapshot", "--tag", "a=b", &disk.device]))
    );
    assert_eq!(status["phase"], "holding applications");
    assert_eq!(status["exit_code"], Value::Null);
    let text = lab
        .run(&["job", "status", &job.id.to_string()[..20]])
        .expect(0)
        .stdout;
    assert!(text.lines().last().unwrap().contains("running"), "{text}");
    let late = lab
        .run(&["job", "wait", "latest", "--timeout", "50ms", "--json"])
        .expect(6);
    assert_eq!(late.json()["error"]["kind"], "busy");
    gate.open();
    job.go_on();

    let waited = lab
        .run(&["job", "wait", "latest", "--json"])
        .expect(0)
        .json();
    assert_eq!(waited["job"], job.id.to_string());
    assert_eq!(waited["tags"]["a"], "b");
    let status = lab.json(&["job", "status", "latest"]);
    assert_eq!(status["state"], "done");
    assert_eq!(status["exit_code"], 0);
    assert_eq!(status["result"], waited);
    let waited = lab.run(&["job", "wait", "latest"]).expect(0).stdout;
    assert!(
        waited.lines().last().unwrap().starts_with("snapshot 01"),
        "{waited}"
    );
    let logs = lab.run(&["job", "logs", "latest"]).expect(0).stdout;
    assert!(logs.contains("control group"), "{logs}");
    assert_eq!(logs.lines().last(), waited.lines().last());
    let cut = lab.json(&["job", "logs", "latest", "--bytes", "10"]);
    assert_eq!(cut["log"].as_str().unwrap().len(), 10);
    assert!(cut["skipped_bytes"].as_u64().unwrap() > 0);
    let list = lab.json(&["job", "list"]);
    assert_eq!(list["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(list["jobs"][0]["state"], "done");
    let text = lab.run(&["job", "list"]).expect(0).stdout;
    assert!(
        text.contains("snapshot") && text.contains(&job.id.to_string()),
        "{text}"
    );
    // The others are jobs too.
    for args in [
        &["verify", "--all"][..],
        &["restore", "latest", &lab.at("restored")],
    ] {
        let job = Job::start(&lab, args);
        let waited = lab
            .run(&["job", "wait", &job.id.to_string(), "--json"])
            .expect(0)
            .json();
        assert_eq!(waited["job"], job.id.to_string());
    }
    assert!(lab.path("restored").exists());
}

fn has_segments(lab: &Lab) -> bool {
    let (files, segments) = (lab.vault_files(), lab.path("vault/segments"));
    files.iter().any(|(path, _)| path.starts_with(&segments))
}

#[test]
fn a_cancelled_job_leaves_nothing_frozen_and_nothing_half_done() {
    let Some(lab) = Lab::with_vault("job: cancelled") else {
        return;
    };
    let (disk, place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    let before = lab.vault_files();
    for args in [
        &["snapshot", &disk.device][..],
        &["snapshot", &disk.device, "-v", "--full"],
    ] {
        gate.shut();
        let job = Job::start(&lab, &gate.before(args));
        job.stop_at(&gate);
        assert!(has_segments(&lab), "nothing was put");
        let id = job.id.to_string();
        // It cannot hear while it stands.
        let busy = lab
            .run(&["job", "cancel", &id, "--timeout", "20ms", "--json"])
            .expect(6);
        assert_eq!(busy.json()["error"]["kind"], "busy");
        job.go_on();
        let cancelled = lab.run(&["job", "cancel", &id]);
        assert!(cancelled.stdout.contains("exit code 143"), "{cancelled:?}");
        assert_eq!(cancelled.code, 0);
        let waited = lab.run(&["job", "wait", &id, "--json"]).expect(143).json();
        assert_eq!(waited["error"]["kind"], "interrupted");
        assert_eq!(lab.json(&["job", "status", &id])["state"], "cancelled");
        assert!(!is_frozen(&place));
        assert!(lab.freeze_records().is_empty());
        assert_eq!(lab.vault_files(), before, "objects are left");
        lab.run(&["job", "cancel", &id]).expect(0);
    }
    let job = Job::start(&lab, &["snapshot", &disk.device]);
    let id = job.id.to_string();
    lab.run(&["job", "wait", &id]).expect(0);
    let late = lab.run(&["job", "cancel", &id]).expect(3);
    assert!(late.stdout.contains("ended before"), "{late:?}");
}

#[test]
fn a_killed_job_is_shown_as_died() {
    let Some(lab) = Lab::with_vault("job: killed") else {
        return;
    };
    let (disk, place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    let job = Job::start(&lab, &gate.before(&["snapshot", &disk.device]));
    job.stop_at(&gate);
    assert!(has_segments(&lab), "nothing was put");
    kill(job.pid(), Signal::SIGKILL).unwrap();
    let id = job.id.to_string();
    let waited = lab.run(&["job", "wait", &id]).expect(1);
    assert!(waited.stderr.contains("died"), "{waited:?}");
    assert_eq!(lab.json(&["job", "status", &id])["state"], "died");
    assert_eq!(lab.json(&["job", "list"])["jobs"][0]["state"], "died");
    lab.run(&["job", "cancel", &id]).expect(3);
    assert!(!is_frozen(&place));
    lab.run(&["snapshot", &disk.device]).expect(0);
    lab.run(&["verify", "--all"]).expect(0);
}

/// Where control groups cannot be written to, what ends the starter's ends the job: it is said by
/// the answer, the record and the exit codes.
#[test]
fn a_job_that_cannot_leave_the_group_of_its_starter_says_so() {
    let Some(lab) = Lab::with_vault("job: no control group") else {
        return;
    };
    let hide = "mount -t tmpfs tmpfs /sys/fs/cgroup && exec \"$@\"";
    let prefix = ["unshare", "--mount", "sh", "-c", hide, "sh"];
    let what = "could not leave the control group of its starter";
    let args = ["verify", "--all", "--detach"];
    let started = finish(&mut lab.command_with(&prefix, &args)).expect(3);
    let lines: Vec<&str> = started.stdout.lines().collect();
    assert!(
        lines[0].starts_with("warning: ") && lines[0].contains(what),
        "{started:?}"
    );
    assert!(
        lines[1].starts_with("job ") && lines.len() == 2,
        "{started:?}"
    );
    let args = [&args[..], &["--json"]].concat();
    let started = finish(&mut lab.command_with(&prefix, &args))
        .expect(3)
        .json();
    let warned = |warnings: &Value| warnings[0].as_str().unwrap().contains(what);
    assert!(warned(&started["warnings"]), "{started}");
    let id = started["job"].as_str().unwrap();
    let job = Job::named(&lab, id);
    let waited = lab.run(&["job", "wait", id, "--json"]).expect(3).json();
    assert!(warned(&waited["warnings"]), "{waited}");
    let status = lab.json(&["job", "status", id]);
    assert!(warned(&status["warnings"]), "{status}");
    assert_eq!(job.record().exit_code, Some(3));
    let logs = lab.run(&["job", "logs", id]).expect(0).stdout;
    assert!(logs.contains("control group"), "{logs}");
}

#[test]
fn what_is_wrong_at_once_is_said_at_once() {
    let Some(lab) = Lab::with_vault("job: wrong at once") else {
        return;
    };
    let restored = lab.at("restored");
    let no_vault = lab.at("no-vault");
    let refused: [(&[&str], i32); 6] = [
        (&["snapshot", "vda", "--no-such-flag"], 2),
        (&["snapshot"], 2),
        (&["snapshot", "vda", "--tag", "nothing"], 2),
        (&["snapshot", "vda", "--vault", ""], 2),
        (&["verify", "--all", "--vault", &no_vault], 1),
        (&["restore", "latest", &restored, "--format", "vmdk"], 2),
    ];
    for (args, code) in refused {
        let run: Run = lab
            .run(&[args, &["--detach", "--json"]].concat())
            .expect(code);
        assert!(run.json()["error"]["message"].is_string(), "{args:?}");
    }
    assert!(!lab.path("jobs").exists(), "nothing was begun");
    lab.run(&["job", "list"]).expect(0);
    lab.run(&["job", "status", "latest"]).expect(1);
    // What only the work can find out is the job's to say.
    let job = Job::start(&lab, &["snapshot", "no-such-disk"]);
    let waited = lab
        .run(&["job", "wait", &job.id.to_string(), "--json"])
        .expect(1)
        .json();
    let message = waited["error"]["message"].as_str().unwrap();
    assert!(message.contains("no-such-disk"), "{message}");
    assert_eq!(job.record().state, JobState::Failed);
    // By itself the hidden mark starts nothing.
    let id = job.id.to_string();
    let alone = lab.run(&["snapshot", "vda", "--as-job", &id]).expect(1);
    assert!(alone.stderr.contains("known"), "{alone:?}");
    assert!(Path::new(PROGRAM).exists());
}
