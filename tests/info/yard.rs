//! Vaults with histories of all sorts: hosts with one or two disks, lines of descent that branch
//! and are folded, blocks that hosts have in common, deleted snapshots, keeps.

use crate::support::model::Chance;
use crate::support::vaults::vault_options;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::sync::Arc;
use stillpoint::engine::{Silent, VaultHoldings, look_at_holdings};
use stillpoint::format::{FooterCopiesRef, IndexRef, Manifest, Packed};
use stillpoint::model::{BlockIndex, Content, ObjectId, Run, RunMap, SnapshotId};
use stillpoint::store::{
    Blob, Draft, KeepTerm, KeySource, MemoryStore, ObjectName, ObjectStore, Vault, VaultOptions,
};

/// Blocks of each disk.
pub const BLOCKS: u64 = 24;

/// How long a disk is: its last block is short.
pub fn size_of(disk: usize) -> u64 {
    (BLOCKS - 1) * 65_536 + 512 * (disk as u64 + 1)
}

/// A vault.
pub struct Yard {
    pub store: Arc<MemoryStore>,
    pub vault: Arc<Vault>,
    pub random: Chance,
    pub all: Vec<Known>,
}

/// A snapshot that is there.
#[derive(Clone)]
pub struct Known {
    pub id: SnapshotId,
    pub host: usize,
    pub disks: Vec<KnownDisk>,
}

/// One of its disks.
#[derive(Clone)]
pub struct KnownDisk {
    pub map: RunMap,
    pub index: Vec<IndexRef>,
    pub footers: Vec<FooterCopiesRef>,
    pub stored: u64,
}

fn block(start: u64, content: Content) -> Run {
    Run {
        start: BlockIndex(start),
        count: 1,
        content,
    }
}

impl Yard {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, vault_options())
    }

    pub fn with(seed: u64, options: VaultOptions) -> Self {
        let store = Arc::new(MemoryStore::one_at_a_time());
        let vault = Arc::new(Vault::create(store.clone(), options).unwrap());
        Self {
            store,
            vault,
            random: Chance(seed),
            all: Vec::new(),
        }
    }

    /// A history, some of which was deleted.
    pub fn history(seed: u64) -> Self {
        let mut yard = Self::new(seed);
        yard.live();
        yard
    }

    /// Takes snapshots, and deletes some.
    pub fn live(&mut self) {
        for _ in 0..14 {
            self.snapshot();
        }
        for _ in 0..self.random.below(8) {
            let place = self.random.below(self.all.len() as u64) as usize;
            let gone = self.all.remove(place);
            delete(&self.vault, gone.id);
        }
        for _ in 0..3 {
            let place = self.random.below(self.all.len() as u64) as usize;
            let id = self.all[place].id;
            let found = self.vault.find(&id.to_string()).unwrap();
            let term = KeepTerm::Until(Timestamp::now() + SignedDuration::from_secs(1));
            self.vault.put_keep(&found, term, "host").unwrap();
        }
    }

    /// A snapshot of any host, upon any one of it or upon none.
    pub fn snapshot(&mut self) -> Known {
        let host = self.random.below(3) as usize;
        let same: Vec<Known> = self
            .all
            .iter()
            .filter(|one| one.host == host)
            .cloned()
            .collect();
        // Mostly the newest one; also an older one, as after a restore.
        let parent = match self.random.below(6) {
            0 => None,
            1 => same.first().cloned(),
            _ => same.last().cloned(),
        };
        self.snapshot_of(host, parent.as_ref())
    }

    pub fn snapshot_of(&mut self, host: usize, parent: Option<&Known>) -> Known {
        let draft = Draft::begin(&self.vault);
        let count = 1 + host % 2;
        let mut deltas = vec![RunMap::new(); count];
        let mut stored = vec![0; count];
        for _ in 0..self.random.below(3) {
            self.put_segment(&draft, &mut deltas, &mut stored);
        }
        for delta in &mut deltas {
            self.refer(delta);
        }
        let footers = draft.finish_copies().unwrap();
        let mut disks = Vec::new();
        for (number, delta) in deltas.into_iter().enumerate() {
            let before = parent.map(|parent| parent.disks[number].clone());
            disks.push(self.put_disk(&draft, before, &delta, stored[number], &footers));
        }
        let now = Timestamp::now().as_millisecond() as u64;
        let newest = self.all.iter().map(|one| one.id).max();
        let id = SnapshotId::after(newest, now);
        let known = Known { id, host, disks };
        let mut record = self.manifest(&known);
        draft.commit(&mut record).unwrap();
        self.all.push(known.clone());
        known
    }

    /// A segment of several disks' blocks.
    fn put_segment(&mut self, draft: &Draft, deltas: &mut [RunMap], stored: &mut [u64]) {
        let sealer = draft.sealer();
        let mut packed = Packed::default();
        let mut writer = sealer.create_segment(Vec::new()).unwrap();
        let mut where_to = Vec::new();
        for _ in 0..1 + self.random.below(6) {
            let bytes = crate::support::host::noise(100 + self.random.below(3000) as usize, 9);
            let chunk = sealer.encode_chunk(&bytes, &mut packed).unwrap();
            let disk = self.random.below(deltas.len() as u64) as usize;
            stored[disk] += chunk.stored_len() as u64;
            where_to.push((disk, self.random.below(BLOCKS)));
            writer.push(&chunk, &packed);
        }
        let (segment, bytes) = writer.finish();
        let bytes = bytes.into_boxed_slice();
        draft.put_segment(segment, Blob::from(bytes), &[]).unwrap();
        for (slot, (disk, at)) in (0..).zip(where_to) {
            deltas[disk].insert(block(at, Content::Data { segment, slot }));
        }
    }

    /// Refers to blocks that others have put, and to zeros.
    fn refer(&mut self, delta: &mut RunMap) {
        if self.random.below(3) == 0 {
            delta.insert(block(self.random.below(BLOCKS), Content::Zero));
        }
        if self.random.below(3) == 0 && !self.all.is_empty() {
            let other = self.random.below(self.all.len() as u64) as usize;
            let map = &self.all[other].disks[0].map;
            let runs: Vec<Run> = map.iter().filter(|run| run.segment().is_some()).collect();
            if !runs.is_empty() {
                let run = runs[self.random.below(runs.len() as u64) as usize];
                delta.insert(block(self.random.below(BLOCKS), run.content));
            }
        }
    }

    fn put_disk(
        &mut self,
        draft: &Draft,
        before: Option<KnownDisk>,
        delta: &RunMap,
        stored: u64,
        footers: &[FooterCopiesRef],
    ) -> KnownDisk {
        let mut map = RunMap::new();
        map.insert(Run {
            start: BlockIndex(0),
            count: BLOCKS,
            content: Content::Free,
        });
        let mut all = Vec::new();
        if let Some(before) = &before {
            map.overlay(&before.map);
            all.clone_from(&before.footers);
        }
        map.overlay(delta);
        all.extend(footers.iter().copied());
        let index = match before.filter(|_| self.random.below(4) > 0) {
            None => draft.put_index(&map, BLOCKS, true).unwrap(),
            Some(before) if delta.is_empty() => before.index,
            Some(before) => {
                let new = draft.put_index(delta, BLOCKS, false).unwrap();
                before.index.into_iter().chain(new).collect()
            }
        };
        KnownDisk {
            map,
            index,
            footers: all,
            stored,
        }
    }

    fn manifest(&self, known: &Known) -> Manifest {
        let disks = known.disks.iter().enumerate().map(|(number, disk)| {
            json!({
                "identity": {"name": format!("vd{}", (b'a' + number as u8) as char),
                    "dev": {"major": 8, "minor": number}, "size": size_of(number),
                    "logical_block": 512, "serial": format!("disk-{number}"), "wwn": null,
                    "diskseq": null, "table_id": null},
                "level": "crash", "mode": "full", "reason": "", "parent": null,
                "all_blocks": false, "passes": 1, "read_bytes": 0, "changed_bytes": 0,
                "stored_bytes": disk.stored, "frozen_bytes": 0, "free_skipped_bytes": 0,
                "free_rules": 1, "filesystems": [], "index": disk.index,
                "footers": disk.footers, "cut": null,
            })
        });
        let now = Timestamp::now().to_string();
        let all = json!({
            "format": 2, "snapshot": known.id, "vault": self.vault.info().id, "time": now,
            "started": now, "host": format!("host{}", known.host), "kernel": "", "writer": "",
            "level": "crash", "requested_level": "crash", "freeze_us": null, "warnings": [],
            "tags": {}, "hooks": null, "disks": disks.collect::<Vec<_>>(),
        });
        serde_json::from_value(all).unwrap()
    }

    /// What `info` says.
    pub fn info(&self) -> VaultHoldings {
        info_of(self.store.clone())
    }

    /// All names below a folder.
    pub fn names(&self, folder: &str) -> Vec<ObjectName> {
        let folder = ObjectName::parse(folder).unwrap();
        let all = self.store.list_all(&folder).unwrap().into_iter();
        all.map(|object| object.name).collect()
    }

    /// How long a segment is.
    pub fn length(&self, segment: ObjectId) -> u64 {
        self.store.size(&ObjectName::segment(segment)).unwrap()
    }
}

pub fn delete(vault: &Vault, id: SnapshotId) {
    let found = vault.find(&id.to_string()).unwrap();
    vault.delete(&found).unwrap();
}

/// What `info` says of the vault in this store.
pub fn info_of(store: Arc<dyn ObjectStore>) -> VaultHoldings {
    info_by(store, &KeySource::Nobody)
}

pub fn info_by(store: Arc<dyn ObjectStore>, key: &KeySource) -> VaultHoldings {
    let vault = Vault::open_by(store, key).unwrap();
    look_at_holdings(&vault, &Silent).unwrap()
}
