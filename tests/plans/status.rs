//! `status`: what is late, what has failed, and what could not be asked. Disks of other tests come
//! and go on this host: only what is of this one is looked at.

use super::{HOUR, Scene, ago, disk};
use crate::cli::lab::Disk;
use crate::cli::schema::check;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

fn row<'a>(status: &'a Value, disk: &str) -> &'a Value {
    let disks = status["disks"].as_array().unwrap();
    let mut found = disks.iter().filter(|one| one["disk"] == disk);
    found.next().unwrap_or_else(|| panic!("{disk}: {status}"))
}

/// What must be looked at, but for disks of other tests.
fn problems(status: &Value, disk: &Disk) -> String {
    let own = format!("{} is ", disk.name());
    let is_others = |line: &&str| line.contains(" is NOT TAKEN: ") && !line.starts_with(&own);
    let problems = status["problems"].as_array().unwrap();
    let problems = problems.iter().map(|one| one.as_str().unwrap());
    let problems: Vec<&str> = problems.filter(|line| !is_others(line)).collect();
    problems.join("\n")
}

/// `status --json`, which ends as it says.
fn status(scene: &Scene, args: &[&str]) -> Value {
    let run = scene.run(&[&["status", "--json"], args].concat());
    assert!([0, 3].contains(&run.code), "{run:?}");
    let document = run.json();
    check(&scene.lab, "status", &document);
    let fine = document["problems"].as_array().unwrap().is_empty();
    assert_eq!(run.code, if fine { 0 } else { 3 }, "{document}");
    document
}

#[test]
fn what_is_late_or_not_known_is_never_called_fine() {
    let Some(scene) = Scene::new("plans: status") else {
        return;
    };
    let disk = disk(&scene.lab);
    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = {:?}\n",
        ago(3 * HOUR),
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("daily", &text, 10 * HOUR);
    // The plan was never run.
    let late = status(&scene, &[]);
    assert!(
        problems(&late, &disk).contains("plan daily is OVERDUE since"),
        "{late}"
    );
    assert_eq!(row(&late, disk.name())["snapshot"], Value::Null);
    // What has no snapshot at all is older than any age.
    let aged = status(&scene, &["--max-age", "26h"]);
    let told = format!(
        "{} is OVERDUE: there is no good snapshot of it",
        disk.name()
    );
    assert!(problems(&aged, &disk).contains(&told), "{aged}");
    assert_eq!(row(&aged, disk.name())["overdue"], true);
    let said = scene.run(&["status"]).expect(3).stdout;
    let verdict = said.lines().last().unwrap();
    assert!(verdict.starts_with("LOOK AT THIS: "), "{said}");

    scene.run(&["plan", "run", "--due"]).expect(0);
    let good = status(&scene, &[]);
    assert_eq!(problems(&good, &disk), "");
    let found = row(&good, disk.name());
    assert_eq!(found["snapshot"], scene.snapshots()[0]["snapshot"]);
    assert!(found["age_seconds"].as_u64().unwrap() < 3600, "{found}");
    assert_eq!(
        (&found["vault"], &found["overdue"]),
        (&json!(scene.lab.at("vault")), &Value::Null)
    );
    assert_eq!(found["by_plan"], "taken");

    // Of disks that nobody snapshots --max-age knows, too.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let old = status(&scene, &["--max-age", "1s"]);
    let told = format!("{} is OVERDUE: its last good snapshot is", disk.name());
    assert!(problems(&old, &disk).contains(&told), "{old}");
    let young = ["status", "--max-age", "26h", "--json"];
    let young = scene.run(&young).json();
    assert_eq!(row(&young, disk.name())["overdue"], false);
    let without = [
        "status",
        "--max-age",
        "1s",
        "--exclude",
        &disk.device,
        "--json",
    ];
    let without = scene.run(&without).json();
    assert_eq!(row(&without, disk.name())["overdue"], false);

    // A plan that cannot be read runs nothing.
    scene.write("wrong", "every = \"1d\"\n", HOUR);
    let wrong = status(&scene, &[]);
    assert!(problems(&wrong, &disk).contains("wrong.toml"), "{wrong}");
    fs::remove_file(scene.lab.path("etc/plans.d/wrong.toml")).unwrap();

    // A vault that is not there: what it has is not known.
    fs::rename(scene.lab.path("vault"), scene.lab.path("away")).unwrap();
    let unknown = status(&scene, &[]);
    assert!(
        problems(&unknown, &disk).contains("COULD NOT BE ASKED"),
        "{unknown}"
    );
    assert_eq!(row(&unknown, disk.name())["snapshot"], Value::Null);
    let said = scene.run(&["status"]).expect(3).stdout;
    assert!(
        said.contains("LOOK AT THIS") && !said.contains(" none "),
        "{said}"
    );
    fs::rename(scene.lab.path("away"), scene.lab.path("vault")).unwrap();
    let good = status(&scene, &[]);
    assert_eq!(problems(&good, &disk), "");
}

#[test]
fn damage_that_is_noted_and_plans_that_fail_are_told() {
    let Some(scene) = Scene::new("plans: status of damage") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.run(&["snapshot", &disk.device]).expect(0);
    let fine = status(&scene, &[]);
    assert_eq!(fine["plans"], json!([]));
    assert!(
        problems(&fine, &disk).contains("nothing says what is late"),
        "{fine}"
    );
    let held = "start = \"2026-12-01T02:30:00\"\nevery = \"1d\"\nsuspended = true\n";
    scene.write("held", held, HOUR);
    // Plans that are held back snapshot nothing; --max-age knows what is late.
    let all_held = status(&scene, &[]);
    let told = "nothing is snapshotted by itself: the one plan is held back";
    assert!(problems(&all_held, &disk).contains(told), "{all_held}");
    let said = scene.run(&["status"]).expect(3).stdout;
    assert!(said.trim_end().ends_with("1 plan (1 held back)"), "{said}");
    let young = status(&scene, &["--max-age", "26h"]);
    assert!(!problems(&young, &disk).contains(told), "{young}");
    for (path, length) in scene.lab.vault_files() {
        if path.to_str().unwrap().contains("/segments/") {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0xff; 8], length / 2).unwrap();
        }
    }
    scene.run(&["verify", "--all"]).expect(4);
    let damaged = status(&scene, &[]);
    assert!(
        problems(&damaged, &disk).contains("damage is noted"),
        "{damaged}"
    );
    assert_eq!(damaged["vaults"][0]["noted_damage"], true);
    scene.run(&["delete", "latest"]).expect(0);
    scene.run(&["verify", "--all"]).expect(0);
    let mended = status(&scene, &[]);
    assert!(!problems(&mended, &disk).contains("damage"), "{mended}");

    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [\"gone\"]\nvault = {:?}\n",
        ago(HOUR / 4),
        scene.lab.at("vault"),
    );
    scene.write("daily", &text, 10 * HOUR);
    scene.run(&["plan", "run", "--due"]).expect(1);
    let failed = status(&scene, &[]);
    assert!(
        problems(&failed, &disk).contains("plan daily FAILED: snapshot:"),
        "{failed}"
    );
    scene.run(&["plan", "suspend", "daily"]).expect(0);
    let held = status(&scene, &[]);
    let told = "nothing is snapshotted by itself: all 2 plans are held back";
    assert!(problems(&held, &disk).contains(told), "{held}");
}

#[test]
fn a_disk_that_no_plan_takes_and_that_has_no_snapshot_is_told() {
    let Some(scene) = Scene::new("plans: status of a disk") else {
        return;
    };
    let disk = disk(&scene.lab);
    let other = scene.lab.disk("other", 24 << 20);
    let told = format!(
        "{} is NOT TAKEN: there is no good snapshot of it",
        disk.name()
    );
    let base = format!("start = {:?}\nevery = \"1d\"\n", ago(HOUR / 4));
    let plan = |disks: &str| scene.write("daily", &format!("{base}{disks}"), HOUR / 8);
    // One that names another disk, and one that would take it and is held back.
    plan(&format!("disks = [{:?}]\n", other.device));
    let named = format!("disks = [{:?}]\nsuspended = true\n", disk.device);
    scene.write("held", &format!("{base}{named}"), HOUR / 8);
    let found = status(&scene, &[]);
    let said = problems(&found, &disk);
    assert!(
        said.starts_with(&told) && said.lines().count() == 1,
        "{found}"
    );
    assert!(
        said.contains(&format!("`status --exclude {}`", disk.name())),
        "{found}"
    );
    assert_eq!(row(&found, disk.name())["by_plan"], "held_back");
    assert_eq!(
        problems(&status(&scene, &["--exclude", &disk.device]), &disk),
        ""
    );
    // One that leaves it out by its name, and one that takes it: it knows when.
    plan(&format!("exclude = [{:?}]\n", disk.device));
    let found = status(&scene, &[]);
    assert_eq!(row(&found, disk.name())["by_plan"], "left_out");
    assert_eq!(problems(&found, &disk), "");
    plan("");
    let found = status(&scene, &[]);
    assert_eq!(row(&found, disk.name())["by_plan"], "taken");
    assert_eq!(problems(&found, &disk), "");
    // A good snapshot, whoever has taken it: --max-age knows how old it may be.
    plan(&format!("disks = [{:?}]\n", other.device));
    scene.run(&["snapshot", &disk.device]).expect(0);
    assert_eq!(problems(&status(&scene, &[]), &disk), "");
}

/// Nobody knows what is owed where the note is from after now.
#[test]
fn a_note_from_after_now_is_told() {
    let Some(scene) = Scene::new("plans: status of a note") else {
        return;
    };
    let disk = disk(&scene.lab);
    let text = format!(
        "start = {:?}\nevery = \"1h\"\ndisks = [{:?}]\nvault = {:?}\n",
        ago(HOUR / 4),
        disk.device,
        scene.lab.at("vault"),
    );
    scene.write("hourly", &text, HOUR);
    scene.run(&["plan", "run", "hourly"]).expect(0);
    assert_eq!(problems(&status(&scene, &[]), &disk), "");
    let mut note = scene.note("hourly");
    note["last_good"]["began"] = "2199-01-01T00:00:00Z".into();
    fs::write(scene.lab.path("plans/hourly.json"), note.to_string()).unwrap();
    let found = status(&scene, &[]);
    let told = "plan hourly: its note is of 2199-01-01T00:00:00Z, which is after now";
    assert!(problems(&found, &disk).contains(told), "{found}");
}

#[test]
fn where_nothing_is_named_nothing_is_called_fine() {
    let Some(scene) = Scene::new("plans: status of nothing") else {
        return;
    };
    let mut command = scene.command(&["status"]);
    command.env_remove("STILLPOINT_VAULT");
    let run = crate::cli::lab::finish(&mut command).expect(2);
    assert!(
        run.stderr.contains("nothing is known of this host"),
        "{run:?}"
    );
}
