//! What both places have lost something of, what cannot be read just now, and notes of damage.

use super::*;
use crate::s3::confirmed::Forgetful;
use crate::support::vaults::verify_all;

/// A vault, and the same in a second place.
fn both() -> (Source, Arc<MemoryStore>) {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    source.mirror_to(store.clone()).unwrap();
    (source, store)
}

fn longest(store: &dyn ObjectStore, folder: &str) -> ObjectName {
    let listed = store.list_all(&ObjectName::parse(folder).unwrap());
    let longest = listed.unwrap().into_iter().max_by_key(|object| object.size);
    longest.unwrap().name
}

fn delete_all(store: &dyn ObjectStore, folder: &str) {
    let listed = store.list_all(&ObjectName::parse(folder).unwrap());
    let mut listed = listed.unwrap().into_iter();
    listed.all(|object| store.delete(&object.name).is_ok());
}

/// A segment of the second place has rotted, and `verify` has noted it.
fn noted(store: &Arc<MemoryStore>) -> Vault {
    let name = longest(store.as_ref(), "segments");
    store.corrupt(&name, |bytes| bytes[200] ^= 1);
    let target = Vault::open(store.clone()).unwrap();
    verify_all(&target).unwrap();
    assert!(!target.damage().unwrap().is_empty());
    target
}

#[test]
fn notes_that_cannot_be_read_are_kept() {
    let (source, store) = both();
    let target = noted(&store);
    let garbage = ObjectName::damage(SnapshotId::generate(1));
    store.put(&garbage, vec![7; 50].into()).unwrap();
    let before = store.list_all(&ObjectName::damaged()).unwrap().len();
    let report = source.mirror_to(store.clone()).unwrap();
    assert_eq!(report.wrong.len(), 1, "{report:?}");
    let told = report.warnings.iter().any(|what| what.contains("still"));
    assert!(told, "{report:?}");
    let after = store.list_all(&ObjectName::damaged()).unwrap().len();
    assert_eq!((before, after), (2, 2));
    assert!(target.damage().is_err());
}

#[test]
fn what_was_put_right_is_forgotten_though_the_mirror_fails() {
    let (source, store) = both();
    let target = noted(&store);
    let manifest = &source.taken[0].manifest;
    let oldest = ObjectName::manifest(&manifest.host, manifest.snapshot);
    store.delete(&oldest).unwrap();
    let faulty = FaultStore::new(store.clone(), move |operation| {
        match operation.verb == "put" && *operation.name == oldest {
            true => Err(Error::new(ErrorKind::Io, "the test says so")),
            false => Ok(()),
        }
    });
    let error = source.mirror_to(Arc::new(faulty)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(target.damage().unwrap().is_empty());
}

#[test]
fn a_manifest_that_cannot_be_read_just_now_is_not_replaced() {
    for kind in [ErrorKind::Io, ErrorKind::Format] {
        let (source, store) = both();
        let manifest = &source.taken[1].manifest;
        let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
        store.corrupt(&name, |bytes| bytes.push(0));
        let before = store.get(&name, 1 << 20).unwrap();
        let asked = name.clone();
        let faulty = FaultStore::new(store.clone(), move |operation| {
            match operation.verb == "get" && *operation.name == asked {
                true => Err(Error::new(kind, "the test says so")),
                false => Ok(()),
            }
        });
        let ended = source.mirror_to(Arc::new(faulty));
        match kind {
            ErrorKind::Io => assert_eq!(ended.unwrap_err().kind(), kind),
            _ => {
                let wrong = ended.unwrap().wrong;
                assert!(wrong.len() == 1 && !wrong[0].replaced, "{wrong:?}");
            }
        }
        assert!(store.get(&name, 1 << 20).unwrap() == before, "{kind:?}");
    }
}

#[test]
fn a_segment_cut_short_that_the_source_has_lost_is_damage() {
    let (source, store) = both();
    let name = longest(store.as_ref(), "segments");
    source.store.delete(&name).unwrap();
    store.corrupt(&name, |bytes| bytes.truncate(100));
    let report = source.mirror_to(store).unwrap();
    assert!(!report.damaged.is_empty(), "{report:?}");
    let there = report.damaged.iter().any(|damage| damage.there);
    assert!(!there, "{report:?}");
    assert!(!report.wrong.is_empty(), "{report:?}");
}

#[test]
fn what_each_place_has_lost_comes_from_the_other() {
    let (source, store) = both();
    let name = longest(store.as_ref(), "segments");
    source.store.corrupt(&name, |bytes| bytes.truncate(100));
    delete_all(store.as_ref(), "index");
    let report = source.mirror_to(store.clone()).unwrap();
    assert!(!report.damaged.is_empty(), "{report:?}");
    let there = report.damaged.iter().all(|damage| damage.there);
    assert!(there, "{report:?}");
    let target = Vault::open(store).unwrap();
    check_all(&target, &source.taken);
}

#[test]
fn what_is_there_is_told_after_a_look() {
    for folder in ["index", "segments"] {
        let (source, store) = both();
        delete_all(source.store.as_ref(), "index");
        delete_all(store.as_ref(), folder);
        let report = source.mirror_to(store).unwrap();
        assert_eq!(report.damaged.len(), 4, "{report:?}");
        let there = report.damaged.iter().any(|damage| damage.there);
        assert!(!there, "{folder}: {report:?}");
    }
}

#[test]
fn a_snapshot_is_not_called_there_when_the_answer_fails() {
    let (source, store) = both();
    delete_all(source.store.as_ref(), "index");
    let faulty = FaultStore::new(store, |operation| {
        let is_manifest = operation.name.as_str().starts_with("snapshots/");
        match operation.verb == "get" && is_manifest {
            true => Err(Error::new(ErrorKind::Io, "the test says so")),
            false => Ok(()),
        }
    });
    let error = source.mirror_to(Arc::new(faulty)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

/// As a collector does that takes the mirror for dead, before its manifest is put or meanwhile.
#[test]
fn a_mirror_that_was_taken_for_dead_makes_no_snapshot() {
    for at in ["index", "snapshots"] {
        let (source, store) = (Source::new(), Arc::new(MemoryStore::new()));
        let thief = store.clone();
        let watched = FaultStore::new(store.clone(), move |operation| {
            let folder = operation.name.components().next();
            if operation.verb == "put" && !operation.done && folder == Some(at) {
                delete_all(thief.as_ref(), "sessions");
            }
            Ok(())
        });
        let error = source.mirror_to(Arc::new(watched)).unwrap_err();
        assert!(error.to_string().contains("session is gone"), "{error}");
        let target = Vault::open(store.clone()).unwrap();
        assert_eq!(target.snapshots().unwrap(), Vec::new(), "{at}");
        // The next one goes on.
        is_clean(&source.mirror_to(store).unwrap());
        assert_eq!(target.snapshots().unwrap().len(), source.taken.len());
    }
}

/// Another mirror has put the manifest, and is told that it is there, when this one notices that it
/// was taken for dead.
#[test]
fn what_another_mirror_has_put_is_not_taken_back() {
    let (source, store) = (Source::new(), Arc::new(MemoryStore::new()));
    let (other, from) = (store.clone(), source.store.clone());
    let watched = FaultStore::new(store.clone(), move |operation| {
        let folder = operation.name.components().next();
        if operation.verb == "put" && !operation.done && folder == Some("snapshots") {
            delete_all(other.as_ref(), "sessions");
            other.put(operation.name, from.get(operation.name, 1 << 20)?)?;
        }
        Ok(())
    });
    let error = source.mirror_to(Arc::new(watched)).unwrap_err();
    assert!(error.to_string().contains("session is gone"), "{error}");
    let target = Vault::open(store).unwrap();
    assert_eq!(target.snapshots().unwrap().len(), 1);
}

/// Of an object that rotted at its length, the length tells nothing.
#[test]
fn what_a_store_says_it_has_replaced_is_read_again() {
    let source = Source::new();
    let store = Arc::new(Forgetful::new("none", false));
    source.mirror_to(store.clone()).unwrap();
    let rotten = longest(store.as_ref(), "segments");
    let mut bytes = store.get(&rotten, 64 << 20).unwrap().to_vec();
    bytes[200] ^= 1;
    store.replace(&rotten, bytes.into()).unwrap();
    let target = Vault::open(store.clone()).unwrap();
    verify_all(&target).unwrap();
    store.forget_from_now_on();
    let error = source.mirror_to(store.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(
        error.to_string().contains("still has other bytes"),
        "{error}"
    );
    assert!(!target.damage().unwrap().is_empty(), "it is forgotten");
    store.remember_again();
    assert!(source.mirror_to(store.clone()).unwrap().wrong[0].replaced);
    assert!(target.damage().unwrap().is_empty());
    check_all(&target, &source.taken);
}
