//! Disks that change faster than they are copied: what is said, how soon, and what is taken when a
//! copy of no one instant will do. On model disks, where no clock decides.

use crate::support::host::noise;
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check, restore, take, vault_options, verify_all};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use stillpoint::engine::OnBusy;
use stillpoint::model::{BLOCK_SIZE, Bytes, Content, Level, block_count};
use stillpoint::store::{MemoryStore, Vault};
use stillpoint::{Error, ErrorKind};

const BLOCK: usize = BLOCK_SIZE as usize;

fn one_disk(blocks: u64) -> (Arc<Vault>, Vec<ModelDisk>) {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    (vault, vec![ModelDisk::new(0, blocks * BLOCK_SIZE, 7)])
}

fn refused(vault: &Arc<Vault>, disks: &[ModelDisk], options: Take) -> Error {
    match take(vault, disks, options) {
        Ok(_) => panic!("a snapshot was made"),
        Err(error) => error,
    }
}

/// At every moment something is written, and next to nothing fits.
fn restless() -> (Arc<Vault>, Vec<ModelDisk>, impl Fn(bool, OnBusy) -> Take) {
    let (vault, disks) = one_disk(400);
    disks[0].restless(100);
    let options = |allow_fuzzy, on_busy| Take {
        allow_fuzzy,
        on_busy,
        window: Bytes(8 * BLOCK_SIZE),
        before: Box::new(|_| panic!("nothing is frozen")),
        ..Take::default()
    };
    (vault, disks, options)
}

#[test]
fn what_never_fits_is_told_before_anything_is_frozen() {
    let (vault, disks, options) = restless();
    for on_busy in [OnBusy::Fail, OnBusy::Freeze] {
        let error = refused(&vault, &disks, options(false, on_busy));
        assert_eq!(error.kind(), ErrorKind::Inconsistent);
        let said = error.to_string();
        assert!(said.contains("faster"), "{said}");
        let hint = error.hint().unwrap();
        assert!(hint.contains("freeze"), "{hint}");
        assert!(!hint.contains("--level"), "{hint}");
    }
    assert!(vault.snapshots().unwrap().is_empty());
}

#[test]
fn what_never_fits_is_cut_once_its_writers_are_slow() {
    let (vault, disks, options) = restless();
    let options = Take {
        before: Box::new(|_| {}),
        slows: true,
        ..options(false, OnBusy::Throttle)
    };
    let made = take(&vault, &disks, options).unwrap();
    assert_ne!(made.manifest.level, Level::Fuzzy);
    check(&vault, &made);
    disks[0].restless(100);
    let unable = restless().2(false, OnBusy::Throttle);
    let hint = refused(&vault, &disks, unable).hint().unwrap().to_owned();
    assert!(!hint.contains("throttle"), "{hint}");
}

#[test]
fn a_copy_of_no_one_instant_is_taken_where_that_will_do() {
    let (vault, disks, options) = restless();
    let made = take(&vault, &disks, options(true, OnBusy::Fail)).unwrap();
    let record = &made.manifest.disks[0];
    assert_eq!(made.manifest.level, Level::Fuzzy);
    assert_eq!(record.cut, None, "nothing to build on");
    assert_eq!(made.manifest.freeze_us, None);
    let warnings = &made.manifest.warnings;
    assert!(warnings.iter().any(|one| one.contains("no one instant")));
    restore(&vault, record, false).unwrap();
    let report = verify_all(&vault).unwrap();
    assert!(report.broken.is_empty(), "{:?}", report.broken);
}

/// Each time that all is to stand still, more has changed than there is room for.
fn bursts(count: &Arc<AtomicU32>, allow_fuzzy: bool) -> Take {
    let count = Arc::clone(count);
    Take {
        allow_fuzzy,
        window: Bytes(20 * BLOCK_SIZE),
        before: Box::new(move |disks| {
            let seed = count.fetch_add(1, Ordering::Relaxed);
            disks[0].write(7 * BLOCK_SIZE, &noise(60 * BLOCK, seed.into()));
        }),
        ..Take::default()
    }
}

#[test]
fn what_outgrows_the_memory_at_the_freeze_is_told_after_two_attempts() {
    let (vault, disks) = one_disk(300);
    let count = Arc::default();
    let error = refused(&vault, &disks, bursts(&count, false));
    assert_eq!(count.load(Ordering::Relaxed), 2, "it freezes in vain");
    let said = error.to_string();
    assert!(said.contains("2 attempts to cut 3.75 MiB"), "{said}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("freeze"), "{hint}");
    assert!(vault.snapshots().unwrap().is_empty());
}

#[test]
fn what_outgrows_the_memory_at_the_freeze_is_copied_where_that_will_do() {
    let (vault, disks) = one_disk(300);
    let count = Arc::default();
    let made = take(&vault, &disks, bursts(&count, true)).unwrap();
    assert_eq!(made.manifest.level, Level::Fuzzy);
    // As nothing was written after the last burst, it happens to be of one instant.
    check(&vault, &made);
}

#[test]
fn neighbours_that_are_read_last_are_stored_beside_each_other() {
    let (vault, disks) = one_disk(600);
    let mut once = Some(noise(100 * BLOCK, 1));
    let options = Take {
        before: Box::new(move |disks| {
            if let Some(bytes) = once.take() {
                disks[0].write(100 * BLOCK_SIZE, &bytes);
            }
        }),
        ..Take::default()
    };
    let made = take(&vault, &disks, options).unwrap();
    check(&vault, &made);
    let record = &made.manifest.disks[0];
    assert_eq!(
        record.frozen_bytes,
        Bytes(100 * BLOCK_SIZE),
        "in the window"
    );
    let blocks = block_count(record.identity.size);
    let map = vault.load_index(&record.index, blocks).unwrap();
    let runs: Vec<_> = map
        .iter()
        .filter(|run| matches!(run.content, Content::Data { .. }))
        .collect();
    assert_eq!(runs.len(), 1, "{runs:?}");
    assert_eq!(runs[0].count, 100);
}

/// A block that is trimmed all the time, also while all is held, is no reason to fail; a block that
/// is written to is.
#[test]
fn discards_alone_are_no_reason_to_copy_again() {
    let (vault, disks) = one_disk(50);
    disks[0].write(0, &noise(50 * BLOCK, 1));
    disks[0].trim(20..21, u32::MAX);
    let first = take(&vault, &disks, Take::default()).unwrap();
    check(&vault, &first);
    let second = take(&vault, &disks, Take::default()).unwrap();
    check(&vault, &second);
    disks[0].rude(u32::MAX);
    let error = refused(&vault, &disks, Take::default());
    assert!(error.to_string().contains("window"), "{error}");
}

/// What is free is not copied because it is trimmed while the rest is copied.
#[test]
fn what_is_free_and_trimmed_meanwhile_is_not_copied() {
    let (vault, disks) = one_disk(300);
    disks[0].write(0, &noise(300 * BLOCK, 1));
    (0..200).for_each(|block| disks[0].free(block));
    // It ends within the first pass.
    disks[0].trim(0..200, 12);
    let made = take(&vault, &disks, Take::default()).unwrap();
    check(&vault, &made);
    let record = &made.manifest.disks[0];
    let map = vault.load_index(&record.index, 300).unwrap();
    let free = map.iter().filter(|run| run.content == Content::Free);
    let free: Vec<_> = free.map(|run| (run.start.0, run.count)).collect();
    assert_eq!(free, [(0, 200)]);
    assert_eq!(record.read_bytes, Bytes(100 * BLOCK_SIZE));
}
