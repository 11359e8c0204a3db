//! Engine and supervisor both killed while applications are held: whoever comes next lets them go.

use super::{Stage, warned};
use crate::cli::lab::wait;
use crate::support::tree;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

/// A run that is stopped, and whose supervisor is killed, right after the prescript began: neither
/// has time to see the other go.
fn stop_one_and_kill_the_other(stage: &Stage) -> Child {
    let _ = fs::remove_file(stage.lab.path("noted"));
    stage.scripts(
        "note pre; note $PPID; sleep 0.2",
        "note post $STILLPOINT_OUTCOME",
    );
    let args = stage.args(&[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = stage.lab.command(&args);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    super::killed::wait_for(|| stage.noted().len() == 2);
    let supervisor = Pid::from_raw(stage.noted()[1].parse().unwrap());
    assert!(tree::halt(child.id()));
    kill(supervisor, Signal::SIGKILL).unwrap();
    let gone = format!("/proc/{supervisor}/stat");
    super::killed::wait_for(|| {
        let stat = fs::read_to_string(&gone);
        stat.is_ok_and(|stat| stat.contains(") Z ")) || !fs::exists(&gone).unwrap()
    });
    child
}

/// A run that is killed with its supervisor right after the prescript began.
fn kill_both(stage: &Stage) {
    let mut engine = stop_one_and_kill_the_other(stage);
    engine.kill().unwrap();
    wait(&mut engine, "a killed run");
    assert_eq!(stage.noted()[2..], [""; 0], "nobody is left to run it");
    // A guardian that has frozen nothing is there for a moment longer.
    super::killed::wait_for(|| stage.lab.freeze_records().len() == 1);
    let note = stage.lab.freeze_records().remove(0);
    assert!(note.to_str().unwrap().contains("/hooks-"), "{note:?}");
}

#[test]
fn what_two_dead_processes_hold_is_let_go_by_thaw() {
    let Some(stage) = Stage::new("what_two_dead_processes_hold_is_let_go_by_thaw") else {
        return;
    };
    kill_both(&stage);
    let mode = fs::metadata(&stage.lab.freeze_records()[0]).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let document = stage.lab.json(&["thaw"]);
    assert_eq!(document["postscripts"][0]["status"], "ran", "{document}");
    assert_eq!(stage.noted()[2..], ["post failed"]);
    assert!(stage.lab.freeze_records().is_empty());
    let document = stage.lab.json(&["thaw"]);
    assert!(document["postscripts"].as_array().unwrap().is_empty());
    assert_eq!(stage.noted().len(), 3, "once is enough");
    stage.assert_sound();
}

#[test]
fn what_two_dead_processes_hold_is_let_go_by_the_next_run() {
    let Some(stage) = Stage::new("what_two_dead_processes_hold_is_let_go_by_the_next_run") else {
        return;
    };
    kill_both(&stage);
    let args = ["snapshot", &stage.disk.device, "--json"];
    let document = stage.lab.run(&args).expect(3).json();
    assert!(
        warned(&document, "between prescript and postscript"),
        "{document}"
    );
    assert!(warned(&document, "let applications go"), "{document}");
    assert_eq!(stage.noted()[2..], ["post failed"]);
    stage.lab.run(&args).expect(0);
    assert_eq!(stage.noted().len(), 3, "once is enough");
    stage.assert_sound();
}

/// It is judged anew: what lies there may have become anybody's.
#[test]
fn an_owed_postscript_that_does_not_qualify_is_told_and_stays_owed() {
    let test = "an_owed_postscript_that_does_not_qualify";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    kill_both(&stage);
    fs::set_permissions(stage.post(), Permissions::from_mode(0o755)).unwrap();
    let refused = stage.lab.run(&["thaw", "--json"]).expect(1);
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("mode 0755, must be 0700"), "{message}");
    assert!(message.contains("held"), "{message}");
    let args = ["snapshot", &stage.disk.device, "--json"];
    let document = stage.lab.run(&args).expect(3).json();
    assert!(warned(&document, "held"), "{document}");
    assert_eq!(stage.noted().len(), 2, "it was run");
    fs::set_permissions(stage.post(), Permissions::from_mode(0o700)).unwrap();
    stage.lab.run(&["thaw"]).expect(0);
    assert_eq!(stage.noted()[2..], ["post failed"]);
    stage.assert_sound();
}

/// A reboot ends whatever held applications.
#[test]
fn what_an_earlier_boot_owed_is_not_run() {
    let Some(stage) = Stage::new("what_an_earlier_boot_owed_is_not_run") else {
        return;
    };
    kill_both(&stage);
    let note = &stage.lab.freeze_records()[0];
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(note).unwrap();
    fs::write(note, text.replace(boot.trim(), "another")).unwrap();
    stage.lab.run(&["thaw"]).expect(0);
    assert_eq!(stage.noted().len(), 2);
    stage.assert_sound();
}

/// An engine that hangs has the lock, so nobody runs the postscript: that is told, and who has it.
#[test]
fn what_a_hung_run_holds_is_told_and_let_go_once_it_is_ended() {
    let test = "what_a_hung_run_holds_is_told";
    let Some(stage) = Stage::new(test) else {
        return;
    };
    let mut engine = stop_one_and_kill_the_other(&stage);
    let refused = stage.lab.run(&["thaw", "--json"]).expect(1);
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("may still be held"), "{message}");
    let holder = format!("process {} has ", engine.id());
    assert!(message.contains(&holder), "{message}");
    assert_eq!(stage.noted().len(), 2, "somebody else has the lock");
    engine.kill().unwrap();
    wait(&mut engine, "a killed run");
    super::killed::wait_for(|| stage.lab.freeze_records().len() == 1);
    stage.lab.run(&["thaw"]).expect(0);
    assert_eq!(stage.noted()[2..], ["post failed"]);
    stage.assert_sound();
}
