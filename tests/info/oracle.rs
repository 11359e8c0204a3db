//! What is said to be freed is what a collection frees.

use super::yard::{Yard, delete, info_of};
use jiff::SignedDuration;
use std::sync::Arc;
use stillpoint::engine::{CollectOptions, RewriteRules, Silent, collect};
use stillpoint::model::SnapshotId;
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

const FOLDERS: [&str; 5] = ["segments", "index", "footers", "keeps", "snapshots"];
const GRACE: CollectOptions = CollectOptions {
    rewrite: RewriteRules::NEVER,
    grace: SignedDuration::from_hours(24),
};

/// The same vault again, in which 60 hours have passed.
fn copy_of(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = Arc::new(MemoryStore::one_at_a_time());
    let put = |name: &ObjectName| {
        copy.put(name, store.get(name, u64::MAX).unwrap()).unwrap();
        copy.age(name, SignedDuration::from_hours(60));
    };
    put(&ObjectName::vault_info());
    for folder in FOLDERS {
        let folder = ObjectName::parse(folder).unwrap();
        let all = store.list_all(&folder).unwrap();
        all.iter().for_each(|object| put(&object.name));
    }
    copy
}

fn bytes(store: &MemoryStore) -> u64 {
    let all = FOLDERS.iter().flat_map(|folder| {
        let folder = ObjectName::parse(folder).unwrap();
        store.list_all(&folder).unwrap()
    });
    all.map(|object| object.size).sum()
}

/// Plans, lets a day pass, and carries the plan out.
fn collect_all(store: &Arc<MemoryStore>) {
    for _ in 0..2 {
        let vault = Arc::new(Vault::open(store.clone()).unwrap());
        collect(&vault, GRACE, &Silent).unwrap();
        let plans = store.list_all(&ObjectName::condemned()).unwrap();
        let day = SignedDuration::from_hours(25);
        plans.iter().for_each(|object| store.age(&object.name, day));
    }
}

/// What is left when these are deleted and collected.
fn left_without(store: &MemoryStore, gone: &[SnapshotId]) -> u64 {
    let copy = copy_of(store);
    let vault = Vault::open(copy.clone()).unwrap();
    gone.iter().for_each(|id| delete(&vault, *id));
    collect_all(&copy);
    bytes(&copy)
}

#[test]
fn what_is_said_to_be_freed_is_freed() {
    let mut freed = 0;
    for seed in 100..112 {
        let yard = Yard::history(seed);
        let found = yard.info();
        let before = bytes(&yard.store);
        assert_eq!(found.bytes().0, before);
        // Without any deleted: what nothing needs goes.
        let clean = left_without(&yard.store, &[]);
        assert_eq!(found.unneeded.all().bytes.0, before - clean);
        assert_eq!(found.at_work.all().objects, 0);
        for one in &found.snapshots {
            let left = left_without(&yard.store, &[one.id]);
            assert_eq!(clean - left, one.holding.freed.0, "{seed}: {}", one.id);
            freed += usize::from(one.holding.freed.0 > 4000);
        }
        for host in &found.hosts {
            let own = found.snapshots.iter().filter(|one| one.host == host.name);
            let own: Vec<SnapshotId> = own.map(|one| one.id).collect();
            let left = left_without(&yard.store, &own);
            assert_eq!(clean - left, host.holding.freed.0, "{seed}: {}", host.name);
        }
    }
    assert!(freed > 20, "{freed}");
}

/// Whatever is deleted first, what is said of the rest is so then.
#[test]
fn what_one_frees_is_said_anew_when_another_has_gone() {
    let mut yard = Yard::history(5);
    while !yard.all.is_empty() {
        let found = info_of(yard.store.clone());
        let place = yard.random.below(yard.all.len() as u64) as usize;
        let gone = yard.all.remove(place);
        let mut all = found.snapshots.iter();
        let said = all.find(|one| one.id == gone.id).unwrap().holding.freed.0;
        let clean = left_without(&yard.store, &[]);
        delete(&yard.vault, gone.id);
        let keeps = yard.store.list_all(&ObjectName::keeps_of(gone.id)).unwrap();
        assert!(keeps.is_empty() || said > 0);
        assert_eq!(clean - left_without(&yard.store, &[]), said);
    }
    let empty = info_of(yard.store.clone());
    assert_eq!(empty.needed.all().bytes.0, 0);
    assert!(empty.hosts.is_empty() && empty.disks.is_empty() && empty.growth.is_none());
}
