//! What `verify` has found damaged is noted in the vault: the next run stores it anew, whatever its
//! plan. What is noted is a list from a vault, and may be any bytes.

use super::lost::{SEGMENTS, scattered, segments};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check, take, vault_options, verify_all};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use stillpoint::engine::{Event, Monitor, Noted, Silent, VerifyDepth, VerifyOptions, verify};
use stillpoint::format::{DamagedChunks, Sealer};
use stillpoint::model::{BLOCK_SIZE, Bytes, Cancel, Mode, ObjectId, SnapshotId};
use stillpoint::store::{FaultStore, MemoryStore, ObjectName, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind, Result};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

fn lists(store: &dyn ObjectStore) -> Vec<ObjectName> {
    let listed = store.list_all(&ObjectName::damaged()).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

fn new_list() -> ObjectName {
    ObjectName::damage(SnapshotId::generate(1_800_000_000_000))
}

/// Flips a byte of the first chunk of a segment: its footer stays right.
pub(super) fn rot(store: &MemoryStore, segment: ObjectId) {
    store.corrupt(&ObjectName::segment(segment), |bytes| bytes[200] ^= 1);
}

fn next(vault: &Arc<Vault>, disk: &ModelDisk) -> Taken {
    take(vault, std::slice::from_ref(disk), Take::default()).unwrap()
}

fn is_whole(vault: &Arc<Vault>, taken: &Taken) {
    let broken = verify_all(vault).unwrap().broken;
    let id = taken.manifest.snapshot;
    assert!(broken.iter().all(|one| one.snapshot != id), "{broken:?}");
    check(vault, taken);
}

#[test]
fn what_verify_has_found_is_stored_anew_by_the_next_run() {
    for mode in [Mode::Incremental, Mode::Compare] {
        let (store, vault, disk, newest) = scattered();
        let rotten: Vec<ObjectId> = segments(&vault, &newest)[20..23].to_vec();
        rotten.iter().for_each(|one| rot(&store, *one));
        let report = verify_all(&vault).unwrap();
        assert!(!report.broken.is_empty());
        assert!(matches!(report.noted, Noted::Done), "{:?}", report.noted);
        assert_eq!(lists(store.as_ref()).len(), 1);
        if mode == Mode::Compare {
            disk.reboot();
        }
        // On another host, as it were: nothing is remembered but by the vault.
        let vault = Arc::new(Vault::open(store.clone()).unwrap());
        let made = next(&vault, &disk);
        let record = &made.manifest.disks[0];
        assert_eq!(record.mode, mode);
        assert_eq!(record.changed_bytes.0, 3 * BLOCK_SIZE, "{mode:?}");
        let said = made.manifest.warnings.join("\n");
        assert!(said.contains("3 segments"), "{said}");
        assert!(said.contains("`verify`"), "{said}");
        is_whole(&vault, &made);
        // The older ones stay damaged, and nothing new is to be noted or said.
        let before = lists(store.as_ref());
        let report = verify_all(&vault).unwrap();
        assert!(!report.broken.is_empty());
        assert_eq!(lists(store.as_ref()), before);
        let after = next(&vault, &disk);
        assert_eq!(after.manifest.warnings, Vec::<String>::new());
        assert_eq!(after.manifest.disks[0].changed_bytes.0, 0);
    }
}

#[test]
fn what_is_whole_again_or_gone_is_forgotten() {
    let (store, vault, disk, newest) = scattered();
    let segments = segments(&vault, &newest);
    let good = store
        .get(&ObjectName::segment(segments[5]), u64::MAX)
        .unwrap();
    rot(&store, segments[5]);
    rot(&store, segments[6]);
    verify_all(&vault).unwrap();
    store.corrupt(&ObjectName::segment(segments[5]), |bytes| {
        *bytes = good.to_vec()
    });
    verify_all(&vault).unwrap();
    assert_eq!(vault.damage().unwrap().segments(), [segments[6]].into());
    assert_eq!(
        lists(store.as_ref()).len(),
        1,
        "the list before is taken away"
    );
    // All snapshots go, and so does the segment: nobody looks for it any more.
    for snapshot in vault.snapshots().unwrap() {
        vault.delete(&snapshot).unwrap();
    }
    store.delete(&ObjectName::segment(segments[6])).unwrap();
    let report = verify_all(&vault).unwrap();
    assert!(matches!(report.noted, Noted::Nothing));
    assert!(lists(store.as_ref()).is_empty());
    is_whole(&vault, &next(&vault, &disk));
}

#[test]
fn what_nobody_looked_at_this_time_stays_noted() {
    let (store, vault, _, newest) = scattered();
    let rotten = segments(&vault, &newest)[50];
    rot(&store, rotten);
    verify_all(&vault).unwrap();
    let before = lists(store.as_ref());
    assert_eq!(before.len(), 1);
    let all = vault.snapshots().unwrap();
    let look = |snapshots, sample| {
        let options = VerifyOptions {
            depth: VerifyDepth::Sample(sample),
            workers: 2,
        };
        verify(&vault, snapshots, &options, &Silent).unwrap()
    };
    // The first has one block, and needs nothing of it.
    assert!(look(&all[..1], 100.0).broken.is_empty());
    look(&all, 0.0);
    assert_eq!(lists(store.as_ref()), before);
    assert_eq!(vault.damage().unwrap().segments(), [rotten].into());
}

#[test]
fn damage_by_which_nothing_is_lost_is_no_loss() {
    let (store, vault, disk, newest) = scattered();
    let segment = segments(&vault, &newest)[9];
    // A byte of the salt in the header, which nobody needs to read a chunk.
    store.corrupt(&ObjectName::segment(segment), |bytes| bytes[20] ^= 1);
    let report = verify_all(&vault).unwrap();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(report.harmless.len(), 1);
    assert!(report.harmless[0].contains(&segment.to_string()));
    assert!(matches!(report.noted, Noted::Nothing));
    assert!(lists(store.as_ref()).is_empty());
    let made = next(&vault, &disk);
    assert_eq!(made.manifest.disks[0].changed_bytes.0, 0);
    check(&vault, &made);
}

#[test]
fn a_vault_that_takes_no_note_is_told_of() {
    let (store, vault, _, newest) = scattered();
    rot(&store, segments(&vault, &newest)[3]);
    let refusing = FaultStore::new(store.clone(), |operation| {
        match operation.verb == "put" && operation.name.is_below(&ObjectName::damaged()) {
            true => Err(Error::new(ErrorKind::Io, "the test says so")),
            false => Ok(()),
        }
    });
    let report = verify_all(&Vault::open(Arc::new(refusing)).unwrap()).unwrap();
    assert!(!report.broken.is_empty());
    let Noted::Failed(error) = report.noted else {
        panic!("{:?}", report.noted);
    };
    assert!(error.to_string().contains("the test says so"), "{error}");
}

#[test]
fn lists_that_cannot_be_read_are_not_built_on_and_go_with_the_next_whole_look() {
    let whole = DamagedChunks::default().encode(&SEALER).unwrap();
    let mut flipped = whole.clone();
    flipped[50] ^= 1;
    let long = vec![0; DamagedChunks::MAX_LEN as usize + 1];
    for bytes in [b"rubbish".to_vec(), Vec::new(), flipped, long] {
        let (store, vault, disk, newest) = scattered();
        store.put(&new_list(), bytes.into()).unwrap();
        assert_eq!(vault.damage().unwrap_err().kind(), ErrorKind::Damaged);
        let made = next(&vault, &disk);
        assert_eq!(made.manifest.disks[0].mode, Mode::Full);
        // A look at a part cannot tell what stood in it.
        let all = vault.snapshots().unwrap();
        let options = VerifyOptions {
            depth: VerifyDepth::Full,
            workers: 2,
        };
        let report = verify(&vault, &all[..1], &options, &Silent).unwrap();
        assert!(matches!(report.noted, Noted::Failed(_)));
        assert_eq!(lists(store.as_ref()).len(), 1);
        rot(&store, segments(&vault, &newest)[11]);
        assert!(matches!(verify_all(&vault).unwrap().noted, Noted::Done));
        assert_eq!(lists(store.as_ref()).len(), 1);
        let made = next(&vault, &disk);
        assert_eq!(made.manifest.disks[0].mode, Mode::Incremental);
        is_whole(&vault, &made);
    }
}

#[test]
fn a_list_of_lies_costs_but_storing_it_again() {
    let (store, vault, disk, newest) = scattered();
    let mut lies = DamagedChunks::default();
    for segment in segments(&vault, &newest) {
        lies.add(segment, None);
    }
    lies.add(ObjectId([7; 16]), Some(&BTreeSet::from([1, 2])));
    for _ in 0..3 {
        store
            .put(&new_list(), lies.encode(&SEALER).unwrap().into())
            .unwrap();
    }
    let strays = ["damaged/README", "damaged/lost/x"].map(|name| ObjectName::parse(name).unwrap());
    for stray in &strays {
        store
            .put(stray, b"not of the vault".as_slice().into())
            .unwrap();
    }
    let made = next(&vault, &disk);
    assert_eq!(made.manifest.disks[0].mode, Mode::Incremental);
    assert_eq!(
        made.manifest.disks[0].changed_bytes.0,
        SEGMENTS * BLOCK_SIZE
    );
    is_whole(&vault, &made);
    assert_eq!(lists(store.as_ref()), strays, "what is whole is forgotten");
    for _ in 0..65 {
        store
            .put(
                &new_list(),
                DamagedChunks::default().encode(&SEALER).unwrap().into(),
            )
            .unwrap();
    }
    assert_eq!(vault.damage().unwrap_err().kind(), ErrorKind::Damaged);
}

/// Keeps how far it was said to be.
#[derive(Default)]
struct Watch(Mutex<Vec<(Bytes, Bytes)>>);

impl Monitor for Watch {
    fn tell(&self, event: Event) {
        if let Event::Progress { done, total } = event {
            self.0.lock().unwrap().push((done, total));
        }
    }
}

impl Cancel for Watch {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn the_progress_reaches_its_end_also_where_something_is_damaged() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disk = ModelDisk::new(0, 20 * BLOCK_SIZE, 1);
    disk.write(0, &super::noise(300_000, 5));
    let taken = next(&vault, &disk);
    let segment = ObjectName::segment(segments(&vault, &taken)[0]);
    // What is needed of it, unpacked: its length is known when it has been read.
    let length = 300_000_u64.next_multiple_of(BLOCK_SIZE);
    for damaged in [false, true] {
        if damaged {
            store.corrupt(&segment, |bytes| bytes[200] ^= 1);
        }
        let watch = Watch::default();
        let options = VerifyOptions {
            depth: VerifyDepth::Full,
            workers: 2,
        };
        let all = vault.snapshots().unwrap();
        let report = verify(&vault, &all, &options, &watch).unwrap();
        assert_eq!(report.broken.is_empty(), !damaged);
        let told = watch.0.into_inner().unwrap();
        assert_eq!(told.last(), Some(&(Bytes(length), Bytes(length))));
        assert!(told.iter().all(|(done, total)| done <= total), "{told:?}");
    }
}
