//! What is not so: segments that are gone, cut short, or known to be damaged; copies of footers
//! that are.

use super::*;
use stillpoint::store::CountStore;

/// All of a disk is stored anew, and right.
#[track_caller]
pub(super) fn stores_all(fleet: &Fleet, host: &str) -> Taken {
    let taken = take_on(&fleet.vault(), host, &disk_of(1));
    assert_eq!(counts(&taken), [BLOCKS - 20, 0]);
    taken
}

#[test]
fn a_segment_that_is_gone_or_cut_short_is_not_named() {
    for change in [
        |fleet: &Fleet, name: &ObjectName| fleet.store.delete(name).unwrap(),
        |fleet: &Fleet, name: &ObjectName| {
            fleet
                .store
                .corrupt(name, |bytes| bytes.truncate(bytes.len() - 1));
        },
        |fleet: &Fleet, name: &ObjectName| fleet.store.corrupt(name, |bytes| bytes.push(0)),
    ] {
        let fleet = Fleet::new();
        take_on(&fleet.vault(), "first", &disk_of(1));
        change(&fleet, &fleet.names("segments")[0]);
        stores_all(&fleet, "second");
        // The second one's is whole.
        let third = take_on(&fleet.vault(), "third", &disk_of(1));
        assert_eq!(counts(&third), [0, BLOCKS - 19]);
    }
}

#[test]
fn what_is_known_to_be_damaged_is_not_named() {
    let fleet = Fleet::new();
    let first = take_on(&fleet.vault(), "first", &disk_of(1));
    let vault = fleet.vault();
    let segment = *segments_of(&vault, &first.manifest).first().unwrap();
    let known = vault.known_damage().unwrap();
    let mut damage = known.damage.clone();
    damage.add(segment, Some(&(50..60).collect()));
    vault.note_damage(&known, &damage).unwrap();
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    assert_eq!(counts(&second), [10, BLOCKS - 29]);
    let known = vault.known_damage().unwrap();
    let mut damage = known.damage.clone();
    damage.add(segment, None);
    vault.note_damage(&known, &damage).unwrap();
    let third = take_on(&fleet.vault(), "third", &disk_of(1));
    assert_eq!(counts(&third), [BLOCKS - 30, 10], "what the second has put");
    // A list that cannot be read may name anything.
    let list = &fleet.names("damaged")[0];
    fleet.store.corrupt(list, |bytes| bytes[60] ^= 1);
    let fourth = stores_all(&fleet, "fourth");
    assert!(fourth.manifest.warnings[0].contains("what the vault has already"));
}

#[test]
fn copies_that_are_damaged_say_nothing() {
    // In the head, in a copy, and cut short.
    for change in [
        |bytes: &mut Vec<u8>| bytes[20] ^= 1,
        |bytes: &mut Vec<u8>| bytes[400] ^= 1,
        |bytes: &mut Vec<u8>| bytes.truncate(300),
        |bytes: &mut Vec<u8>| bytes.clear(),
    ] {
        let fleet = Fleet::new();
        take_on(&fleet.vault(), "first", &disk_of(1));
        fleet.store.corrupt(&fleet.names("footers")[0], change);
        stores_all(&fleet, "second");
    }
}

#[test]
fn what_is_asked_for_a_restore_does_not_grow_with_what_others_have() {
    let fleet = Fleet::new();
    let first = take_on(&fleet.vault(), "first", &disk_of(1));
    for seed in 10..14 {
        take_on(&fleet.vault(), "noise", &disk_of(seed));
    }
    let second = take_on(&fleet.vault(), "second", &disk_of(1));
    let asked = [&first, &second].map(|taken| {
        let counted = Arc::new(CountStore::new(fleet.store.clone()));
        let vault = Vault::open(counted.clone()).unwrap();
        counted.take();
        let disk = &taken.manifest.disks[0];
        vault.know_footers(&disk.footers, &map_of(&vault, &taken.manifest));
        crate::support::vaults::restore(&vault, disk, false).unwrap();
        counted.take()["get"].operations
    });
    assert_eq!(asked[0], asked[1]);
}
