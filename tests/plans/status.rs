//! `status`: what is late, what has failed, and what could not be asked. Disks of other tests come
//! and go on this host: only what is of this one is looked at.

use super::{HOUR, Scene, ago, disk};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

fn row<'a>(status: &'a Value, disk: &str) -> &'a Value {
    let disks = status["disks"].as_array().unwrap();
    let mut found = disks.iter().filter(|one| one["disk"] == disk);
    found.next().unwrap_or_else(|| panic!("{disk}: {status}"))
}

fn problems(status: &Value) -> String {
    let problems = status["problems"].as_array().unwrap();
    let problems: Vec<&str> = problems.iter().map(|one| one.as_str().unwrap()).collect();
    problems.join("\n")
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
    let late = scene.checked("status", &["status"], 3);
    assert!(
        problems(&late).contains("plan daily is OVERDUE since"),
        "{late}"
    );
    assert_eq!(row(&late, disk.name())["snapshot"], Value::Null);
    let said = scene.run(&["status"]).expect(3).stdout;
    let verdict = said.lines().last().unwrap();
    assert!(verdict.starts_with("LOOK AT THIS: 1 problem"), "{said}");

    scene.run(&["plan", "run", "--due"]).expect(0);
    let good = scene.checked("status", &["status"], 0);
    assert_eq!(good["problems"], json!([]));
    let found = row(&good, disk.name());
    assert_eq!(found["snapshot"], scene.snapshots()[0]["snapshot"]);
    assert!(found["age_seconds"].as_u64().unwrap() < 3600, "{found}");
    assert_eq!(
        (&found["vault"], &found["overdue"]),
        (&json!(scene.lab.at("vault")), &Value::Null)
    );
    let verdict = scene.run(&["status"]).expect(0).stdout;
    assert!(
        verdict
            .lines()
            .last()
            .unwrap()
            .starts_with("nothing is overdue"),
        "{verdict}"
    );

    // Of disks that nobody snapshots --max-age knows, too.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let old = scene.checked("status", &["status", "--max-age", "1s"], 3);
    let told = format!("{} is OVERDUE: its last good snapshot is", disk.name());
    assert!(problems(&old).contains(&told), "{old}");
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
    let wrong = scene.checked("status", &["status"], 3);
    assert!(problems(&wrong).contains("wrong.toml"), "{wrong}");
    fs::remove_file(scene.lab.path("etc/plans.d/wrong.toml")).unwrap();

    // A vault that is not there: what it has is not known.
    fs::rename(scene.lab.path("vault"), scene.lab.path("away")).unwrap();
    let unknown = scene.checked("status", &["status"], 3);
    assert!(
        problems(&unknown).contains("COULD NOT BE ASKED"),
        "{unknown}"
    );
    assert_eq!(row(&unknown, disk.name())["snapshot"], Value::Null);
    let said = scene.run(&["status"]).expect(3).stdout;
    assert!(
        said.contains("LOOK AT THIS") && !said.contains(" none "),
        "{said}"
    );
    fs::rename(scene.lab.path("away"), scene.lab.path("vault")).unwrap();
    scene.checked("status", &["status"], 0);
}

#[test]
fn damage_that_is_noted_and_plans_that_fail_are_told() {
    let Some(scene) = Scene::new("plans: status of damage") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.run(&["snapshot", &disk.device]).expect(0);
    let fine = scene.checked("status", &["status"], 3);
    assert_eq!(fine["plans"], json!([]));
    assert!(
        problems(&fine).contains("nothing says what is late"),
        "{fine}"
    );
    let held = "start = \"2026-12-01T02:30:00\"\nevery = \"1d\"\nsuspended = true\n";
    scene.write("held", held, HOUR);
    scene.checked("status", &["status"], 0);
    for (path, length) in scene.lab.vault_files() {
        if path.to_str().unwrap().contains("/segments/") {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&[0xff; 8], length / 2).unwrap();
        }
    }
    scene.run(&["verify", "--all"]).expect(4);
    let damaged = scene.checked("status", &["status"], 3);
    assert!(problems(&damaged).contains("damage is noted"), "{damaged}");
    assert_eq!(damaged["vaults"][0]["noted_damage"], true);
    scene.run(&["delete", "latest"]).expect(0);
    scene.run(&["verify", "--all"]).expect(0);
    scene.checked("status", &["status"], 0);

    let text = format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [\"gone\"]\nvault = {:?}\n",
        ago(HOUR / 4),
        scene.lab.at("vault"),
    );
    scene.write("daily", &text, 10 * HOUR);
    scene.run(&["plan", "run", "--due"]).expect(1);
    let failed = scene.checked("status", &["status"], 3);
    assert!(
        problems(&failed).contains("plan daily FAILED: snapshot:"),
        "{failed}"
    );
    scene.run(&["plan", "suspend", "daily"]).expect(0);
    scene.checked("status", &["status"], 0);
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
