//! What is stored in a week: by listings, whatever manifests say and whoever was deleted.

use super::yard::{Known, Yard, delete};
use jiff::SignedDuration;
use std::collections::BTreeSet;
use stillpoint::engine::Growth;
use stillpoint::store::{ObjectName, ObjectStore};

const DAY: i64 = 24;

/// A vault that was made so many days ago.
fn made_before(days: i64, seed: u64) -> Yard {
    let yard = Yard::new(seed);
    let mut info = yard.vault.info().clone();
    info.created -= SignedDuration::from_hours(days * DAY);
    let bytes = info.encode().unwrap();
    yard.store
        .corrupt(&ObjectName::vault_info(), |kept| *kept = bytes);
    yard
}

/// A snapshot of a host that has put a segment.
fn snapshot(yard: &mut Yard, parent: Option<&Known>) -> Known {
    let before = yard.names("segments").len();
    let mut taken = yard.snapshot_of(0, parent);
    while yard.names("segments").len() == before {
        let gone = yard.all.pop().unwrap();
        delete(&yard.vault, gone.id);
        taken = yard.snapshot_of(0, parent);
    }
    taken
}

fn bytes(yard: &Yard, names: &BTreeSet<ObjectName>) -> u64 {
    names
        .iter()
        .map(|name| yard.store.size(name).unwrap())
        .sum()
}

fn segments(yard: &Yard) -> BTreeSet<ObjectName> {
    yard.names("segments").into_iter().collect()
}

#[test]
fn what_was_put_lately_is_told_also_when_its_snapshots_are_deleted() {
    for seed in 0..8 {
        let mut yard = made_before(60, seed);
        let first = snapshot(&mut yard, None);
        let of_first = segments(&yard);
        let all = ["segments", "index", "footers", "snapshots"];
        for name in all.iter().flat_map(|folder| yard.names(folder)) {
            yard.store.age(&name, SignedDuration::from_hours(20 * DAY));
        }
        // Of the first full copy nothing counts.
        let growth = yard.info().growth.unwrap();
        assert_eq!(
            (growth.segments, growth.weekly.0, growth.later_fulls),
            (0, 0, 0)
        );
        let second = snapshot(&mut yard, Some(&first));
        let third = snapshot(&mut yard, Some(&second));
        let later: BTreeSet<_> = segments(&yard).difference(&of_first).cloned().collect();
        let expected = (later.len(), bytes(&yard, &later) / 4);
        let told = |growth: Growth| (growth.segments, growth.weekly.0);
        let growth = yard.info().growth.unwrap();
        assert_eq!(told(growth), expected);
        assert_eq!(growth.later_fulls, 2);
        // A retention has deleted the newest ones: what they have put is there.
        delete(&yard.vault, third.id);
        delete(&yard.vault, second.id);
        assert_eq!(told(yard.info().growth.unwrap()), expected);
        // What is freed is not.
        for name in &later {
            yard.store.delete(name).unwrap();
        }
        assert_eq!(told(yard.info().growth.unwrap()), (0, 0));
    }
}

#[test]
fn of_a_young_vault_nothing_is_told() {
    let mut yard = made_before(6, 1);
    snapshot(&mut yard, None);
    assert_eq!(yard.info().growth, None);
    let mut yard = made_before(8, 1);
    snapshot(&mut yard, None);
    assert!(yard.info().growth.is_some());
}
