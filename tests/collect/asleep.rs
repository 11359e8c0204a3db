//! Machines that stand still for days, just when they have put a manifest, and what others have
//! made of it by then.

use super::rewriting::{REWRITING, done, gc, half_dead};
use super::two_places::{ids, second_of, send};
use super::world::pace;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stillpoint::engine::{CollectPace, Silent, collect, collect_at, mirror};
use stillpoint::store::{FaultStore, MemoryStore, ObjectName, ObjectStore, Operation, Vault};

/// Whoever has a session is taken for dead.
fn end_sessions(store: &MemoryStore) {
    for one in store.list_all(&ObjectName::sessions()).unwrap() {
        store.delete(&one.name).unwrap();
    }
}

fn is_manifest_put(operation: &Operation<'_>) -> bool {
    let is_put = operation.verb == "put" && operation.done;
    is_put && operation.name.as_str().starts_with("snapshots/")
}

/// It stands still for days, just when it has put the new name; another one sees both.
#[test]
fn who_was_taken_for_dead_takes_no_new_name_back() {
    let half = half_dead();
    let stage = &half.stage;
    let asleep = AtomicBool::new(false);
    let (store, other) = (stage.store.clone(), stage.vault());
    let steps = FaultStore::new(stage.store.clone(), move |operation| {
        if is_manifest_put(&operation) && !asleep.swap(true, Ordering::Relaxed) {
            end_sessions(&store);
            let renamed = done(collect(&other, REWRITING, &Silent)?).renamed;
            assert!(!renamed.is_empty());
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
    let wait = |_| Ok(());
    let pace = CollectPace {
        session: pace(),
        wait: &wait,
    };
    let error = collect_at(&pace, &vault, REWRITING, &Silent).unwrap_err();
    assert!(error.to_string().contains("taken for dead"), "{error}");
    half.check();
}

/// The same of a mirror: a snapshot that comes for the first time is taken back.
#[test]
fn a_mirror_that_was_taken_for_dead_takes_no_new_name_back() {
    let half = half_dead();
    let second = second_of(&half.stage);
    let cut_off = || {
        let store = second.store.clone();
        let steps = FaultStore::new(second.store.clone(), move |operation| {
            if is_manifest_put(&operation) {
                end_sessions(&store);
            }
            Ok(())
        });
        let target = Vault::open(Arc::new(steps)).unwrap();
        let source = half.stage.vault();
        mirror(&source, &target, &source.snapshots().unwrap(), &Silent).unwrap_err();
    };
    cut_off();
    assert!(ids(&second).is_empty());
    send(&half.stage, &second);
    gc(&half.stage);
    cut_off();
    assert_eq!(ids(&second).len(), 3);
}
