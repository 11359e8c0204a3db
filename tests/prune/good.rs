//! The last good copy of a disk.

use super::*;
use stillpoint::format::DamagedChunks;
use stillpoint::model::{Content, Level, ObjectId, block_count};

/// Takes the first disk's index object away from a manifest: it names one that is not there.
fn without_index(manifest: &mut Manifest) {
    manifest.disks[0].index[0].id = ObjectId::generate();
}

fn last_good_of(plan: &PrunePlan) -> Vec<(SnapshotId, Vec<String>)> {
    let judged = plan.judged.iter();
    let found = judged.filter_map(|one| {
        let disks = one.stays.iter().find_map(|why| match why {
            StayReason::LastGood(disks) => Some(disks.clone()),
            _ => None,
        });
        Some((one.snapshot.id, disks?))
    });
    found.collect()
}

#[test]
fn a_disks_last_good_copy_stays_until_it_is_said_twice() {
    let world = World::new();
    let good = world.days(10)[9];
    let bad = world.put(ago(-60), without_index);
    let plan = world.plan(last(1));
    assert_eq!(last_good_of(&plan), [(good, vec!["vda".to_owned()])]);
    assert_eq!(world.prune(last(1)), set(&[good, bad]));
    assert_eq!(world.prune(last(1)), set(&[good, bad]), "again");
    let mut options = world.options(last(1));
    options.take_last_good = true;
    prune(&world.vault, &options).unwrap();
    assert_eq!(world.left(), set(&[bad]));
}

#[test]
fn what_verify_has_found_damaged_is_no_good() {
    let world = World::new();
    // Another snapshot with data of its own.
    let disk = ModelDisk::new(0, 3 * BLOCK_SIZE, 1);
    disk.write(0, &[7; 9000]);
    let whole = take(&world.vault, &[disk], Take::default())
        .unwrap()
        .manifest;
    let name = ObjectName::manifest("host", whole.snapshot);
    world.store.age(&name, seconds(20 * DAY));
    let old = world.put(ago(20 * DAY), |manifest| {
        manifest.disks = whole.disks.clone()
    });
    world
        .vault
        .delete(&world.vault.find(&whole.snapshot.to_string()).unwrap())
        .unwrap();
    let days = world.days(3);
    // A slot of the newer ones.
    let record = &world.pattern.disks[0];
    let map = world
        .vault
        .load_index(&record.index, block_count(record.identity.size))
        .unwrap();
    let run = map.iter().find(|run| run.segment().is_some()).unwrap();
    let Content::Data { segment, slot } = run.content else {
        unreachable!()
    };
    let mut damage = DamagedChunks::default();
    damage.add(segment, Some(&BTreeSet::from([slot])));
    let known = world.vault.known_damage().unwrap();
    world.vault.note_damage(&known, &damage).unwrap();
    let plan = world.plan(last(1));
    assert_eq!(last_good_of(&plan).first().map(|one| one.0), Some(old));
    let left = world.prune(last(1));
    assert!(left.contains(&old) && left.contains(&days[2]));
}

#[test]
fn where_none_is_good_all_stay_and_other_disks_are_pruned() {
    let world = World::new();
    let bad: Vec<_> = (1..5)
        .map(|day| world.put(ago(day * DAY), without_index))
        .collect();
    let of_b = |manifest: &mut Manifest| manifest.host = "b".into();
    let others: Vec<_> = (1..5).map(|day| world.put(ago(day * DAY), of_b)).collect();
    let left = world.prune(last(1));
    assert_eq!(left, set(&[&bad[..], &others[..1]].concat()));
}

#[test]
fn a_copy_of_no_one_instant_is_no_good_where_there_is_another() {
    let world = World::new();
    let fuzzy = |manifest: &mut Manifest| {
        manifest
            .disks
            .iter_mut()
            .for_each(|disk| disk.level = Level::Fuzzy);
    };
    let clear = world.put(ago(5 * DAY), |_| ());
    let newer: Vec<_> = (1..4).map(|day| world.put(ago(day * DAY), fuzzy)).collect();
    assert_eq!(world.prune(last(1)), set(&[clear, newer[0]]));
    // Where there is no other, they count.
    let found = world.vault.find(&clear.to_string()).unwrap();
    world.vault.delete(&found).unwrap();
    let oldest = world.put(ago(6 * DAY), fuzzy);
    assert_eq!(world.prune(last(1)), set(&[newer[0]]));
    assert!(!world.left().contains(&oldest));
}

#[test]
fn words_of_damage_that_cannot_be_read_keep_everything() {
    let world = World::new();
    let days = world.days(3);
    let list = ObjectName::damage(SnapshotId::generate(1));
    world.store.put(&list, b"rubbish".to_vec().into()).unwrap();
    let plan = world.plan(last(1));
    assert!(
        plan.warnings[0].contains("cannot be read"),
        "{:?}",
        plan.warnings
    );
    assert_eq!(world.prune(last(1)), set(&days));
}

/// Nobody notes what is missing: it is looked for.
#[test]
fn what_lacks_a_segment_is_no_good() {
    let world = World::new();
    let disk = ModelDisk::new(0, 3 * BLOCK_SIZE, 1);
    disk.write(0, &[7; 9000]);
    let newest = take(&world.vault, &[disk], Take::default())
        .unwrap()
        .manifest;
    let days = world.days(3);
    world
        .store
        .age(&ObjectName::manifest("host", newest.snapshot), seconds(-60));
    let record = &newest.disks[0];
    let map = world
        .vault
        .load_index(&record.index, block_count(record.identity.size))
        .unwrap();
    let segment = map.iter().find_map(|run| run.segment()).unwrap();
    world.store.delete(&ObjectName::segment(segment)).unwrap();
    let left = world.prune(last(1));
    assert!(
        left.contains(&days[2]),
        "the last one that is whole has gone"
    );
}

/// Hooks that fail for weeks push out nothing of which the application was sure. One that asked for
/// less is no worse for it.
#[test]
fn the_last_copy_with_quiesced_applications_stays_beside_lesser_ones() {
    let world = World::new();
    let at = |reached: Level, asked: Level| {
        move |manifest: &mut Manifest| {
            (manifest.level, manifest.requested_level) = (reached, asked);
            for disk in &mut manifest.disks {
                disk.level = reached;
            }
        }
    };
    let sure = |days| world.put(ago(days * DAY), at(Level::Application, Level::Application));
    let failed = |days| world.put(ago(days * DAY), at(Level::Crash, Level::Application));
    let (_old, kept) = (sure(9), sure(8));
    let lesser = [7, 6, 5].map(failed);
    let plan = world.plan(last(2));
    let of_it = plan.judged.iter().find(|one| one.snapshot.id == kept);
    let disks = ["vda", "vdb"].map(str::to_owned).to_vec();
    let stays = &of_it.unwrap().stays;
    assert!(
        matches!(&stays[..], [StayReason::LastAsAsked(found)] if *found == disks),
        "{stays:?}"
    );
    assert_eq!(world.prune(last(2)), set(&[kept, lesser[1], lesser[2]]));
    assert_eq!(
        world.prune(last(2)),
        set(&[kept, lesser[1], lesser[2]]),
        "again"
    );
    // The hooks are mended.
    let mended = [sure(4), sure(3)];
    assert_eq!(world.prune(last(2)), set(&mended));
    // The owner has lowered the level.
    let lowered = [2, 1].map(|days| world.put(ago(days * DAY), at(Level::Crash, Level::Crash)));
    assert_eq!(world.prune(last(2)), set(&lowered));
    let again = failed(0);
    assert_eq!(world.prune(last(1)), set(&[lowered[1], again]));
    let mut options = world.options(last(1));
    options.take_last_good = true;
    prune(&world.vault, &options).unwrap();
    assert_eq!(world.left(), set(&[again]));
}
