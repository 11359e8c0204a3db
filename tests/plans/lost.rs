//! Notes that are lost, IDs that are dropped, files that are gone: what was taken before becomes
//! nobody's, or stays the plan's, and `status` says which.

use super::{HOUR, Scene, ago, disk};
use crate::cli::lab::Disk;
use std::fs;

fn text(scene: &Scene, disk: &Disk, head: &str) -> String {
    format!(
        "{head}start = {:?}\nevery = \"1d\"\ndisks = [{:?}]\nvault = {:?}\n[retention]\nlast = 9\n",
        ago(HOUR / 2),
        disk.device,
        scene.lab.at("vault"),
    )
}

fn run(scene: &Scene, more: &[&str]) -> String {
    let args = [&["plan", "run", "daily"], more].concat();
    scene.run(&args).expect(0).stdout
}

/// What `status` says of lost notes.
fn told(scene: &Scene) -> Option<String> {
    let status = scene.run(&["status", "--json"]).json();
    crate::cli::schema::check(&scene.lab, "status", &status);
    let problems = status["problems"].as_array().unwrap().iter();
    let mut problems = problems.map(|one| one.as_str().unwrap().to_owned());
    problems.find(|one| one.contains("NOTHING DELETES") || one.contains("WERE LOST"))
}

/// As a host with a `/var/lib` in memory boots.
fn lose_notes(scene: &Scene) {
    fs::remove_dir_all(scene.lab.path("plans")).unwrap();
}

#[test]
fn notes_that_are_lost_make_snapshots_nobodys_and_status_says_so() {
    let Some(scene) = Scene::new("plans: notes are lost at each boot") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write("daily", &text(&scene, &disk, ""), HOUR);
    for _ in 0..2 {
        run(&scene, &[]);
    }
    assert_eq!(told(&scene), None);
    let first = scene.newest_id();
    lose_notes(&scene);
    // Nothing has run yet: the ID of before is the one to write down.
    let before = told(&scene).unwrap();
    assert!(before.contains("NOTHING DELETES 2 of"), "{before}");
    assert!(
        before.contains(&format!("write id = \"{first}\" into")),
        "{before}"
    );
    run(&scene, &[]);
    let now = scene.newest_id();
    assert_ne!(now, first);
    let after = told(&scene).unwrap();
    assert!(after.contains("NOTHING DELETES 2 of"), "{after}");
    assert!(
        after.contains(&format!("write id = \"{now}\" into")),
        "{after}"
    );
    assert!(
        after.contains("--tag plan=daily --tag plan-machine="),
        "{after}"
    );
    assert_eq!(scene.run(&["status"]).code, 3);
    // As it says: the file has the ID, and it outlasts the next boot.
    scene.write(
        "daily",
        &text(&scene, &disk, &format!("id = {now:?}\n")),
        HOUR,
    );
    assert_eq!(told(&scene), None);
    run(&scene, &[]);
    assert_eq!(scene.newest_id(), now);
}

#[test]
fn notes_that_are_lost_hold_deleting_back_and_status_says_so() {
    let Some(scene) = Scene::new("plans: notes are lost, and the ID is not") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write("daily", &text(&scene, &disk, "id = \"mine\"\n"), HOUR);
    assert_eq!(told(&scene), None, "nothing was taken");
    for _ in 0..2 {
        run(&scene, &[]);
    }
    assert_eq!(told(&scene), None, "all of it is noted");
    lose_notes(&scene);
    let before = told(&scene).unwrap();
    assert!(
        before.contains("WERE LOST (2 of its snapshots are older)"),
        "{before}"
    );
    run(&scene, &[]);
    let after = told(&scene).unwrap();
    assert!(
        after.contains("WERE LOST (2 of its snapshots are older)"),
        "{after}"
    );
    assert!(after.contains("STILLPOINT_PLAN_NOTES"), "{after}");
    // It deletes again: all is well.
    run(&scene, &["--clock-is-right"]);
    assert_eq!(told(&scene), None);
}

/// An older version of the program writes notes without IDs.
#[test]
fn an_id_that_a_note_has_lost_is_known_besides() {
    let Some(scene) = Scene::new("plans: an older version") else {
        return;
    };
    let disk = disk(&scene.lab);
    scene.write("daily", &text(&scene, &disk, ""), HOUR);
    run(&scene, &[]);
    let id = scene.newest_id();
    let mut note = scene.note("daily");
    for key in [
        "id",
        "vault",
        "clock",
        "noted_since",
        "file_hash",
        "gone_since",
    ] {
        note.as_object_mut().unwrap().remove(key).unwrap();
    }
    let path = scene.lab.path("plans/daily.json");
    fs::write(&path, note.to_string()).unwrap();
    let said = run(&scene, &[]);
    assert!(said.contains("had dropped its ID"), "{said}");
    assert_eq!(scene.newest_id(), id);
    assert!(!run(&scene, &[]).contains("had dropped its ID"));
    // What cannot be read is no ID: a new one, and not the name alone.
    fs::write(&path, note.to_string()).unwrap();
    fs::write(scene.lab.path("plans/daily.id"), "../no").unwrap();
    run(&scene, &[]);
    assert_ne!(scene.newest_id(), id);
}

/// Whoever removes a file by hand has ended that plan, and not whoever has not mounted the folder.
#[test]
fn a_file_that_was_gone_is_another_plan_unless_it_is_the_same() {
    let Some(scene) = Scene::new("plans: a file that was gone") else {
        return;
    };
    let disk = disk(&scene.lab);
    let file = scene.lab.path("etc/plans.d/daily.toml");
    scene.write("daily", &text(&scene, &disk, ""), HOUR);
    run(&scene, &[]);
    let (id, same) = (scene.newest_id(), fs::read(&file).unwrap());
    let gone = |by: &[&str], code: i32| {
        fs::remove_file(&file).unwrap();
        scene.run(by).expect(code);
        assert!(scene.note("daily")["gone_since"].is_string());
    };
    // By cron, and by its own timer.
    gone(&["plan", "run", "--due"], 0);
    let put = |text: &[u8]| scene.write("daily", std::str::from_utf8(text).unwrap(), HOUR);
    put(&same);
    run(&scene, &[]);
    assert_eq!(scene.newest_id(), id, "it is the same");
    gone(&["plan", "run", "daily", "--due"], 1);
    put(&[&same, &b"# another\n"[..]].concat());
    let said = run(&scene, &[]);
    assert!(said.contains("its file was gone"), "{said}");
    let other = scene.newest_id();
    assert_ne!(other, id);
    // Changed by hand, and never gone while somebody looked.
    put(&same);
    run(&scene, &[]);
    assert_eq!(scene.newest_id(), other);
    // An ID in the file says whose it is, whatever was gone.
    gone(&["plan", "run", "--due"], 0);
    put(&[format!("id = {other:?}\n").as_bytes(), &same].concat());
    run(&scene, &[]);
    assert_eq!(scene.newest_id(), other);
}
