//! Runs with hooks that are killed or told to stop, in every phase: once the prescript has begun,
//! the postscript runs.

use super::Stage;
use crate::cli::lab::{LONG, code_of, is_frozen, noise, rounds, wait};
use crate::support::tree;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

/// Waits until it is so, but not for ever.
pub fn wait_for(mut so: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < until, "it never comes to this");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What of a run a signal is sent to.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Engine,
    Group,
    /// The process group, every millisecond to its end: what it starts is hit at any moment.
    GroupAgain,
    /// All that the engine has started, from parent to child.
    Tree,
}

/// When: so many milliseconds after this line was noted by a script, or after the start; or after
/// the guardian noted that a filesystem is frozen.
type Moment = (&'static str, u64);

const FROZEN: &str = "(frozen)";

const MOMENTS: [Moment; 14] = [
    ("", 0),
    ("", 20),
    ("", 60),
    ("pre", 0),
    ("pre", 60),
    ("pre", 100),
    ("held", 0),
    ("held", 15),
    ("held", 40),
    ("held", 70),
    (FROZEN, 0),
    (FROZEN, 5),
    ("post", 0),
    ("post", 30),
];

/// Whether a record says so: `"F"` is the state of a target that is frozen.
fn has_frozen(stage: &Stage) -> bool {
    let records = stage.lab.freeze_records().into_iter();
    let texts = records.filter_map(|path| std::fs::read_to_string(path).ok());
    texts
        .into_iter()
        .any(|text| text.starts_with("{\"progress\":\"F"))
}

fn strike(stage: &Stage, signal: Signal, whom: Whom, moment: Moment) -> i32 {
    let args = stage.args(&["--hook-timeout", "5s"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = stage.lab.command(&args);
    command.process_group(0);
    let said = std::fs::File::create(stage.lab.path("said")).unwrap();
    command.stdout(said.try_clone().unwrap()).stderr(said);
    let mut child = command.spawn().unwrap();
    let (line, delay) = moment;
    wait_for(|| {
        line.is_empty()
            || (line == FROZEN && has_frozen(stage))
            || stage.noted().iter().any(|noted| noted == line)
            || child.try_wait().unwrap().is_some()
    });
    std::thread::sleep(Duration::from_millis(delay));
    let pid = Pid::from_raw(child.id().cast_signed());
    let _ = match whom {
        Whom::Engine => kill(pid, signal),
        Whom::Group => killpg(pid, signal),
        Whom::GroupAgain => {
            let until = Instant::now() + LONG;
            while child.try_wait().unwrap().is_none() && Instant::now() < until {
                // It may end this very moment.
                let _ = killpg(pid, signal);
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }
        Whom::Tree => {
            tree::strike(child.id(), signal);
            Ok(())
        }
    };
    code_of(wait(&mut child, "a run with hooks"))
}

fn matrix(test: &str, signal: Signal, expected: i32) {
    let Some(stage) = Stage::new(test) else {
        return;
    };
    stage.scripts(
        "note pre; sleep 0.1; note held",
        "note post; sleep 0.05; note released",
    );
    let mut struck = 0;
    for round in 0..rounds(1) {
        for whom in [Whom::Engine, Whom::Group, Whom::GroupAgain, Whom::Tree] {
            for moment in MOMENTS {
                let said = format!("{signal} to {whom:?} at {moment:?}, round {round}");
                let _ = std::fs::remove_file(stage.lab.path("noted"));
                std::fs::write(stage.place.join("file"), noise(1 << 20, struck)).unwrap();
                let code = strike(&stage, signal, whom, moment);
                let text = std::fs::read_to_string(stage.lab.path("said")).unwrap();
                let sound = [0, expected, -(signal as i32)].contains(&code);
                assert!(sound, "{said}: {code}: {text}");
                if signal == Signal::SIGTERM {
                    // It ends when all is done.
                    assert_pair(&stage, &said);
                }
                wait_for(|| {
                    let noted = stage.noted();
                    let begun = noted.iter().any(|line| line == "pre");
                    !begun || noted.iter().any(|line| line == "released")
                });
                assert_pair(&stage, &said);
                // What may have been frozen is thawed by a process that outlives the run for a
                // moment, as does the one that has run the postscript.
                wait_for(|| stage.lab.freeze_records().is_empty());
                assert!(!is_frozen(&stage.place), "{said}: it stays frozen");
                if stage.snapshots() > 0 {
                    stage.lab.run(&["verify", "--all"]).expect(0);
                }
                struck += 1;
            }
        }
    }
    stage.assert_sound();
    stage.snapshot(&[]).expect(0);
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

#[test]
fn killed_at_any_moment_the_postscript_runs() {
    let test = "killed_at_any_moment_the_postscript_runs";
    matrix(test, Signal::SIGKILL, -(Signal::SIGKILL as i32));
}

#[test]
fn stopped_at_any_moment_the_postscript_runs() {
    matrix(
        "stopped_at_any_moment_the_postscript_runs",
        Signal::SIGTERM,
        143,
    );
}
