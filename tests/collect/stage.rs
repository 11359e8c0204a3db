//! A vault in memory in which hours pass by making objects older, and small snapshots in it.

use super::actors::manifest;
use super::world::pace;
use crate::support::vaults::{session_record, vault_options};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use stillpoint::Result;
use stillpoint::engine::{CollectOptions, CollectReport, RewriteRules, Silent, collect};
use stillpoint::format::{IndexRef, Packed};
use stillpoint::model::{BlockIndex, Content, ObjectId, Run, RunMap, SnapshotId};
use stillpoint::store::{Draft, MemoryStore, ObjectName, ObjectStore, Vault};

pub const GRACE: CollectOptions = CollectOptions {
    grace: SignedDuration::from_hours(24),
    rewrite: RewriteRules::NEVER,
};

/// Blocks of the disk.
pub const BLOCKS: u64 = 8;

const FOLDERS: [&str; 7] = [
    "segments",
    "index",
    "footers",
    "condemned",
    "sessions",
    "snapshots",
    "keeps",
];

/// A vault.
pub struct Stage {
    pub store: Arc<MemoryStore>,
}

/// A run at work.
pub struct AtWork {
    pub vault: Arc<Vault>,
    pub run: SnapshotId,
    draft: Draft,
    base: Vec<IndexRef>,
    map: RunMap,
    delta: RunMap,
}

/// A snapshot that was taken.
#[derive(Clone)]
pub struct Done {
    pub run: SnapshotId,
    pub map: RunMap,
    pub index: Vec<IndexRef>,
}

impl Done {
    /// The segments that it needs.
    pub fn segments(&self) -> BTreeSet<ObjectId> {
        self.map.iter().filter_map(|run| run.segment()).collect()
    }
}

impl Stage {
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::one_at_a_time());
        Vault::create(store.clone(), vault_options()).unwrap();
        Self { store }
    }

    /// A command's view of it.
    pub fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::open(self.store.clone()).unwrap())
    }

    /// Lets hours pass, in which no session is heard of.
    pub fn pass(&self, hours: i64) {
        self.pass_for(&["sessions"], hours);
        self.pass_beating(hours);
    }

    /// Lets hours pass, in which sessions beat.
    pub fn pass_beating(&self, hours: i64) {
        // Manifests say when the store got others, and that grows no older with them.
        let others: Vec<&str> = FOLDERS
            .into_iter()
            .filter(|folder| !["sessions", "snapshots"].contains(folder))
            .collect();
        self.pass_for(&others, hours);
    }

    fn pass_for(&self, folders: &[&str], hours: i64) {
        for folder in folders {
            let folder = ObjectName::parse(folder).unwrap();
            for object in self.store.list_all(&folder).unwrap() {
                self.store
                    .age(&object.name, SignedDuration::from_hours(hours));
            }
        }
    }

    /// A run begins, over a parent if there is one.
    pub fn begin(&self, parent: Option<&Done>) -> AtWork {
        self.begin_on(self.vault(), parent)
    }

    /// The same through another view of the store.
    pub fn begin_on(&self, vault: Arc<Vault>, parent: Option<&Done>) -> AtWork {
        let now = Timestamp::now().as_millisecond() as u64;
        self.begin_as(vault, SnapshotId::generate(now), parent)
    }

    /// The same under a name.
    pub fn begin_as(&self, vault: Arc<Vault>, run: SnapshotId, parent: Option<&Done>) -> AtWork {
        let session = vault.begin_session_at(pace(), run, session_record());
        let session = session.unwrap();
        vault.heed_plans(run).unwrap();
        AtWork {
            draft: Draft::begin_in(&vault, session, None),
            run,
            base: parent
                .map(|parent| parent.index.clone())
                .unwrap_or_default(),
            map: parent.map(|parent| parent.map.clone()).unwrap_or_default(),
            delta: RunMap::new(),
            vault,
        }
    }

    /// A snapshot that stores these blocks anew.
    pub fn snapshot(&self, blocks: &[u64], parent: Option<&Done>) -> Done {
        let mut run = self.begin(parent);
        run.put(blocks);
        run.commit().unwrap()
    }

    /// A whole collection.
    pub fn gc(&self) -> Result<CollectReport> {
        collect(&self.vault(), GRACE, &Silent)
    }

    pub fn delete(&self, done: &Done) {
        let vault = self.vault();
        let found = vault.find(&done.run.to_string()).unwrap();
        vault.delete(&found).unwrap();
    }

    pub fn names(&self, folder: &str) -> BTreeSet<ObjectName> {
        let folder = ObjectName::parse(folder).unwrap();
        let all = self.store.list_all(&folder).unwrap().into_iter();
        all.map(|object| object.name).collect()
    }

    /// All names.
    pub fn all(&self) -> BTreeSet<ObjectName> {
        FOLDERS
            .iter()
            .flat_map(|folder| self.names(folder))
            .collect()
    }

    /// Whether all that a snapshot needs is there.
    pub fn is_whole(&self, done: &Done) -> bool {
        let vault = self.vault();
        let map = vault.load_index(&done.index, BLOCKS);
        map.is_ok_and(|map| vault.lost_segments(&map, &|| Ok(())).unwrap().is_empty())
    }

    /// Whether there are just the segments and index objects that these snapshots need.
    pub fn has_just(&self, all: &[&Done]) -> bool {
        let segments = all
            .iter()
            .flat_map(|one| one.segments())
            .map(ObjectName::segment);
        let indexes = all
            .iter()
            .flat_map(|one| &one.index)
            .map(|part| ObjectName::index(part.id));
        let there = self.names("segments").len() + self.names("index").len();
        let needed: BTreeSet<ObjectName> = segments.chain(indexes).collect();
        there == needed.len() && all.iter().all(|one| self.is_whole(one))
    }
}

impl AtWork {
    /// Stores these blocks, each in a segment of its own.
    pub fn put(&mut self, blocks: &[u64]) {
        for block in blocks {
            let sealer = self.draft.sealer();
            let mut packed = Packed::default();
            let mut writer = sealer.create_segment(Vec::new()).unwrap();
            let chunk = sealer.encode_chunk(&[7; 100], &mut packed).unwrap();
            writer.push(&chunk, &packed);
            let (segment, bytes) = writer.finish();
            self.draft.put_segment(segment, bytes.into(), &[]).unwrap();
            self.refer(*block, segment);
        }
    }

    /// Stores these blocks in one segment, each with bytes that no other has.
    pub fn put_together(&mut self, blocks: &[u64]) {
        let sealer = self.draft.sealer();
        let mut writer = sealer.create_segment(Vec::new()).unwrap();
        for block in blocks {
            let mut packed = Packed::default();
            let bytes = [*block as u8; 60].into_iter().chain(ObjectId::generate().0);
            let chunk = sealer.encode_chunk(&bytes.collect::<Vec<u8>>(), &mut packed);
            writer.push(&chunk.unwrap(), &packed);
        }
        let (segment, bytes) = writer.finish();
        self.draft.put_segment(segment, bytes.into(), &[]).unwrap();
        for (slot, block) in (0..).zip(blocks) {
            self.delta.insert(Run {
                start: BlockIndex(*block),
                count: 1,
                content: Content::Data { segment, slot },
            });
        }
    }

    /// Refers to what is there.
    pub fn refer(&mut self, block: u64, segment: ObjectId) {
        self.delta.insert(Run {
            start: BlockIndex(block),
            count: 1,
            content: Content::Data { segment, slot: 0 },
        });
    }

    pub fn commit(self) -> Result<Done> {
        let Self {
            vault,
            run,
            draft,
            base,
            map,
            delta,
        } = self;
        let mut whole = RunMap::new();
        whole.insert(Run {
            start: BlockIndex(0),
            count: BLOCKS,
            content: Content::Zero,
        });
        whole.overlay(&map);
        whole.overlay(&delta);
        let index = match base.is_empty() {
            true => draft.put_index(&whole, BLOCKS, true)?,
            false => {
                let new = draft.put_index(&delta, BLOCKS, false)?;
                base.into_iter().chain(new).collect()
            }
        };
        let mut record = manifest(&vault, "host", run, &index);
        record.disks[0].footers = draft.finish_copies()?;
        draft.commit(&mut record)?;
        Ok(Done {
            run,
            map: whole,
            index,
        })
    }
}
