//! Runs that go on from one that was cut off: what was put is not put again, what has changed is,
//! and nothing is believed that is not so.

mod copies;
mod doubts;
mod failed;
mod held;
mod killed;
mod moments;
mod unreadable;

use crate::support::model::ModelDisk;
use crate::support::vaults::{Notes, Take, Taken, check, take};
use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;
use stillpoint::format::{BlockDedup, Compression};
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault, VaultOptions};
use tempfile::TempDir;

/// Blocks of the disk: they fill three segments, and a part of a fourth.
const BLOCKS: u64 = 1600;

/// Bytes that do not shrink and come back with the seed.
pub fn noise(length: u64, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A disk full of noise.
fn disk(number: u32, blocks: u64) -> ModelDisk {
    let disk = ModelDisk::new(number, blocks * BLOCK_SIZE, 1);
    disk.write(0, &noise(blocks * BLOCK_SIZE, 1));
    disk
}

/// What is stored need not be packed: these tests are not about that.
fn vault_options() -> VaultOptions {
    VaultOptions {
        name: "test".into(),
        description: None,
        compression: Compression::None,
        dedup: BlockDedup::Disk,
        encrypt: None,
    }
}

/// How many segments there are.
fn segments(store: &dyn ObjectStore) -> usize {
    store.list_all(&ObjectName::segments()).unwrap().len()
}

/// A vault in memory, a disk, and a folder for notes.
struct Stage {
    store: Arc<MemoryStore>,
    vault: Arc<Vault>,
    disk: ModelDisk,
    notes: TempDir,
}

impl Stage {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let vault = Vault::create(store.clone(), vault_options()).unwrap();
        Self {
            store,
            vault: Arc::new(vault),
            disk: disk(0, BLOCKS),
            notes: tempfile::tempdir().unwrap(),
        }
    }

    /// With what a run has left that was cut off when all was captured.
    fn cut_off() -> Self {
        let stage = Self::new();
        let mut options = stage.options();
        options.cut_off = true;
        let error = take(&stage.vault, from_ref(&stage.disk), options)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("goes on from what is left"),
            "{error}"
        );
        assert_eq!(segments(stage.store.as_ref()), 4);
        assert_eq!(files(stage.notes.path()), 1);
        stage
    }

    fn options(&self) -> Take {
        Take {
            notes: Some(Notes {
                directory: self.notes.path().join("sent"),
                machine: Some("machine"),
            }),
            ..Take::default()
        }
    }

    /// The next run, which is right; and how many blocks it did not put again.
    fn next(&self, options: Take) -> (Taken, u64) {
        let taken = take(&self.vault, from_ref(&self.disk), options).unwrap();
        check(&self.vault, &taken);
        let resumed = taken.manifest.disks[0].resumed_bytes.0;
        assert_eq!(resumed % BLOCK_SIZE, 0);
        (taken, resumed / BLOCK_SIZE)
    }
}

/// How many notes there are.
fn files(notes: &Path) -> usize {
    let entries = std::fs::read_dir(notes.join("sent")).into_iter();
    entries.flatten().count()
}

#[test]
fn the_next_run_puts_only_what_was_not_put() {
    let stage = Stage::cut_off();
    for block in [3, 700, 1599] {
        stage.disk.write(block * BLOCK_SIZE, &[7; 100]);
    }
    let (taken, resumed) = stage.next(stage.options());
    assert_eq!(resumed, BLOCKS - 3);
    assert_eq!(
        segments(stage.store.as_ref()),
        5,
        "one more, of three blocks"
    );
    let record = &taken.manifest.disks[0];
    assert!(
        record
            .reason
            .contains("99.81 MiB were in the vault from a run that was cut off"),
        "{}",
        record.reason
    );
    assert!(record.stored_bytes.0 < 4 * BLOCK_SIZE, "{record:?}");
    assert!(taken.manifest.warnings.is_empty());
    assert_eq!(
        files(stage.notes.path()),
        0,
        "notes that are of no use stay"
    );
    // The run after it is like any other.
    stage.disk.write(BLOCK_SIZE, &[8; 100]);
    let (next, resumed) = stage.next(stage.options());
    assert_eq!(
        (next.manifest.disks[0].changed_bytes.0, resumed),
        (BLOCK_SIZE, 0)
    );
    check(&stage.vault, &taken);
}

#[test]
fn blocks_that_moved_are_put_again() {
    let stage = Stage::cut_off();
    let bytes = noise(BLOCKS * BLOCK_SIZE, 1);
    stage.disk.write(0, &bytes[BLOCK_SIZE as usize..]);
    let (_, resumed) = stage.next(stage.options());
    assert_eq!(resumed, 1, "the last block has not moved");
}

#[test]
fn an_incremental_that_was_cut_off_is_gone_on_from() {
    let stage = Stage::new();
    let (first, _) = stage.next(stage.options());
    stage.disk.write(0, &noise(1200 * BLOCK_SIZE, 2));
    let mut options = stage.options();
    options.cut_off = true;
    assert!(take(&stage.vault, from_ref(&stage.disk), options).is_err());
    let before = segments(stage.store.as_ref());
    stage.disk.write(0, &noise(2 * BLOCK_SIZE, 3));
    // It compares, as it does after a reboot, or trusts its marks: both find what was put.
    for reboots in [false, true] {
        if reboots {
            stage.disk.reboot();
            let mut options = stage.options();
            options.cut_off = true;
            stage.disk.write(0, &noise(1200 * BLOCK_SIZE, 4));
            assert!(take(&stage.vault, from_ref(&stage.disk), options).is_err());
        }
        let (taken, resumed) = stage.next(stage.options());
        assert_eq!(resumed, 1200 - if reboots { 0 } else { 2 }, "{reboots}");
        check(&stage.vault, &taken);
    }
    assert!(segments(stage.store.as_ref()) > before);
    check(&stage.vault, &first);
}
