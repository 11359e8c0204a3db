//! One process at a time runs a plan; one that is killed or stopped is followed by another.

use super::{HOUR, Scene, ago};
use crate::cli::lab::{Disk, tool, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A disk whose prescript holds the run until it is stopped.
fn held_plan(scene: &Scene, disk: &Disk) {
    let script = |name: &str, body: &str| {
        let path = scene.lab.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let held = scene.lab.at("held");
    let pre = script("pre.sh", &format!("touch {held}; exec sleep 1000"));
    let post = script("post.sh", "true");
    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = {:?}\nlevel = \"application\"\n\
         [hooks]\nprescript = {pre:?}\npostscript = {post:?}\ntimeout = \"10m\"\n",
        ago(HOUR / 2),
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("held", &text, 10 * HOUR);
}

#[test]
fn a_plan_is_run_once_at_a_time_and_goes_on_after_a_kill() {
    let Some(scene) = Scene::new("plans: at once") else {
        return;
    };
    let mut disk = scene.lab.disk("disk", 24 << 20);
    disk.mount("ext4");
    held_plan(&scene, &disk);
    let held = scene.lab.path("held");
    let begin = || {
        let _ = fs::remove_file(&held);
        let mut command = scene.command(&["plan", "run", "--due"]);
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while !held.exists() {
            assert!(Instant::now() < until, "the hook was not run");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    };
    let stop = |signal: Signal| {
        let mut child = begin();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        wait(&mut child, "plan run").code()
    };

    let mut child = begin();
    let other = scene.run(&["plan", "run", "held"]).expect(6);
    assert!(
        other.stderr.contains("plan held is being run (process"),
        "{other:?}"
    );
    let due = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(due["plans"][0]["state"], "running");
    let list = scene.checked("plan list", &["plan", "list"], 0);
    assert_eq!(list["plans"][0]["state"], "running");
    scene.run(&["plan", "delete", "held"]).expect(6);
    assert!(scene.text("held").contains("level"));
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(wait(&mut child, "plan run").code(), Some(143));
    // Stopped by a signal: at once. Killed: at once, too, and the note has no end of it.
    assert_eq!(scene.note("held")["last"]["outcome"]["exit_code"], 143);
    assert_eq!(stop(Signal::SIGKILL), None);
    let note = scene.note("held");
    assert_eq!(
        (&note["last"]["number"], &note["last"]["ended"]),
        (&json!(2), &Value::Null)
    );
    // The hook lets it go on.
    let pre = scene.lab.path("pre.sh");
    fs::write(&pre, "#!/bin/sh\ntrue\n").unwrap();
    tool("chmod", &["0700", pre.to_str().unwrap()]);
    scene.run(&["plan", "run", "--due"]).expect(0);
    let note = scene.note("held");
    assert_eq!(
        (&note["last"]["number"], &note["served"]),
        (&json!(3), &note["last"]["time"])
    );
    assert_eq!(scene.snapshots().len(), 1);
    assert_eq!(scene.snapshots()[0]["level"], "application");
}
