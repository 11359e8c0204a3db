//! What is not so: segments that are gone, cut short, known to be damaged, or do not hold what
//! they say; copies of footers that lie.

use super::*;
use stillpoint::format::{FooterCopiesWriter, Packed, Trailer};
use stillpoint::store::{CountStore, Draft};

/// All of a disk is stored anew, and right.
#[track_caller]
fn stores_all(fleet: &Fleet, host: &str) -> Taken {
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

/// Puts a segment whose footer names the image's blocks, and whose chunks are something else; and
/// the copy of it. Whoever may put can do that, a writer's key in hand.
fn lie(fleet: &Fleet) {
    let vault = fleet.vault();
    let draft = Draft::begin_in(&vault, session(&vault), None);
    let sealer = draft.sealer();
    let mut writer = sealer.create_segment(Vec::new()).unwrap();
    let mut packed = Packed::default();
    for block in noise(BLOCKS * BLOCK_SIZE, 1).chunks(BLOCK_SIZE as usize) {
        packed.clear();
        let (other, hash) = (noise(BLOCK_SIZE, 666), sealer.hash_of(block));
        let chunk = sealer.encode_hashed(&other, hash, &mut packed).unwrap();
        writer.push(&chunk, &packed);
    }
    let (id, bytes) = writer.finish();
    let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
    let mut copies = FooterCopiesWriter::default();
    copies.push(id, &bytes[trailer.footer_offset as usize..]);
    let put = |name: &ObjectName, bytes: Vec<u8>| fleet.store.put(name, bytes.into()).unwrap();
    put(&ObjectName::segment(id), bytes);
    let run = SnapshotId::generate(1_700_000_000_000);
    let name = ObjectName::parse(&format!("footers/{run}-00000000")).unwrap();
    put(&name, copies.take().unwrap());
}

#[test]
fn a_segment_that_does_not_hold_what_it_says_is_found_and_not_used() {
    let fleet = Fleet::new();
    lie(&fleet);
    let taken = stores_all(&fleet, "second");
    let warning = &taken.manifest.warnings[0];
    assert!(warning.contains("do not hold what they say"), "{warning}");
    assert!(warning.contains("verify --all"), "{warning}");
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
