//! Runs that fail by themselves: what they leave, what they take back, and what they say.

use super::{BLOCKS, Stage, files, segments};
use crate::support::vaults::{Take, take};
use std::slice::from_ref;
use std::sync::Arc;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{FaultStore, MemoryStore, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind};

/// A run whose store fails when so many segments have been put, and from then on if it is gone.
fn fail(stage: &Stage, kind: ErrorKind, after: usize, is_gone: bool) -> Error {
    let inner: Arc<dyn ObjectStore> = stage.store.clone();
    let there = Arc::clone(&stage.store);
    let store = FaultStore::new(inner, move |operation| {
        let puts = operation.verb == "put" && operation.name.as_str().starts_with("segments/");
        let changes = is_gone && matches!(operation.verb, "put" | "delete");
        match !operation.done && (puts || changes) && segments(there.as_ref()) >= after {
            true => Err(Error::new(kind, "the test says so")),
            false => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    take(&vault, from_ref(&stage.disk), stage.options())
        .err()
        .unwrap()
}

#[test]
fn what_a_failed_run_has_put_is_gone_on_from() {
    for (kind, is_gone) in [
        (ErrorKind::Io, false),
        (ErrorKind::Io, true),
        (ErrorKind::Interrupted(15), false),
        (ErrorKind::Inconsistent, false),
        (ErrorKind::Failed, false),
    ] {
        let stage = Stage::new();
        let error = fail(&stage, kind, 3, is_gone);
        assert_eq!(error.kind(), kind);
        let said = error.to_string();
        assert!(
            said.contains("that are in the vault by now stay there"),
            "{said}"
        );
        assert_eq!(segments(stage.store.as_ref()), 3, "{kind:?}");
        let (_, resumed) = stage.next(stage.options());
        assert!((1480..BLOCKS).contains(&resumed), "{resumed}");
        assert_eq!(
            segments(stage.store.as_ref()),
            4,
            "{kind:?}: only the rest is put"
        );
    }
}

#[test]
fn what_is_not_wanted_is_taken_back() {
    for (kind, after) in [
        // The vault is full.
        (ErrorKind::NoSpace, 3),
        // Ctrl-C.
        (ErrorKind::Interrupted(2), 3),
        // It is soon put again.
        (ErrorKind::Io, 1),
    ] {
        let stage = Stage::new();
        let error = fail(&stage, kind, after, false);
        assert!(!error.to_string().contains("stay"), "{error}");
        assert_eq!(segments(stage.store.as_ref()), 0, "{kind:?}");
        assert_eq!(files(stage.notes.path()), 0, "{kind:?}");
    }
}

/// A host that has no place for notes takes its snapshots all the same.
#[test]
fn without_notes_a_run_is_as_good() {
    let stage = Stage::new();
    std::fs::write(stage.notes.path().join("sent"), "in the way").unwrap();
    let vault =
        Arc::new(Vault::create(Arc::new(MemoryStore::new()), super::vault_options()).unwrap());
    let disk = super::disk(0, 20);
    let taken = take(&vault, &[disk], Take { ..stage.options() }).unwrap();
    assert_eq!(taken.manifest.disks[0].stored_bytes.0 / BLOCK_SIZE, 20);
}
