//! What follows a snapshot, and was cut off.

use super::{HOUR, Scene, ago, disk};
use crate::cli::lab::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The configuration: with `limit` a check of the vault would take minutes.
fn configure(scene: &Scene, limit: bool) {
    let limits = if limit {
        "limits = { download = \"4KiB/s\" }\n"
    } else {
        ""
    };
    let text = format!("[vaults.main]\nurl = {:?}\n{limits}", scene.lab.at("vault"));
    fs::write(scene.lab.path("etc/config.toml"), text).unwrap();
}

/// Begins a run, waits until `verify` is owed and begun, and sends it a signal.
fn cut_off(scene: &Scene, signal: Signal) -> Option<i32> {
    let mut command = scene.command(&["plan", "run", "daily"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(120);
    let note = || fs::read_to_string(scene.lab.path("plans/daily.json")).ok();
    let is_owed = |note: String| {
        let note: Value = serde_json::from_str(&note).unwrap();
        note["owed_tries"] != json!(0) && note["owed"].get("verify").is_some()
    };
    while !note().is_some_and(is_owed) {
        assert!(Instant::now() < until, "nothing is owed");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    wait(&mut child, "plan run").code()
}

#[test]
fn what_was_cut_off_after_a_snapshot_is_done_at_the_next_look() {
    let Some(scene) = Scene::new("plans: owed steps") else {
        return;
    };
    let disk = disk(&scene.lab);
    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = \"main\"\n[verify]\n\
         sample = \"100%\"\n",
        ago(HOUR / 2),
        disk.device,
    );
    scene.write("daily", &text, HOUR / 4);
    let mut count = 0;
    for (signal, code) in [(Signal::SIGKILL, None), (Signal::SIGTERM, Some(143))] {
        configure(&scene, true);
        assert_eq!(cut_off(&scene, signal), code);
        count += 1;
        assert_eq!(scene.snapshots().len(), count);
        // It is told.
        let list = scene.checked("plan list", &["plan", "list"], 0);
        let plan = &list["plans"][0];
        assert_eq!(
            (&plan["state"], &plan["steps"][0]["owed"]),
            (&json!("warned"), &json!(true))
        );
        let said = scene.run(&["status"]).expect(3).stdout;
        assert!(
            said.contains("!! plan daily did less than was asked"),
            "{said}"
        );
        // And done without another snapshot.
        configure(&scene, false);
        let due = scene.checked("plan run", &["plan", "run", "--due"], 0);
        let due = &due["plans"][0];
        assert_eq!(due["state"], "caught_up", "{due}");
        assert_eq!(due["steps"][0]["step"], "verify", "{due}");
        assert_eq!(scene.snapshots().len(), count);
        let shown = scene.checked("plan show", &["plan", "show", "daily"], 0);
        assert_eq!(
            (&shown["state"], &shown["steps"][0]["owed"]),
            (&json!("good"), &json!(false))
        );
        let nothing = scene.checked("plan run", &["plan", "run", "--due"], 0);
        assert_eq!(nothing["plans"][0]["state"], "waits");
    }
    // What takes the machine down each time must not do so for ever: it waits for a snapshot.
    let path = scene.lab.path("plans/daily.json");
    let mut note = scene.note("daily");
    note["owed"] = json!({"verify": null});
    note["owed_tries"] = json!(3);
    fs::write(&path, note.to_string()).unwrap();
    let waits = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(waits["plans"][0]["state"], "waits");
    let shown = scene.run(&["plan", "show", "daily"]).expect(0).stdout;
    assert!(shown.contains("is still owed: verify"), "{shown}");
    // After a try that has failed nothing follows, what was owed neither.
    note["owed_tries"] = json!(1);
    note["last"]["outcome"]["exit_code"] = json!(1);
    fs::write(&path, note.to_string()).unwrap();
    let waits = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(waits["plans"][0]["state"], "waits");
    // The next snapshot has it follow.
    scene.run(&["plan", "run", "daily"]).expect(0);
    assert_eq!(scene.note("daily")["owed"], json!({}));
}

/// Resumed by command, and looked at in the same minute: the file is as new as the note.
#[test]
fn what_passed_while_it_was_held_back_is_owed_to_nobody() {
    let Some(scene) = Scene::new("plans: held back") else {
        return;
    };
    let disk = disk(&scene.lab);
    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = {:?}\n",
        ago(2 * HOUR),
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("daily", &text, 10 * HOUR);
    scene.run(&["plan", "suspend", "daily"]).expect(0);
    let due = ["plan", "run", "daily", "--due"];
    // The file's time is of a clock that ticks, so it was not always too late.
    for _ in 0..5 {
        let held = scene.checked("plan run", &due, 0);
        assert_eq!(held["plans"][0]["state"], "waits", "{held}");
        let on = scene.checked("plan resume", &["plan", "resume", "daily"], 0);
        assert_eq!(on["state"], "new", "{on}");
        let looked = scene.checked("plan run", &due, 0);
        assert_eq!(looked["plans"][0]["state"], "waits", "{looked}");
        assert!(scene.snapshots().is_empty());
        scene.run(&["plan", "suspend", "daily"]).expect(0);
    }
}
