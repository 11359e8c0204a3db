//! The alarm for encryption at work: attacks that were simulated are told and the last clean
//! snapshot is held, days like others are not, and nothing about it ever fails a snapshot.

mod attacks;
mod by_command;
mod days;
mod trouble;

use crate::support::host::{LoopDisk, noise};
use crate::support::rig::Rig;
use crate::support::vaults::vault_options;
use std::sync::Arc;
use stillpoint::device::HostLayout;
use stillpoint::engine::{GoodCopy, Quiesce, Silent, SnapshotOptions, WantedDisks, newest_good};
use stillpoint::format::{Manifest, RewrittenRecord};
use stillpoint::model::{BLOCK_SIZE, SnapshotId};
use stillpoint::store::{MemoryStore, ObjectStore, SnapshotRef, Vault};

const MIB: usize = 1 << 20;
/// What is told, in a word.
const TOLD: &str = "ENCRYPTION AT WORK";

/// Bytes that pack to a fraction, the same for the same seed.
fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 80);
    for line in 0_u64.. {
        if bytes.len() >= length {
            break;
        }
        let words = format!("{seed:08x} line {line}: what stands here is like what stands there\n");
        bytes.extend_from_slice(words.as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A disk, and a vault in memory.
struct Stage {
    rig: Rig,
    disk: LoopDisk,
    store: Arc<MemoryStore>,
}

impl Stage {
    /// `None`, and said loudly, where this host cannot.
    fn new(test: &str, contents: &[u8]) -> Option<Self> {
        let rig = Rig::new(&format!("alarm: {test}"))?;
        let store = Arc::new(MemoryStore::new());
        Vault::create(store.clone(), vault_options()).unwrap();
        let disk = LoopDisk::holding(contents, &["--direct-io=on"]);
        Some(Self { rig, disk, store })
    }

    /// As a command finds it that has just opened it.
    fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::open(self.store.clone()).unwrap())
    }

    fn write(&self, mib: usize, bytes: &[u8]) {
        self.disk.write_at((mib * MIB) as u64, bytes);
    }

    fn snapshot(&self) -> Manifest {
        self.snapshot_with(|_| ())
    }

    fn snapshot_with(&self, change: impl FnOnce(&mut SnapshotOptions)) -> Manifest {
        self.snapshot_to(&self.vault(), change, |quiesce| quiesce)
    }

    fn snapshot_to(
        &self,
        vault: &Arc<Vault>,
        change: impl FnOnce(&mut SnapshotOptions),
        around: impl FnOnce(Box<dyn Quiesce>) -> Box<dyn Quiesce>,
    ) -> Manifest {
        let taken = self.rig.snapshot_to(vault, &[&self.disk], change, around);
        taken.unwrap()
    }

    fn find(&self, id: SnapshotId) -> SnapshotRef {
        self.vault().find(&id.to_string()).unwrap()
    }

    fn holds(&self, id: SnapshotId) -> Vec<String> {
        let kept = self.vault().kept_by(id, &Silent).unwrap();
        kept.holds.into_iter().collect()
    }

    /// How many keeps there are in all.
    fn keeps(&self) -> usize {
        let keeps = stillpoint::store::ObjectName::keeps();
        self.store.list_all(&keeps).unwrap().len()
    }

    /// What `status` finds of the disk.
    fn newest(&self, last: &Manifest) -> GoodCopy {
        let layout = HostLayout::scan().unwrap();
        let named = std::slice::from_ref(&self.disk.device);
        let disks = layout.resolve(named).unwrap();
        let wanted = WantedDisks {
            host: &last.host,
            topology: &layout.topology,
            disks: &disks,
            now: last.time,
        };
        let found = newest_good(&self.vault(), &wanted, &Silent).unwrap();
        found.copies[0].clone().unwrap()
    }
}

/// What it noted of its only disk.
fn noted(manifest: &Manifest) -> RewrittenRecord {
    manifest.disks[0]
        .rewritten
        .expect("it was built on a parent")
}

/// Whether it told of encryption.
fn is_told(manifest: &Manifest) -> bool {
    manifest.warnings.iter().any(|said| said.contains(TOLD))
}

/// So many MiB in blocks.
fn blocks(mib: usize) -> u64 {
    (mib * MIB) as u64 / BLOCK_SIZE
}
