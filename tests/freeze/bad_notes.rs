//! A note that cannot be used keeps nothing else from being undone.

use super::killed::Engine;
use super::*;
use crate::cli::lab::Lab;
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;

/// A process that has exited long ago.
fn dead() -> Value {
    json!({"pid": u32::MAX, "start": 1})
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    text.trim().to_owned()
}

/// Writes a note that only this user can have written.
fn note(lab: &Lab, name: &str, text: &str) -> PathBuf {
    let path = lab.path("run").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// The note of a dead run that has slowed down a control group.
fn slow_down(lab: &Lab) -> PathBuf {
    let top = lab.path("run/cgroup");
    fs::create_dir_all(top.join("busy")).unwrap();
    fs::write(top.join("busy/io.max"), "7:300 wbps=1 wiops=1").unwrap();
    let none = json!({"bytes": null, "requests": null});
    let one = json!({"group": "busy", "disk": "7:300", "before": none, "during": none});
    let text = json!({
        "version": 1, "boot_id": boot_id(), "engine": dead(), "top": top, "held": [one],
    });
    note(lab, "throttle-9.json", &text.to_string())
}

/// The note of a dead run whose postscript has not been run; and a file that the postscript makes.
fn hold_applications(lab: &Lab) -> (PathBuf, PathBuf) {
    let hooks = lab.path("hooks");
    fs::create_dir(&hooks).unwrap();
    fs::set_permissions(&hooks, Permissions::from_mode(0o700)).unwrap();
    let (script, done) = (hooks.join("post.sh"), lab.path("done"));
    fs::write(&script, format!("#!/bin/sh\n: >{}\n", done.display())).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    let text = json!({
        "version": 1, "boot_id": boot_id(), "supervisor": dead(),
        "postscript": script.as_os_str().as_bytes(), "environment": [], "timeout_ms": 10_000,
    });
    (note(lab, "hooks-9.json", &text.to_string()), done)
}

#[test]
fn a_note_that_cannot_be_used_keeps_nothing_else_from_being_undone() {
    let Some(lab) = Lab::with_vault("freeze: a bad note") else {
        return;
    };
    let mut disk = lab.disk("disk", 160 << 20);
    let place = disk.mount("ext4");
    let mut engine = Engine::start_at(lab.dir.path(), &[&place], FAR);
    engine.tell("freeze");
    engine.hear("frozen");
    engine.kill_with_guardian();
    assert!(is_frozen(&place));
    let throttle = slow_down(&lab);
    let (hooks, done) = hold_applications(&lab);
    // Each is looked at before the others of its kind.
    let bad = ["freeze-0.json", "throttle-0.json", "hooks-0.json"];
    let bad = bad.map(|name| note(&lab, name, "{}"));

    let failed = lab.run(&["thaw", "--json"]).expect(1);
    assert!(!is_frozen(&place), "{failed:?}");
    let limits = fs::read_to_string(lab.path("run/cgroup/busy/io.max")).unwrap();
    assert_eq!(limits, "7:300 wbps=max wiops=max");
    assert!(done.exists(), "{failed:?}");
    assert!(!throttle.exists() && !hooks.exists());
    let error = &failed.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(bad[0].to_str().unwrap()), "{message}");
    for undone in [
        "filesystems thawed: 1",
        "throttles undone: 1",
        "postscripts run: 1",
    ] {
        assert!(message.contains(undone), "{message}");
    }
    assert!(error["hint"].as_str().unwrap().contains("rm "), "{error}");
    for path in &bad {
        let name = path.to_str().unwrap();
        assert!(failed.stderr.contains(name), "{name}: {failed:?}");
    }

    // The first error of those that are left, each with a hint.
    for path in &bad {
        let failed = lab.run(&["thaw", "--json"]).expect(1);
        let error = &failed.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(!message.contains("thawed:"), "{message}");
        assert!(error["hint"].as_str().unwrap().contains("rm "), "{error}");
        fs::remove_file(path).unwrap();
    }
    lab.run(&["thaw"]).expect(0);
}
