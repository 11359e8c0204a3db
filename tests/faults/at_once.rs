//! What is asked of a store at once, and how much of it: manifests that are read, segments that are
//! put.

use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, check_all, take, vault_options, verify_all};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use stillpoint::capture::{Baseline, Pipeline, PipelineOptions};
use stillpoint::device::read::BufferPool;
use stillpoint::model::{BLOCK_SIZE, Bytes, Extent};
use stillpoint::store::{
    CountStore, Draft, FaultStore, MemoryStore, ObjectName, ObjectStore, SnapshotRef, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// Nothing here takes so long: what is waited for longer does not come.
const NEVER: Duration = Duration::from_secs(60);

/// Operations that wait for one another.
#[derive(Default)]
struct Together {
    /// How many are at work now, and the most that ever were.
    now_and_most: Mutex<(u64, u64)>,
    more: Condvar,
}

impl Together {
    /// One more begins; it goes on when so many have been at work at once.
    fn begin(&self, wanted: u64) {
        let mut counts = self.now_and_most.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        self.more.notify_all();
        let few = |counts: &mut (u64, u64)| counts.1 < wanted;
        drop(self.more.wait_timeout_while(counts, NEVER, few).unwrap());
    }

    fn end(&self) {
        self.now_and_most.lock().unwrap().0 -= 1;
    }

    fn most(&self) -> u64 {
        self.now_and_most.lock().unwrap().1
    }
}

/// A vault with so many snapshots of one small disk.
fn vault_with(snapshots: u64) -> (Arc<MemoryStore>, Vec<SnapshotRef>) {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disk = ModelDisk::new(0, 3 * BLOCK_SIZE, 1);
    for _ in 0..snapshots {
        disk.scribble(3);
        take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap();
    }
    let all = vault.snapshots().unwrap();
    (store, all)
}

#[test]
fn manifests_are_read_several_at_once_and_come_in_order() {
    let (store, all) = vault_with(12);
    let most = store.capabilities().gets as u64;
    assert!(most > 1, "this is a test of several at once");
    let (together, waits) = (Arc::new(Together::default()), Arc::new(AtomicU64::new(1)));
    let (seen, wanted) = (Arc::clone(&together), Arc::clone(&waits));
    let faulty = FaultStore::new(store, move |operation| {
        if operation.name.as_str().starts_with("snapshots/") && operation.verb == "get" {
            match operation.done {
                false => seen.begin(wanted.load(Ordering::SeqCst)),
                true => seen.end(),
            }
        }
        Ok(())
    });
    let vault = Vault::open(Arc::new(faulty)).unwrap();
    let mut manifests = vault.manifests(all.clone());
    let mut found = Vec::new();
    for place in 0.. {
        if place == 3 {
            // Those that are requested now are at work together, or wait for one another.
            waits.store(most, Ordering::SeqCst);
        }
        let Some((snapshot, manifest)) = manifests.next() else {
            break;
        };
        assert_eq!(manifest.unwrap().snapshot, snapshot.id);
        found.push(snapshot);
    }
    assert_eq!(found, all);
    assert_eq!(together.most(), most);
}

#[test]
fn a_manifest_that_cannot_be_read_keeps_its_place() {
    let (store, all) = vault_with(6);
    let names = store.list_all(&below("snapshots")).unwrap();
    let mut names: Vec<_> = names.into_iter().map(|object| object.name).collect();
    names.sort();
    store.corrupt(&names[1], |bytes| bytes.truncate(20));
    store.delete(&names[4]).unwrap();
    let vault = Vault::open(store).unwrap();
    let kinds = vault.manifests(all.clone()).map(|(snapshot, manifest)| {
        let kind = manifest.err().map(|error| error.kind());
        (snapshot, kind)
    });
    let expected = [
        None,
        Some(ErrorKind::Damaged),
        None,
        None,
        Some(ErrorKind::NotFound),
        None,
    ];
    let expected: Vec<_> = all.into_iter().zip(expected).collect();
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

fn below(prefix: &str) -> ObjectName {
    ObjectName::parse(prefix).unwrap()
}

/// What is asked of a distant store costs time and money.
#[test]
fn each_task_asks_for_no_more_than_it_needs() {
    let (store, all) = vault_with(9);
    let counted = Arc::new(CountStore::new(store.clone()));
    let vault = Vault::open(counted.clone()).unwrap();
    let open = counted.take();
    assert_eq!((open["get"].operations, open.len()), (1, 1));
    // The newest one alone.
    let newest = all.iter().rev().cloned().collect();
    let first = vault.manifests(newest).next().unwrap();
    assert_eq!(first.0, all[8]);
    assert_eq!(counted.take()["get"].operations, 1);
    assert_eq!(vault.manifests(all).count(), 9);
    let counts = counted.take();
    assert_eq!((counts["get"].operations, counts.len()), (9, 1));

    let store = Arc::new(MemoryStore::new());
    Vault::create(store.clone(), vault_options()).unwrap();
    let counted = Arc::new(CountStore::new(store));
    let vault = Arc::new(Vault::open(counted.clone()).unwrap());
    counted.take();
    let disk = ModelDisk::new(0, 3 * BLOCK_SIZE, 1);
    disk.write(BLOCK_SIZE, &[1; 5000]);
    let taken = take(&vault, &[disk], Take::default()).unwrap();
    let counts = counted.take();
    // A segment, the copy of its footer, an index object, a manifest.
    assert_eq!(counts["put"].operations, 4);
    assert!(!counts.contains_key("get") && !counts.contains_key("delete"));
    assert_eq!(counts["list"].operations, 1);
    check_all(&vault, &[taken]);
    counted.take();
    verify_all(&vault).unwrap();
    let counts = counted.take();
    // The manifest, the index object, the segment with its footer, the copy of that.
    assert_eq!((counts["get"].operations, counts.len()), (4, 2));
    // The snapshots before and after, and what is known to be damaged.
    assert_eq!(counts["list"].operations, 3);
}

/// How the pipelines here are made.
const PIPELINE: PipelineOptions = PipelineOptions {
    disks: 1,
    workers: 2,
};

/// Gives blocks that do not pack to a pipeline until there are so many segments.
fn submit(pipeline: &mut Pipeline, segments: u64) -> Result<()> {
    let buffers = BufferPool::new(4, Bytes(1 << 20))?;
    let mut chance = Chance(7);
    for batch in 0..segments * 32 {
        let mut buffer = buffers.take(&mut || Ok(Duration::from_millis(1)))?;
        for bytes in buffer.space().chunks_exact_mut(8) {
            bytes.copy_from_slice(&chance.next().to_le_bytes());
        }
        buffer.set_len(1 << 20);
        let extent = Extent::new(Bytes(batch << 20), Bytes(1 << 20));
        pipeline.submit(0, extent, buffer, None)?;
    }
    Ok(())
}

fn capture(draft: &Arc<Draft>, segments: u64) -> Result<()> {
    let mut pipeline = Pipeline::start(draft, PIPELINE)?;
    submit(&mut pipeline, segments)?;
    pipeline.finish().map(drop)
}

#[test]
fn segments_are_put_as_many_at_once_as_the_store_is_good_for() {
    let store = Arc::new(MemoryStore::new());
    let most = store.capabilities().puts as u64;
    assert!(most > 1, "this is a test of several at once");
    Vault::create(store.clone(), vault_options()).unwrap();
    let together = Arc::new(Together::default());
    let seen = Arc::clone(&together);
    let faulty = FaultStore::new(store.clone(), move |operation| {
        if operation.name.as_str().starts_with("segments/") && operation.verb == "put" {
            match operation.done {
                false => seen.begin(most),
                true => seen.end(),
            }
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let draft = Arc::new(Draft::begin(&vault));
    capture(&draft, most + 1).unwrap();
    assert_eq!(together.most(), most);
    let put = store.list_all(&below("segments")).unwrap();
    assert!(put.len() as u64 > most);
    drop(draft);
    assert!(store.list_all(&below("segments")).unwrap().is_empty());
}

#[test]
fn one_put_that_fails_ends_the_others() {
    let store = Arc::new(MemoryStore::new());
    Vault::create(store.clone(), vault_options()).unwrap();
    let failed = AtomicBool::new(false);
    let faulty = FaultStore::new(store.clone(), move |operation| {
        let is_put = operation.name.as_str().starts_with("segments/") && operation.verb == "put";
        if is_put && !operation.done && !failed.swap(true, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "the test says so"));
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let draft = Arc::new(Draft::begin(&vault));
    let error = capture(&draft, 4 + store.capabilities().puts as u64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("the test says so"), "{error}");
    drop(draft);
    assert!(store.list_all(&below("segments")).unwrap().is_empty());
}

/// A panic in a thread has no error that it could be seen by: what it had in its hands is lost, and
/// the others know nothing of it.
#[test]
fn a_put_that_panics_fails_the_run() {
    let store = Arc::new(MemoryStore::new());
    Vault::create(store.clone(), vault_options()).unwrap();
    let panicked = AtomicBool::new(false);
    let faulty = FaultStore::new(store.clone(), move |operation| {
        let is_put = operation.name.as_str().starts_with("segments/") && operation.verb == "put";
        if is_put && !operation.done && !panicked.swap(true, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("the test says so"));
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let draft = Arc::new(Draft::begin(&vault));
    let error = capture(&draft, 4).unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

#[test]
fn a_block_that_cannot_be_encoded_for_a_panic_fails_the_run() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disk = ModelDisk::new(0, BLOCK_SIZE, 1);
    disk.write(0, &[1; 5000]);
    let taken = take(&vault, &[disk], Take::default()).unwrap();
    let faulty = FaultStore::new(store, |operation| {
        if operation.name.as_str().starts_with("footers/") && operation.verb == "get" {
            std::panic::resume_unwind(Box::new("the test says so"));
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let baseline = Baseline::load(&vault, &taken.manifest.disks[0], &|| Ok(())).unwrap();
    let draft = Arc::new(Draft::begin(&vault));
    let mut pipeline = Pipeline::start(&draft, PIPELINE).unwrap();
    let buffers = BufferPool::new(1, Bytes(BLOCK_SIZE)).unwrap();
    let mut buffer = buffers.take(&mut || Ok(NEVER)).unwrap();
    buffer.set_len(BLOCK_SIZE as usize);
    let extent = Extent::new(Bytes(0), Bytes(BLOCK_SIZE));
    // The last batch of all: none after it waits for it.
    let baseline = Some(Arc::new(baseline));
    pipeline.submit(0, extent, buffer, baseline).unwrap();
    let error = pipeline.finish().unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
}

/// Nothing is frozen for a run that has failed: what is asked last before that is whether all is
/// encoded.
#[test]
fn a_put_that_failed_is_known_before_anything_is_frozen() {
    let store = Arc::new(MemoryStore::new());
    assert!(store.capabilities().puts > 1, "the others would go on");
    Vault::create(store.clone(), vault_options()).unwrap();
    let faulty = FaultStore::new(store, |operation| {
        if operation.name.as_str().starts_with("segments/") && !operation.done {
            return Err(Error::new(ErrorKind::Io, "the test says so"));
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let draft = Arc::new(Draft::begin(&vault));
    let mut pipeline = Pipeline::start(&draft, PIPELINE).unwrap();
    // One segment is put meanwhile, and one is in the making.
    let mut known = submit(&mut pipeline, 2);
    let until = Instant::now() + NEVER;
    while known.is_ok() {
        assert!(Instant::now() < until, "the run goes on");
        known = pipeline.drain(&|| Ok(()));
    }
    let error = known.unwrap_err();
    assert!(error.to_string().contains("the test says so"), "{error}");
}
