//! What is in the world's store, whatever anybody is told of it.

use super::world::Kept;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stillpoint::format::ChunkHash;
use stillpoint::model::{Content, SnapshotId};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

/// What a snapshot shows.
pub struct Shown {
    /// The chunk of each block.
    pub chunks: Vec<Option<ChunkHash>>,
    pub needs: BTreeSet<ObjectName>,
}

/// A vault of all that is there.
pub fn vault(objects: &BTreeMap<ObjectName, Kept>) -> Vault {
    let store = MemoryStore::new();
    for (name, kept) in objects.iter().filter(|(_, kept)| kept.gone.is_none()) {
        store.put(name, kept.blob.clone()).unwrap();
    }
    Vault::open(Arc::new(store)).unwrap()
}

fn id_of(name: &ObjectName) -> SnapshotId {
    name.components().last().unwrap().parse().unwrap()
}

pub fn are_akin(name: &ObjectName, other: &ObjectName) -> bool {
    name != other && id_of(name).is_akin_to(id_of(other))
}

/// What the snapshot of this name shows; `None`: it cannot be read.
pub fn shown(vault: &Vault, name: &ObjectName) -> Option<Shown> {
    let all = vault.snapshots().unwrap();
    let one = all.into_iter().find(|one| one.id == id_of(name))?;
    let disk = vault.manifest(&one).ok()?.disks.remove(0);
    let map = vault
        .load_index(&disk.index, disk.identity.size.0 >> 16)
        .ok()?;
    let mut chunks = Vec::new();
    for run in map.iter() {
        for block in 0..run.count {
            let chunk = match run.content {
                Content::Data { segment, slot } => {
                    Some(vault.chunk(segment, slot + block as u32).ok()?.hash)
                }
                Content::Zero | Content::Free => None,
            };
            chunks.push(chunk);
        }
    }
    let segments = map.iter().filter_map(|run| run.segment());
    let mut needs: BTreeSet<ObjectName> = segments.map(ObjectName::segment).collect();
    needs.extend(disk.index.iter().map(|part| ObjectName::index(part.id)));
    Some(Shown { chunks, needs })
}
