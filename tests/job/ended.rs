//! Runs that are waited for are jobs too: how each end is recorded, and what a hostile record can
//! make the commands say.

use super::detached::{Job, full_disk};
use super::gate::Gate;
use crate::cli::lab::{Lab, code_of, finish, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Stdio};

use stillpoint::job::{JobDirectory, JobState};

/// The run that is before the gate, stopped there.
fn at_work(lab: &Lab, gate: &Gate) -> Job {
    gate.wait();
    let latest = JobDirectory::open(&lab.path("jobs")).and_then(|folder| folder.find("latest"));
    let job = Job::named(lab, &latest.unwrap().to_string());
    job.stop_at(gate);
    job
}

fn begin(lab: &Lab, args: &[&str]) -> Child {
    let mut command = lab.command(args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn every_end_of_a_run_is_recorded() {
    let Some(lab) = Lab::with_vault("job: ends") else {
        return;
    };
    let (disk, _place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    for (signal, state, code) in [
        (Signal::SIGTERM, JobState::Cancelled, 143),
        (Signal::SIGINT, JobState::Cancelled, 130),
        (Signal::SIGHUP, JobState::Cancelled, 143),
        (Signal::SIGKILL, JobState::Died, -9),
    ] {
        gate.shut();
        let mut run = begin(&lab, &gate.before(&["snapshot", &disk.device]));
        let job = at_work(&lab, &gate);
        assert_eq!(job.pid(), Pid::from_raw(run.id().cast_signed()));
        kill(job.pid(), signal).unwrap();
        kill(job.pid(), Signal::SIGCONT).unwrap();
        assert_eq!(code_of(wait(&mut run, "a stopped run")), code);
        let record = job.record();
        assert_eq!(record.state, state);
        assert_eq!(
            record.exit_code.map(i32::from),
            Some(code).filter(|code| *code > 0)
        );
        assert!(!record.detached);
    }
    let run = lab
        .run(&["snapshot", &disk.device, "--json"])
        .expect(0)
        .json();
    let status = lab.json(&["job", "status", "latest"]);
    assert_eq!(status["job"], run["job"]);
    assert_eq!(status["result"], run);
    assert_eq!(status["phase"], "committing");
    assert!(status["ended"].as_str().unwrap() >= status["started"].as_str().unwrap());
    assert_eq!(status["log"], serde_json::Value::Null);
    let none = lab.run(&["job", "logs", "latest"]).expect(1);
    assert!(none.stderr.contains("has no log"), "{none:?}");
    lab.run(&["snapshot", "no-such"]).expect(1);
    let status = lab.json(&["job", "status", "latest"]);
    assert_eq!(
        (status["state"].as_str(), status["exit_code"].as_u64()),
        (Some("failed"), Some(1))
    );
    assert!(
        status["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no-such")
    );
    lab.run(&["verify", "--all"]).expect(0);
    assert_eq!(lab.json(&["job", "status", "latest"])["command"], "verify");
    assert_eq!(
        lab.json(&["job", "list"])["jobs"].as_array().unwrap().len(),
        7
    );
}

/// `nohup`, or what a shell starts in the background.
#[test]
fn a_signal_that_was_to_be_ignored_stops_no_run() {
    let Some(lab) = Lab::with_vault("job: ignored signals") else {
        return;
    };
    let (disk, _place) = full_disk(&lab);
    let gate = Gate::new(&lab);
    let args = gate.before(&["snapshot", &disk.device]);
    let prefix = ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"];
    let mut command = lab.command_with(&prefix, &args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = command.spawn().unwrap();
    let job = at_work(&lab, &gate);
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        kill(job.pid(), signal).unwrap();
    }
    gate.open();
    job.go_on();
    assert_eq!(code_of(wait(&mut run, "a run that ignores signals")), 0);
    assert_eq!(job.record().state, JobState::Done);
    // What goes on by itself can be stopped all the same: the signal was not meant for it.
    let prefix = ["sh", "-c", "trap '' TERM; exec \"$@\"", "sh"];
    gate.shut();
    let args = gate.before(&["snapshot", "--full", "--detach", "--json", &disk.device]);
    let started = finish(&mut lab.command_with(&prefix, &args))
        .expect(0)
        .json();
    let job = Job::named(&lab, started["job"].as_str().unwrap());
    gate.wait();
    lab.run(&["job", "cancel", &job.id.to_string()]).expect(0);
}

#[test]
fn a_hostile_record_can_neither_turn_the_host_off_nor_write_to_the_terminal() {
    let Some(lab) = Lab::with_vault("job: hostile") else {
        return;
    };
    lab.run(&["verify", "--all"]).expect(0);
    let id = lab.json(&["job", "status", "latest"])["job"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = lab.path("jobs").join(format!("{id}.json"));
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for code in [193, 194, 255] {
        let mut bad = good.clone();
        bad["exit_code"] = code.into();
        bad["text"] = "\u{1b}[2J\u{7}gone".into();
        bad["command"] = "\u{1b}]0;x".into();
        bad["warnings"] = vec!["\u{1b}[31m\u{9b}x"; 5000].into();
        std::fs::write(&path, bad.to_string()).unwrap();
        let wanted = if code == 255 { 255 } else { 1 };
        for args in [
            &["job", "wait", &id][..],
            &["job", "status", &id],
            &["job", "list"],
        ] {
            let run = lab
                .run(args)
                .expect(if args[1] == "wait" { wanted } else { 0 });
            let odd = |c: char| c.is_control() && c != '\n';
            assert!(!run.stdout.contains(odd), "{args:?}: {:?}", run.stdout);
            assert!(run.stdout.len() < 12_000, "{args:?}: {}", run.stdout.len());
            assert!(!run.stdout.lines().last().unwrap().is_empty());
        }
    }
    std::fs::write(&path, b"{").unwrap();
    let run = lab.run(&["job", "list", "--json"]).expect(3).json();
    assert_eq!(run["unreadable"][0]["job"], id);
    lab.run(&["job", "status", &id]).expect(1);
}
