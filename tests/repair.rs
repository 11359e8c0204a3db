//! What has rotted is put right byte for byte, from what is left of it or from the second place;
//! what is lost is noted, and stored again; whatever ends a repair, the next one goes on.

mod by_command;
mod cut_off;
mod rebuilt;

use crate::mirror::damaged::{ACTIONS, Change};
use crate::mirror::{Contents, Source, contents, copy_of};
use crate::support::vaults::{Take, check, check_all, take, verify_all};
use std::collections::BTreeMap;
use std::sync::Arc;
use stillpoint::Result;
use stillpoint::engine::{
    Noted, Remedy, RepairOptions, RepairReport, RepairedObject, Silent, VerifyDepth, VerifyOptions,
    plan_repair, repair, verify,
};
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{Blob, CountStore, MemoryStore, ObjectName, ObjectStore, Vault};

const OPTIONS: RepairOptions = RepairOptions {
    read_all: false,
    workers: 2,
};
const READ_ALL: RepairOptions = RepairOptions {
    read_all: true,
    workers: 2,
};

/// Repairs the vault in a store, from another one if there is one.
fn repaired(
    store: Arc<dyn ObjectStore>,
    second: Option<&Arc<MemoryStore>>,
    options: &RepairOptions,
) -> Result<RepairReport> {
    let vault = Vault::open(store)?;
    let second = second.map(|store| Vault::open(store.clone()).unwrap());
    repair(&vault, second.as_ref(), options, &Silent)
}

fn planned(
    store: Arc<dyn ObjectStore>,
    second: Option<&Arc<MemoryStore>>,
    options: &RepairOptions,
) -> RepairReport {
    let vault = Vault::open(store).unwrap();
    let second = second.map(|store| Vault::open(store.clone()).unwrap());
    plan_repair(&vault, second.as_ref(), options, &Silent).unwrap()
}

/// Flips a byte of the first chunk of a segment: its ends stay right.
fn rot(store: &MemoryStore, segment: ObjectId) {
    store.corrupt(&ObjectName::segment(segment), |bytes| bytes[200] ^= 1);
}

/// The names of the objects in a folder.
fn names(store: &dyn ObjectStore, folder: &str) -> Vec<ObjectName> {
    let listed = store.list_all(&ObjectName::parse(folder).unwrap()).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

/// Nothing is wrong any more.
fn is_well(report: &RepairReport, what: &str) {
    assert!(report.left.is_empty(), "{what}: {report:?}");
    assert!(report.after.broken.is_empty(), "{what}: {report:?}");
    assert!(report.after.harmless.is_empty(), "{what}: {report:?}");
    assert!(!matches!(report.after.noted, Noted::Failed(_)), "{what}");
}

#[test]
fn whatever_rots_comes_back_from_the_second_place_byte_for_byte() {
    let source = Source::new();
    let truth = contents(source.store.as_ref());
    let second = copy_of(&source.store);
    for folder in ["segments", "index", "snapshots", "footers"] {
        for name in names(source.store.as_ref(), folder) {
            for (action, change) in ACTIONS {
                let what = format!("{action}: {name}");
                let store = copy_of(&source.store);
                store.corrupt(&name, change);
                let planned = planned(store.clone(), Some(&second), &READ_ALL);
                assert_eq!(planned.done.len(), 1, "{what}: {planned:?}");
                let report = repaired(store.clone(), Some(&second), &READ_ALL).unwrap();
                is_well(&report, &what);
                assert_eq!(report.done, planned.done, "{what}");
                assert!(contents(store.as_ref()) == truth, "{what}");
                let sessions = store.list_all(&ObjectName::sessions()).unwrap();
                assert!(sessions.is_empty(), "{what}: {sessions:?}");
            }
        }
    }
    assert!(
        contents(second.as_ref()) == truth,
        "the second place was changed"
    );
}

#[test]
fn what_is_missing_comes_back_too_but_for_deleted_snapshots() {
    let source = Source::new();
    let truth = contents(source.store.as_ref());
    let second = copy_of(&source.store);
    for folder in ["segments", "index"] {
        for name in names(source.store.as_ref(), folder) {
            let store = copy_of(&source.store);
            store.delete(&name).unwrap();
            let report = repaired(store.clone(), Some(&second), &OPTIONS).unwrap();
            is_well(&report, name.as_str());
            assert!(contents(store.as_ref()) == truth, "{name}");
        }
    }
    let store = copy_of(&source.store);
    let deleted = &names(source.store.as_ref(), "snapshots")[0];
    store.delete(deleted).unwrap();
    let report = repaired(store.clone(), Some(&second), &OPTIONS).unwrap();
    is_well(&report, "a deleted snapshot");
    assert_eq!((report.done.len(), report.only_in_second), (0, 1));
    assert!(store.get(deleted, 1 << 20).is_err());
}

/// An index object that is lost hides which segments its disk needs: they are looked at when it is
/// back.
#[test]
fn what_is_seen_only_after_a_repair_is_repaired_too() {
    let source = Source::new();
    let truth = contents(source.store.as_ref());
    let second = copy_of(&source.store);
    let store = copy_of(&source.store);
    for folder in ["segments", "index"] {
        for name in names(source.store.as_ref(), folder) {
            store.corrupt(&name, |bytes| bytes.truncate(100));
        }
    }
    let report = repaired(store.clone(), Some(&second), &OPTIONS).unwrap();
    is_well(&report, "all");
    assert!(contents(store.as_ref()) == truth);
}

/// Without a second place: what is lost is told, noted, and stored again by the next run.
#[test]
fn what_is_lost_is_noted_and_the_next_run_stores_it_again() {
    let mut source = Source::new();
    let store = source.store.clone();
    let vault = Arc::clone(&source.vault);
    // The newest of the host is what its next run builds on.
    let newest = source.taken[3].manifest.clone();
    let needed = vault.segments_required_by(&newest, &|| Ok(())).unwrap();
    let lost = *needed.keys().next().unwrap();
    rot(&store, lost);
    // Nobody has noticed yet: the ends are good.
    let report = repaired(store.clone(), None, &OPTIONS).unwrap();
    assert!(
        report.left.is_empty() && report.after.broken.is_empty(),
        "{report:?}"
    );
    let report = repaired(store.clone(), None, &READ_ALL).unwrap();
    assert!(report.done.is_empty(), "{report:?}");
    assert_eq!(report.left.len(), 1);
    assert_eq!(report.left[0].object, RepairedObject::Segment(lost));
    assert!(!report.after.broken.is_empty());
    assert!(matches!(report.after.noted, Noted::Done), "{report:?}");
    assert_eq!(vault.damage().unwrap().segments(), [lost].into());
    // Known now: it is read each time.
    let again = repaired(store.clone(), None, &OPTIONS).unwrap();
    assert_eq!(
        (again.left.len(), again.after.broken.len()),
        (1, report.after.broken.len())
    );
    source.next("host");
    let made = source.taken.last().unwrap();
    assert!(made.manifest.disks.iter().any(|disk| disk.parent.is_some()));
    let found = vault.find(&made.manifest.snapshot.to_string()).unwrap();
    let options = VerifyOptions {
        depth: VerifyDepth::Full,
        workers: 2,
    };
    let of_new = verify(&vault, &[found], &options, &Silent).unwrap();
    assert!(of_new.broken.is_empty(), "{of_new:?}");
    check(&vault, made);
}

#[test]
fn a_rotten_second_place_gives_nothing_wrong() {
    let source = Source::new();
    let name = names(source.store.as_ref(), "segments")[0].clone();
    let (store, second) = (copy_of(&source.store), copy_of(&source.store));
    for both in [&store, &second] {
        both.corrupt(&name, |bytes| bytes[200] ^= 1);
    }
    let rotten = contents(store.as_ref());
    let report = repaired(store.clone(), Some(&second), &READ_ALL).unwrap();
    assert!(report.done.is_empty(), "{report:?}");
    assert_eq!(report.left.len(), 1, "{report:?}");
    assert!(report.left[0].why.contains("slot"), "{report:?}");
    assert!(!report.after.broken.is_empty());
    let mut now: Contents = contents(store.as_ref());
    now.retain(|name, _| !name.starts_with("damaged/"));
    assert!(now == rotten, "something was changed");
    // It is whole there again: the next repair takes it.
    second.corrupt(&name, |bytes| bytes[200] ^= 1);
    is_well(
        &repaired(store.clone(), Some(&second), &OPTIONS).unwrap(),
        "then",
    );
    check_all(&Vault::open(store.clone()).unwrap(), &source.taken);
    assert!(
        names(store.as_ref(), "damaged").is_empty(),
        "the note stays"
    );
}

#[test]
fn a_dry_run_asks_and_puts_nothing() {
    let source = Source::new();
    let second = copy_of(&source.store);
    let name = names(source.store.as_ref(), "segments")[0].clone();
    let counted = Arc::new(CountStore::new(source.store.clone()));
    source.store.corrupt(&name, |bytes| bytes[200] ^= 1);
    let before = contents(source.store.as_ref());
    let report = planned(counted.clone(), Some(&second), &READ_ALL);
    assert_eq!(report.done[0].remedy, Remedy::FromSecond);
    assert!(!report.after.broken.is_empty(), "as it is now");
    assert!(contents(source.store.as_ref()) == before);
    let counts = counted.take();
    for verb in ["put", "replace", "delete"] {
        assert!(!counts.contains_key(verb), "{counts:?}");
    }
}

/// What was noted and cannot be read is told: nobody has looked at it.
#[test]
fn a_dry_run_tells_of_notes_that_cannot_be_read() {
    let source = Source::new();
    let well = planned(source.store.clone(), None, &OPTIONS);
    assert!(matches!(well.after.noted, Noted::Nothing), "{well:?}");
    let name = ObjectName::damage(SnapshotId::generate(1));
    source
        .store
        .put(&name, Blob::from_static(b"garbage"))
        .unwrap();
    let report = planned(source.store.clone(), None, &OPTIONS);
    assert!(matches!(report.after.noted, Noted::Failed(_)), "{report:?}");
}

/// What a repair asks of a vault in which nothing is wrong, and of its second place.
#[test]
fn a_vault_that_is_well_is_asked_as_by_a_fast_look() {
    let source = Source::new();
    let second = copy_of(&source.store);
    let (here, there) = (
        Arc::new(CountStore::new(source.store.clone())),
        Arc::new(CountStore::new(second)),
    );
    let counts = |store: &CountStore| -> BTreeMap<&'static str, u64> {
        let counts = store.take().into_iter();
        counts
            .map(|(verb, count)| (verb, count.operations))
            .collect()
    };
    let vault = Vault::open(here.clone()).unwrap();
    let all = vault.snapshots().unwrap();
    let options = VerifyOptions {
        depth: VerifyDepth::Fast,
        workers: 2,
    };
    counts(&here);
    verify(&vault, &all, &options, &Silent).unwrap();
    let mut looked = counts(&here);
    let from = Vault::open(there.clone()).unwrap();
    counts(&there);
    is_well(
        &repair(&vault, Some(&from), &OPTIONS, &Silent).unwrap(),
        "well",
    );
    // The snapshots at the beginning and, beside those of the second place, at the end.
    *looked.get_mut("list").unwrap() += 2;
    assert_eq!(counts(&here), looked);
    assert_eq!(counts(&there), BTreeMap::from([("list", 1)]));
}

#[test]
fn snapshots_go_on_after_a_repair() {
    let source = Source::new();
    let second = copy_of(&source.store);
    for name in names(source.store.as_ref(), "segments") {
        source.store.corrupt(&name, |bytes| bytes[200] ^= 1);
    }
    verify_all(&source.vault).unwrap();
    is_well(
        &repaired(source.store.clone(), Some(&second), &OPTIONS).unwrap(),
        "all",
    );
    let vault = Arc::new(Vault::open(source.store.clone()).unwrap());
    let made = take(&vault, &source.disks, Take::default()).unwrap();
    assert_eq!(
        made.manifest.disks[0].changed_bytes.0, 0,
        "nothing is stored again"
    );
    check(&vault, &made);
}
