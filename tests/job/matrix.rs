//! Jobs with hooks that are cancelled, told to stop or killed in every phase: nothing stays frozen,
//! nothing is held that was, and what is in the vault is whole.

use super::detached::Job;
use crate::cli::lab::{code_of, is_frozen, noise, wait};
use crate::hooks::Stage;
use crate::hooks::killed::wait_for;
use crate::support::tree;
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::process::Stdio;
use stillpoint::job::JobState;

/// How a job is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Cancel,
    Terminate,
    Kill,
}

/// Where it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Copying,
    Holding,
    Cutting,
    LettingGo,
    /// The postscript is over; what was read in the window is encoded and stored.
    Storing,
}

const PHASES: [Phase; 5] = [
    Phase::Copying,
    Phase::Holding,
    Phase::Cutting,
    Phase::LettingGo,
    Phase::Storing,
];
/// How often a phase is tried to be met: some are short.
const TRIES: u64 = 30;

fn stop(job: &Job) {
    // It may have ended; what then is to be met is not.
    tree::halt(job.pid().as_raw().cast_unsigned());
}

/// Whether something is frozen by a run.
fn freezes(stage: &Stage) -> bool {
    let records = stage.lab.freeze_records();
    let texts = records
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let parsed = texts.filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    parsed
        .filter_map(|record| Some(record["progress"].as_str()?.contains('F')))
        .any(|frozen| frozen)
}

fn has_noted(stage: &Stage, line: &str) -> bool {
    stage.noted().iter().any(|noted| noted == line)
}

/// Waits until the job is there, and stops it; answers whether it was met.
fn meet(stage: &Stage, job: &Job, phase: Phase) -> bool {
    let ended = || job.record().state.is_end();
    let word = match phase {
        Phase::Copying => return job.stop_in("copying").is_some(),
        Phase::Holding => "holding applications",
        Phase::LettingGo => "letting applications go",
        Phase::Cutting => {
            while !freezes(stage) && !ended() {}
            stop(job);
            return !ended() && !has_noted(stage, "post");
        }
        Phase::Storing => {
            while !has_noted(stage, "released") && !ended() {}
            stop(job);
            return !ended();
        }
    };
    // A hook keeps it there.
    let line = if phase == Phase::Holding {
        "pre"
    } else {
        "post"
    };
    wait_for(|| has_noted(stage, line) && job.record().phase == word);
    stop(job);
    true
}

/// Whether a SIGTERM waits for it.
fn is_told(job: &Job) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", job.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let signals = line.and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    signals.is_some_and(|signals| signals & (1 << (Signal::SIGTERM as u32 - 1)) != 0)
}

/// Strikes a job that was stopped, has it go on, and lets the hooks go on; how it ended.
fn strike(stage: &Stage, job: &Job, blow: Blow) -> JobState {
    let id = job.id.to_string();
    let let_go = || fs::write(stage.lab.path("post-go"), "").unwrap();
    match blow {
        Blow::Cancel => {
            let mut command = stage.lab.command(&["job", "cancel", &id]);
            let mut cancel = command.stdout(Stdio::null()).spawn().unwrap();
            wait_for(|| is_told(job));
            job.go_on();
            let_go();
            let code = code_of(wait(&mut cancel, "a cancel"));
            let cancelled = job.record().state == JobState::Cancelled;
            assert_eq!(code, if cancelled { 0 } else { 3 });
        }
        Blow::Terminate => {
            kill(job.pid(), Signal::SIGTERM).unwrap();
            job.go_on();
            let_go();
        }
        Blow::Kill => {
            kill(job.pid(), Signal::SIGKILL).unwrap();
            let_go();
        }
    }
    stage.lab.run(&["job", "wait", &id]);
    job.record().state
}

/// One prescript, one postscript, in this order; or neither.
fn assert_pair(stage: &Stage, said: &str) {
    let noted = stage.noted();
    let of_hooks: Vec<&str> = noted.iter().map(String::as_str).collect();
    let sound: [&[&str]; 3] = [
        &[],
        &["pre", "post", "released"],
        &["pre", "held", "post", "released"],
    ];
    assert!(sound.contains(&of_hooks.as_slice()), "{said}: {noted:?}");
}

/// Once; answers whether the phase was met.
fn round(stage: &Stage, phase: Phase, blow: Blow, seed: u64) -> bool {
    for file in ["noted", "pre-go", "post-go"] {
        let _ = fs::remove_file(stage.lab.path(file));
    }
    if phase != Phase::Holding {
        fs::write(stage.lab.path("pre-go"), "").unwrap();
    }
    if phase != Phase::LettingGo {
        fs::write(stage.lab.path("post-go"), "").unwrap();
    }
    fs::write(stage.place.join("file"), noise(2 << 20, seed)).unwrap();
    let before = stage.snapshots();
    let mut args = stage.args(&["--hook-timeout", "60s", "--max-freeze", "20s"]);
    args.retain(|arg| arg != "--json");
    if phase == Phase::Copying {
        args.push("--full".into());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let job = Job::start(&stage.lab, &args);
    let met = meet(stage, &job, phase);
    let said = format!("{blow:?} while {phase:?}, met: {met}");
    let state = if met {
        strike(stage, &job, blow)
    } else {
        // It waits for nothing any more.
        let _ = kill(job.pid(), Signal::SIGCONT);
        stage
            .lab
            .run(&["job", "wait", &job.id.to_string()])
            .expect(0);
        JobState::Done
    };
    let stopped = match blow {
        Blow::Kill => JobState::Died,
        Blow::Cancel | Blow::Terminate => JobState::Cancelled,
    };
    let late = phase == Phase::Storing || !met;
    assert!(
        state == stopped || (late && state == JobState::Done),
        "{said}: {state}"
    );
    if blow != Blow::Kill {
        // It ends when all is done.
        assert_pair(stage, &said);
    }
    wait_for(|| !has_noted(stage, "pre") || has_noted(stage, "released"));
    assert_pair(stage, &said);
    let begun = phase != Phase::Copying || !met;
    assert!(!begun || has_noted(stage, "pre"), "{said}");
    // What thaws and lets go outlives a killed run for a moment.
    wait_for(|| !is_frozen(&stage.place));
    wait_for(|| stage.lab.freeze_records().is_empty());
    stage.assert_sound();
    let now = stage.snapshots();
    // A run that was killed may have been at its end.
    let committed = now == before + 1;
    assert!(committed || now == before, "{said}");
    let may = state == JobState::Done || (late && state == JobState::Died);
    assert!(
        committed <= may && (committed || state != JobState::Done),
        "{said}"
    );
    met
}

fn matrix(test: &str, blow: Blow) {
    let Some(stage) = Stage::new(test) else {
        return;
    };
    fs::write(stage.place.join("bulk"), noise(72 << 20, 2)).unwrap();
    let wait = |name: &str| {
        let file = stage.lab.path(name);
        format!("until [ -e {} ]; do sleep 0.02; done", file.display())
    };
    stage.scripts(
        &format!("note pre; {}; note held", wait("pre-go")),
        &format!("note post; {}; note released", wait("post-go")),
    );
    for phase in PHASES {
        let met = (0..TRIES).any(|seed| round(&stage, phase, blow, seed));
        assert!(met, "{phase:?} was never met");
    }
    fs::write(stage.lab.path("pre-go"), "").unwrap();
    let document = stage.snapshot(&[]).expect(0).json();
    assert_eq!(document["level"], "application");
}

#[test]
fn cancelled_in_every_phase() {
    matrix("job: cancelled in every phase", Blow::Cancel);
}

#[test]
fn told_to_stop_in_every_phase() {
    matrix("job: told to stop in every phase", Blow::Terminate);
}

#[test]
fn killed_in_every_phase() {
    matrix("job: killed in every phase", Blow::Kill);
}
