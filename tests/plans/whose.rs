//! Whose snapshots a plan's rules judge: its own, and in its own vault.

use super::{HOUR, Scene, ago, disk};
use crate::cli::lab::{Disk, finish, tool};
use std::collections::BTreeSet;
use std::fs;

/// A plan by hand that has all its snapshots stay, or the last one, in a vault that others name.
fn unnamed(disk: &Disk, last: bool) -> String {
    let retention = if last { "[retention]\nlast = 1\n" } else { "" };
    format!(
        "start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\n{retention}",
        ago(HOUR / 2),
        disk.device
    )
}

/// The same in the vault of the scene.
fn text(scene: &Scene, disk: &Disk, last: bool) -> String {
    format!(
        "vault = {:?}\n{}",
        scene.lab.at("vault"),
        unnamed(disk, last)
    )
}

/// Has the configuration name the vault of the scene.
fn configure(scene: &Scene) {
    let config = format!(
        "vault = \"main\"\n[vaults.main]\nurl = {:?}\n",
        scene.lab.at("vault")
    );
    fs::write(scene.lab.path("etc/config.toml"), config).unwrap();
}

fn count(scene: &Scene) -> usize {
    scene.snapshots().len()
}

/// Runs it twice: by the second run the clock is believed.
fn run_twice(scene: &Scene, name: &str) {
    scene.run(&["plan", "run", name]).expect(0);
    scene
        .run(&["plan", "run", name, "--clock-is-right"])
        .expect(0);
}

#[test]
fn a_plan_prunes_nothing_of_an_earlier_one_of_its_name() {
    let Some(scene) = Scene::new("plans: names again") else {
        return;
    };
    let disk = disk(&scene.lab);
    // By command, with the name that is made up of the interval.
    let base = [
        "plan",
        "create",
        "--every",
        "1d",
        "--start",
        "2020-01-01T00:00:00",
    ];
    let base = [&base[..], &["--disk", &disk.device]].concat();
    let made = scene.checked("plan create", &base, 0);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made["plan"], "every-1d");
    run_twice(&scene, "every-1d");
    let tags = &scene.snapshots()[0]["tags"];
    assert_eq!(tags["plan-id"], id.as_str());
    let deleted = scene.checked("plan delete", &["plan", "delete", "every-1d"], 0);
    assert_eq!(deleted["id"], id.as_str());
    let again = [&base[..], &["--keep-last", "1"]].concat();
    let made = scene.checked("plan create", &again, 0);
    assert_eq!(made["plan"], "every-1d");
    assert_ne!(made["id"], id.as_str());
    run_twice(&scene, "every-1d");
    assert_eq!(
        count(&scene),
        3,
        "two of the old plan, and the newest of this one"
    );

    // By hand: the note tells them apart, and `plan delete` forgets it.
    scene.write("hand", &text(&scene, &disk, false), HOUR);
    run_twice(&scene, "hand");
    scene.run(&["plan", "delete", "hand"]).expect(0);
    scene.write("hand", &text(&scene, &disk, true), HOUR);
    run_twice(&scene, "hand");
    assert_eq!(count(&scene), 3 + 3);
    // Another plan's file under this name.
    let file = |name: &str| scene.lab.path(&format!("etc/plans.d/{name}.toml"));
    fs::copy(file("every-1d"), file("hand")).unwrap();
    run_twice(&scene, "hand");
    assert_eq!(count(&scene), 3 + 3 + 1);
}

/// A plan that was noted before there were IDs goes on, and reaches what it has taken.
#[test]
fn a_plan_without_an_id_reaches_what_bears_none() {
    let Some(scene) = Scene::new("plans: older notes") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write("old", &text(&scene, &disk, true), HOUR);
    scene.run(&["plan", "run", "old"]).expect(0);
    let tags = scene.snapshots()[0]["tags"].clone();
    let tag = |key: &str| format!("--tag={key}={}", tags[key].as_str().unwrap());
    let older = [tag("plan"), tag("plan-machine")];
    for _ in 0..2 {
        scene
            .run(&["snapshot", &disk.device, &older[0], &older[1]])
            .expect(0);
    }
    let mut note = scene.note("old");
    for key in [
        "id",
        "vault",
        "hold_reason",
        "steady",
        "clock",
        "prune_held",
    ] {
        note.as_object_mut().unwrap().remove(key).unwrap();
    }
    fs::write(scene.lab.path("plans/old.json"), note.to_string()).unwrap();
    fs::remove_file(scene.lab.path("plans/old.id")).unwrap();
    // No vault of the runs before was noted: the first run into it deletes nothing.
    scene.run(&["plan", "run", "old"]).expect(0);
    assert_eq!(count(&scene), 4);
    scene
        .run(&["plan", "run", "old", "--clock-is-right"])
        .expect(0);
    assert_eq!(count(&scene), 1);
    assert_eq!(scene.snapshots()[0]["tags"].get("plan-id"), None);
}

#[test]
fn another_vault_than_that_of_the_runs_before_is_not_pruned() {
    let Some(scene) = Scene::new("plans: another vault") else {
        return;
    };
    let disk = disk(&scene.lab);
    configure(&scene);
    scene.write("any", &unnamed(&disk, false), HOUR);
    run_twice(&scene, "any");
    // A second place: the same ID, and the same snapshots.
    let other = scene.lab.at("other");
    tool("cp", &["-a", &scene.lab.at("vault"), &other]);
    let ids = |vault: &str| -> BTreeSet<String> {
        let list = scene
            .run(&["list", "--vault", vault, "--json"])
            .expect(0)
            .json();
        let all = list["snapshots"].as_array().unwrap().iter();
        all.map(|one| one["snapshot"].as_str().unwrap().to_owned())
            .collect()
    };
    let before = ids(&other);
    scene.write("any", &unnamed(&disk, true), HOUR);
    let noted = scene.note("any")["vault"].clone();
    for _ in 0..2 {
        let mut elsewhere = scene.command(&["plan", "run", "any", "--json"]);
        elsewhere.env("STILLPOINT_VAULT", &other);
        let ran = finish(&mut elsewhere).expect(3).json();
        let said = ran["plans"][0]["steps"][0]["outcome"]["said"]
            .as_str()
            .unwrap();
        assert!(said.contains("this run has gone to"), "{said}");
    }
    assert!(ids(&other).is_superset(&before));
    assert_eq!(ids(&other).len(), 4);
    assert_eq!(scene.note("any")["vault"], noted);
    // The plan's own is pruned.
    scene.run(&["plan", "run", "any"]).expect(0);
    assert_eq!(count(&scene), 1);
    // Whoever names the other one for the plan has said so.
    scene
        .run(&["plan", "modify", "any", "--vault", &other])
        .expect(0);
    scene.run(&["plan", "run", "any"]).expect(0);
    assert_eq!(ids(&other).len(), 1);
}

#[test]
fn a_plan_that_is_made_names_the_vault_that_was_checked() {
    let Some(scene) = Scene::new("plans: the vault of the configuration") else {
        return;
    };
    configure(&scene);
    let create = [
        "plan", "create", "daily", "--every", "1d", "--start", "02:30", "--json",
    ];
    let mut command = scene.command(&create);
    command.env_remove("STILLPOINT_VAULT");
    let made = finish(&mut command).expect(0).json();
    assert_eq!(made["vault"], "main");
    assert!(scene.text("daily").contains("vault = \"main\"\n"));
}

/// Whoever runs it has one in his shell: that makes it nobody's.
#[test]
fn a_vault_that_the_environment_alone_names_is_not_pruned() {
    let Some(scene) = Scene::new("plans: the vault of a shell") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write(
        "any",
        &format!("{}[gc]\nevery = \"1d\"\n", unnamed(&disk, true)),
        HOUR,
    );
    for _ in 0..3 {
        let run = ["plan", "run", "any", "--clock-is-right"];
        let ran = scene.checked("plan run", &run, if scene.has_note("any") { 3 } else { 0 });
        let said = ran["plans"][0]["steps"].to_string();
        let held = said.contains("nothing is deleted yet");
        let refused = said.contains("the environment alone names the vault");
        assert!(held || refused, "{ran:#}");
        assert_eq!(scene.note("any")["vault"], serde_json::Value::Null);
    }
    assert_eq!(count(&scene), 3);
    let ran = scene.checked("plan run", &["plan", "run", "any"], 3);
    let steps = ran["plans"][0]["steps"].as_array().unwrap();
    for step in steps {
        let outcome = &step["outcome"];
        let said = outcome["said"].as_str().unwrap();
        assert!(said.contains("the environment alone"), "{ran:#}");
        assert!(
            outcome["hint"]
                .to_string()
                .contains("plan modify any --vault"),
            "{ran:#}"
        );
    }
    assert_eq!(count(&scene), 4);
    // The configuration leads to the same: then it is the plan's, from the next run on.
    configure(&scene);
    scene.run(&["plan", "run", "any"]).expect(0);
    assert_eq!(count(&scene), 5);
    scene.run(&["plan", "run", "any"]).expect(0);
    assert_eq!(count(&scene), 1);
}

/// Something else may be mounted where the file leads: without a note nobody knows.
#[test]
fn where_no_vault_is_noted_the_first_run_deletes_nothing() {
    let Some(scene) = Scene::new("plans: a vault that is not noted") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write("daily", &text(&scene, &disk, true), HOUR);
    run_twice(&scene, "daily");
    scene.run(&["snapshot", &disk.device]).expect(0);
    let mut note = scene.note("daily");
    note["vault"] = serde_json::Value::Null;
    fs::write(scene.lab.path("plans/daily.json"), note.to_string()).unwrap();
    let ran = scene.checked("plan run", &["plan", "run", "daily"], 0);
    let said = ran["plans"][0]["steps"][0]["outcome"]["said"]
        .as_str()
        .unwrap();
    assert!(said.contains("the first run that is noted"), "{ran:#}");
    assert_eq!(count(&scene), 3);
    scene.run(&["plan", "run", "daily"]).expect(0);
    assert_eq!(count(&scene), 2, "its own newest, and that of nobody");
}
