//! The assistant's time is up, or it stops a run by another command.

use super::{Runner, Stage, Victim, waiting, with_hooks, words};
use crate::cli::lab::is_frozen;
use crate::hooks::killed::wait_for;
use crate::job::detached::{Group, Job};
use std::fs;
use stillpoint::job::{JobDirectory, JobState};

/// Each sort of killing that can be had here.
fn victims(test: &str) -> Vec<(&'static str, Victim)> {
    let mut victims = vec![("sh", Victim::Shell), ("group", Victim::Group)];
    match Group::new() {
        Some(group) => victims.push(("cgroup", Victim::Cgroup(group))),
        None => {
            crate::support::host::skipped(test, "no control group can be made");
        }
    }
    victims
}

fn latest(stage: &Stage) -> Job {
    let folder = JobDirectory::open(&stage.lab.path("jobs")).unwrap();
    Job::named(&stage.lab, &folder.find("latest").unwrap().to_string())
}

fn holds(stage: &Stage) -> bool {
    stage.noted().last().is_some_and(|line| line == "pre")
}

fn begin_anew(stage: &Stage) {
    for file in ["go", "noted"] {
        let _ = fs::remove_file(stage.lab.path(file));
    }
}

/// Nothing stays held or frozen, whoever has to see to that.
fn assert_let_go(stage: &Stage) {
    wait_for(|| stage.noted().last().is_some_and(|line| line == "post"));
    wait_for(|| !is_frozen(&stage.place));
    wait_for(|| stage.lab.freeze_records().is_empty());
    stage.assert_sound();
}

#[test]
fn a_time_out_while_the_run_is_waited_for() {
    let test = "runner: time-out";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let (go, pre) = waiting(&stage);
    stage.scripts(&pre, "note post");
    let args = with_hooks(&stage, &["-v"]);
    for (name, victim) in victims(test) {
        begin_anew(&stage);
        let before = stage.snapshots();
        let survives = matches!(victim, Victim::Shell);
        let mut runner = Runner::start(&stage.lab, "\"$@\"", &words(&args), victim);
        runner.until(|_| holds(&stage));
        let job = latest(&stage);
        assert_eq!(job.record().state, JobState::Running, "{name}");
        let report = runner.time_out().expect(-9);
        assert!(!report.tail.contains("snapshot 01"), "{name}: {report:?}");
        let id = job.id.to_string();
        if survives {
            // It goes on, though nobody hears it any more, and its verdict can be asked for.
            assert_eq!(job.record().state, JobState::Running, "{name}");
            fs::write(&go, "").unwrap();
            let report = Runner::usual(&stage.lab, &["job", "wait", &id]).expect(0);
            assert!(report.verdict().starts_with("snapshot 01"), "{report:?}");
            assert!(report.verdict().contains("level application"), "{report:?}");
            assert_eq!(stage.noted(), ["pre", "held", "post"]);
        } else {
            let report = Runner::usual(&stage.lab, &["job", "wait", &id]).expect(1);
            assert!(report.verdict().contains("died"), "{report:?}");
        }
        assert_let_go(&stage);
        assert_eq!(stage.snapshots(), before + usize::from(survives), "{name}");
    }
    fs::write(&go, "").unwrap();
    Runner::usual(&stage.lab, &words(&args)).expect(0);
}

/// The answer is there while the job is held back by its hook: it is not waited for.
#[test]
fn a_time_out_does_not_touch_what_goes_on_by_itself() {
    let test = "runner: time-out, detached";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let (go, pre) = waiting(&stage);
    stage.scripts(&pre, "note post");
    let args = with_hooks(&stage, &["--detach"]);
    for (name, victim) in victims(test) {
        begin_anew(&stage);
        let script = "\"$@\"; while :; do sleep 0.1; done";
        let mut runner = Runner::start(&stage.lab, script, &words(&args), victim);
        runner.until(|runner| runner.said().contains('\n') && holds(&stage));
        let said = runner.said();
        let id = said.split_whitespace().nth(1).unwrap().to_owned();
        assert!(
            said.starts_with("job ") && said.lines().count() == 1,
            "{said}"
        );
        let job = Job::named(&stage.lab, &id);
        assert_eq!(job.record().state, JobState::Running);
        runner.time_out().expect(-9);
        // The record follows what is done.
        wait_for(|| job.record().phase == "holding applications");
        // Asked for with a time-out, it answers that it goes on.
        let args = ["job", "wait", &id, "--timeout", "10ms"];
        let report = Runner::usual(&stage.lab, &args).expect(6);
        let verdict = report.verdict();
        assert!(verdict.contains("holding applications"), "{report:?}");
        let report = Runner::usual(&stage.lab, &["job", "status", &id]).expect(0);
        let verdict = report.verdict();
        assert!(verdict.contains("holding applications"), "{report:?}");
        fs::write(&go, "").unwrap();
        let report = Runner::usual(&stage.lab, &["job", "wait", &id]).expect(0);
        assert!(
            report.verdict().contains("level application"),
            "{name}: {report:?}"
        );
        assert_eq!(stage.noted(), ["pre", "held", "post"], "{name}");
        assert_let_go(&stage);
    }
    assert!(stage.snapshots() >= 2);
}

#[test]
fn a_run_is_stopped_by_another_command() {
    let Some(stage) = Stage::new("runner: cancel") else {
        return;
    };
    let (_go, pre) = waiting(&stage);
    stage.scripts(&pre, "note post");
    for detach in [false, true] {
        begin_anew(&stage);
        let args = with_hooks(&stage, if detach { &["--detach"] } else { &[] });
        let script = if detach {
            "\"$@\"; while :; do sleep 0.1; done"
        } else {
            "\"$@\""
        };
        let mut runner = Runner::start(&stage.lab, script, &words(&args), Victim::Group);
        runner.until(|_| holds(&stage));
        let job = latest(&stage);
        let id = job.id.to_string();
        let cancelled = Runner::usual(&stage.lab, &["job", "cancel", &id]).expect(0);
        let verdict = cancelled.verdict();
        assert!(verdict.contains("exit code 143"), "{cancelled:?}");
        if detach {
            runner.time_out().expect(-9);
        } else {
            let report = runner.report().expect(143);
            let verdict = "stillpoint: stopped by a signal; nothing is frozen";
            assert_eq!(report.verdict(), verdict, "{report:?}");
        }
        let waited = Runner::usual(&stage.lab, &["job", "wait", &id]).expect(143);
        assert!(waited.verdict().contains("was cancelled"), "{waited:?}");
        assert_eq!(stage.noted(), ["pre", "post"]);
        assert_let_go(&stage);
    }
    assert_eq!(stage.snapshots(), 0);
}
