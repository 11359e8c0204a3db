//! Samples come round to everything, as the vault remembers what they have read, and a fast look
//! reads no data. What is remembered is an object of a vault, and may be lost, or lie.

use super::lost::{SEGMENTS, scattered, segments};
use super::noted::rot;
use crate::support::vaults::{Take, take, verify_all};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use stillpoint::engine::{
    Coverage, Remembered, Silent, VerifyDepth, VerifyOptions, VerifyReport, verify,
};
use stillpoint::format::{SampleMemory, Sealer};
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{CountStore, FaultStore, MemoryStore, ObjectName, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind};

const SEALER: Sealer = Sealer::without_keys();

fn look(store: &Arc<MemoryStore>, depth: VerifyDepth) -> VerifyReport {
    look_through(store.clone(), depth)
}

fn look_through(store: Arc<dyn ObjectStore>, depth: VerifyDepth) -> VerifyReport {
    let vault = Vault::open(store).unwrap();
    let options = VerifyOptions { depth, workers: 2 };
    verify(&vault, &vault.snapshots().unwrap(), &options, &Silent).unwrap()
}

fn records(store: &dyn ObjectStore) -> Vec<ObjectName> {
    let listed = store.list_all(&ObjectName::verified()).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

fn covered(report: &VerifyReport) -> &Coverage {
    report.coverage.as_ref().unwrap()
}

#[test]
fn samples_come_round_to_everything_and_say_so() {
    let (store, ..) = scattered();
    let all = SEGMENTS as usize;
    let mut last = 0;
    for sample in 1.. {
        let report = look(&store, VerifyDepth::Sample(10.0));
        assert!(report.broken.is_empty() && report.unread > 0, "{report:?}");
        let covered = covered(&report);
        assert!(
            matches!(covered.remembered, Remembered::Done),
            "{covered:?}"
        );
        assert_eq!(covered.of, all);
        assert!(covered.covered > last || covered.covered == all);
        assert_eq!(records(store.as_ref()).len(), 1, "older ones are folded in");
        last = covered.covered;
        if last == all {
            assert!((10..=13).contains(&sample), "{sample}");
            assert_eq!(covered.samples, sample);
            break;
        }
    }
}

#[test]
fn what_rots_is_found_within_a_round_and_read_again_each_time() {
    let (store, vault, _, newest) = scattered();
    let rotten = segments(&vault, &newest)[40];
    rot(&store, rotten);
    let rounds = 14;
    let found =
        (0..rounds).position(|_| !look(&store, VerifyDepth::Sample(10.0)).broken.is_empty());
    assert!(found.is_some(), "not found in {rounds} samples");
    for _ in 0..3 {
        let report = look(&store, VerifyDepth::Sample(1.0));
        assert!(!report.broken.is_empty(), "known, and called well");
    }
    let report = look(&store, VerifyDepth::Fast);
    assert_eq!((report.broken.len(), report.noted_before), (0, 1));
    // It is whole again: the next sample notices.
    rot(&store, rotten);
    assert!(look(&store, VerifyDepth::Sample(1.0)).broken.is_empty());
    assert_eq!(look(&store, VerifyDepth::Fast).noted_before, 0);
}

#[test]
fn a_memory_that_is_lost_or_lies_costs_reading_and_no_more() {
    let (store, vault, _, newest) = scattered();
    let ids = segments(&vault, &newest);
    let record = |memory: &SampleMemory, n: u64| {
        let name = ObjectName::sample_record(SnapshotId::generate(1_800_000_000_000 + n));
        store
            .put(&name, memory.encode(&SEALER).unwrap().into())
            .unwrap();
        name
    };
    // Rubbish, and more than is read of it.
    let strays = ["verified/README", "verified/x/y"].map(|name| ObjectName::parse(name).unwrap());
    for stray in &strays {
        store
            .put(stray, b"not of the vault".as_slice().into())
            .unwrap();
    }
    for n in 0..50 {
        let name = ObjectName::sample_record(SnapshotId::generate(1_900_000_000_000 + n));
        store.put(&name, vec![7; 100].into()).unwrap();
    }
    let report = look(&store, VerifyDepth::Sample(10.0));
    let first = covered(&report).covered;
    assert!(first < ids.len() / 5, "{report:?}");
    assert_eq!(records(store.as_ref()).len(), 3, "what is no record stays");
    // All was read tomorrow: of that nothing is believed.
    let mut lies = SampleMemory::default();
    lies.add(
        ids.iter().copied(),
        Timestamp::now() + SignedDuration::from_hours(24),
    );
    record(&lies, 1);
    let report = look(&store, VerifyDepth::Sample(10.0));
    assert!(covered(&report).covered < ids.len() / 3, "{report:?}");
    assert!(report.segments >= ids.len() / 10);
    // All was read a moment ago, it says: as much is read all the same, by chance.
    let mut lies = SampleMemory::default();
    lies.add(ids.iter().copied(), Timestamp::now());
    record(&lies, 2);
    let report = look(&store, VerifyDepth::Sample(10.0));
    assert!(report.segments >= ids.len() / 10 && report.unread > 0);
}

#[test]
fn without_the_right_to_delete_or_to_put_it_says_so() {
    let (store, ..) = scattered();
    let refusing = |verb: &'static str| -> Arc<dyn ObjectStore> {
        Arc::new(FaultStore::new(store.clone(), move |operation| {
            let is_record = operation.name.is_below(&ObjectName::verified());
            match operation.verb == verb && is_record {
                true => Err(Error::new(ErrorKind::Unsupported, "the test says so")),
                false => Ok(()),
            }
        }))
    };
    let unable = look_through(refusing("put"), VerifyDepth::Sample(10.0));
    assert!(matches!(covered(&unable).remembered, Remembered::Failed(_)));
    assert!(records(store.as_ref()).is_empty());
    let mut last = 0;
    for sample in 1..=25 {
        let report = look_through(refusing("delete"), VerifyDepth::Sample(10.0));
        let covered = covered(&report);
        match (sample, &covered.remembered) {
            (1, Remembered::Done) | (_, Remembered::NotFolded(_)) => {}
            (_, other) => panic!("{sample}: {other:?}"),
        }
        assert!(
            covered.covered > last || covered.covered == covered.of,
            "{covered:?}"
        );
        last = covered.covered;
    }
    assert_eq!(records(store.as_ref()).len(), 25);
    // Who may delete takes away all but the one that counts.
    look(&store, VerifyDepth::Sample(10.0));
    assert_eq!(records(store.as_ref()).len(), 1);
}

#[test]
fn of_chosen_snapshots_the_rest_stays_remembered() {
    let (store, vault, ..) = scattered();
    look(&store, VerifyDepth::Sample(100.0));
    let all = vault.snapshots().unwrap();
    let options = VerifyOptions {
        depth: VerifyDepth::Sample(100.0),
        workers: 2,
    };
    let report = verify(&vault, &all[..1], &options, &Silent).unwrap();
    assert_eq!(covered(&report).of, 1);
    let report = look(&store, VerifyDepth::Sample(1.0));
    assert_eq!(covered(&report).covered, covered(&report).of);
    // What nobody needs any more is forgotten.
    for snapshot in &all[1..] {
        vault.delete(snapshot).unwrap();
    }
    look(&store, VerifyDepth::Sample(1.0));
    let known = vault.known_samples(Timestamp::now()).unwrap();
    let mut needed = BTreeSet::<ObjectId>::new();
    for snapshot in vault.snapshots().unwrap() {
        let manifest = vault.manifest(&snapshot).unwrap();
        let required = vault.segments_required_by(&manifest, &|| Ok(())).unwrap();
        needed.extend(required.into_keys());
    }
    let mut left = known.memory.clone();
    left.keep(|id| !needed.contains(&id));
    assert!(left.is_empty());
}

/// Whatever is missing, short, long, or has another's name is found; of the data nothing is read.
#[test]
fn a_fast_look_finds_what_is_missing_and_reads_no_data() {
    let (store, vault, disk, newest) = scattered();
    let ids = segments(&vault, &newest);
    let counted = Arc::new(CountStore::new(store.clone()));
    let report = look_through(counted.clone(), VerifyDepth::Fast);
    assert!(report.broken.is_empty() && report.harmless.is_empty());
    assert_eq!((report.segments, report.unread), (0, SEGMENTS as usize));
    let counts = counted.take();
    assert!(
        !counts.contains_key("put") && !counts.contains_key("delete"),
        "{counts:?}"
    );
    let name = ObjectName::segment(ids[10]);
    let good = store.get(&name, 1 << 30).unwrap();
    let changes: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() - 1),
        |bytes| bytes.push(0),
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(100),
    ];
    for change in changes {
        store.corrupt(&name, change);
        let report = look(&store, VerifyDepth::Fast);
        assert!(!report.broken.is_empty());
        assert!(
            report.broken[0].what.contains(&ids[10].to_string()),
            "{report:?}"
        );
        store.replace(&name, good.clone()).unwrap();
    }
    store.delete(&name).unwrap();
    assert!(!look(&store, VerifyDepth::Fast).broken.is_empty());
    store.put(&name, good).unwrap();
    assert!(verify_all(&vault).unwrap().broken.is_empty());
    // What was noted meanwhile is stored again, no more.
    take(&vault, &[disk], Take::default()).unwrap();
}
