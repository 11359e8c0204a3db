//! A retention: what goes, what stays and why, whoever has put what into the vault, and whenever
//! the prune ends.

mod attacks;
mod by_command;
mod good;
mod keeps;
mod killed;
mod scale;

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, take, vault_options};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stillpoint::engine::{
    PrunePlan, RetentionOptions, RetentionRules, Silent, StayReason, carry_out_prune, plan_prune,
};
use stillpoint::format::Manifest;
use stillpoint::model::{BLOCK_SIZE, SnapshotId};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};
use stillpoint::{ErrorKind, Result};

const DAY: i64 = 24 * 60 * 60;

/// Seconds as a span.
fn seconds(count: i64) -> SignedDuration {
    SignedDuration::from_secs(count)
}

/// A vault in memory, and manifests made by hand in it that all refer to what one snapshot has put.
struct World {
    store: Arc<MemoryStore>,
    vault: Arc<Vault>,
    /// Of the disks vda and vdb, on the host `host`.
    pattern: Manifest,
    /// The middle of an hour.
    now: Timestamp,
}

/// A snapshot to put, by how many seconds ago.
#[derive(Clone, Copy)]
struct Ago {
    cut: i64,
    received: i64,
}

/// Cut and received just then.
fn ago(seconds: i64) -> Ago {
    Ago {
        cut: seconds,
        received: seconds,
    }
}

impl World {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let disks = [0, 1].map(|number| ModelDisk::new(number, 3 * BLOCK_SIZE, 1));
        for (disk, byte) in disks.iter().zip(1..) {
            disk.write(0, &[byte; 100_000]);
        }
        let pattern = take(&vault, &disks, Take::default()).unwrap().manifest;
        let found = vault.find(&pattern.snapshot.to_string()).unwrap();
        vault.delete(&found).unwrap();
        let now = Timestamp::now().as_second() / 3600 * 3600 - 1800;
        let now = Timestamp::from_second(now).unwrap();
        Self {
            store,
            vault,
            pattern,
            now,
        }
    }

    /// A manifest of that time, changed in some way.
    fn manifest(&self, when: Ago, change: impl FnOnce(&mut Manifest)) -> Manifest {
        let mut manifest = self.pattern.clone();
        manifest.time = self.now - seconds(when.cut);
        manifest.started = manifest.time;
        let named = (self.now - seconds(when.received)).as_millisecond();
        manifest.snapshot = SnapshotId::generate(u64::try_from(named).unwrap());
        change(&mut manifest);
        manifest
    }

    /// Puts a snapshot.
    fn put(&self, when: Ago, change: impl FnOnce(&mut Manifest)) -> SnapshotId {
        let manifest = self.manifest(when, change);
        let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
        let bytes = manifest.encode(self.vault.sealer()).unwrap();
        self.store.put(&name, bytes.into()).unwrap();
        let received = self.now - seconds(when.received);
        self.store
            .age(&name, Timestamp::now().duration_since(received));
        manifest.snapshot
    }

    /// Puts one of each of so many days, the oldest first.
    fn days(&self, count: i64) -> Vec<SnapshotId> {
        let days = (0..count).rev();
        days.map(|day| self.put(ago(day * DAY), |_| ())).collect()
    }

    fn options(&self, rules: RetentionRules) -> RetentionOptions {
        RetentionOptions {
            rules,
            host: None,
            disk: None,
            tags: BTreeMap::new(),
            take_last_good: false,
            now: self.now,
        }
    }

    fn plan(&self, rules: RetentionRules) -> PrunePlan {
        plan_prune(&self.vault, &self.options(rules), &Silent).unwrap()
    }

    /// Prunes; returns what is left.
    fn prune(&self, rules: RetentionRules) -> BTreeSet<SnapshotId> {
        prune(&self.vault, &self.options(rules)).unwrap();
        self.left()
    }

    fn left(&self) -> BTreeSet<SnapshotId> {
        let all = self.vault.snapshots().unwrap();
        all.into_iter().map(|one| one.id).collect()
    }
}

fn prune(vault: &Vault, options: &RetentionOptions) -> Result<Vec<String>> {
    let mut plan = plan_prune(vault, options, &Silent)?;
    carry_out_prune(vault, &mut plan, &Silent)
}

fn daily(count: u32) -> RetentionRules {
    RetentionRules {
        daily: count,
        ..RetentionRules::default()
    }
}

fn last(count: u32) -> RetentionRules {
    RetentionRules {
        last: count,
        ..RetentionRules::default()
    }
}

fn set(ids: &[SnapshotId]) -> BTreeSet<SnapshotId> {
    ids.iter().copied().collect()
}

#[test]
fn what_no_rule_keeps_goes_and_the_rest_says_why_it_stays() {
    let world = World::new();
    let days = world.days(30);
    let plan = world.plan(daily(7));
    assert_eq!(world.left(), set(&days), "a plan deletes nothing");
    let going: Vec<SnapshotId> = plan.going().map(|one| one.snapshot.id).collect();
    assert_eq!(going, days[..23]);
    for judged in plan.judged.iter().filter(|one| !one.goes()) {
        let [StayReason::Rule { disks, .. }] = judged.stays.as_slice() else {
            panic!("{:?}", judged.stays);
        };
        assert_eq!((disks, &judged.disks), (&judged.disks, disks), "each once");
        assert_eq!(judged.disks, ["vda", "vdb"]);
    }
    assert_eq!(world.prune(daily(7)), set(&days[23..]));
    // Again: nothing.
    assert_eq!(world.prune(daily(7)), set(&days[23..]));
}

#[test]
fn without_a_rule_and_with_a_wrong_name_nothing_goes() {
    let world = World::new();
    let days = world.days(3);
    let refused = |options: &RetentionOptions| prune(&world.vault, options).unwrap_err().kind();
    assert_eq!(
        refused(&world.options(RetentionRules::default())),
        ErrorKind::Usage
    );
    let mut options = world.options(last(1));
    options.host = Some("hots".into());
    assert_eq!(refused(&options), ErrorKind::NotFound);
    options.host = Some("host".into());
    options.disk = Some("vdz".into());
    assert_eq!(refused(&options), ErrorKind::NotFound);
    assert_eq!(world.left(), set(&days));
}

#[test]
fn each_disk_of_each_host_is_judged_by_itself() {
    let world = World::new();
    let of_b = |manifest: &mut Manifest| manifest.host = "b".into();
    let only_a = |manifest: &mut Manifest| manifest.disks.truncate(1);
    let both = world.put(ago(9 * DAY), |_| ());
    let old_b = world.put(ago(8 * DAY), of_b);
    let new_b = world.put(ago(7 * DAY), of_b);
    let old = world.put(ago(6 * DAY), only_a);
    let new = world.put(ago(5 * DAY), only_a);
    // vdb's last one is the oldest.
    let plan = world.plan(last(1));
    let why = plan
        .judged
        .iter()
        .find(|one| one.snapshot.id == both)
        .unwrap();
    assert!(matches!(&why.stays[..], [StayReason::Rule { disks, .. }] if disks == &["vdb"]));
    // Only what was asked for is judged.
    let mut options = world.options(last(1));
    options.host = Some("b".into());
    prune(&world.vault, &options).unwrap();
    assert_eq!(world.left(), set(&[both, new_b, old, new]));
    assert!(!world.left().contains(&old_b));
    assert_eq!(world.prune(last(1)), set(&[both, new_b, new]));
}

#[test]
fn labels_and_disks_choose_what_is_judged() {
    let world = World::new();
    let label = |manifest: &mut Manifest| {
        manifest.tags.insert("why".into(), "test".into());
    };
    let plain = world.days(3);
    let old = world.put(ago(5 * DAY), label);
    let new = world.put(ago(4 * DAY), label);
    let mut options = world.options(last(1));
    options.tags.insert("why".into(), "test".into());
    let mut plan = plan_prune(&world.vault, &options, &Silent).unwrap();
    assert_eq!((plan.judged.len(), plan.others), (2, 3));
    carry_out_prune(&world.vault, &mut plan, &Silent).unwrap();
    assert!(!world.left().contains(&old));
    options.tags.clear();
    options.disk = Some("/dev/vdb".into());
    prune(&world.vault, &options).unwrap();
    assert_eq!(world.left(), set(&plain[2..]));
    assert!(!world.left().contains(&new));
}

/// Names of disks change from boot to boot, and serial numbers are not always one disk's alone: a
/// disk is pushed out neither by another of its name nor by another of its number.
#[test]
fn disks_that_share_a_name_or_a_number_keep_what_they_need() {
    let world = World::new();
    let one_disk = |at: usize, name: &'static str, serial: &'static str| {
        move |manifest: &mut Manifest| {
            let mut disk = manifest.disks.swap_remove(at);
            disk.identity.name = name.into();
            disk.identity.serial = Some(serial.into());
            manifest.disks = vec![disk];
        }
    };
    world.put(ago(4 * DAY), one_disk(1, "vda", "two"));
    let other = world.put(ago(3 * DAY), one_disk(1, "vda", "two"));
    world.put(ago(2 * DAY), one_disk(0, "vda", "one"));
    let now = world.put(ago(DAY), one_disk(0, "vda", "one"));
    assert_eq!(world.prune(last(1)), set(&[other, now]));
    let twin = world.put(ago(0), one_disk(1, "vdb", "one"));
    assert_eq!(world.prune(last(1)), set(&[other, now, twin]));
}

#[test]
fn a_damaged_manifest_is_left_alone_and_told() {
    let world = World::new();
    let days = world.days(5);
    let name = ObjectName::manifest("host", days[1]);
    world.store.corrupt(&name, |bytes| bytes[60] ^= 1);
    let plan = world.plan(last(1));
    assert_eq!(plan.unread.len(), 1);
    assert_eq!(world.prune(last(1)), set(&[days[1], days[4]]));
}
