//! Another run has the notes of a run at work, as a copied machine does: what it may refer to
//! stays when the first one fails.

use super::{Stage, files, segments};
use crate::support::vaults::{Notes, Take, Taken, check, take};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use stillpoint::format::SessionRecord;
use stillpoint::model::{BlockIndex, Content, ObjectId, Run, SnapshotId};
use stillpoint::store::{
    Draft, FaultStore, NoteHead, ObjectName, Owner, SentNotes, SentRun, Vault,
};
use stillpoint::{Error, ErrorKind};

/// At the cut 64 MiB and what is encoded are on the way: the segments before that are noted.
const BLOCKS: u64 = 2600;

/// A run that somebody stops by Ctrl-C. `meanwhile` is done at the cut.
fn stopped(stage: &Stage, mut meanwhile: impl FnMut() + Send + 'static) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        if !seen.load(Ordering::SeqCst) || operation.done {
            return Ok(());
        }
        match operation.verb {
            "put" => Err(Error::new(ErrorKind::Interrupted(2), "the test says so")),
            _ => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let mut options = stage.options();
    options.settling = Box::new(move |_| {
        if !stop.load(Ordering::SeqCst) {
            meanwhile();
            stop.store(true, Ordering::SeqCst);
        }
    });
    let error = take(&vault, from_ref(&stage.disk), options).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted(2), "{error}");
}

#[test]
fn a_snapshot_of_a_copy_outlives_the_run_that_it_went_on_from() {
    let mut stage = Stage::new();
    stage.disk = super::disk(0, BLOCKS);
    let aside = tempfile::tempdir().unwrap();
    let (from, to) = (stage.notes.path().join("sent"), aside.path().join("sent"));
    let (vault, disk) = (Arc::clone(&stage.vault), stage.disk.clone());
    let taken = Arc::new(Mutex::new(None::<Taken>));
    let made = Arc::clone(&taken);
    stopped(&stage, move || {
        fs::create_dir(&to).unwrap();
        for note in fs::read_dir(&from).unwrap().flatten() {
            fs::copy(note.path(), to.join(note.file_name())).unwrap();
        }
        let options = Take {
            notes: Some(Notes {
                directory: to.clone(),
                machine: Some("machine"),
            }),
            ..Take::default()
        };
        let copy = take(&vault, from_ref(&disk), options).unwrap();
        *made.lock().unwrap() = Some(copy);
    });
    let copy = taken.lock().unwrap().take().unwrap();
    assert!(copy.manifest.disks[0].resumed_bytes.0 > 0);
    let fresh = Arc::new(Vault::open(stage.store.clone()).unwrap());
    check(&fresh, &copy);
}

/// A run that has put and noted one segment fails; whether that and its note stay.
fn stays(stage: &Stage, unlisted: Option<ObjectName>, is_held: bool) -> (bool, bool) {
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        match operation.verb == "list" && Some(operation.name) == unlisted.as_ref() {
            true => Err(Error::new(ErrorKind::Io, "the test says so")),
            false => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let owner = Owner {
        host: "host",
        machine: Some("machine"),
        boot: None,
    };
    let run = SnapshotId::generate(8);
    let head = NoteHead::of(stage.disk.identity(), vault.info().id, run, &owner);
    let directory = stage.notes.path().join("sent");
    let notes = SentNotes::begin(&directory, &[head], Vec::new(), BTreeSet::new());
    let mut draft = Draft::begin(&vault);
    draft.note_in(notes.unwrap());
    let segment = ObjectId([7; 16]);
    let run = Run {
        start: BlockIndex(0),
        count: 1,
        content: Content::Data { segment, slot: 0 },
    };
    let bytes = vec![0; 1000].into();
    draft
        .put_segment(segment, bytes, &[SentRun { disk: 0, run }])
        .unwrap();
    if is_held {
        draft.hold_notes();
    }
    drop(draft);
    (
        segments(stage.store.as_ref()) > 0,
        files(stage.notes.path()) > 0,
    )
}

#[test]
fn what_another_run_may_refer_to_stays() {
    let begin = |vault: &Vault, host: &str| {
        let record = SessionRecord {
            host: host.into(),
            pid: 1,
            boot_id: "another".into(),
            command: "snapshot".into(),
            started: Timestamp::now(),
            heartbeat: Timestamp::now(),
        };
        vault
            .begin_session(SnapshotId::generate(7), record)
            .unwrap()
    };
    let (sessions, host) = (ObjectName::sessions(), ObjectName::host("host"));
    for (what, other, unlisted, may) in [
        ("nobody is there", None, None, false),
        ("another host's run", Some("other"), None, false),
        ("another run of the host", Some("host"), None, true),
        ("sessions are not listed", None, Some(sessions), true),
        ("snapshots are not listed", None, Some(host), true),
    ] {
        let stage = Stage::new();
        let session = other.map(|host| begin(&stage.vault, host));
        assert_eq!(stays(&stage, unlisted, false), (may, may), "{what}");
        drop(session);
    }
}

/// Notes are held while all is frozen, so they cannot be taken back: what they name is to stay.
#[test]
fn no_note_names_what_a_failed_cut_deletes() {
    assert_eq!(stays(&Stage::new(), None, true), (true, true));
}
