//! Runs that fail, or are killed, when others have found what they had put.

use super::*;
use std::sync::Mutex;
use stillpoint::store::FaultStore;
use stillpoint::{Error, ErrorKind};

/// A view of the fleet's vault through which a manifest cannot be put; `meanwhile` is done when it
/// is tried.
pub(super) fn failing(fleet: &Fleet, meanwhile: impl FnOnce() + Send + 'static) -> Arc<Vault> {
    failing_at("snapshots/", fleet, meanwhile)
}

/// The same of what stands in another folder.
pub(super) fn failing_at(
    folder: &'static str,
    fleet: &Fleet,
    meanwhile: impl FnOnce() + Send + 'static,
) -> Arc<Vault> {
    let meanwhile = Mutex::new(Some(meanwhile));
    let faulty = FaultStore::new(fleet.store.clone(), move |operation| {
        let is_it = operation.name.as_str().starts_with(folder);
        if is_it && operation.verb == "put" && !operation.done {
            if let Some(meanwhile) = meanwhile.lock().unwrap().take() {
                meanwhile();
            }
            return Err(Error::new(ErrorKind::Io, "the test says so"));
        }
        Ok(())
    });
    fleet.through(Arc::new(faulty))
}

#[test]
fn what_a_failed_run_had_told_of_stays_and_is_found() {
    let fleet = Fleet::new();
    let failed = try_on(&failing(&fleet, || ()), "first", &disk_of(1), |_| ());
    let error = failed.err().unwrap().to_string();
    assert!(
        error.contains("as other hosts may refer to them"),
        "{error}"
    );
    assert!(fleet.names("snapshots").is_empty() && fleet.names("index").is_empty());
    assert_eq!(fleet.names("segments").len(), 1);
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    assert_eq!(counts(&second), [0, BLOCKS - 19]);
}

#[test]
fn what_was_found_while_its_run_was_at_work_outlives_that_run() {
    let fleet = Fleet::new();
    let found = Arc::new(Mutex::new(None));
    let (put, other) = (Arc::clone(&found), fleet.vault());
    let meanwhile = move || {
        let second = take_on(&other, "second", &disk_of(1));
        *put.lock().unwrap() = Some(second);
    };
    let failed = try_on(&failing(&fleet, meanwhile), "first", &disk_of(1), |_| ());
    assert!(failed.is_err());
    let second = found.lock().unwrap().take().unwrap();
    assert_eq!(counts(&second), [0, BLOCKS - 19]);
    check_all(&fleet.vault(), &[second]);
}

#[test]
fn what_nobody_can_have_found_is_taken_back() {
    let fleet = Fleet::new();
    let failed = try_on(&fleet.vault(), "first", &disk_of(1), |take| {
        take.cut_off = true
    });
    let error = failed.err().unwrap().to_string();
    assert!(!error.contains("other hosts"), "{error}");
    for folder in ["segments", "footers", "index", "snapshots"] {
        assert!(fleet.names(folder).is_empty(), "{folder}");
    }
}

#[test]
fn a_segment_that_goes_before_the_manifest_is_put_fails_the_run() {
    let fleet = Fleet::new();
    take_on(&fleet.vault(), "first", &disk_of(1));
    let segment = fleet.names("segments").remove(0);
    let store = fleet.store.clone();
    let failed = try_on(&fleet.vault(), "second", &disk_of(1), |take| {
        take.before = Box::new(move |_| store.delete(&segment).unwrap());
    });
    let error = failed.err().unwrap().to_string();
    assert!(error.contains("is not in the vault any more"), "{error}");
    assert_eq!(fleet.names("snapshots").len(), 1);
    // The next one finds that it is gone.
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    assert_eq!(counts(&second), [BLOCKS - 20, 0]);
}
