//! Another run has the notes of a run at work, as a copied machine does: what it may refer to
//! stays when the first one fails.

use super::{BLOCKS, Stage, files, segments};
use crate::support::vaults::{Notes, Take, Taken, check, take};
use jiff::Timestamp;
use std::fs;
use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use stillpoint::engine::OnBusy;
use stillpoint::format::SessionRecord;
use stillpoint::model::{BLOCK_SIZE, Bytes, SnapshotId};
use stillpoint::store::{FaultStore, ObjectName, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind};

/// A run that somebody stops by Ctrl-C. `meanwhile` is done when two of its segments are noted, and
/// no list can be had of what has this name from then on.
fn stopped(
    stage: &Stage,
    unlisted: Option<ObjectName>,
    mut meanwhile: impl FnMut() + Send + 'static,
) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        if !seen.load(Ordering::SeqCst) || operation.done {
            return Ok(());
        }
        match operation.verb {
            "put" => Err(Error::new(ErrorKind::Interrupted(2), "the test says so")),
            "list" if Some(operation.name) == unlisted.as_ref() => {
                Err(Error::new(ErrorKind::Io, "the test says so"))
            }
            _ => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let mut options = stage.options();
    let there = Arc::clone(&stage.store);
    options.settling = Box::new(move |_| {
        // One is put at a time, and noted before the next.
        while segments(there.as_ref()) < 3 {
            std::thread::yield_now();
        }
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
    let stage = Stage::new();
    let aside = tempfile::tempdir().unwrap();
    let (from, to) = (stage.notes.path().join("sent"), aside.path().join("sent"));
    let (vault, disk) = (Arc::clone(&stage.vault), super::disk(0, BLOCKS));
    let taken = Arc::new(Mutex::new(None::<Taken>));
    let made = Arc::clone(&taken);
    stopped(&stage, None, move || {
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
    for (what, host, unlisted, stays) in [
        ("nobody is there", None, None, false),
        ("another host's run", Some("other"), None, false),
        ("another run of the host", Some("host"), None, true),
        (
            "sessions are not listed",
            None,
            Some(ObjectName::sessions()),
            true,
        ),
        (
            "snapshots are not listed",
            None,
            Some(ObjectName::host("host")),
            true,
        ),
    ] {
        let stage = Stage::new();
        let session = host.map(|host| begin(&stage.vault, host));
        stopped(&stage, unlisted, || ());
        drop(session);
        let left = segments(stage.store.as_ref());
        assert_eq!(left > 0, stays, "{what}: {left}");
        assert_eq!(files(stage.notes.path()), usize::from(stays), "{what}");
        let (_, resumed) = stage.next(stage.options());
        assert_eq!(resumed > 0, stays, "{what}");
    }
}

/// Notes are held then, so they cannot be taken back: what they name is to stay.
#[test]
fn no_note_names_what_a_failed_cut_deletes() {
    let mut stage = Stage::new();
    stage.disk = super::disk(0, 700);
    let note = stage.notes.path().join("sent");
    let mut options = stage.options();
    options.on_busy = OnBusy::Fail;
    options.window = Bytes(1 << 20);
    options.settling = Box::new(move |_| {
        let note = fs::read_dir(&note).unwrap().next().unwrap().unwrap().path();
        // Until more than the head is there.
        loop {
            let bytes = fs::read(&note).unwrap();
            let head = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
            if bytes.len() > 4 + head + 32 {
                break;
            }
            std::thread::yield_now();
        }
    });
    options.before = Box::new(|disks| {
        disks[0].write(0, &super::noise(200 * BLOCK_SIZE, 9));
    });
    let error = take(&stage.vault, from_ref(&stage.disk), options)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
    let listed = stage.store.list_all(&ObjectName::segments()).unwrap();
    assert_eq!(files(stage.notes.path()), 1);
    assert_eq!(listed.len(), 1, "a note names what is gone");
    assert!(stage.next(stage.options()).1 > 0);
}
