//! The files of plans, and the notes of their runs.

use super::times::{at, edited};
use stillpoint::ErrorKind;
use stillpoint::config::SettingsFile;
use stillpoint::plan::{PlanEdit, PlanFolder, PlanName, PlanNotes, PlanRecord, PlanTry};

#[test]
fn notes_of_runs_come_back_and_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let notes = PlanNotes::at(dir.path().join("plans"));
    let plan = edited(|_| ());
    assert_eq!(notes.noted(&plan.name).unwrap(), None);
    let mut record = PlanRecord::new(&plan, at(5));
    record.last = Some(PlanTry {
        time: None,
        number: 1,
        began: at(3),
        ended: None,
        outcome: None,
    });
    notes.write(&plan.name, &record).unwrap();
    assert_eq!(notes.noted(&plan.name).unwrap(), Some(record));
    let path = dir.path().join("plans/p.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for bad in [
        "",
        "{}",
        &text.replace("\"p\"", "\"q\""),
        &text.replace(":1,", ":2,"),
    ] {
        std::fs::write(&path, bad).unwrap();
        assert!(notes.noted(&plan.name).is_err(), "{bad}");
    }
    assert!(!notes.is_running(&plan.name).unwrap());
    let lock = notes.lock(&plan.name).unwrap();
    assert!(lock.is_some() && notes.is_running(&plan.name).unwrap());
    assert!(notes.lock(&plan.name).unwrap().is_none());
    drop(lock);
    // The ID stands besides, and goes with the note.
    let id = stillpoint::plan::PlanId::generate();
    let mut record = PlanRecord::new(&plan, at(5));
    assert_eq!(notes.id(&plan.name).unwrap(), None);
    record.id = Some(id.clone());
    notes.write(&plan.name, &record).unwrap();
    assert_eq!(notes.id(&plan.name).unwrap(), Some(id));
    assert_eq!(notes.names(), std::slice::from_ref(&plan.name));
    std::fs::write(dir.path().join("plans/p.id"), "no id").unwrap();
    assert!(notes.id(&plan.name).is_err());
    notes.forget(&plan.name).unwrap();
    assert_eq!(notes.id(&plan.name).unwrap(), None);
    assert_eq!(notes.noted(&plan.name).unwrap(), None);
}

#[test]
fn files_of_plans_are_named_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let folder = PlanFolder::within(dir.path());
    assert!(folder.names().unwrap().is_empty());
    let name: PlanName = "daily".parse().unwrap();
    assert_eq!(folder.plan(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let text = "start = \"2026-12-01T02:30:00\"\nevery = \"1d\"\n";
    folder.create(&name, text).unwrap();
    let again = folder.create(&name, text).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Exists);
    std::fs::write(folder.path().join("Not A Name.toml"), text).unwrap();
    std::fs::write(folder.path().join("daily.toml.orig"), text).unwrap();
    std::fs::write(folder.path().join(".daily.toml.new"), text).unwrap();
    let names = folder.names().unwrap();
    assert_eq!(names.len(), 2);
    assert!(
        names
            .iter()
            .any(|found| found.as_ref().is_ok_and(|found| *found == name))
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&folder.file(&name).metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    if nix::unistd::geteuid().is_root() {
        let plan = folder.plan(&name).unwrap();
        assert!(plan.written.is_some());
        let file: SettingsFile = folder.settings(&name).unwrap();
        let edit = PlanEdit::of(name.clone(), file);
        folder.replace(&name, &edit.render().unwrap()).unwrap();
        assert_eq!(folder.plan(&name).unwrap().schedule, plan.schedule);
    }
    folder.remove(&name).unwrap();
    assert!(folder.remove(&name).is_err());
}
