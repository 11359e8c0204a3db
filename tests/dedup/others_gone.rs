//! Who has put the blocks is gone: deleted, collected, mirrored without them, rotten and repaired.

use super::*;
use crate::collect::stage::GRACE;
use crate::support::vaults::verify_all;
use jiff::SignedDuration;
use stillpoint::engine::{RepairOptions, Silent, collect, mirror, repair};

const FOLDERS: [&str; 6] = [
    "segments",
    "index",
    "footers",
    "condemned",
    "sessions",
    "snapshots",
];

impl Fleet {
    /// Lets a day and more pass.
    fn pass(&self) {
        for name in FOLDERS.iter().flat_map(|folder| self.names(folder)) {
            self.store.age(&name, SignedDuration::from_hours(30));
        }
    }

    pub(super) fn delete(&self, taken: &Taken) {
        let vault = self.vault();
        let found = vault.find(&taken.manifest.snapshot.to_string());
        vault.delete(&found.unwrap()).unwrap();
    }

    /// A plan, and a day later what it says.
    pub(super) fn collect_twice(&self) {
        for _ in 0..2 {
            self.pass();
            collect(&self.vault(), GRACE, &Silent).unwrap();
        }
    }
}

#[test]
fn the_host_that_put_them_is_deleted_and_collected() {
    let fleet = Fleet::new();
    let disk = disk_of(1);
    let first = take_on(&fleet.vault(), "first", &disk);
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    let lonely = take_on(&fleet.vault(), "third", &disk_of(7));
    fleet.delete(&first);
    fleet.delete(&lonely);
    fleet.collect_twice();
    assert_eq!(fleet.names("segments").len(), 1, "the third one's is gone");
    assert_eq!(
        fleet.names("footers").len(),
        1,
        "and the copy of its footer"
    );
    check_all(&fleet.vault(), from_ref(&second));
    // A host that comes now finds what is left.
    let late = take_on(&fleet.vault(), "fourth", &disk_of(1));
    assert_eq!(counts(&late), [0, BLOCKS - 19]);
    fleet.delete(&second);
    fleet.collect_twice();
    check_all(&fleet.vault(), from_ref(&late));
    fleet.delete(&late);
    fleet.collect_twice();
    assert!(fleet.names("segments").is_empty());
}

#[test]
fn what_a_plan_names_is_not_referred_to_though_it_is_there() {
    let fleet = Fleet::new();
    let first = take_on(&fleet.vault(), "first", &disk_of(1));
    fleet.delete(&first);
    fleet.pass();
    let planned = collect(&fleet.vault(), GRACE, &Silent).unwrap();
    assert!(planned.planned.is_some());
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    assert_eq!(counts(&second), [BLOCKS - 20, 0]);
    fleet.pass();
    collect(&fleet.vault(), GRACE, &Silent).unwrap();
    assert_eq!(fleet.names("segments").len(), 1);
    check_all(&fleet.vault(), from_ref(&second));
}

#[test]
fn a_mirror_takes_what_others_have_put_along() {
    let fleet = Fleet::new();
    let first = take_on(&fleet.vault(), "first", &disk_of(1));
    let disk = disk_of(1);
    disk.write(0, &noise(6 * BLOCK_SIZE, 5));
    let second = take_on(&fleet.vault(), "second", &disk);
    fleet.delete(&first);
    let there = Arc::new(MemoryStore::one_at_a_time());
    let target = Vault::create_second(there.clone(), &fleet.vault()).unwrap();
    let all = fleet.vault().snapshots().unwrap();
    mirror(&fleet.vault(), &target, &all, &Silent).unwrap();
    let open = || Arc::new(Vault::open(there.clone()).unwrap());
    check_all(&open(), from_ref(&second));
    // The second place can be written to like the first.
    let third = take_on(&open(), "third", &disk_of(1));
    assert_eq!(counts(&third), [0, BLOCKS - 19]);
    check_all(&open(), &[second, third]);
}

#[test]
fn one_segment_that_rots_is_named_for_all_and_repaired_for_all() {
    let fleet = Fleet::new();
    let first = take_on(&fleet.vault(), "first", &disk_of(1));
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    let there = Arc::new(MemoryStore::one_at_a_time());
    let target = Vault::create_second(there.clone(), &fleet.vault()).unwrap();
    let all = fleet.vault().snapshots().unwrap();
    mirror(&fleet.vault(), &target, &all, &Silent).unwrap();
    let segment = &fleet.names("segments")[0];
    fleet.store.corrupt(segment, |bytes| bytes[200] ^= 1);
    let found = verify_all(&fleet.vault()).unwrap();
    let broken: BTreeSet<_> = found.broken.iter().map(|one| one.snapshot).collect();
    let both = [&first, &second].map(|taken| taken.manifest.snapshot);
    assert_eq!(broken, both.into());
    // The next run of any host stores the block that is lost, and no other.
    let third = take_on(&fleet.vault(), "third", &disk_of(1));
    assert_eq!(counts(&third), [1, BLOCKS - 20]);
    let options = RepairOptions {
        read_all: false,
        workers: 2,
    };
    let second_place = Vault::open(there).unwrap();
    let done = repair(&fleet.vault(), Some(&second_place), &options, &Silent).unwrap();
    assert!(
        done.left.is_empty() && done.after.broken.is_empty(),
        "{done:?}"
    );
    check_all(&fleet.vault(), &[first, second, third]);
}
