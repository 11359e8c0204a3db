//! What every later operation makes of damage: action x place x operation.

use super::{Object, Sample, noise, objects, sample_disks, sample_step, store_of, truth_of};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check, restore, take, vault_options, verify_all};
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::engine::{Silent, diff};
use stillpoint::model::{BLOCK_SIZE, Mode};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Delete,
    Empty,
    CutInHalf,
    FlipMiddle,
    Rubbish,
}

const ACTIONS: [Action; 5] = [
    Action::Delete,
    Action::Empty,
    Action::CutInHalf,
    Action::FlipMiddle,
    Action::Rubbish,
];

fn damage(store: &MemoryStore, name: &ObjectName, action: Action) {
    match action {
        Action::Delete => store.delete(name).unwrap(),
        Action::Empty => store.corrupt(name, Vec::clear),
        Action::CutInHalf => store.corrupt(name, |bytes| bytes.truncate(bytes.len() / 2)),
        Action::FlipMiddle => store.corrupt(name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x40;
        }),
        Action::Rubbish => store.corrupt(name, |bytes| *bytes = noise(bytes.len(), 5)),
    }
}

/// A vault whose disks go on living after the damage.
struct Living {
    sample: Sample,
    disks: Vec<ModelDisk>,
    taken: Vec<Taken>,
}

/// The sample again and again from the same seed: the model's disks cannot be copied.
fn living() -> Living {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disks = sample_disks();
    let taken: Vec<Taken> = (0..3)
        .map(|step| sample_step(&vault, &disks, step))
        .collect();
    let sample = Sample {
        objects: objects(store.as_ref()),
        truth: truth_of(&vault, &taken),
    };
    Living {
        sample,
        disks,
        taken,
    }
}

fn places(sample: &Sample) -> Vec<(usize, String)> {
    let names = sample.objects.iter().enumerate();
    names
        .filter(|(_, (name, _))| name.as_str() != "vault.json")
        .map(|(at, (name, _))| (at, name.to_string()))
        .collect()
}

#[test]
fn listing_showing_and_deleting_go_on_after_any_damage() {
    let living = living();
    for (at, what) in places(&living.sample) {
        for action in ACTIONS {
            let store = store_of(&living.sample.objects);
            let name = living.sample.objects[at].0.clone();
            damage(&store, &name, action);
            let vault = Vault::open(store).unwrap();
            let gone = action == Action::Delete && what.starts_with("snapshots/");
            let all = vault.snapshots().unwrap();
            assert_eq!(all.len(), 3 - usize::from(gone), "{action:?} {what}");
            for snapshot in &all {
                match vault.manifest(snapshot) {
                    Ok(manifest) => {
                        assert!(living.taken.iter().any(|one| one.manifest == manifest))
                    }
                    Err(error) => {
                        assert!(what.ends_with(&snapshot.id.to_string()), "{what}: {error}");
                        assert_eq!(error.kind(), ErrorKind::Damaged);
                        assert!(
                            error.to_string().contains(&snapshot.id.to_string()),
                            "{error}"
                        );
                    }
                }
            }
            // Also what is damaged can be deleted, and then all that is left may be whole.
            for snapshot in &all {
                vault.delete(snapshot).unwrap();
            }
            assert!(verify_all(&vault).unwrap().broken.is_empty());
        }
    }
}

#[test]
fn a_difference_is_told_rightly_or_not_at_all() {
    let living = living();
    let whole = Vault::open(store_of(&living.sample.objects)).unwrap();
    let disks = |n: usize| living.taken[n].manifest.disks.iter();
    for (at, what) in places(&living.sample) {
        for action in ACTIONS {
            let store = store_of(&living.sample.objects);
            damage(&store, &living.sample.objects[at].0, action);
            let vault = Vault::open(store).unwrap();
            for (one, two) in disks(0).zip(disks(2)) {
                match diff(&vault, one, two, &Silent) {
                    Ok(found) => {
                        let true_one = diff(&whole, one, two, &Silent).unwrap();
                        assert_eq!(found, true_one, "{what}");
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{what}"),
                }
            }
        }
    }
}

/// How the next snapshot comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Full,
    Compare,
    Incremental,
}

#[test]
fn the_next_snapshot_is_right_or_known_to_be_broken() {
    let places = places(&living().sample).len();
    for way in [Way::Full, Way::Compare, Way::Incremental] {
        for place in 0..places {
            for action in ACTIONS {
                next_after_damage(way, place, action, false);
                next_after_damage(way, place, action, true);
            }
        }
    }
}

/// The vault is made anew each time, as the disks go on living; its objects are in the same order
/// only by kind, so that `place` stands for any of them. What `verify` has seen before is never
/// built on.
fn next_after_damage(way: Way, place: usize, action: Action, verified: bool) {
    let living = living();
    let (name, _): &Object = &living.sample.objects[place];
    let what = format!("{way:?} after {action:?} of {name}, verified: {verified}");
    let store = store_of(&living.sample.objects);
    damage(&store, name, action);
    let vault = Arc::new(Vault::open(store).unwrap());
    if verified {
        verify_all(&vault).unwrap();
    }
    let disks = &living.disks;
    disks[0].write(BLOCK_SIZE + 7 * 512, &[0x77; 1024]);
    if way == Way::Compare {
        disks.iter().for_each(ModelDisk::reboot);
    }
    let options = Take {
        full: way == Way::Full,
        ..Take::default()
    };
    let made = match take(&vault, disks, options) {
        Ok(made) => made,
        Err(error) => panic!("{what}: no snapshot any more: {error}"),
    };
    let broken = verify_all(&vault).unwrap().broken;
    let id = made.manifest.snapshot;
    let lost = |name: &str| {
        let mine = broken
            .iter()
            .filter(|one| one.snapshot == id && one.lost.0 > 0);
        mine.filter(|one| one.disk.as_deref() == Some(name)).count() > 0
    };
    if way == Way::Full || verified {
        assert!(
            !broken
                .iter()
                .any(|one| one.snapshot == id && one.lost.0 > 0),
            "{what}: {broken:?}"
        );
        check(&vault, &made);
        return;
    }
    for (record, truth) in made.manifest.disks.iter().zip(&made.truth) {
        match restore(&vault, record, false) {
            Ok((bytes, _)) => {
                assert!(
                    bytes == truth[0].contents,
                    "{what}: success with wrong bytes"
                );
                assert!(!lost(&record.identity.name), "{what}: {broken:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{what}");
                assert!(
                    lost(&record.identity.name),
                    "{what}: {error}, but {broken:?}"
                );
                // Comparing looks at every segment's footer: only a chunk's own bytes escape it. An
                // incremental looks whether segments are there.
                let gone = matches!(action, Action::Delete | Action::Empty);
                let incremental = way == Way::Incremental && !gone;
                let unseen = incremental || action == Action::FlipMiddle;
                assert!(unseen, "{what}: {error}");
            }
        }
    }
}

#[test]
fn a_lost_segment_is_healed_by_the_next_snapshot() {
    let living = living();
    let store = store_of(&living.sample.objects);
    for (name, _) in &living.sample.objects {
        if name.as_str().starts_with("segments/") {
            store.delete(name).unwrap();
        }
    }
    let vault = Arc::new(Vault::open(store).unwrap());
    let made = take(&vault, &living.disks, Take::default()).unwrap();
    assert!(
        made.manifest
            .disks
            .iter()
            .all(|disk| disk.mode == Mode::Incremental)
    );
    let said = made.manifest.warnings.join("\n");
    assert!(said.contains("missing"), "{said}");
    assert!(
        !said.contains("tracking called"),
        "tracking is not to blame: {said}"
    );
    check(&vault, &made);
}
