//! Two runs at once, of different disks, with the same hooks: one holds applications at a time.

use super::{DISK, Stage, status, warned};
use crate::cli::lab::{Disk, code_of, wait};
use std::fs;
use std::process::{Child, Stdio};

/// A run of the stage's hooks on another disk.
fn spawn(stage: &Stage, disk: &Disk, more: &[&'static str]) -> Child {
    let mut args = stage.args(more);
    args[1].clone_from(&disk.device);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut command = stage.lab.command(&args);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn end(child: &mut Child) -> (i32, serde_json::Value) {
    let code = code_of(wait(child, "one of two runs"));
    let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    (code, serde_json::from_str(&said).unwrap())
}

#[test]
fn two_runs_of_two_disks_hold_one_after_the_other() {
    let Some(stage) = Stage::new("two_runs_of_two_disks_hold_one_after_the_other") else {
        return;
    };
    let mut second = stage.lab.disk("second", DISK);
    second.mount("ext4");
    stage.scripts(
        "note pre; sleep 0.5; note held",
        "note post; sleep 0.2; note free",
    );
    let mut runs = [&stage.disk, &second].map(|disk| spawn(&stage, disk, &[]));
    for run in &mut runs {
        let (code, document) = end(run);
        assert_eq!(code, 0, "{document}");
        assert_eq!(document["level"], "application");
    }
    let one = ["pre", "held", "post", "free"];
    assert_eq!(stage.noted(), [one, one].concat(), "held twice at once");
    stage.assert_sound();
}

#[test]
fn who_waits_too_long_for_another_run_goes_on_without() {
    let Some(stage) = Stage::new("who_waits_too_long_for_another_run") else {
        return;
    };
    let mut second = stage.lab.disk("second", DISK);
    second.mount("ext4");
    let go = stage.lab.at("go");
    let pre = format!("note pre; until [ -e {go} ]; do sleep 0.05; done");
    stage.scripts(&pre, "note post");
    let mut first = spawn(&stage, &stage.disk, &["--hook-timeout", "100s"]);
    super::killed::wait_for(|| stage.noted() == ["pre"]);
    let mut late = spawn(&stage, &second, &["--hook-timeout", "1s"]);
    let (code, document) = end(&mut late);
    assert_eq!(code, 3, "{document}");
    assert_eq!(document["level"], "filesystem");
    assert_eq!(status(&document, "prescript"), "not_run");
    assert!(
        warned(&document, "another run has held applications"),
        "{document}"
    );
    assert_eq!(stage.noted(), ["pre"]);
    fs::write(&go, "").unwrap();
    let (code, document) = end(&mut first);
    assert_eq!((code, &document["level"]), (0, &"application".into()));
    assert_eq!(stage.noted(), ["pre", "post"]);
    stage.assert_sound();
}
