//! Work on a vault that is told to stop: it is heard before the next object is read, wherever it
//! is. And a manifest cannot make the work endless.

use super::{noise, sample_disks};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, take, vault_options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use stillpoint::engine::{
    Destination, Event, Monitor, RestoreOptions, VerifyDepth, VerifyOptions, diff, restore, verify,
};
use stillpoint::format::{IndexRef, Manifest, ObjectKind, Sealer};
use stillpoint::model::{BLOCK_SIZE, Cancel, ObjectId};
use stillpoint::store::{FaultStore, LocalStore, MemoryStore, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind, Result};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

/// Snapshots, each of which adds an index object and a segment.
const SNAPSHOTS: u64 = 12;

/// Says that the work shall stop when it is asked for the last time of so many.
struct Stopping {
    left: AtomicU64,
    stopped: Arc<AtomicBool>,
}

impl Monitor for Stopping {
    fn tell(&self, _: Event) {}
}

impl Cancel for Stopping {
    fn check(&self) -> Result<()> {
        let left = |left: u64| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.left.fetch_update(order, order, left).is_ok() {
            return Ok(());
        }
        self.stopped.store(true, order);
        Err(Error::new(ErrorKind::Interrupted(2), "the test says so"))
    }
}

/// A vault whose newest snapshot is made of many objects.
fn vault() -> (Arc<MemoryStore>, Vec<Taken>) {
    // No more threads read than each test says.
    let store = Arc::new(MemoryStore::one_at_a_time());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disk = ModelDisk::new(0, SNAPSHOTS * BLOCK_SIZE, 1);
    let mut all = Vec::new();
    for block in 0..SNAPSHOTS {
        disk.write(block * BLOCK_SIZE, &noise(3000, block + 1));
        all.push(take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap());
    }
    (store, all)
}

/// Stops the work at every question that it asks; nothing is read after that, but for so many reads
/// of segments that other threads had asked for before. Answers how many questions there are.
fn stop_everywhere(
    store: &Arc<impl ObjectStore + 'static>,
    others: u64,
    work: impl Fn(&Vault, &dyn Monitor) -> Result<()>,
) -> u64 {
    for questions in 0.. {
        let stopped = Arc::<AtomicBool>::default();
        let late = Arc::<AtomicU64>::default();
        let inner: Arc<dyn ObjectStore> = store.clone();
        let heard = (Arc::clone(&stopped), Arc::clone(&late));
        let store = FaultStore::new(inner, move |operation| {
            let late = heard.0.load(Ordering::SeqCst) && !operation.done;
            let name = operation.name.as_str();
            let of_copying = name.starts_with("segments/") || name.starts_with("footers/");
            // What is not of the copying, one thread does: none of it may come late.
            let weight = if of_copying { 1 } else { others + 1 };
            heard
                .1
                .fetch_add(u64::from(late) * weight, Ordering::SeqCst);
            Ok(())
        });
        let vault = Vault::open(Arc::new(store)).unwrap();
        let monitor = Stopping {
            left: questions.into(),
            stopped,
        };
        let done = work(&vault, &monitor);
        let late = late.load(Ordering::SeqCst);
        assert!(late <= others, "{late} read after question {questions}");
        match done {
            Ok(()) => return questions,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted(2), "{error}"),
        }
    }
    unreachable!("it comes to an end")
}

fn verify_newest(vault: &Vault, monitor: &dyn Monitor) -> Result<()> {
    let options = VerifyOptions {
        depth: VerifyDepth::Full,
        workers: 1,
    };
    let newest = vault.snapshots()?.pop();
    verify(vault, &[newest.expect("there is one")], &options, monitor).map(|_| ())
}

#[test]
fn verify_hears_it_at_every_object() {
    let (store, _) = vault();
    let questions = stop_everywhere(&store, 0, verify_newest);
    // Each index object, each run and its segment's footer, each segment.
    assert!(questions >= 3 * SNAPSHOTS, "only {questions}");
    // Also while it tells what is lost.
    for (name, _) in super::objects(store.as_ref()) {
        if name.as_str().starts_with("segments/") {
            store.corrupt(&name, |bytes| bytes[160] ^= 1);
        }
    }
    let more = stop_everywhere(&store, 0, verify_newest);
    assert!(more >= questions + 2 * SNAPSHOTS, "{more}, {questions}");
}

#[test]
fn diff_hears_it_at_every_object() {
    let (store, taken) = vault();
    let record = |taken: &Taken| taken.manifest.disks[0].clone();
    let (one, two) = (record(&taken[0]), record(&taken[taken.len() - 1]));
    let questions = stop_everywhere(&store, 0, |vault, monitor| {
        diff(vault, &one, &two, monitor).map(|_| ())
    });
    assert!(questions >= 2 * SNAPSHOTS, "only {questions}");
}

#[test]
fn restore_hears_it_at_every_object() {
    let (memory, taken) = vault();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("image");
    // From afar sixteen threads would have asked before.
    let store = Arc::new(LocalStore::create(&folder.path().join("vault")).unwrap());
    for (name, bytes) in super::objects(memory.as_ref()) {
        store.put(&name, bytes).unwrap();
    }
    // Two threads copy: one has asked, and reads a footer and a chunk, when the other is stopped.
    let questions = stop_everywhere(&store, 2, |vault, monitor| {
        let destination = Destination::To {
            disk: None,
            target: target.clone(),
        };
        let manifest = &taken[taken.len() - 1].manifest;
        let restored = restore(
            vault,
            manifest,
            &RestoreOptions::new(destination, 1),
            monitor,
        );
        assert_eq!(target.exists(), restored.is_ok());
        restored.map(|_| ())
    });
    assert!(questions >= 2 * SNAPSHOTS, "only {questions}");
}

#[test]
fn a_manifest_that_names_index_objects_without_end_is_damaged() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    let manifest = take(&vault, &sample_disks(), Take::default())
        .unwrap()
        .manifest;
    let read = |parts: u32| {
        let mut many = manifest.clone();
        let part = many.disks[1].index[0];
        let named = |n: u32| {
            let mut id = ObjectId([7; 16]);
            id.0[..4].copy_from_slice(&n.to_le_bytes());
            IndexRef { id, ..part }
        };
        many.disks[1].index = (0..parts).map(named).collect();
        // What no reader believes is not written either.
        assert_eq!(many.encode(&SEALER).is_ok(), parts <= 8192);
        let json = serde_json::to_vec(&many).unwrap();
        let bytes = SEALER.seal_object(ObjectKind::Manifest, &json).unwrap();
        Manifest::decode(&bytes, &SEALER, many.snapshot, many.vault)
    };
    assert_eq!(read(8192).unwrap().disks[1].index.len(), 8192);
    let error = read(8193).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
}

#[test]
fn a_manifest_of_a_disk_that_no_reader_believes_is_not_written() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    let taken = take(&vault, &sample_disks(), Take::default()).unwrap();
    for (size, is_good) in [(512, true), ((1 << 48) - (1 << 16), true), (1 << 48, false)] {
        let mut manifest = taken.manifest.clone();
        manifest.disks[1].identity.size.0 = size;
        assert_eq!(manifest.encode(&SEALER).is_ok(), is_good, "{size}");
    }
}
