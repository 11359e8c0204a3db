//! Real runs over and after rewritten segments, in the clear and sealed: each snapshot restores to
//! what its disks held, byte for byte, under whatever name; the next run builds on it; a second
//! place gets it.

use super::stage::{GRACE, Stage};
use crate::sealed::{given, key, writer_of};
use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, Taken, check, check_all, take, vault_options, verify_all};
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::engine::{
    CollectOptions, Destination, RestoreOptions, RewriteRules, Silent, collect, mirror, restore,
};
use stillpoint::model::{BLOCK_SIZE, Mode};
use stillpoint::store::{KeySource, MemoryStore, ObjectStore, Vault, VaultOptions};

const REWRITING: CollectOptions = CollectOptions {
    rewrite: RewriteRules {
        tolerated: 0,
        ..RewriteRules::USUAL
    },
    ..GRACE
};

struct Yard {
    stage: Stage,
    key: KeySource,
    disks: Vec<ModelDisk>,
    taken: Vec<Taken>,
}

impl Yard {
    fn new(sealed: bool) -> Self {
        let store = Arc::new(MemoryStore::new());
        let options = VaultOptions {
            encrypt: sealed.then(|| key("first")),
            ..vault_options()
        };
        Vault::create(store.clone(), options).unwrap();
        let disks = vec![
            ModelDisk::new(0, 60 * BLOCK_SIZE + 512, 1),
            ModelDisk::new(1, 9 * BLOCK_SIZE, 2),
        ];
        Self {
            stage: Stage { store },
            key: if sealed {
                given("first")
            } else {
                KeySource::Nobody
            },
            disks,
            taken: Vec::new(),
        }
    }

    fn open(&self, key: &KeySource) -> Arc<Vault> {
        Arc::new(Vault::open_by(self.stage.store.clone(), key).unwrap())
    }

    fn vault(&self) -> Arc<Vault> {
        self.open(&self.key)
    }

    fn take(&mut self) {
        self.disks.iter().for_each(|disk| disk.scribble(6));
        let taken = take(&self.vault(), &self.disks, Take::default()).unwrap();
        self.taken.push(taken);
    }

    fn delete(&mut self, place: usize) {
        let gone = self.taken.remove(place);
        let vault = self.vault();
        let found = vault.find(&gone.manifest.snapshot.to_string()).unwrap();
        vault.delete(&found).unwrap();
    }

    /// Collects, learns of new names, and restores everything. How many were renamed.
    fn collect(&mut self) -> usize {
        self.stage.pass(60);
        let vault = self.vault();
        let report = collect(&vault, REWRITING, &Silent).unwrap();
        let done = report.rewriting.unwrap().done.unwrap();
        assert!(done.warnings.is_empty(), "{done:?}");
        for taken in &mut self.taken {
            let old = taken.manifest.snapshot;
            let new = vault
                .manifest(&vault.find(&old.to_string()).unwrap())
                .unwrap();
            if new.snapshot != old {
                assert_eq!(new.rewrites.last(), Some(&old));
                taken.manifest = new;
            }
        }
        check_all(&vault, &self.taken);
        done.renamed.len()
    }
}

fn plays(sealed: bool) {
    let mut yard = Yard::new(sealed);
    let mut random = Chance(9);
    let mut renamed = 0;
    for round in 0..14 {
        yard.take();
        let last = &yard.taken.last().unwrap().manifest.disks[0];
        if round > 0 {
            assert_eq!(last.mode, Mode::Incremental, "{}", last.reason);
        }
        if yard.taken.len() > 3 {
            yard.delete(random.below(3) as usize);
        }
        renamed += yard.collect();
    }
    assert!(renamed > 20, "{renamed}");
    // Nothing is left but what is needed.
    for _ in 0..2 {
        yard.collect();
    }
    let report = verify_all(&yard.vault()).unwrap();
    assert!(report.broken.is_empty(), "{report:?}");
}

#[test]
fn runs_go_on_over_segments_that_were_rewritten() {
    plays(false);
}

#[test]
fn runs_go_on_over_sealed_segments_that_were_rewritten() {
    plays(true);
}

#[test]
fn a_writers_key_rewrites_nothing() {
    let mut yard = Yard::new(true);
    for _ in 0..5 {
        yard.take();
    }
    yard.delete(0);
    yard.delete(0);
    yard.stage.pass(60);
    let writer = yard.open(&writer_of(&yard.vault()));
    let report = collect(&writer, REWRITING, &Silent).unwrap();
    let rewriting = report.rewriting.unwrap();
    assert!(rewriting.plan.space.dead.0 > 0, "{rewriting:?}");
    let why = rewriting.plan.why_not.clone().unwrap();
    assert!(why.contains("writer"), "{why}");
    assert!(rewriting.done.unwrap().renamed.is_empty());
    check_all(&yard.vault(), &yard.taken);
    assert!(yard.collect() > 0, "with a reader's key it is done");
}

#[test]
fn a_second_place_gets_what_was_rewritten_and_keeps_what_it_had() {
    let mut yard = Yard::new(false);
    for _ in 0..4 {
        yard.take();
    }
    let here = yard.vault();
    let store = Arc::new(MemoryStore::new());
    let there = Vault::create_second(store, &here).unwrap();
    let send = |here: &Vault| mirror(here, &there, &here.snapshots().unwrap(), &Silent).unwrap();
    assert_eq!(send(&here).sent.len(), 4);
    yard.delete(0);
    let before: Vec<_> = yard.taken.iter().map(|one| one.manifest.clone()).collect();
    let renamed = yard.collect();
    assert!(renamed > 0);
    let sent = send(&yard.vault());
    assert_eq!(sent.sent.len(), renamed, "{sent:?}");
    assert!(sent.damaged.is_empty() && sent.wrong.is_empty(), "{sent:?}");
    yard.taken.iter().for_each(|one| check(&there, one));
    // Under its old name each is there as it was.
    for (one, manifest) in yard.taken.iter_mut().zip(before) {
        one.manifest = manifest;
        check(&there, one);
    }
    let report = verify_all(&there).unwrap();
    assert!(report.broken.is_empty(), "{report:?}");
}

#[test]
fn a_restore_that_is_overtaken_says_so() {
    let mut yard = Yard::new(false);
    for _ in 0..5 {
        yard.take();
    }
    yard.delete(0);
    let old = yard.taken[0].manifest.clone();
    assert!(yard.collect() > 0);
    yard.collect();
    yard.collect();
    let vault = yard.vault();
    let folder = tempfile::tempdir().unwrap();
    let to = Destination::To {
        disk: Some(old.disks[0].identity.name.clone()),
        target: folder.path().join("image"),
    };
    let options = RestoreOptions::new(to, 1);
    let error = restore(&vault, &old, &options, &Silent).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("another ID"), "{error}");
    let id = old.snapshot.to_string();
    let now = vault.manifest(&vault.find(&id).unwrap()).unwrap();
    restore(&vault, &now, &options, &Silent).unwrap();
    // Of one that is there it is damage.
    let segments = yard.stage.names("segments");
    segments
        .iter()
        .for_each(|name| yard.stage.store.delete(name).unwrap());
    let options = RestoreOptions {
        force: true,
        ..options
    };
    let error = restore(&yard.vault(), &now, &options, &Silent)
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}
