//! The same vault in a second place: what comes there restores to the same bytes, is sent once, and
//! is there wholly or not at all, whatever ends the mirror.

mod by_command;
pub mod cut_off;
pub mod damaged;
mod lost;
mod places;
mod requests;

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check, check_all, restore, take, vault_options};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use stillpoint::engine::{Event, MirrorReport, Monitor, Silent, mirror, plan_mirror};
use stillpoint::format::Manifest;
use stillpoint::model::{BLOCK_SIZE, Bytes, Cancel, Mode, SnapshotId};
use stillpoint::store::{
    FaultStore, LocalStore, MemoryStore, ObjectName, ObjectStore, SnapshotRef, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// What all objects of a vault hold, by name; sessions come and go.
pub(crate) type Contents = BTreeMap<String, Vec<u8>>;

pub(crate) fn contents(store: &dyn ObjectStore) -> Contents {
    let mut found = Contents::new();
    let mut add = |name: &ObjectName| {
        let bytes = store.get(name, 1 << 30).unwrap();
        found.insert(name.to_string(), bytes.to_vec());
    };
    add(&ObjectName::vault_info());
    for folder in ["damaged", "footers", "index", "segments", "snapshots"] {
        let listed = store.list_all(&ObjectName::parse(folder).unwrap()).unwrap();
        listed.iter().for_each(|object| add(&object.name));
    }
    found
}

/// A vault in memory with snapshots of two hosts, full and incremental.
pub(crate) struct Source {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) disks: Vec<ModelDisk>,
    pub(crate) taken: Vec<Taken>,
}

impl Source {
    pub(crate) fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let disks = vec![
            ModelDisk::new(0, 40 * BLOCK_SIZE + 512, 1),
            ModelDisk::new(1, 9 * BLOCK_SIZE, 2),
        ];
        let mut source = Self {
            store,
            vault,
            disks,
            taken: Vec::new(),
        };
        source.next("host");
        source.next("host");
        source.next("other");
        source.next("host");
        assert_eq!(source.taken[1].manifest.disks[0].mode, Mode::Incremental);
        source
    }

    /// One snapshot more.
    pub(crate) fn next(&mut self, host: &str) {
        self.disks.iter().for_each(|disk| disk.scribble(6));
        let options = Take {
            host: host.into(),
            ..Take::default()
        };
        let taken = take(&self.vault, &self.disks, options).unwrap();
        self.taken.push(taken);
    }

    fn all(&self) -> Vec<SnapshotRef> {
        self.vault.snapshots().unwrap()
    }

    fn find(&self, at: usize) -> SnapshotRef {
        let id = self.taken[at].manifest.snapshot.to_string();
        self.vault.find(&id).unwrap()
    }

    /// Mirrors all to a vault in `store`, made where there is none.
    fn mirror_to(&self, store: Arc<dyn ObjectStore>) -> Result<MirrorReport> {
        let target = second(store, &self.vault)?;
        mirror(&self.vault, &target, &self.all(), &Silent)
    }
}

/// The same objects in a store of their own.
pub(crate) fn copy_of(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = MemoryStore::new();
    for (name, bytes) in contents(store) {
        let name = ObjectName::parse(&name).unwrap();
        copy.put(&name, bytes.into()).unwrap();
    }
    Arc::new(copy)
}

/// Mirrors all snapshots from one store to the other.
fn carry(from: Arc<dyn ObjectStore>, to: Arc<dyn ObjectStore>) -> Result<MirrorReport> {
    let source = Vault::open(from)?;
    let target = second(to, &source)?;
    mirror(&source, &target, &source.snapshots()?, &Silent)
}

/// The vault in `store`; one of the same ID is made where there is none.
fn second(store: Arc<dyn ObjectStore>, of: &Vault) -> Result<Vault> {
    match store.get(&ObjectName::vault_info(), 1 << 20) {
        Ok(_) => Vault::open(store),
        Err(error) if error.kind() == ErrorKind::NotFound => Vault::create_second(store, of),
        Err(error) => Err(error),
    }
}

/// Nothing was wrong.
fn is_clean(report: &MirrorReport) {
    assert!(report.damaged.is_empty(), "{report:?}");
    assert!(report.wrong.is_empty(), "{report:?}");
    assert!(report.gone.is_empty(), "{report:?}");
    assert!(report.warnings.is_empty(), "{report:?}");
}

fn ids(taken: &[&Taken]) -> Vec<SnapshotId> {
    taken.iter().map(|taken| taken.manifest.snapshot).collect()
}

#[test]
fn the_second_place_is_the_same_vault() {
    let mut source = Source::new();
    let store = Arc::new(MemoryStore::new());
    let report = source.mirror_to(store.clone()).unwrap();
    is_clean(&report);
    assert_eq!((report.snapshots, report.there), (4, 0));
    let newest_first: Vec<&Taken> = source.taken.iter().rev().collect();
    assert_eq!(report.sent, ids(&newest_first));
    let (here, there) = (contents(source.store.as_ref()), contents(store.as_ref()));
    assert!(here == there, "every object, byte for byte");
    let info = there["vault.json"].len() as u64;
    let all: u64 = there.values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!(report.bytes, Bytes(all - info));
    assert_eq!(report.objects, there.len() as u64 - 1);
    // With the source gone.
    let alone = Vault::open(store.clone()).unwrap();
    check_all(&alone, &source.taken);
    let sessions = store.list_all(&ObjectName::sessions()).unwrap();
    assert!(sessions.is_empty(), "{sessions:?}");

    // What has come since is sent, and nothing else.
    source.next("host");
    let report = source.mirror_to(store.clone()).unwrap();
    is_clean(&report);
    assert_eq!(report.there, 4);
    assert_eq!(report.sent, ids(&[&source.taken[4]]));
    let new = contents(source.store.as_ref()).len() - here.len();
    assert_eq!(report.objects, new as u64);
    check_all(&alone, &source.taken);
}

#[test]
fn the_second_place_is_written_on_and_mirrored_back() {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    source.mirror_to(store.clone()).unwrap();
    // Hosts go on there, as the first place is lost.
    let target = Arc::new(Vault::open(store.clone()).unwrap());
    source.disks[0].write(BLOCK_SIZE, b"after the loss");
    let next = take(&target, &source.disks, Take::default()).unwrap();
    assert_eq!(next.manifest.disks[0].mode, Mode::Incremental);
    let last = source.taken[3].manifest.snapshot;
    assert_eq!(next.manifest.disks[0].parent, Some(last));
    assert!(next.manifest.snapshot > last);
    check(&target, &next);
    // The first place is back, and gets what it lacks.
    let report = mirror(
        &target,
        &source.vault,
        &target.snapshots().unwrap(),
        &Silent,
    )
    .unwrap();
    is_clean(&report);
    assert_eq!(report.sent, [next.manifest.snapshot]);
    assert_eq!(contents(source.store.as_ref()), contents(store.as_ref()));
    let mut taken = source.taken;
    taken.push(next);
    check_all(&source.vault, &taken);
}

#[test]
fn of_what_is_chosen_nothing_else_comes() {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    let target = second(store.clone(), &source.vault).unwrap();
    let chosen = [source.find(1), source.find(1)];
    let report = mirror(&source.vault, &target, &chosen, &Silent).unwrap();
    is_clean(&report);
    assert_eq!(report.sent, ids(&[&source.taken[1]]));
    check_all(&target, &source.taken[1..2]);
    let there = contents(store.as_ref());
    assert_eq!(there, needed_by(&source, 1));
    assert!(there.len() < contents(source.store.as_ref()).len());
    let report = mirror(&source.vault, &target, &chosen, &Silent).unwrap();
    assert_eq!((report.there, report.objects), (1, 0));
}

/// The objects that one snapshot needs, by what a restore needs.
fn needed_by(source: &Source, at: usize) -> Contents {
    use stillpoint::model::{Content, block_count};
    let manifest: &Manifest = &source.taken[at].manifest;
    let mut names = vec![
        ObjectName::vault_info(),
        ObjectName::manifest(&manifest.host, manifest.snapshot),
    ];
    let copies = manifest.disks.iter().flat_map(|disk| &disk.footers);
    names.extend(copies.map(|copies| ObjectName::footers(*copies)));
    for disk in &manifest.disks {
        names.extend(disk.index.iter().map(|part| ObjectName::index(part.id)));
        let blocks = block_count(disk.identity.size);
        let map = source.vault.load_index(&disk.index, blocks).unwrap();
        names.extend(map.iter().filter_map(|run| match run.content {
            Content::Data { segment, .. } => Some(ObjectName::segment(segment)),
            _ => None,
        }));
    }
    let mut all = contents(source.store.as_ref());
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    all.retain(|name, _| names.contains(name));
    all
}

#[test]
fn a_dry_run_says_what_a_mirror_does() {
    let source = Source::new();
    let store = Arc::new(MemoryStore::new());
    let planned = plan_mirror(&source.vault, None, &source.all(), &Silent).unwrap();
    let target = second(store.clone(), &source.vault).unwrap();
    let there = contents(store.as_ref());
    let again = plan_mirror(&source.vault, Some(&target), &source.all(), &Silent).unwrap();
    assert_eq!(contents(store.as_ref()), there, "nothing was put");
    let done = source.mirror_to(store).unwrap();
    for planned in [planned, again] {
        assert_eq!(planned.sent, done.sent);
        assert_eq!((planned.objects, planned.bytes), (done.objects, done.bytes));
        is_clean(&planned);
    }
    let nothing = plan_mirror(&source.vault, Some(&target), &source.all(), &Silent).unwrap();
    assert_eq!((nothing.there, nothing.objects), (4, 0));
}

#[test]
fn a_vault_of_the_first_format_stays_one() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vault-v1");
    let source = Vault::open_local(&fixture).unwrap();
    let store = Arc::new(MemoryStore::new());
    let target = second(store.clone(), &source).unwrap();
    assert_eq!(target.info().format, 1);
    let report = mirror(&source, &target, &source.snapshots().unwrap(), &Silent).unwrap();
    is_clean(&report);
    let here = contents(&LocalStore::open(&fixture).unwrap());
    assert!(here == contents(store.as_ref()));
    for snapshot in source.snapshots().unwrap() {
        for record in source.manifest(&snapshot).unwrap().disks {
            let bytes = |vault| restore(vault, &record, false).unwrap().0;
            assert!(bytes(&source) == bytes(&target));
        }
    }
}

#[test]
fn many_mirrors_at_once_do_no_harm() {
    let source = Source::new();
    let folder = tempfile::tempdir().unwrap();
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let directory: Arc<dyn ObjectStore> = Arc::new(LocalStore::create(folder.path()).unwrap());
    for store in [memory, directory] {
        second(Arc::clone(&store), &source.vault).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let report = source.mirror_to(Arc::clone(&store)).unwrap();
                    is_clean(&report);
                    assert_eq!(report.there + report.sent.len(), 4);
                });
            }
        });
        check_all(&Vault::open(Arc::clone(&store)).unwrap(), &source.taken);
        assert!(contents(store.as_ref()) == contents(source.store.as_ref()));
    }
}
