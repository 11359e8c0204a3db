//! `vault.json` says another word than it said: whoever may write can change it, and nothing seals
//! it. Whatever it says and said, no snapshot loses a block or is read wrong, and it is told.

use super::failed::{failing, failing_at};
use super::*;
use crate::collect::stage::GRACE;
use crate::sealed::{given, key};
use crate::support::vaults::verify_all;
use std::sync::Mutex;
use stillpoint::engine::{Silent, collect, mirror};
use stillpoint::format::VaultInfo;

const WORDS: [BlockDedup; 2] = [BlockDedup::Disk, BlockDedup::Vault];

impl Fleet {
    /// A plain one and a sealed one, made with this word.
    fn both(dedup: BlockDedup) -> [Self; 2] {
        let plain = VaultOptions {
            dedup,
            ..shared_options()
        };
        let sealed = VaultOptions {
            encrypt: Some(key("first")),
            ..plain.clone()
        };
        [
            Self::of(plain, KeySource::Nobody),
            Self::of(sealed, given("first")),
        ]
    }

    /// Somebody who may write changes the word.
    fn change(&self, dedup: BlockDedup) {
        change_in(&self.store, &self.vault(), dedup);
    }
}

fn change_in(store: &MemoryStore, vault: &Vault, dedup: BlockDedup) {
    let info = VaultInfo {
        dedup,
        ..vault.info().clone()
    };
    let bytes = info.encode().unwrap();
    store
        .replace(&ObjectName::vault_info(), bytes.into())
        .unwrap();
}

/// A run that has read `told` fails when its manifest is put. Right before that another one, which
/// has read that blocks are shared, finds what it has put, and ends well.
fn one_fails_whose_blocks_another_has_found(fleet: &Fleet, finder: Arc<Vault>, now: BlockDedup) {
    let found = Arc::new(Mutex::new(None));
    let put = Arc::clone(&found);
    let meanwhile = move || {
        let second = take_on(&finder, "second", &disk_of(1));
        *put.lock().unwrap() = Some(second);
    };
    let failed = try_on(&failing(fleet, meanwhile), "first", &disk_of(1), |_| ());
    let error = failed.err().unwrap().to_string();
    assert!(
        error.contains("as other hosts may refer to them by now"),
        "{error}"
    );
    let second = found.lock().unwrap().take().unwrap();
    assert_eq!(counts(&second), [0, BLOCKS - 19], "it has found nothing");
    fleet.change(now);
    check_all(&fleet.vault(), from_ref(&second));
    assert!(fleet.names("index").len() == 1, "the failed one's is gone");
}

#[test]
fn a_run_that_began_before_blocks_were_shared_takes_back_nothing_that_was_found() {
    for fleet in Fleet::both(BlockDedup::Disk) {
        // The one that fails is opened first.
        let found = Arc::new(Mutex::new(None));
        let put = Arc::clone(&found);
        let other = Fleet {
            store: fleet.store.clone(),
            key: fleet.key.clone(),
        };
        let meanwhile = move || {
            other.change(BlockDedup::Vault);
            let second = take_on(&other.vault(), "second", &disk_of(1));
            *put.lock().unwrap() = Some(second);
        };
        let failing = failing(&fleet, meanwhile);
        let failed = try_on(&failing, "first", &disk_of(1), |_| ());
        assert!(failed.is_err());
        let second = found.lock().unwrap().take().unwrap();
        assert_eq!(counts(&second), [0, BLOCKS - 19]);
        check_all(&fleet.vault(), from_ref(&second));
    }
}

#[test]
fn a_run_that_began_when_blocks_were_shared_no_more_takes_back_nothing_that_was_found() {
    for fleet in Fleet::both(BlockDedup::Vault) {
        let finder = fleet.vault();
        fleet.change(BlockDedup::Disk);
        one_fails_whose_blocks_another_has_found(&fleet, finder, BlockDedup::Disk);
    }
}

/// Also long after it has failed: what copies name stays until a collector takes it, which waits
/// for all who may have found it.
#[test]
fn what_a_failed_run_has_left_is_found_when_the_word_is_changed_and_collected_when_nobody_does() {
    for fleet in Fleet::both(BlockDedup::Disk) {
        let failed = try_on(&failing(&fleet, || ()), "first", &disk_of(1), |_| ());
        assert!(failed.is_err());
        let left = ["segments", "footers", "index", "snapshots"].map(|one| fleet.names(one).len());
        assert_eq!(left, [1, 1, 0, 0]);
        fleet.change(BlockDedup::Vault);
        let second = take_on(&fleet.vault(), "second", &disk_of(1));
        assert_eq!(counts(&second), [0, BLOCKS - 19]);
        fleet.change(BlockDedup::Disk);
        fleet.collect_twice();
        check_all(&fleet.vault(), from_ref(&second));
        fleet.delete(&second);
        fleet.collect_twice();
        assert!(fleet.names("segments").is_empty() && fleet.names("footers").is_empty());
    }
}

/// What no copies of footers have told of yet, nobody can refer to.
#[test]
fn a_run_that_fails_before_it_has_told_of_anything_leaves_nothing() {
    for fleet in WORDS.into_iter().flat_map(Fleet::both) {
        let vault = failing_at("index/", &fleet, || ());
        let failed = try_on(&vault, "first", &disk_of(1), |_| ());
        let error = failed.err().unwrap().to_string();
        assert!(!error.contains("other hosts"), "{error}");
        for folder in ["segments", "footers", "index", "snapshots"] {
            assert!(fleet.names(folder).is_empty(), "{folder}");
        }
    }
}

#[test]
fn what_was_taken_by_either_word_is_read_built_on_collected_and_mirrored_by_the_other() {
    for made in WORDS {
        let other = WORDS[usize::from(made == WORDS[0])];
        for fleet in Fleet::both(made) {
            let disk = disk_of(1);
            let first = take_on(&fleet.vault(), "first", &disk_of(1));
            let second = take_on(&fleet.vault(), "second", &disk);
            fleet.change(other);
            check_all(&fleet.vault(), &[first, second]);

            disk.write(40 * BLOCK_SIZE, &noise(10 * BLOCK_SIZE, 2));
            let third = take_on(&fleet.vault(), "second", &disk);
            assert!(third.manifest.disks[0].parent.is_some());
            assert_eq!(counts(&third), [10, 0]);
            // All but the last one go, and with them whoever has put its blocks first.
            let all = fleet.vault().snapshots().unwrap();
            for gone in all.iter().filter(|one| one.id != third.manifest.snapshot) {
                fleet.vault().delete(gone).unwrap();
            }
            fleet.collect_twice();
            check_all(&fleet.vault(), from_ref(&third));

            // The second place may say another word than the first one.
            let there = Arc::new(MemoryStore::one_at_a_time());
            let vault = fleet.vault();
            let target = Vault::create_second(there.clone(), &vault).unwrap();
            mirror(&vault, &target, &vault.snapshots().unwrap(), &Silent).unwrap();
            change_in(&there, &vault, made);
            let open = || fleet.through(there.clone());
            check_all(&open(), from_ref(&third));
            disk.write(60 * BLOCK_SIZE, &noise(5 * BLOCK_SIZE, 3));
            let fourth = take_on(&vault, "second", &disk);
            let all = vault.snapshots().unwrap();
            mirror(&vault, &open(), &all, &Silent).unwrap();
            check_all(&open(), &[third, fourth]);
            collect(&open(), GRACE, &Silent).unwrap();
        }
    }
}

#[test]
fn that_it_was_changed_is_told_for_as_long_as_snapshots_say_so() {
    for fleet in Fleet::both(BlockDedup::Disk) {
        let first = take_on(&fleet.vault(), "first", &disk_of(1));
        let words = || verify_all(&fleet.vault()).unwrap().dedup.unwrap();
        assert_eq!((words().told(), words().is_new()), (None, false));
        fleet.change(BlockDedup::Vault);
        assert_eq!(first.manifest.dedup, Some(BlockDedup::Disk));
        let told = words().told().unwrap();
        assert!(
            told.contains("says dedup `vault`, and said `disk` when snapshot")
                && told.contains(&first.manifest.snapshot.to_string()),
            "{told}"
        );
        assert!(words().is_new());
        let second = take_on(&fleet.vault(), "second", &disk_of(1));
        assert_eq!(second.manifest.dedup, Some(BlockDedup::Vault));
        assert!(words().told().is_some() && !words().is_new());
        fleet.delete(&first);
        assert_eq!(words().told(), None);
    }
}
