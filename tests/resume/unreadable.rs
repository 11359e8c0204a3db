//! The store does not give back what a run that was cut off has put: the next run is right all the
//! same, says so, and asks no more for it.

use super::{BLOCKS, Stage};
use crate::support::vaults::{check, take};
use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stillpoint::capture::Baseline;
use stillpoint::model::{BLOCK_SIZE, BlockIndex};
use stillpoint::store::{FaultStore, ObjectName, ObjectStore, Operation, Vault};
use stillpoint::{Error, ErrorKind};

/// A run whose store fails operations so; its warnings, how many blocks it went on from, and how
/// often the store has failed.
fn run(
    stage: &Stage,
    kind: ErrorKind,
    full: bool,
    fails: impl Fn(&Operation<'_>) -> bool + Send + Sync + 'static,
) -> (String, u64, usize) {
    let failed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&failed);
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        if operation.done || !fails(&operation) {
            return Ok(());
        }
        count.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(kind, "the test says so"))
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let mut options = stage.options();
    options.full = full;
    let taken = take(&vault, from_ref(&stage.disk), options).unwrap();
    check(&stage.vault, &taken);
    let warnings = taken.manifest.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let resumed = taken.manifest.disks[0].resumed_bytes.0 / BLOCK_SIZE;
    (warnings[0].clone(), resumed, failed.load(Ordering::SeqCst))
}

fn is_segment_read(operation: &Operation<'_>) -> bool {
    operation.verb == "get" && operation.name.as_str().starts_with("segments/")
}

const KINDS: [ErrorKind; 5] = [
    ErrorKind::Archived,
    ErrorKind::Io,
    ErrorKind::Unsupported,
    ErrorKind::Format,
    ErrorKind::Failed,
];

#[test]
fn what_cannot_be_looked_at_is_not_used() {
    for kind in KINDS {
        for full in [false, true] {
            let stage = Stage::cut_off();
            let (said, resumed, failed) = run(&stage, kind, full, is_segment_read);
            assert!(said.contains("is not used"), "{said}");
            assert_eq!((resumed, failed), (0, 1), "{kind:?}");
        }
    }
    let stage = Stage::cut_off();
    let condemned = |operation: &Operation<'_>| operation.name.as_str() == "condemned";
    let (said, resumed, _) = run(&stage, ErrorKind::Io, false, condemned);
    assert!(said.contains("is not used"), "{said}");
    assert_eq!(resumed, 0);
}

/// The sample is read, and one segment cannot be from then on. It is that of the last seven blocks:
/// now and then one of them is in the sample, and then all begins anew.
#[test]
fn what_cannot_be_read_later_is_put_again() {
    const BLOCKS: u64 = 3 * 511 + 7;
    for kind in KINDS {
        let outcome = (0..20).map(|_| {
            let mut stage = Stage::new();
            stage.disk = super::disk(0, BLOCKS);
            let mut options = stage.options();
            options.cut_off = true;
            assert!(take(&stage.vault, from_ref(&stage.disk), options).is_err());
            let mut listed = stage.store.list_all(&ObjectName::segments()).unwrap();
            listed.sort_by_key(|object| object.size);
            assert_eq!(listed.len(), 4);
            let name = listed[0].name.clone();
            let fails = move |operation: &Operation<'_>| {
                is_segment_read(operation) && *operation.name == name
            };
            run(&stage, kind, false, fails)
        });
        let later = |(said, ..): &(String, u64, usize)| said.contains("was put again");
        let (_, resumed, failed) = outcome.into_iter().find(later).unwrap();
        assert!((1000..BLOCKS - 6).contains(&resumed), "{kind:?}: {resumed}");
        // Two threads may have asked at once.
        assert!((1..=2).contains(&failed), "{kind:?}: {failed}");
    }
}

/// Who stops a run is obeyed.
#[test]
fn a_stop_is_no_trouble_of_the_store() {
    let stage = Stage::new();
    let (taken, _) = stage.next(stage.options());
    let record = &taken.manifest.disks[0];
    let listed = stage.store.list_all(&ObjectName::segments()).unwrap();
    let id = |name: &ObjectName| name.components().last().unwrap().parse().unwrap();
    let lengths: BTreeMap<_, _> = listed.iter().map(|one| (id(&one.name), one.size)).collect();
    let plain = vec![0; BLOCK_SIZE as usize];
    let known = |kind: ErrorKind| {
        let store = FaultStore::new(stage.store.clone(), move |operation| match is_segment_read(
            &operation,
        ) {
            true => Err(Error::new(kind, "the test says so")),
            false => Ok(()),
        });
        let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
        let map = vault.load_index(&record.index, BLOCKS).unwrap();
        let sent = Baseline::of_sent(&vault, map, &lengths, &|| Ok(())).unwrap();
        let known = sent.known(BlockIndex(0), &plain);
        known.map(|known| (known, sent.trouble().map(|error| error.kind())))
    };
    let io = ErrorKind::Io;
    assert_eq!(known(io).unwrap(), (None, Some(io)));
    assert!(known(ErrorKind::Interrupted(15)).is_err());
}
