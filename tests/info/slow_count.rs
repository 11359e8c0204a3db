//! What `info` says beside a count that takes every block of every copy by itself.

use super::yard::{BLOCKS, Known, Yard, size_of};
use std::collections::{BTreeMap, BTreeSet};
use stillpoint::engine::{Holding, Reachable, Silent, VaultHoldings};
use stillpoint::model::{BlockIndex, Content, ObjectId};
use stillpoint::store::{ObjectName, ObjectStore};

/// A copy: host, snapshot, disk.
type Copy = (usize, usize, usize);

/// Who needs each object, and each slot of each segment.
#[derive(Default)]
struct Counted {
    slots: BTreeMap<ObjectId, BTreeMap<u32, BTreeSet<Copy>>>,
    objects: BTreeMap<ObjectName, BTreeSet<Copy>>,
    logical: BTreeMap<Copy, u64>,
}

impl Counted {
    fn of(yard: &Yard) -> Self {
        let mut counted = Self::default();
        for (number, known) in yard.all.iter().enumerate() {
            counted.add(number, known);
        }
        counted
    }

    fn add(&mut self, number: usize, known: &Known) {
        for (disk, record) in known.disks.iter().enumerate() {
            let copy = (known.host, number, disk);
            let logical = self.logical.entry(copy).or_default();
            for block in 0..BLOCKS {
                if let Some(Content::Data { segment, slot }) = record.map.get(BlockIndex(block)) {
                    *logical += 65_536.min(size_of(disk) - 65_536 * block);
                    let slots = self.slots.entry(segment).or_default();
                    slots.entry(slot).or_default().insert(copy);
                    let name = ObjectName::segment(segment);
                    self.objects.entry(name).or_default().insert(copy);
                }
            }
            let index = record.index.iter().map(|part| ObjectName::index(part.id));
            let footers = record.footers.iter().map(|one| ObjectName::footers(*one));
            for name in index.chain(footers) {
                self.objects.entry(name).or_default().insert(copy);
            }
        }
    }

    /// What goes with all copies that are `mine`: whole objects, and about the bytes of slots.
    fn alone(&self, yard: &Yard, mine: &dyn Fn(Copy) -> bool) -> (u64, u64) {
        let only = |by: &BTreeSet<Copy>| by.iter().all(|copy| mine(*copy));
        let (mut freed, mut unique) = (0, 0);
        for (name, _) in self.objects.iter().filter(|(_, by)| only(by)) {
            freed += yard.store.size(name).unwrap();
            if !name.as_str().starts_with("segments") {
                unique += yard.store.size(name).unwrap();
            }
        }
        for (segment, slots) in &self.slots {
            let last = u64::from(*slots.keys().last().unwrap()) + 1;
            let some = slots.values().filter(|by| only(by)).count() as u64;
            unique += match some == slots.len() as u64 {
                true => yard.length(*segment),
                false => yard.length(*segment) * some / last,
            };
        }
        (freed, unique)
    }
}

/// What was counted is so; of `beside`, manifests and keeps, all is known.
fn assert_holds(what: &str, said: &Holding, counted: (u64, u64), beside: u64) {
    let (freed, unique) = counted;
    assert_eq!(said.freed.0, freed + beside, "{what}");
    // Each row of slots is rounded down.
    let unique = unique + beside;
    assert!(
        said.unique.0.abs_diff(unique) <= 200,
        "{what}: {} is not {unique}",
        said.unique.0
    );
    assert!(said.unique >= said.freed, "{what}");
}

/// How long what keeps a snapshot is, and its manifest.
fn beside(yard: &Yard, known: &Known) -> u64 {
    let keeps = yard
        .store
        .list_all(&ObjectName::keeps_of(known.id))
        .unwrap();
    let keeps: u64 = keeps.iter().map(|object| object.size).sum();
    let name = ObjectName::manifest(&format!("host{}", known.host), known.id);
    keeps + yard.store.size(&name).unwrap()
}

fn judge(yard: &Yard, found: &VaultHoldings) -> [usize; 3] {
    let counted = Counted::of(yard);
    let mut told = [0; 3];
    for (number, known) in yard.all.iter().enumerate() {
        let one = found
            .snapshots
            .iter()
            .find(|one| one.id == known.id)
            .unwrap();
        let expected = counted.alone(yard, &|copy| copy.1 == number);
        told[0] += usize::from(expected.0 > 0);
        let what = format!("snapshot {}", known.id);
        assert_holds(&what, &one.holding, expected, beside(yard, known));
        let logical = counted.logical.iter().filter(|(copy, _)| copy.1 == number);
        assert_eq!(
            one.holding.logical.0,
            logical.map(|(_, bytes)| bytes).sum::<u64>()
        );
        let stored: u64 = known.disks.iter().map(|disk| disk.stored).sum();
        assert_eq!(one.holding.stored.0, stored);
    }
    for host in 0..3 {
        let own = || yard.all.iter().filter(|known| known.host == host);
        let name = format!("host{host}");
        let Some(one) = found.hosts.iter().find(|one| one.name == name) else {
            assert_eq!(own().count(), 0);
            continue;
        };
        assert_eq!(one.snapshots, own().count());
        let expected = counted.alone(yard, &|copy| copy.0 == host);
        let beside = own().map(|known| beside(yard, known)).sum();
        told[1] += usize::from(expected.0 > 0);
        assert_holds(&name, &one.holding, expected, beside);
        for disk in 0..1 + host % 2 {
            let serial = Some(format!("disk-{disk}"));
            let mut disks = found.disks.iter();
            let one = disks
                .find(|one| one.host == name && one.serial == serial)
                .unwrap();
            let expected = counted.alone(yard, &|copy| copy.0 == host && copy.2 == disk);
            told[2] += usize::from(expected.0 > 0);
            assert_holds(&format!("{name} {disk}"), &one.holding, expected, 0);
            let logical = counted.logical.iter();
            let logical = logical.filter(|(copy, _)| copy.0 == host && copy.2 == disk);
            assert_eq!(
                one.holding.logical.0,
                logical.map(|(_, bytes)| bytes).sum::<u64>()
            );
            assert_eq!(one.size.0, size_of(disk));
            assert_eq!(one.snapshots, own().count());
        }
    }
    told
}

/// What a collection takes for needed is what any copy needs.
fn reaches(yard: &Yard) {
    let snapshots = yard.vault.snapshots().unwrap();
    let found = Reachable::read(&yard.vault, snapshots, &Silent, &|_| Ok(())).unwrap();
    let counted = Counted::of(yard);
    let needed: BTreeSet<ObjectId> = found.segments().collect();
    assert_eq!(needed, counted.slots.keys().copied().collect());
    for (segment, slots) in &counted.slots {
        let live: Vec<u32> = found.needed_slots(*segment).into_iter().flatten().collect();
        assert_eq!(live, slots.keys().copied().collect::<Vec<_>>());
    }
}

#[test]
fn what_it_says_is_what_a_slow_count_says() {
    let mut told = [0; 3];
    for seed in 0..40 {
        let yard = Yard::history(seed);
        let found = yard.info();
        assert!(found.unread.is_empty() && found.missing.objects == 0 && !found.has_damage);
        assert_eq!(found.snapshots.len(), yard.all.len());
        reaches(&yard);
        let now = judge(&yard, &found);
        told.iter_mut().zip(now).for_each(|(all, now)| *all += now);
    }
    // None of it is about nothing.
    assert!(told.iter().all(|count| *count > 60), "{told:?}");
}
