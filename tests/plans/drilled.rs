//! Plans that drill what they take, by the real program: what a drill finds is told, shown and
//! tried again, and the snapshot stays what it is.

use super::{HOUR, Scene, ago};
use crate::cli::drill::{is_running, marked_sleep, script};
use crate::cli::lab::{Disk, LONG, noise, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A disk with a filesystem that is mounted, and a plan that drills it each day.
fn planned(scene: &Scene, check: &str) -> Disk {
    let mut disk = scene.lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    let told = scene.lab.path("told");
    let teller = script(&scene.lab, "tell.sh", &format!("cat >>{}", told.display()));
    let config = format!("[notify]\nafter_boot = \"0s\"\ncommand = {teller:?}\n");
    fs::write(scene.lab.path("etc/config.toml"), config).unwrap();
    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = {:?}\n\
         [drill]\nevery = \"1d\"\ncheck = {check:?}\ntimeout = \"4m\"\n",
        ago(HOUR / 2),
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("daily", &text, HOUR / 4);
    disk
}

/// What is told to whoever is told.
fn told(scene: &Scene) -> String {
    fs::read_to_string(scene.lab.path("told")).unwrap_or_default()
}

/// What `status` says of drills of this disk, with its problems of them.
fn status(scene: &Scene, disk: &Disk) -> (Value, String) {
    let run = scene.run(&["status", "--json"]);
    let document = run.json();
    crate::cli::schema::check(&scene.lab, "status", &document);
    let disks = document["disks"].as_array().unwrap();
    let row = disks.iter().find(|one| one["disk"] == disk.name()).unwrap();
    let problems = document["problems"].as_array().unwrap().iter();
    let own = format!("{}: ", disk.name());
    let problems = problems.filter_map(Value::as_str);
    let problems = problems.filter(|line| line.starts_with(&own) || line.contains("plan daily"));
    let problems: Vec<&str> = problems.collect();
    if !problems.is_empty() {
        assert_eq!(run.code, 3, "{document}");
    }
    (row["drills"].clone(), problems.join("\n"))
}

#[test]
fn a_plan_drills_what_it_has_taken_and_tells_what_fails() {
    let Some(scene) = Scene::new("plans: drills") else {
        return;
    };
    let check = script(&scene.lab, "check.sh", "echo the ledger is gone\nexit 7");
    let disk = planned(&scene, &check);
    // The snapshot is there, what follows has failed: exit code 3.
    let run = scene.checked("plan run", &["plan", "run", "daily"], 3);
    let ran = &run["plans"][0];
    assert_eq!(ran["snapshot"]["exit_code"], 0, "{ran}");
    assert_eq!(ran["steps"][0]["step"], "drill", "{ran}");
    assert_eq!(ran["steps"][0]["outcome"]["exit_code"], 1, "{ran}");
    let id = ran["snapshot"]["snapshot"].as_str().unwrap().to_owned();
    let [snapshot] = scene.snapshots().try_into().unwrap();
    assert_eq!(snapshot["snapshot"], id.as_str());
    assert_eq!(snapshot["drilled"]["kinds"]["opened"]["result"], "failed");
    assert_eq!(snapshot["drilled"]["kinds"]["booted"], Value::Null);
    let told_once = told(&scene);
    assert!(told_once.contains("\"step\":\"drill\""), "{told_once}");
    assert!(told_once.contains("\"event\":\"failed\""), "{told_once}");

    // `status` is not green, and says why, by plan and by disk.
    let (drills, problems) = status(&scene, &disk);
    assert_eq!(drills[0]["result"], "failed", "{drills}");
    assert_eq!(
        (&drills[0]["kind"], &drills[0]["snapshot"]),
        (&json!("opened"), &json!(id))
    );
    assert_eq!(drills[0]["of_last_good"], true, "{drills}");
    let of_disk = format!(
        "{}: the newest drill of its filesystems FAILED at: the check {check}",
        disk.name()
    );
    assert!(problems.contains(&of_disk), "{problems}");
    assert!(
        problems.contains("plan daily FAILED: drill: "),
        "{problems}"
    );
    let said = scene.run(&["status"]).expect(3).stdout;
    let line = format!("drilled: {}: failed at: the check", disk.name());
    assert!(said.contains(&line), "{said}");
    // Nothing of it is due before the next snapshot, after which it is tried again.
    let waits = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(waits["plans"][0]["state"], "waits");
    let place = scene.lab.path("disk.mnt");
    let right = format!("test -s \"$STILLPOINT_TREE{}/file\"", place.display());
    fs::write(&check, format!("#!/bin/sh\n{right}\n")).unwrap();
    scene.run(&["plan", "run", "daily"]).expect(0);
    let (drills, problems) = status(&scene, &disk);
    assert_eq!(
        (drills[0]["result"].as_str(), problems.as_str()),
        (Some("passed"), "")
    );
    assert!(
        told(&scene).contains("\"event\":\"recovered\""),
        "{}",
        told(&scene)
    );
    // Once a day: the next snapshot of that day has none.
    let again = scene.checked("plan run", &["plan", "run", "daily"], 0);
    assert_eq!(again["plans"][0]["steps"], json!([]));
    let (drills, problems) = status(&scene, &disk);
    assert_eq!(drills[0]["of_last_good"], false, "{drills}");
    assert_eq!(
        (drills[0]["result"].as_str(), problems.as_str()),
        (Some("passed"), "")
    );
    // A failed drill of the last good snapshot is not hidden by a later one of an older snapshot.
    fs::write(&check, "#!/bin/sh\nexit 7\n").unwrap();
    scene.run(&["drill", "latest", "--check", &check]).expect(1);
    scene.run(&["drill", &id]).expect(0);
    let (drills, problems) = status(&scene, &disk);
    assert_eq!(drills.as_array().unwrap().len(), 2, "{drills}");
    let of_last = format!(
        "{}: the newest drill of its last snapshot's filesystems FAILED at",
        disk.name()
    );
    assert!(problems.contains(&of_last), "{problems}");
    drop(disk);
}

#[test]
fn a_drill_that_was_cut_off_is_owed_and_done_without_another_snapshot() {
    let Some(scene) = Scene::new("plans: a drill that is cut off") else {
        return;
    };
    let sleep = marked_sleep(&scene.lab);
    let check = script(&scene.lab, "check.sh", &format!("exec {sleep}"));
    let disk = planned(&scene, &check);
    let mut command = scene.command(&["plan", "run", "daily"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + LONG;
    while !is_running(&sleep) {
        assert!(Instant::now() < until, "the check does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    wait(&mut child, "plan run");
    // Nothing was frozen by then: the snapshot had ended, and is good.
    assert!(scene.lab.freeze_records().is_empty());
    let [snapshot] = scene.snapshots().try_into().unwrap();
    let (_, problems) = status(&scene, &disk);
    assert!(problems.contains("is still owed: drill"), "{problems}");
    let shown = scene.checked("plan show", &["plan", "show", "daily"], 0);
    assert_eq!(shown["last_good"]["outcome"]["exit_code"], 0, "{shown}");
    while is_running(&sleep) {
        assert!(Instant::now() < until, "the check goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::write(&check, "#!/bin/sh\nexit 0\n").unwrap();
    let due = scene.checked("plan run", &["plan", "run", "--due"], 0);
    assert_eq!(due["plans"][0]["state"], "caught_up", "{due}");
    assert_eq!(due["plans"][0]["steps"][0]["step"], "drill", "{due}");
    let [after] = scene.snapshots().try_into().unwrap();
    assert_eq!(after["snapshot"], snapshot["snapshot"]);
    assert_eq!(after["drilled"]["kinds"]["opened"]["result"], "passed");
    assert_eq!(status(&scene, &disk).1, "");
    drop(disk);
}
