//! Two kinds of drills: what one of them has proven the other one does not take back, and what one
//! has found wrong the other one does not hide.

use super::{manifest, memory_vault, record};
use crate::sealed::{Safe, given};
use crate::support::vaults::vault_options;
use std::sync::Arc;
use stillpoint::format::{DrillKind, DrillName, DrillOutcome, DrillRecord, Sealer};
use stillpoint::model::SnapshotId;
use stillpoint::store::{
    CountStore, Drilled, DrillsWanted, MemoryStore, NewestDrill, ObjectName, ObjectStore, Vault,
};

use DrillKind::{Booted, Opened};
use DrillOutcome::{Failed, Passed};

/// A vault with one snapshot, and the time at which it was last drilled.
struct Drilling {
    vault: Arc<Vault>,
    store: Arc<MemoryStore>,
    snapshot: SnapshotId,
    time: u64,
}

impl Drilling {
    fn in_vault(vault: Arc<Vault>, store: Arc<MemoryStore>) -> Self {
        Self {
            vault,
            store,
            snapshot: SnapshotId::generate(1_700_000_000_000),
            time: 1_710_000_000_000,
        }
    }

    fn new() -> Self {
        let (store, vault) = memory_vault();
        Self::in_vault(Arc::new(vault), store)
    }

    /// The name of a drill that is later than all before.
    fn name(&mut self) -> DrillName {
        self.time += 1;
        DrillName {
            snapshot: self.snapshot,
            drill: SnapshotId::generate(self.time),
        }
    }

    fn record(&mut self, kind: DrillKind, outcome: DrillOutcome) -> DrillRecord {
        let mut record = record(self.name());
        record.kind = Some(kind);
        record.steps[0].outcome = outcome;
        record
    }

    fn put(&mut self, kind: DrillKind, outcome: DrillOutcome) {
        let record = self.record(kind, outcome);
        self.vault.put_drill(&record).unwrap();
    }

    /// Puts bytes as the newest drill.
    fn put_bytes(&mut self, bytes: Vec<u8>) {
        let name = ObjectName::drill(self.name());
        self.store.put(&name, bytes.into()).unwrap();
    }

    fn drilled(&self) -> Drilled {
        let wanted = DrillsWanted {
            snapshot: self.snapshot,
            manifest: manifest(),
        };
        let mut found = self.vault.drilled(&[wanted], &|| Ok(())).unwrap();
        found.of.remove(&self.snapshot).unwrap()
    }

    /// What the newest one of each kind has come to; `?`: it is unknown.
    fn kinds(&self) -> [&'static str; 2] {
        let kinds = self.drilled().kinds;
        [&kinds.opened, &kinds.booted].map(|says| match says {
            None => "none",
            Some(NewestDrill::Unknown(_)) => "?",
            Some(says) if says.has_failed() => "failed",
            Some(says) if says.is_whole() => "passed",
            Some(_) => "incomplete",
        })
    }
}

#[test]
fn each_kind_has_its_newest() {
    let mut one = Drilling::new();
    one.put(Booted, Passed);
    assert_eq!(one.kinds(), ["none", "passed"]);
    one.put(Opened, Passed);
    one.put(Opened, Failed);
    assert_eq!(one.kinds(), ["failed", "passed"]);
    assert!(one.drilled().newest.has_failed());
    one.put(Booted, Failed);
    one.put(Opened, Passed);
    // A later good one of the other kind does not hide that it boots no more.
    assert_eq!(one.kinds(), ["passed", "failed"]);
    assert!(one.drilled().newest.is_whole());
    one.put(Booted, Passed);
    assert_eq!(one.kinds(), ["passed", "passed"]);
    // What a later version has put says nothing of these.
    one.put(DrillKind::Other, Failed);
    assert_eq!(one.kinds(), ["passed", "passed"]);
}

#[test]
fn what_cannot_be_read_hides_all_that_is_older_of_both_kinds() {
    let mut one = Drilling::new();
    one.put(Booted, Passed);
    one.put(Opened, Passed);
    one.put_bytes(b"rubbish".to_vec());
    assert_eq!(one.kinds(), ["?", "?"]);
    one.put(Opened, Passed);
    assert_eq!(one.kinds(), ["passed", "?"]);
    one.put(Booted, Failed);
    assert_eq!(one.kinds(), ["passed", "failed"]);
    // Of another manifest: it says nothing of what is there.
    let mut other = one.record(Booted, Passed);
    other.manifest = stillpoint::format::ManifestHash::of(&[9; 64]);
    one.vault.put_drill(&other).unwrap();
    assert_eq!(one.kinds(), ["?", "?"]);
}

#[test]
fn in_an_encrypted_vault_one_that_is_not_sealed_counts_for_nothing() {
    let Safe { store, vault, .. } = Safe::new();
    let mut one = Drilling::in_vault(vault, store.clone());
    one.put(Opened, Failed);
    one.put(Booted, Failed);
    assert_eq!(one.kinds(), ["failed", "failed"]);
    for kind in [Opened, Booted] {
        let forged = one.record(kind, Passed);
        let name = ObjectName::drill(DrillName {
            snapshot: forged.snapshot,
            drill: forged.drill,
        });
        let plain = forged.encode(&Sealer::without_keys()).unwrap();
        store.put(&name, plain.into()).unwrap();
        // Never "passed", and never what was before it, either.
        assert_eq!(one.kinds(), ["?", "?"]);
    }
    // Sealed for another vault, it is no better.
    let elsewhere = Safe::new();
    let mut other = Drilling::in_vault(elsewhere.vault, elsewhere.store.clone());
    other.snapshot = one.snapshot;
    other.time = one.time;
    other.put(Opened, Passed);
    let [theirs] = elsewhere
        .store
        .list_all(&ObjectName::drills())
        .unwrap()
        .try_into()
        .unwrap();
    let bytes = elsewhere.store.get(&theirs.name, 1 << 20).unwrap();
    store.put(&theirs.name, bytes).unwrap();
    assert_eq!(one.kinds(), ["?", "?"]);
    // Who has the key puts one that counts.
    let vault = Vault::open_by(store.clone(), &given("first")).unwrap();
    let mut again = Drilling::in_vault(Arc::new(vault), store);
    again.snapshot = one.snapshot;
    again.time = one.time + 10;
    again.put(Opened, Passed);
    assert_eq!(again.kinds(), ["passed", "?"]);
}

#[test]
fn a_kind_that_is_far_back_is_unknown_and_costs_a_bound() {
    let memory = Arc::new(MemoryStore::new());
    Vault::create(memory.clone(), vault_options()).unwrap();
    let counted = Arc::new(CountStore::new(memory.clone()));
    let vault = Arc::new(Vault::open(counted.clone()).unwrap());
    let mut one = Drilling::in_vault(vault, memory);
    one.put(Booted, Passed);
    for _ in 0..15 {
        one.put(Opened, Passed);
    }
    assert_eq!(one.kinds(), ["passed", "passed"]);
    one.put(Opened, Passed);
    counted.take();
    assert_eq!(one.kinds(), ["passed", "?"]);
    assert_eq!(counted.take()["get"].operations, 16);
}
