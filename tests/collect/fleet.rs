//! A vault of many snapshots of many hosts, of metadata alone: what a dry run of `gc` asks for and
//! takes. `STILLPOINT_TEST_ROUNDS=100` makes it 10,000 snapshots of 100 hosts.

use super::actors::manifest_of;
use crate::support::model::Chance;
use crate::support::vaults::{rounds, vault_options};
use jiff::SignedDuration;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;
use stillpoint::engine::{CollectOptions, RewriteRules, Silent, plan_collection};
use stillpoint::model::{BlockIndex, Content, ObjectId, Run, RunMap, SnapshotId};
use stillpoint::store::{CountStore, Draft, LocalStore, ObjectName, Vault};

/// Snapshots of each host.
const EACH: u64 = 100;
/// Blocks of a host's disk: 20 GiB.
const BLOCKS: u64 = 20 << 14;
/// Blocks in a segment.
const SLOTS: u64 = 500;
/// Deltas before there is a new base.
const DELTAS: u64 = 31;

/// Blocks in a row that a day changes.
const PIECE: u64 = 55;

/// Blocks of a segment.
fn data(start: u64, count: u64, segment: ObjectId, slot: u64) -> Run {
    Run {
        start: BlockIndex(start),
        count,
        content: Content::Data {
            segment,
            slot: slot as u32,
        },
    }
}

/// Peak of the memory that this process has had, in KiB.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A vault in a directory in memory.
pub struct Fleet {
    /// Removed when this is dropped.
    pub folder: tempfile::TempDir,
    pub hosts: u64,
    pub snapshots: u64,
    pub segments: usize,
    /// Index objects.
    pub parts: usize,
}

impl Fleet {
    /// The vault's requests are counted from here on.
    pub fn open(&self) -> Counted {
        let path = self.folder.path().join("vault");
        let store = Arc::new(CountStore::new(Arc::new(LocalStore::open(&path).unwrap())));
        let vault = Vault::open(store.clone()).unwrap();
        store.take();
        Counted { store, vault }
    }
}

/// A vault whose requests are counted.
pub struct Counted {
    pub store: Arc<CountStore>,
    pub vault: Vault,
}

/// Fills a vault: as many hosts as there are rounds.
pub fn fleet() -> Fleet {
    let hosts = u64::from(rounds()).min(100);
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("vault");
    let vault = Arc::new(Vault::create_local(&path, vault_options()).unwrap());
    let mut random = Chance(1);
    let (mut parts, mut segments) = (0, 0);
    let put = |segment: ObjectId| {
        let name = folder
            .path()
            .join("vault")
            .join(ObjectName::segment(segment).as_str());
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        // Without a block of its own.
        File::create(name).unwrap().set_len(20 << 20).unwrap();
    };
    for host in 0..hosts {
        let name = format!("host{host}");
        let (mut map, mut index) = (RunMap::new(), Vec::new());
        for number in 0..EACH {
            let draft = Draft::begin(&vault);
            let mut delta = RunMap::new();
            let whole = number == 0;
            // A hundredth of the disk a day, in some 60 places.
            let places = if whole { BLOCKS / SLOTS } else { 7 };
            for place in 0..places {
                let segment = ObjectId::generate();
                segments += 1;
                put(segment);
                if whole {
                    delta.insert(data(place * SLOTS, SLOTS, segment, 0));
                    continue;
                }
                for piece in 0..9 {
                    let start = random.below(BLOCKS - PIECE);
                    delta.insert(data(start, PIECE, segment, piece * PIECE));
                }
            }
            if whole {
                map.insert(Run {
                    start: BlockIndex(0),
                    count: BLOCKS,
                    content: Content::Zero,
                });
            }
            map.overlay(&delta);
            if number % (DELTAS + 1) == 0 {
                index = draft.put_index(&map, BLOCKS, true).unwrap();
                parts += index.len();
            } else {
                let new = draft.put_index(&delta, BLOCKS, false).unwrap();
                parts += new.len();
                index.extend(new);
            }
            let run = SnapshotId::generate(1_800_000_000_000 + number);
            let mut record = manifest_of(&vault, &name, run, &index, BLOCKS);
            draft.commit(&mut record).unwrap();
        }
    }
    Fleet {
        folder,
        hosts,
        snapshots: hosts * EACH,
        segments,
        parts,
    }
}

#[test]
fn many_snapshots_of_many_hosts_are_looked_at_once_each() {
    let fleet = fleet();
    let Fleet {
        hosts,
        snapshots,
        segments,
        parts,
        ..
    } = fleet;
    let before = peak();
    let Counted { store, vault } = fleet.open();
    let started = Instant::now();
    let options = CollectOptions {
        grace: SignedDuration::from_hours(24),
        rewrite: RewriteRules::NEVER,
    };
    let report = plan_collection(&vault, options, &Silent).unwrap();
    let took = started.elapsed();
    let counts = store.take();
    let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
    eprintln!(
        "gc --dry-run of {snapshots} snapshots of {hosts} hosts, {segments} segments, {parts} \
         index objects: {} get, {} list, {took:?}; memory {} MiB, {} MiB before; {report:?}",
        of("get"),
        of("list"),
        peak() >> 10,
        before >> 10,
    );
    assert_eq!(
        of("get"),
        snapshots + parts as u64,
        "each object is got once"
    );
    // Of a directory sessions are listed twice.
    assert_eq!(of("list"), 8);
    assert_eq!(report.snapshots as u64, snapshots);
    let all = report.needed.segments.objects + report.left_alone.segments.objects;
    assert_eq!(all, segments);
}
