//! Damage in either place: none is carried over, what is wrong in the second place is named and put
//! right, and all that can come does.

use super::*;
use crate::support::vaults::verify_all;
use std::sync::atomic::AtomicBool;
use stillpoint::engine::{Noted, SourceDamage};

/// The names of the objects in a folder of a store, with their lengths, longest first.
fn objects(store: &dyn ObjectStore, folder: &str) -> Vec<ObjectName> {
    let folder = ObjectName::parse(folder).unwrap();
    let mut listed = store.list_all(&folder).unwrap();
    listed.sort_by_key(|object| std::cmp::Reverse(object.size));
    listed.into_iter().map(|object| object.name).collect()
}

/// What changes an object's bytes.
pub type Change = fn(&mut Vec<u8>);

/// What happens to an object.
pub const ACTIONS: [(&str, Change); 4] = [
    ("empty", Vec::clear),
    ("short", |bytes| bytes.truncate(bytes.len() - 1)),
    ("flipped", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
    }),
    ("longer", |bytes| bytes.push(0)),
];

#[test]
fn damage_of_the_source_is_not_carried_over() {
    let source = Source::new();
    let needed: Vec<Contents> = (0..4).map(|at| needed_by(&source, at)).collect();
    for folder in ["segments", "index", "snapshots"] {
        for name in objects(source.store.as_ref(), folder) {
            for (action, change) in ACTIONS {
                let what = format!("{action}: {name}");
                let from = copy_of(&source.store);
                from.corrupt(&name, change);
                let store = Arc::new(MemoryStore::new());
                let report = carry(from.clone(), store.clone()).unwrap();
                assert!(report.wrong.is_empty(), "{what}: {:?}", report.wrong);
                // What needs it does not come, and all else does.
                let told: Vec<_> = report.damaged.iter().map(|one| one.snapshot).collect();
                for (one, needed) in source.taken.iter().zip(&needed) {
                    let id = one.manifest.snapshot;
                    let needs = needed.contains_key(name.as_str());
                    assert_eq!(told.contains(&id), needs, "{what}: {id}");
                    assert_eq!(report.sent.contains(&id), !needs, "{what}: {id}");
                }
                assert!(!told.is_empty(), "{what}");
                assert!(report.damaged.iter().all(|damage| !damage.there), "{what}");
                if folder != "snapshots" {
                    let id = name.components().last().unwrap();
                    let names = |one: &SourceDamage| one.what.contains(id);
                    assert!(report.damaged.iter().all(names), "{:?}", report.damaged);
                }
                let broken = verify_all(&Vault::open(from).unwrap()).unwrap().broken;
                assert!(broken.iter().all(|broken| told.contains(&broken.snapshot)));
                let target = Vault::open(store.clone()).unwrap();
                assert!(verify_all(&target).unwrap().broken.is_empty(), "{what}");
                for one in &source.taken {
                    if report.sent.contains(&one.manifest.snapshot) {
                        check(&target, one);
                    }
                }
                let there = contents(store.as_ref());
                assert!(!there.contains_key(name.as_str()), "{what}: it was carried");
            }
        }
    }
}

/// Copies of footers come with the snapshots that name them. Where they cannot, nothing is lost.
#[test]
fn copies_of_footers_come_or_are_done_without() {
    let source = Source::new();
    let all = objects(source.store.as_ref(), "footers");
    assert!(!all.is_empty());
    for (action, change) in ACTIONS {
        for name in &all {
            let from = copy_of(&source.store);
            from.corrupt(name, change);
            let store = Arc::new(MemoryStore::new());
            is_clean(&carry(from, store.clone()).unwrap());
            let there = objects(store.as_ref(), "footers");
            assert_eq!(there.len(), all.len() - 1, "{action}: {name}");
            check_all(&Vault::open(store).unwrap(), &source.taken);
        }
    }
}

#[test]
fn what_came_earlier_outlives_the_source() {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    source.mirror_to(store.clone()).unwrap();
    for folder in ["segments", "index", "snapshots"] {
        let name = objects(source.store.as_ref(), folder)[0].clone();
        let kept = source.store.get(&name, 1 << 30).unwrap();
        source.store.delete(&name).unwrap();
        let report = source.mirror_to(store.clone()).unwrap();
        assert!(
            report.wrong.is_empty() && report.sent.is_empty(),
            "{report:?}"
        );
        let told = &report.damaged;
        assert!(told.iter().all(|damage| damage.there), "{told:?}");
        // A lost segment is noticed by `verify` of the source, a manifest is a deleted snapshot.
        assert_eq!(told.is_empty(), folder != "index", "{folder}: {told:?}");
        let target = Vault::open(store.clone()).unwrap();
        check_all(&target, &source.taken);
        // The way back puts it right.
        let back = mirror(
            &target,
            &source.vault,
            &target.snapshots().unwrap(),
            &Silent,
        )
        .unwrap();
        assert_eq!(back.objects, 1, "{folder}: {back:?}");
        assert_eq!(source.store.get(&name, 1 << 30).unwrap(), kept);
        check_all(&source.vault, &source.taken);
    }
}

#[test]
fn what_is_wrong_in_the_second_place_is_named_and_put_right() {
    for folder in ["segments", "index", "snapshots"] {
        for (action, change) in ACTIONS {
            if action == "flipped" {
                // Of the right length: for `verify` to find, see below.
                continue;
            }
            let source = Source::new();
            let store = Arc::new(MemoryStore::new());
            source.mirror_to(store.clone()).unwrap();
            let name = objects(store.as_ref(), folder)[0].clone();
            let what = format!("{action}: {name}");
            store.corrupt(&name, change);
            let target = Vault::open(store.clone()).unwrap();
            let planned = plan_mirror(&source.vault, Some(&target), &source.all(), &Silent);
            let planned = planned.unwrap();
            assert_eq!(planned.wrong.len(), 1, "{what}: {planned:?}");
            assert!(!planned.wrong[0].replaced, "{what}");
            let report = source.mirror_to(store.clone()).unwrap();
            assert_eq!(report.wrong.len(), 1, "{what}: {report:?}");
            assert!(report.wrong[0].replaced, "{what}");
            let id = name.components().last().unwrap();
            assert!(report.wrong[0].object.contains(id), "{report:?}");
            assert_eq!(report.objects, 1, "{what}");
            assert!(contents(store.as_ref()) == contents(source.store.as_ref()));
            is_clean(&source.mirror_to(store).unwrap());
        }
    }
}

#[test]
fn what_is_missing_in_the_second_place_is_named_and_put_back() {
    for folder in ["segments", "index"] {
        let source = Source::new();
        let store = Arc::new(MemoryStore::new());
        source.mirror_to(store.clone()).unwrap();
        let name = objects(store.as_ref(), folder)[0].clone();
        store.delete(&name).unwrap();
        let report = source.mirror_to(store.clone()).unwrap();
        assert_eq!(report.wrong.len(), 1, "{report:?}");
        assert!(report.wrong[0].what.contains("missing"), "{report:?}");
        assert_eq!((report.objects, report.there), (1, 4));
        assert!(contents(store.as_ref()) == contents(source.store.as_ref()));
    }
}

#[test]
fn a_directory_is_put_right_too() {
    let source = Source::new();
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::create(folder.path()).unwrap());
    source.mirror_to(store.clone()).unwrap();
    for part in ["segments", "index", "snapshots"] {
        let name = objects(store.as_ref(), part)[0].clone();
        let path = folder.path().join(name.as_str());
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(100).unwrap();
        let report = source.mirror_to(store.clone()).unwrap();
        assert!(
            report.wrong.len() == 1 && report.wrong[0].replaced,
            "{report:?}"
        );
        assert!(contents(store.as_ref()) == contents(source.store.as_ref()));
    }
}

#[test]
fn what_verify_has_found_there_is_put_right() {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    source.mirror_to(store.clone()).unwrap();
    let name = objects(store.as_ref(), "segments")[0].clone();
    store.corrupt(&name, |bytes| bytes[200] ^= 1);
    // By its name and length nothing is wrong with it.
    is_clean(&source.mirror_to(store.clone()).unwrap());
    let target = Vault::open(store.clone()).unwrap();
    let found = verify_all(&target).unwrap();
    assert!(matches!(found.noted, Noted::Done), "{found:?}");
    let report = source.mirror_to(store.clone()).unwrap();
    assert_eq!(report.wrong.len(), 1, "{report:?}");
    assert!(report.wrong[0].replaced && report.wrong[0].what.contains("verify"));
    // It is forgotten with it.
    assert!(target.damage().unwrap().is_empty());
    is_clean(&source.mirror_to(store.clone()).unwrap());
    check_all(&target, &source.taken);
    assert!(contents(store.as_ref()) == contents(source.store.as_ref()));
}

#[test]
fn of_two_manifests_that_are_whole_none_is_replaced() {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    source.mirror_to(store.clone()).unwrap();
    let manifest = &source.taken[1].manifest;
    let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
    let mut other = manifest.clone();
    other.tags.insert("other".into(), "x".repeat(100));
    let bytes = other.encode(source.vault.sealer()).unwrap();
    store.corrupt(&name, |there| *there = bytes.clone());
    let report = source.mirror_to(store.clone()).unwrap();
    assert_eq!(report.wrong.len(), 1, "{report:?}");
    assert!(!report.wrong[0].replaced, "{report:?}");
    assert_eq!(report.objects, 0);
    assert_eq!(store.get(&name, 1 << 20).unwrap(), bytes);
}

/// The source's snapshot is deleted, and its blocks collected, at some moment of the mirror.
#[test]
fn what_is_deleted_meanwhile_is_told_and_the_others_come() {
    let mut gone = 0;
    let source = Source::new();
    let manifest = &source.taken[2].manifest;
    let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
    let mut needed = needed_by(&source, 2);
    for other in [0, 1, 3] {
        let others = needed_by(&source, other);
        needed.retain(|name, _| !others.contains_key(name));
    }
    let names = needed.keys().map(|name| ObjectName::parse(name).unwrap());
    let names: Vec<ObjectName> = names.collect();
    assert!(names.len() > 1);
    for moment in 0..200 {
        let inner = copy_of(&source.store);
        let done = Arc::new(AtomicBool::new(false));
        let (was_done, name, names) = (Arc::clone(&done), name.clone(), names.clone());
        let faulty = FaultStore::new(inner.clone(), move |operation| {
            if operation.moment == moment {
                // As a deletion and a collector do it: the manifest first.
                inner.delete(&name).unwrap();
                names.iter().for_each(|name| inner.delete(name).unwrap());
                was_done.store(true, Ordering::SeqCst);
            }
            Ok(())
        });
        let all = source.all();
        let from = Vault::open(Arc::new(faulty)).unwrap();
        let store = Arc::new(MemoryStore::new());
        let target = second(store, &source.vault).unwrap();
        let report = mirror(&from, &target, &all, &Silent).unwrap();
        if !done.load(Ordering::SeqCst) {
            assert!(gone > 10, "{gone} of {moment} moments");
            return;
        }
        let what = format!("moment {moment}: {report:?}");
        assert!(
            report.damaged.is_empty() && report.wrong.is_empty(),
            "{what}"
        );
        let deleted = source.taken[2].manifest.snapshot;
        match report.sent.contains(&deleted) {
            true => check_all(&target, &source.taken),
            false => {
                gone += 1;
                assert_eq!(report.gone, [deleted], "{what}");
                assert_eq!(report.sent.len(), 3, "{what}");
                for at in [0, 1, 3] {
                    check(&target, &source.taken[at]);
                }
            }
        }
    }
    panic!("there were more moments than thought");
}
