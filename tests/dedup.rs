//! Vaults that store equal blocks once, whichever host has put them: each snapshot equals its disk,
//! whatever becomes of those who have put its blocks.

mod bounds;
mod by_command;
mod changed;
mod doubts;
mod failed;
mod false_ones;
mod others_gone;

use crate::resume::noise;
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check, check_all, session_record, take, vault_options};
use std::collections::BTreeSet;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stillpoint::Result;
use stillpoint::format::{BlockDedup, Compression, Manifest};
use stillpoint::model::{BLOCK_SIZE, ObjectId, RunMap, SnapshotId, block_count};
use stillpoint::store::{
    KeySource, LocalStore, MemoryStore, ObjectName, ObjectStore, Session, SessionPace, Vault,
    VaultOptions,
};

/// Blocks of a disk: enough to be worth looking at what the vault has.
const BLOCKS: u64 = 300;

/// A vault that stores equal blocks once.
fn shared_options() -> VaultOptions {
    VaultOptions {
        dedup: BlockDedup::Vault,
        compression: Compression::None,
        ..vault_options()
    }
}

/// A disk that was made from the image that this seed names; its end is a part of a block, and
/// some of it is zeros.
fn disk_of(image: u64) -> ModelDisk {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed) as u32;
    let disk = ModelDisk::new(number, BLOCKS * BLOCK_SIZE + 512, 1);
    disk.write(0, &noise(BLOCKS * BLOCK_SIZE + 512, image));
    disk.write(100 * BLOCK_SIZE, &[0; 20 * BLOCK_SIZE as usize]);
    disk
}

/// A run's session: without one it refers to nothing of others.
fn session(vault: &Vault) -> Session {
    let id = SnapshotId::generate(jiff::Timestamp::now().as_millisecond() as u64);
    vault
        .begin_session_at(SessionPace::default(), id, session_record())
        .unwrap()
}

/// A snapshot of one host's disk, which it equals.
fn take_on(vault: &Arc<Vault>, host: &str, disk: &ModelDisk) -> Taken {
    let taken = try_on(vault, host, disk, |_| ()).unwrap();
    check(vault, &taken);
    taken
}

fn try_on(
    vault: &Arc<Vault>,
    host: &str,
    disk: &ModelDisk,
    change: impl FnOnce(&mut Take),
) -> Result<Taken> {
    let mut options = Take {
        host: host.into(),
        session: Some(session(vault)),
        ..Take::default()
    };
    change(&mut options);
    take(vault, from_ref(disk), options)
}

/// How many blocks a snapshot has stored, and how many others had.
fn counts(taken: &Taken) -> [u64; 2] {
    let disk = &taken.manifest.disks[0];
    let shared = disk.shared_bytes.0.div_ceil(BLOCK_SIZE);
    // Nothing packs here.
    [disk.stored_bytes.0 / BLOCK_SIZE, shared]
}

/// Where the blocks of a snapshot's disk are.
fn map_of(vault: &Vault, manifest: &Manifest) -> RunMap {
    let disk = &manifest.disks[0];
    vault
        .load_index(&disk.index, block_count(disk.identity.size))
        .unwrap()
}

/// The segments that a snapshot's disk needs.
fn segments_of(vault: &Vault, manifest: &Manifest) -> BTreeSet<ObjectId> {
    let map = map_of(vault, manifest);
    map.iter().filter_map(|run| run.segment()).collect()
}

/// A vault in memory, as if it were far away.
struct Fleet {
    store: Arc<MemoryStore>,
    /// What opens it.
    key: KeySource,
}

impl Fleet {
    fn new() -> Self {
        Self::of(shared_options(), KeySource::Nobody)
    }

    fn of(options: VaultOptions, key: KeySource) -> Self {
        let store = Arc::new(MemoryStore::one_at_a_time());
        Vault::create(store.clone(), options).unwrap();
        Self { store, key }
    }

    /// A host's view of it.
    fn vault(&self) -> Arc<Vault> {
        self.through(self.store.clone())
    }

    /// The same through something that stands before its store.
    fn through(&self, store: Arc<dyn ObjectStore>) -> Arc<Vault> {
        Arc::new(Vault::open_by(store, &self.key).unwrap())
    }

    fn names(&self, folder: &str) -> Vec<ObjectName> {
        let listed = self.store.list_all(&ObjectName::parse(folder).unwrap());
        listed.unwrap().into_iter().map(|one| one.name).collect()
    }
}

#[test]
fn many_hosts_of_one_image_store_it_once() {
    let fleet = Fleet::new();
    let first = take_on(&fleet.vault(), "first", &disk_of(1));
    assert_eq!(counts(&first), [BLOCKS - 20, 0]);
    let mut all = vec![first];
    for host in ["second", "third", "fourth"] {
        let vault = fleet.vault();
        let taken = take_on(&vault, host, &disk_of(1));
        assert_eq!(counts(&taken), [0, BLOCKS - 19], "{host}");
        assert_eq!(taken.manifest.disks[0].stored_bytes.0, 0);
        let looked = taken.manifest.looked.unwrap();
        assert_eq!((looked.read, looked.left_out), (1, 0));
        // Whoever needs a segment keeps the copy of its footer, too.
        assert_eq!(
            taken.manifest.disks[0].footers,
            all[0].manifest.disks[0].footers
        );
        all.push(taken);
    }
    assert_eq!(fleet.names("segments").len(), 1);
    check_all(&fleet.vault(), &all);
}

#[test]
fn what_differs_is_stored_and_the_rest_is_not() {
    let fleet = Fleet::new();
    take_on(&fleet.vault(), "first", &disk_of(1));
    let disk = disk_of(1);
    disk.write(40 * BLOCK_SIZE, &noise(10 * BLOCK_SIZE, 2));
    disk.write(110 * BLOCK_SIZE, &noise(5 * BLOCK_SIZE, 3));
    disk.write(200 * BLOCK_SIZE, &[0; 3 * BLOCK_SIZE as usize]);
    let taken = take_on(&fleet.vault(), "second", &disk);
    assert_eq!(counts(&taken), [15, BLOCKS + 1 - 20 - 10 - 3]);
    // What both have come to have since then.
    let both = noise(280 * BLOCK_SIZE, 4);
    let other = disk_of(1);
    take_on(&fleet.vault(), "third", &other);
    disk.write(BLOCK_SIZE, &both);
    other.write(BLOCK_SIZE, &both);
    assert_eq!(counts(&take_on(&fleet.vault(), "second", &disk)), [280, 0]);
    let late = take_on(&fleet.vault(), "third", &other);
    assert!(late.manifest.disks[0].parent.is_some());
    assert_eq!(counts(&late), [0, 280], "an incremental looks, too");
}

#[test]
fn a_vault_in_a_directory_and_one_that_is_sealed_do_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    Vault::create_local(&path, shared_options()).unwrap();
    let open = || {
        let store = LocalStore::open(&path).unwrap();
        Arc::new(Vault::open(Arc::new(store)).unwrap())
    };
    let first = take_on(&open(), "first", &disk_of(1));
    let second = take_on(&open(), "second", &disk_of(1));
    assert_eq!(counts(&second), [0, BLOCKS - 19]);
    check_all(&open(), &[first, second]);

    let store = Arc::new(MemoryStore::one_at_a_time());
    let options = VaultOptions {
        encrypt: Some(crate::sealed::key("first")),
        ..shared_options()
    };
    Vault::create(store.clone(), options).unwrap();
    let open = || Vault::open_by(store.clone(), &crate::sealed::given("first")).unwrap();
    let reader = Arc::new(open());
    let first = take_on(&reader, "first", &disk_of(1));
    // Who reads no block still knows which ones are there.
    let writer = Vault::open_by(store.clone(), &crate::sealed::writer_of(&reader));
    let writer = Arc::new(writer.unwrap());
    let second = try_on(&writer, "second", &disk_of(1), |_| ()).unwrap();
    assert_eq!(counts(&second), [0, BLOCKS - 19]);
    check_all(&Arc::new(open()), &[first, second]);
}

#[test]
fn a_vault_of_disks_shares_nothing_and_nor_does_a_full_that_is_asked_for() {
    let store = Arc::new(MemoryStore::one_at_a_time());
    let options = VaultOptions {
        dedup: BlockDedup::Disk,
        ..shared_options()
    };
    let vault = Arc::new(Vault::create(store, options).unwrap());
    take_on(&vault, "first", &disk_of(1));
    let second = take_on(&vault, "second", &disk_of(1));
    assert_eq!(counts(&second), [BLOCKS - 20, 0]);
    assert_eq!(second.manifest.looked, None);

    let fleet = Fleet::new();
    let disk = disk_of(1);
    take_on(&fleet.vault(), "first", &disk);
    let again = try_on(&fleet.vault(), "first", &disk, |take| take.full = true).unwrap();
    assert_eq!(counts(&again), [BLOCKS - 20, 0], "everything again");
    // Nor does a run that no collector could know of.
    let alone = try_on(&fleet.vault(), "second", &disk_of(1), |take| {
        take.session = None
    });
    assert_eq!(counts(&alone.unwrap()), [BLOCKS - 20, 0]);
}

#[test]
fn what_is_read_while_all_is_held_is_stored_and_the_vault_not_asked() {
    let fleet = Fleet::new();
    take_on(&fleet.vault(), "first", &disk_of(1));
    let disk = disk_of(1);
    disk.write(30 * BLOCK_SIZE, &noise(10 * BLOCK_SIZE, 2));
    let image = noise(40 * BLOCK_SIZE, 1)[30 * BLOCK_SIZE as usize..].to_vec();
    let taken = try_on(&fleet.vault(), "second", &disk, |take| {
        take.before = Box::new(move |disks| disks[0].write(30 * BLOCK_SIZE, &image));
    });
    let taken = taken.unwrap();
    check(&fleet.vault(), &taken);
    assert_eq!(counts(&taken), [20, BLOCKS - 19 - 10]);
}

/// Each block of it is the image's, and none stands beside its neighbour.
#[test]
fn a_disk_that_is_scattered_in_the_vault_is_stored_in_rows() {
    let fleet = Fleet::new();
    take_on(&fleet.vault(), "first", &disk_of(1));
    let disk = disk_of(2);
    let image = noise(BLOCKS * BLOCK_SIZE, 1);
    for block in 0..BLOCKS {
        let from = block * 7 % BLOCKS;
        let bytes = &image[(from * BLOCK_SIZE) as usize..][..BLOCK_SIZE as usize];
        disk.write(block * BLOCK_SIZE, bytes);
    }
    let vault = fleet.vault();
    let taken = take_on(&vault, "second", &disk);
    let runs = map_of(&vault, &taken.manifest).len();
    assert!(runs <= 3 * BLOCKS as usize / 16 + 2, "{runs} runs");
}

#[test]
fn rows_that_are_too_short_are_stored_again_so_that_a_restore_reads_in_rows() {
    let fleet = Fleet::new();
    take_on(&fleet.vault(), "first", &disk_of(1));
    // Every third block is the image's.
    let disk = disk_of(2);
    let image = noise(BLOCKS * BLOCK_SIZE, 1);
    for block in (0..BLOCKS).step_by(3) {
        let bytes = &image[(block * BLOCK_SIZE) as usize..][..BLOCK_SIZE as usize];
        disk.write(block * BLOCK_SIZE, bytes);
    }
    let vault = fleet.vault();
    let taken = take_on(&vault, "second", &disk);
    let runs = map_of(&vault, &taken.manifest).len();
    // Two at most where one read of the disk meets the next.
    assert!(runs <= 3 * BLOCKS as usize / 16, "{runs} runs");
    let [stored, shared] = counts(&taken);
    assert!(
        shared < 2 * BLOCKS / 16 && stored > 240,
        "{stored} {shared}"
    );
}
