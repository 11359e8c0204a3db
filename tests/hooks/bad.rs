//! Hooks that qualify and misbehave.

use super::{Stage, status, warned};
use crate::cli::lab::{code_of, is_frozen, try_tool, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Stdio;
use std::time::Duration;
use stillpoint::format::HookStatus;
use stillpoint::hooks::{HookOptions, HookOutcome, Hooks};

/// Whether a process runs (a zombie does not).
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

fn stage(test: &str, pre: &str, post: &str) -> Option<Stage> {
    let stage = Stage::new(test)?;
    stage.scripts(pre, post);
    Some(stage)
}

#[test]
fn a_prescript_that_fails_is_undone_and_the_snapshot_goes_on() {
    let pre = "note pre; echo the database is down; exit 7";
    let Some(stage) = stage("a_prescript_that_fails_is_undone", pre, "note post") else {
        return;
    };
    let document = stage.snapshot(&[]).expect(3).json();
    assert_eq!(document["level"], "filesystem");
    assert_eq!(status(&document, "prescript"), "failed");
    assert_eq!(status(&document, "postscript"), "ran");
    let last = "exit code 7; it said last: the database is down";
    assert!(warned(&document, last), "{document}");
    let said = &document["hooks"]["prescript"]["output"];
    assert_eq!(said, "the database is down\n");
    assert_eq!(stage.noted(), ["pre", "post"]);
    assert_eq!(document["hooks"]["held_ms"], serde_json::Value::Null);

    let failed = stage.snapshot(&["--on-hook-failure", "fail"]).expect(1);
    assert!(failed.stdout.contains(last), "{failed:?}");
    // A job's log has what they said.
    let line = "prescript: the database is down\n";
    assert!(failed.stderr.contains(line), "{failed:?}");
    assert_eq!(stage.noted(), ["pre", "post", "pre", "post"]);
    assert_eq!(stage.snapshots(), 1);
    stage.assert_sound();
}

#[test]
fn a_postscript_that_fails_is_told_loudly() {
    let Some(stage) = stage("a_postscript_that_fails", "note pre", "note post; exit 1") else {
        return;
    };
    let document = stage.snapshot(&[]).expect(3).json();
    // It may say that the applications had not stood still to the end.
    assert_eq!(document["level"], "filesystem");
    assert_eq!(document["hooks"]["held_ms"], serde_json::Value::Null);
    assert_eq!(status(&document, "postscript"), "failed");
    assert!(warned(&document, "may still be"), "{document}");
    assert_eq!(stage.noted(), ["pre", "post"]);
    let failed = stage.snapshot(&["--on-hook-failure", "fail"]).expect(1);
    assert!(failed.stdout.contains("postscript: failed"), "{failed:?}");
    assert_eq!(stage.snapshots(), 1);
    stage.assert_sound();
}

#[test]
fn a_prescript_that_takes_too_long_is_ended_with_all_it_started() {
    let pre = "trap '' TERM; note pre $$\n(trap '' TERM; while :; do sleep 0.1; done) &\n\
               note child $!\nwhile :; do sleep 0.1; done";
    let Some(stage) = stage("a_prescript_that_takes_too_long", pre, "note post") else {
        return;
    };
    let document = stage.snapshot(&["--hook-timeout", "1s"]).expect(3).json();
    assert_eq!(document["level"], "filesystem");
    assert_eq!(status(&document, "prescript"), "timed_out");
    assert_eq!(status(&document, "postscript"), "ran");
    let noted = stage.noted();
    assert_eq!(noted.last().unwrap(), "post");
    for line in &noted[..2] {
        let pid = line.split(' ').nth(1).unwrap();
        let alive = fs::read_to_string(format!("/proc/{pid}/stat"));
        // One that is dead may not have been collected yet.
        let alive = alive.is_ok_and(|stat| !stat.contains(") Z "));
        assert!(!alive, "{line} is still there");
    }
    stage.assert_sound();
}

#[test]
fn what_a_prescript_leaves_behind_lives_on_and_is_not_waited_for() {
    // It keeps the output open, as a client that holds a lock may.
    let pre = "echo begun; sleep 1000 & note child $!";
    let post = "read -r _ pid < <(grep child $(dirname $STILLPOINT_HOOK)/../noted)\n\
                kill $pid && note killed";
    let Some(stage) = stage("what_a_prescript_leaves_behind", pre, post) else {
        return;
    };
    let document = stage.snapshot(&[]).expect(0).json();
    assert_eq!(document["hooks"]["prescript"]["output"], "begun\n");
    assert_eq!(stage.noted().last().unwrap(), "killed", "it had lived on");
}

#[test]
fn a_hook_may_say_as_much_as_it_likes() {
    let pre = "head -c 1G /dev/zero | tr '\\0' x; echo; printf 'the \\033[31mend'";
    let Some(stage) = stage("a_hook_may_say_as_much_as_it_likes", pre, "note post") else {
        return;
    };
    let document = stage.snapshot(&["--hook-timeout", "100s"]).expect(0).json();
    let shown = stage.lab.json(&["show", "latest"]);
    // What was kept is told later; the answer has the end of it, as it is to be short.
    for (document, most) in [(&shown, 9 << 10), (&document, 1010)] {
        let said = document["hooks"]["prescript"]["output"].as_str().unwrap();
        assert!(said.len() < most, "{} bytes are kept", said.len());
        assert!(said.ends_with("x\nthe ?[31mend"), "{said}");
        let whole = said.contains("bytes left out") && said.len() > 8000;
        assert_eq!(whole, most > 9000, "{said}");
    }
}

#[test]
fn a_prescript_that_kills_what_runs_it_is_undone() {
    let pre = "note pre; kill -9 $PPID; sleep 0.2";
    let Some(stage) = stage("a_prescript_that_kills_what_runs_it", pre, "note post") else {
        return;
    };
    let document = stage.snapshot(&[]).expect(3).json();
    assert_eq!(document["level"], "filesystem");
    assert_eq!(status(&document, "prescript"), "failed");
    assert_eq!(status(&document, "postscript"), "ran");
    assert_eq!(stage.noted(), ["pre", "post"]);
    stage.assert_sound();
}

#[test]
fn a_prescript_that_stops_what_runs_it_is_undone() {
    let pre = "note pre; note $PPID; kill -STOP $PPID; sleep 0.2";
    let Some(stage) = stage("a_prescript_that_stops_what_runs_it", pre, "note post") else {
        return;
    };
    let document = stage.snapshot(&["--hook-timeout", "1s"]).expect(3).json();
    assert_eq!(document["level"], "filesystem");
    assert_eq!(status(&document, "prescript"), "failed");
    assert_eq!(status(&document, "postscript"), "ran");
    let noted = stage.noted();
    assert_eq!([&noted[0], &noted[2]], ["pre", "post"]);
    assert!(!runs(&noted[1]), "what ran it stays, stopped");
    stage.assert_sound();
}

#[test]
fn a_postscript_that_stops_what_runs_it_is_told_loudly() {
    let post = "note post; note $PPID; kill -STOP $PPID; sleep 0.2";
    let Some(stage) = stage("a_postscript_that_stops_what_runs_it", "note pre", post) else {
        return;
    };
    let document = stage.snapshot(&["--hook-timeout", "1s"]).expect(3).json();
    assert_eq!(status(&document, "postscript"), "failed");
    assert!(warned(&document, "may still be"), "{document}");
    let noted = stage.noted();
    assert_eq!([&noted[1], &noted[3]], ["post", "post"]);
    assert!(!runs(&noted[2]) && !runs(&noted[4]), "what ran it stays");
    // It never told that it had done its work: the next run sees to it.
    stage.scripts("note pre", "note owed");
    stage.lab.run(&["thaw"]).expect(0);
    assert_eq!(stage.noted().last().unwrap(), "owed");
    stage.assert_sound();
}

/// What was judged is what is run: the name is not looked up again.
#[test]
fn a_postscript_whose_name_is_gone_or_anothers_is_run_all_the_same() {
    let Some(stage) = Stage::new("a_postscript_whose_name_is_gone") else {
        return;
    };
    let post = stage.post().to_str().unwrap().to_owned();
    let gone = format!("note pre; rm {post}; kill -9 $PPID; sleep 0.2");
    stage.scripts(&gone, "note post");
    let document = stage.snapshot(&[]).expect(3).json();
    assert_eq!(status(&document, "postscript"), "ran");
    assert_eq!(stage.noted(), ["pre", "post"]);

    let replaced = format!("note pre; cp -p $STILLPOINT_HOOK {post}.new; mv {post}.new {post}");
    for end in ["", "; kill -9 $PPID; sleep 0.2"] {
        stage.scripts(&format!("{replaced}{end}"), "note post");
        stage.snapshot(&[]);
        let noted = stage.noted();
        assert_eq!(noted[noted.len() - 2..], ["pre", "post"], "{end}");
    }
    stage.assert_sound();
}

/// Whoever cancels a run must hear that applications were not let go.
#[test]
fn a_cancelled_run_tells_that_applications_may_still_be_held() {
    let pre = "note pre; sleep 100";
    let post = "note post; echo no server; exit 4";
    let Some(stage) = stage("a_cancelled_run_tells", pre, post) else {
        return;
    };
    let args = stage.args(&[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = stage.lab.command(&args);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    super::killed::wait_for(|| stage.noted() == ["pre"]);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let code = code_of(wait(&mut child, "a cancelled run"));
    let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert_eq!(code, 143, "{said}");
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    let message = document["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("exit code 4; it said last: no server"),
        "{message}"
    );
    assert!(message.contains("may still be"), "{message}");
    assert_eq!(stage.noted(), ["pre", "post"]);
    stage.assert_sound();
}

#[test]
fn what_a_prescript_leaves_behind_may_flood() {
    let pre = "(while :; do head -c 1M /dev/zero | tr '\\0' x; done) & note $!";
    let post = "note post; kill -9 $(head -n 1 $(dirname $STILLPOINT_HOOK)/../noted)";
    let Some(stage) = stage("what_a_prescript_leaves_behind_may_flood", pre, post) else {
        return;
    };
    let document = stage.snapshot(&[]).expect(0).json();
    let said = document["hooks"]["prescript"]["output"].as_str();
    assert!(said.unwrap_or_default().len() < 9 << 10);
    assert_eq!(stage.noted()[1], "post");
    stage.assert_sound();
}

#[test]
fn a_postscript_that_kills_what_runs_it_is_told_loudly() {
    let post = "note post; kill -9 $PPID; sleep 0.2";
    let Some(stage) = stage("a_postscript_that_kills_what_runs_it", "note pre", post) else {
        return;
    };
    let document = stage.snapshot(&[]).expect(3).json();
    assert_eq!(status(&document, "postscript"), "failed");
    assert!(warned(&document, "may still be"), "{document}");
    // Whether the first had done its work could not be told, nor of the second: it stays owed.
    assert_eq!(stage.noted(), ["pre", "post", "post"]);
    stage.scripts("note pre", "note owed");
    stage.lab.run(&["thaw"]).expect(0);
    assert_eq!(stage.noted()[3..], ["owed"]);
    stage.assert_sound();
}

/// It is someone else's freeze: it stays, but for what the postscript does about it.
#[test]
fn a_prescript_that_freezes_by_itself_is_left_alone() {
    let Some(stage) = Stage::new("a_prescript_that_freezes_by_itself") else {
        return;
    };
    let place = stage.place.to_str().unwrap();
    stage.scripts(
        &format!("note pre; fsfreeze --freeze {place}"),
        &format!("note post $STILLPOINT_OUTCOME; [ -e /nowhere ] || fsfreeze --unfreeze {place}"),
    );
    let refused = stage.snapshot(&[]).expect(6);
    assert!(refused.stdout.contains(place), "{refused:?}");
    assert_eq!(stage.noted(), ["pre", "post failed"]);
    assert!(!is_frozen(&stage.place), "the postscript thawed it");
    stage.scripts(&format!("fsfreeze --freeze {place}"), "note left");
    stage.snapshot(&[]).expect(6);
    assert!(is_frozen(&stage.place), "a foreign freeze was undone");
    assert!(try_tool("fsfreeze", &["--unfreeze", place]));
    stage.assert_sound();
}

/// It must hear what is said to it, and so must what it leaves behind.
#[test]
fn hooks_hear_signals() {
    let pre = "trap 'note asked; exit 1' TERM; note $(grep SigBlk /proc/self/status)\n\
               note $(grep SigIgn /proc/self/status); while :; do sleep 0.05; done";
    let Some(stage) = stage("hooks_hear_signals", pre, "note post") else {
        return;
    };
    let document = stage.snapshot(&["--hook-timeout", "1s"]).expect(3).json();
    assert_eq!(status(&document, "prescript"), "timed_out");
    let noted = stage.noted();
    for (line, name) in noted.iter().zip(["SigBlk: ", "SigIgn: "]) {
        let mask = u64::from_str_radix(line.strip_prefix(name).unwrap(), 16).unwrap();
        // The first 31: what comes after is the C library's own.
        assert_eq!(mask & 0x7fff_ffff, 0, "{line}");
    }
    assert_eq!(noted[2..], ["asked", "post"]);
}

/// What holds applications may say something now and then.
#[test]
fn what_a_prescript_leaves_behind_may_speak() {
    let pre = "(trap 'note gone' EXIT; while sleep 0.02; do echo holding; done) & note $!";
    let post = "note post; pid=$(head -n 1 $(dirname $STILLPOINT_HOOK)/../noted)\n\
                kill -0 $pid && note alive; kill $pid";
    let Some(stage) = stage("what_a_prescript_leaves_behind_may_speak", pre, post) else {
        return;
    };
    stage.snapshot(&[]).expect(0);
    assert_eq!(stage.noted()[1..3], ["post", "alive"]);
}

/// It would hold applications for good once the postscript has let them go.
#[test]
fn a_prescript_whose_runner_dies_dies_too() {
    let pre = "note $$; kill -9 $PPID; sleep 3; note held";
    let Some(stage) = stage("a_prescript_whose_runner_dies", pre, "note post") else {
        return;
    };
    stage.snapshot(&[]).expect(3);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(stage.noted()[1..], ["post"]);
}

#[test]
fn a_failed_cut_tells_that_applications_may_still_be_held() {
    let test = "a_failed_cut_tells_that_applications_may_still_be_held";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let place = stage.place.to_str().unwrap();
    stage.scripts(&format!("fsfreeze --freeze {place}"), "exit 9");
    let failed = stage.snapshot(&[]).expect(6);
    assert!(failed.stdout.contains("exit code 9"), "{failed:?}");
    assert!(try_tool("fsfreeze", &["--unfreeze", place]));
}

/// Whatever holds up the cut: nobody asks for the postscript, and it runs.
#[test]
fn applications_are_let_go_when_they_were_held_too_long() {
    let Some(stage) = stage("applications_are_let_go", "note pre", "note post") else {
        return;
    };
    let mut hooks = Hooks::new(HookOptions {
        prescript: stage.pre(),
        postscript: stage.post(),
        timeout: Duration::from_secs(10),
        hold: Duration::from_millis(200),
        environment: Vec::new(),
        program: crate::cli::lab::PROGRAM.into(),
        run_dir: stage.lab.path("run"),
    });
    let held = hooks.pre(&|| Ok(())).unwrap();
    assert!(matches!(held, HookOutcome::Ran(_)), "{held:?}");
    super::killed::wait_for(|| stage.noted() == ["pre", "post"]);
    let record = hooks.post(true);
    assert_eq!(record.status, HookStatus::Failed, "the cut came too late");
    assert_eq!(stage.noted(), ["pre", "post"], "once is enough");
}

#[test]
fn an_interpreter_that_is_not_there_fails_in_words() {
    let Some(stage) = stage("an_interpreter_that_is_not_there", "", "note post") else {
        return;
    };
    fs::write(stage.pre(), "#!/no/such/shell -e\n").unwrap();
    let document = stage.snapshot(&[]).expect(3).json();
    assert_eq!(status(&document, "prescript"), "failed");
    assert!(warned(&document, "cannot be started"), "{document}");
    assert_eq!(stage.noted(), ["post"]);
}
