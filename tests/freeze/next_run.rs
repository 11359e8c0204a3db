//! The next run undoes what two dead processes have left, wherever its own records go.

use super::killed::Engine;
use super::{FAR, is_frozen, run};
use crate::cli::lab::{Disk, Lab, finish};
use crate::support::host::attempt;
use std::path::{Path, PathBuf};

/// A disk whose filesystem an engine has frozen that is dead now, and so is its guardian.
struct Left {
    /// Before the lab, whose folder cannot be removed while it is mounted there.
    disk: Disk,
    lab: Lab,
    place: PathBuf,
}

impl Left {
    /// `None`: it cannot be had here.
    fn new(what: &str) -> Option<Self> {
        let lab = Lab::with_vault(what)?;
        let mut disk = lab.disk("disk", 160 << 20);
        let place = disk.mount("ext4");
        Some(Self { lab, disk, place })
    }

    fn freeze_and_die(&self) {
        let mut engine = Engine::start_at(self.lab.dir.path(), &[&self.place], FAR);
        engine.tell("freeze");
        engine.hear("frozen");
        engine.kill_with_guardian();
        assert!(is_frozen(&self.place));
        assert_eq!(self.lab.freeze_records().len(), 1);
    }

    /// Asserts that a document warns of it.
    fn is_warned_of(&self, document: &serde_json::Value) {
        let warnings = document["warnings"].to_string();
        assert!(
            warnings.contains(self.place.to_str().unwrap()),
            "{warnings}"
        );
        assert!(warnings.contains("still frozen"), "{warnings}");
    }
}

impl Drop for Left {
    /// What is frozen cannot be unmounted.
    fn drop(&mut self) {
        attempt("fsfreeze", &["--unfreeze", self.place.to_str().unwrap()]);
    }
}

fn unfreeze(place: &Path) {
    run("fsfreeze", &["--unfreeze", place.to_str().unwrap()]);
}

#[test]
fn the_next_run_thaws_what_two_dead_processes_left() {
    let Some(left) = Left::new("freeze: next run") else {
        return;
    };
    let Left { lab, disk, place } = &left;
    // Words, and not the names of our types.
    left.freeze_and_die();
    for outcome in ["thawed", "not_frozen"] {
        let told = lab.json(&["thaw"]);
        let one = &told["mounts"][0];
        assert_eq!(
            (&one["outcome"], one["why"].is_null()),
            (&outcome.into(), true)
        );
        if outcome == "thawed" {
            left.freeze_and_die();
            unfreeze(place);
        }
    }
    left.freeze_and_die();
    let document = lab.run(&["snapshot", &disk.device, "--json"]);
    let document = document.expect(3).json();
    assert_eq!(document["level"], "filesystem");
    left.is_warned_of(&document);
    assert!(!is_frozen(place));
    assert!(lab.freeze_records().is_empty(), "it would grow old");
    // So a later freeze of somebody else's is left alone.
    run("fsfreeze", &["--freeze", place.to_str().unwrap()]);
    lab.run(&["thaw"]).expect(0);
    assert!(is_frozen(place), "no record names it any more");
    let refused = lab.run(&["snapshot", &disk.device, "--json"]).expect(6);
    assert!(refused.stdout.contains("someone else"), "{refused:?}");
    unfreeze(place);
    lab.run(&["snapshot", &disk.device]).expect(0);
}

/// The record and the log of the job go to what is frozen: it is thawed before they are made, and
/// what was thawed is in the record as it is in the report.
#[test]
fn a_run_whose_job_directory_is_frozen_thaws_it_first() {
    let Some(left) = Left::new("freeze: frozen job directory") else {
        return;
    };
    let Left { lab, disk, place } = &left;
    let job_dir = place.join("jobs");
    let jobs = ["--job-dir", job_dir.to_str().unwrap()];
    let status = || lab.json(&[&["job", "status", "latest"], &jobs[..]].concat());

    left.freeze_and_die();
    let args = [&["snapshot", &disk.device, "--json"], &jobs[..]].concat();
    left.is_warned_of(&lab.run(&args).expect(3).json());
    assert_eq!(status()["exit_code"], 3, "{}", status());
    left.is_warned_of(&status());

    left.freeze_and_die();
    let args = [&["snapshot", &disk.device, "--detach", "--json"], &jobs[..]].concat();
    let started = lab.run(&args).expect(0).json();
    let job = started["job"].as_str().unwrap();
    let args = [&["job", "wait", job], &jobs[..]].concat();
    lab.run(&args).expect(3);
    assert_eq!(status()["exit_code"], 3, "{}", status());
    left.is_warned_of(&status());
    assert!(!is_frozen(place));
    assert!(lab.freeze_records().is_empty());
}

/// What a thaw cannot look at may be there: it is neither called gone nor forgotten.
#[test]
fn a_thaw_that_cannot_open_what_is_frozen_forgets_nothing() {
    let Some(left) = Left::new("freeze: too many open files") else {
        return;
    };
    left.freeze_and_die();
    for errno in ["EMFILE", "ENOMEM", "EIO"] {
        let inject = format!("inject=openat2:error={errno}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"];
        let strace = [&strace[..], &["trace=openat2", "-e", &inject]].concat();
        let told = finish(&mut left.lab.command_with(&strace, &["thaw", "--json"])).expect(1);
        let message = told.json()["error"]["message"].to_string();
        assert!(message.contains("may still be frozen"), "{told:?}");
        assert!(is_frozen(&left.place));
        assert_eq!(left.lab.freeze_records().len(), 1, "{told:?}");
    }
    left.lab.run(&["thaw"]).expect(0);
    assert!(!is_frozen(&left.place));
}
