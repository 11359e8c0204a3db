//! What each command asks of its store, exactly: puts, gets, sizes, lists and deletes. On a distant
//! store each is money and a round trip, and one more for each snapshot or segment is felt by
//! everybody.

mod drills;
mod recover;

use crate::support::host::{LoopDisk, noise};
use crate::support::rig::{Rig, was_hidden};
use crate::support::tracked::forget_pins;
use crate::support::vaults::vault_options;
use std::sync::Arc;
use stillpoint::device::HostLayout;
use stillpoint::engine::{
    Destination, RestoreOptions, Silent, VerifyDepth, VerifyOptions, WantedDisks, diff,
    look_at_holdings, newest_good, partitions_of, restore, verify,
};
use stillpoint::format::Manifest;
use stillpoint::model::{BLOCK_SIZE, Mode, block_count};
use stillpoint::store::{CountStore, MemoryStore, Vault};

/// How often each verb was used.
#[derive(Debug, PartialEq, Eq)]
struct Requests {
    put: u64,
    get: u64,
    /// How long an object is.
    size: u64,
    list: u64,
    delete: u64,
}

/// A vault whose requests are counted.
struct Counted {
    store: Arc<CountStore>,
    vault: Arc<Vault>,
}

impl Counted {
    /// An empty vault, as a command finds it that has just opened it.
    fn new() -> Self {
        let store = Arc::new(CountStore::new(Arc::new(MemoryStore::new())));
        Vault::create(store.clone(), vault_options()).unwrap();
        Self::of(store)
    }

    fn of(store: Arc<CountStore>) -> Self {
        let vault = Arc::new(Vault::open(store.clone()).unwrap());
        store.take();
        Self { store, vault }
    }

    /// Another command's view of it: what one vault has cached is not known to the next.
    fn again(&self) -> Self {
        Self::of(Arc::clone(&self.store))
    }

    fn take(&self) -> Requests {
        let mut counts = self.store.take();
        let mut of = |verb| {
            let count = counts.remove(verb).unwrap_or_default();
            assert_eq!(count.failed, 0, "{verb}");
            count.operations
        };
        let requests = Requests {
            put: of("put"),
            get: of("get"),
            size: of("size"),
            list: of("list"),
            delete: of("delete"),
        };
        assert!(counts.is_empty(), "{counts:?}");
        requests
    }

    /// A snapshot in this mode, and what it asked for.
    fn snapshot(&self, rig: &Rig, disk: &LoopDisk, mode: Mode) -> (Manifest, Requests) {
        for _ in 0..5 {
            let vault = self.again();
            let manifest = rig.snapshot_to(&vault.vault, &[disk], |_| (), |quiesce| quiesce);
            let manifest = manifest.unwrap();
            let record = &manifest.disks[0];
            if record.mode == mode {
                return (manifest, vault.take());
            }
            assert!(was_hidden(record), "{:?}: {}", record.mode, record.reason);
        }
        panic!("writes were hidden from tracking five times in a row");
    }
}

const MIB: usize = 1 << 20;

/// 24 MiB, 8 of them bytes that do not pack: one segment.
fn disk() -> LoopDisk {
    let contents = [noise(8 * MIB, 1), vec![0; 16 * MIB]].concat();
    LoopDisk::holding(&contents, &["--direct-io=on"])
}

#[test]
fn a_vault_is_made_and_opened_by_one_request() {
    let store = Arc::new(CountStore::new(Arc::new(MemoryStore::new())));
    Vault::create(store.clone(), vault_options()).unwrap();
    // `vault.json`.
    assert_eq!(store.take()["put"].operations, 1);
    Vault::open(store.clone()).unwrap();
    let counts = store.take();
    assert_eq!((counts["get"].operations, counts.len()), (1, 1));
}

#[test]
fn a_snapshot_asks_for_what_it_needs() {
    let Some(rig) = Rig::new("requests: snapshot") else {
        return;
    };
    let (disk, counted) = (disk(), Counted::new());
    let (_, full) = counted.snapshot(&rig, &disk, Mode::Full);
    let expected = Requests {
        // The session, the segment, the copy of its footer, the index object, the manifest.
        put: 5,
        get: 0,
        // Whether the session stands, before the manifest is put and after it.
        size: 2,
        // The host's snapshots, the sessions.
        list: 2,
        // The session.
        delete: 1,
    };
    assert_eq!(full, expected);

    let (_, unchanged) = counted.snapshot(&rig, &disk, Mode::Incremental);
    let expected = Requests {
        // The session, the manifest. The parent's index object is named again, and so is the copy
        // of the footer.
        put: 2,
        // The parent's manifest and index object; the copy of the segment's footer, for the sample.
        get: 3,
        // The parent's segment: whether it is there. The session, twice.
        size: 3,
        // As above, what is known to be damaged, and twice what collectors mean to delete.
        list: 5,
        delete: 1,
    };
    assert_eq!(unchanged, expected);

    // 4 of 384 blocks.
    disk.write_at(2 * MIB as u64, &noise(4 * BLOCK_SIZE as usize, 2));
    let (_, changed) = counted.snapshot(&rig, &disk, Mode::Incremental);
    let expected = Requests {
        // The session, the segment, its footer's copy, the index object of what changed, the
        // manifest.
        put: 5,
        get: 3,
        size: 3,
        list: 5,
        delete: 1,
    };
    assert_eq!(changed, expected);

    forget_pins(&rig.places.pins);
    let (_, compared) = counted.snapshot(&rig, &disk, Mode::Compare);
    let expected = Requests {
        put: 2,
        // The manifest, two index objects, two objects with a copy each.
        get: 5,
        size: 4,
        list: 5,
        delete: 1,
    };
    assert_eq!(compared, expected);
}

/// What is asked by what only reads.
fn reads(get: u64, list: u64) -> Requests {
    Requests {
        put: 0,
        get,
        size: 0,
        list,
        delete: 0,
    }
}

/// On two snapshots of one disk, the second of which has an index object and a segment more.
#[test]
fn what_reads_asks_for_what_it_needs() {
    let Some(rig) = Rig::new("requests: reading") else {
        return;
    };
    let (disk, counted) = (disk(), Counted::new());
    let (one, _) = counted.snapshot(&rig, &disk, Mode::Full);
    disk.write_at(2 * MIB as u64, &noise(4 * BLOCK_SIZE as usize, 2));
    let (two, _) = counted.snapshot(&rig, &disk, Mode::Incremental);
    let (from, to) = (&one.disks[0], &two.disks[0]);

    let show = counted.again();
    let found = show.vault.find(&two.snapshot.to_string()).unwrap();
    let manifest = show.vault.manifest(&found).unwrap();
    let blocks = block_count(manifest.disks[0].identity.size);
    let index = &manifest.disks[0].index;
    show.vault.load_index(index, blocks).unwrap();
    // All snapshots, of which one is named; its manifest, two index objects.
    assert_eq!(show.take(), reads(3, 1));

    let info = counted.again();
    let found = look_at_holdings(&info.vault, &Silent).unwrap();
    assert_eq!(found.snapshots.len(), 2);
    // Both manifests and both index objects. Segments, index objects, copies of footers, keeps;
    // plans, damage, samples, keys; sessions; snapshots.
    assert_eq!(info.take(), reads(4, 10));

    let differ = counted.again();
    diff(&differ.vault, from, to, &Silent).unwrap();
    // The index object of the older one, both of the newer one. The copies of the footers of two
    // segments: what is stored anew may be the same.
    assert_eq!(differ.take(), reads(5, 0));

    let table = counted.again();
    let partitions = partitions_of(&table.vault, to, &Silent);
    assert!(partitions.unwrap().is_empty());
    // Both index objects; the footer of the first segment, and the chunk of the first block.
    assert_eq!(table.take(), reads(4, 0));

    let back = counted.again();
    let target = rig.dir.path().join("restored");
    let destination = Destination::To { disk: None, target };
    let options = RestoreOptions::new(destination, 2);
    restore(&back.vault, &two, &options, &Silent).unwrap();
    // Both index objects, the copies of two footers. Of the chunks up to 64 at once: 32 blocks
    // before what changed, 4 that did, 92 after it.
    assert_eq!(back.take(), reads(2 + 2 + 1 + 1 + 2, 0));
}

#[test]
fn verifying_asks_for_what_it_needs() {
    let Some(rig) = Rig::new("requests: verify") else {
        return;
    };
    let (disk, counted) = (disk(), Counted::new());
    counted.snapshot(&rig, &disk, Mode::Full);
    disk.write_at(2 * MIB as u64, &noise(4 * BLOCK_SIZE as usize, 2));
    counted.snapshot(&rig, &disk, Mode::Incremental);
    for (depth, expected) in [
        // Two manifests, the index object of the first one, both of the second one, the copies of
        // two footers. Whether both segments are there. The snapshots before and after, what is
        // known to be damaged.
        (
            VerifyDepth::Fast,
            Requests {
                size: 2,
                ..reads(7, 3)
            },
        ),
        // One segment of two besides, whether the other one is there, what samples have read. What
        // this one has read is put.
        (
            VerifyDepth::Sample(1.0),
            Requests {
                put: 1,
                size: 1,
                ..reads(8, 4)
            },
        ),
        // The record of the sample before, besides; it is replaced.
        (
            VerifyDepth::Sample(1.0),
            Requests {
                put: 1,
                size: 1,
                delete: 1,
                ..reads(9, 4)
            },
        ),
        // Both segments, each by one request and with its footer. The copies, to look at them.
        (VerifyDepth::Full, reads(9, 3)),
    ] {
        let check = counted.again();
        let snapshots = check.vault.snapshots().unwrap();
        let options = VerifyOptions { depth, workers: 2 };
        let report = verify(&check.vault, &snapshots, &options, &Silent).unwrap();
        assert!(report.broken.is_empty());
        assert_eq!(check.take(), expected, "{depth:?}");
    }
}

#[test]
fn a_list_asks_for_each_manifest_once_and_a_delete_for_none() {
    let Some(rig) = Rig::new("requests: list") else {
        return;
    };
    let (disk, counted) = (disk(), Counted::new());
    for mode in [Mode::Full].into_iter().chain([Mode::Incremental; 11]) {
        counted.snapshot(&rig, &disk, mode);
    }
    let list = counted.again();
    let snapshots = list.vault.snapshots().unwrap();
    let count = snapshots.len() as u64;
    for (_, manifest) in list.vault.manifests(snapshots.clone()) {
        manifest.unwrap();
    }
    assert_eq!(list.take(), reads(count, 1));

    let delete = counted.again();
    let found = delete.vault.find(&snapshots[0].id.to_string()).unwrap();
    delete.vault.delete(&found).unwrap();
    let expected = Requests {
        put: 0,
        get: 0,
        size: 0,
        list: 1,
        // The manifest. What it referred to stays for others.
        delete: 1,
    };
    assert_eq!(delete.take(), expected);
}

#[test]
fn how_old_copies_are_is_asked_by_two_listings_and_the_newest_manifest() {
    let Some(rig) = Rig::new("requests: newest good") else {
        return;
    };
    let (disk, counted) = (disk(), Counted::new());
    let mut last = None;
    for mode in [Mode::Full].into_iter().chain([Mode::Incremental; 4]) {
        last = Some(counted.snapshot(&rig, &disk, mode).0);
    }
    let last = last.unwrap();
    let layout = HostLayout::scan().unwrap();
    let disks = layout.resolve(std::slice::from_ref(&disk.device)).unwrap();
    let wanted = WantedDisks {
        host: &last.host,
        topology: &layout.topology,
        disks: &disks,
        now: last.time,
    };
    let asked = counted.again();
    let found = newest_good(&asked.vault, &wanted, &Silent).unwrap();
    let copy = found.copies[0].as_ref().unwrap();
    assert_eq!((copy.snapshot, copy.time), (last.snapshot, last.time));
    assert!(found.ahead.is_empty() && found.unread.is_empty() && !found.noted_damage);
    // The host's snapshots, and whether any damage is noted.
    assert_eq!(asked.take(), reads(1, 2));

    // Of a disk that no snapshot has, 64 are read at most.
    let other = LoopDisk::holding(&noise(MIB, 9), &[]);
    let layout = HostLayout::scan().unwrap();
    let disks = layout.resolve(std::slice::from_ref(&other.device)).unwrap();
    let wanted = WantedDisks {
        topology: &layout.topology,
        disks: &disks,
        ..wanted
    };
    let asked = counted.again();
    let found = newest_good(&asked.vault, &wanted, &Silent).unwrap();
    assert_eq!(found.copies, [None]);
    let requests = asked.take();
    // One more for each that was taken again, as the host is busy. This look is not counted.
    let count = counted.vault.snapshots().unwrap().len();
    assert!(count >= 5);
    assert_eq!(requests, reads(count as u64, 2));

    // By a clock that is an hour behind, they are all from after now: that is told.
    let disks = layout.resolve(std::slice::from_ref(&disk.device)).unwrap();
    let behind = WantedDisks {
        disks: &disks,
        now: last.time - jiff::SignedDuration::from_hours(1),
        ..wanted
    };
    let found = newest_good(&counted.again().vault, &behind, &Silent).unwrap();
    assert_eq!((found.copies[0].clone(), found.ahead.len()), (None, count));
}
