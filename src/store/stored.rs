//! Objects as they stand in a vault, byte for byte, for whoever carries them to another place. Each
//! was checked before it leaves here: it must be impossible to carry damage.

use super::ask::ask_of_each;
use super::catalog::SnapshotRef;
use super::lost_segments::slots_of;
use super::object_name::ObjectName;
use super::object_store::Blob;
use super::vault::{Vault, missing_is_damage};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FooterCopiesRef, Manifest, ObjectKind, decode_index};
use crate::model::{Cancel, ObjectId, RunMap, block_count};
use std::collections::BTreeMap;

/// An object that was read whole and is what its name says.
#[derive(Clone)]
pub struct StoredObject {
    pub(super) name: ObjectName,
    pub(super) bytes: Blob,
}

impl StoredObject {
    /// Its name.
    pub fn name(&self) -> &ObjectName {
        &self.name
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The segments that runs stand in, and how many slots of each must be there.
pub type NeededSegments = BTreeMap<ObjectId, u32>;

impl Vault {
    /// A segment, of which every byte was checked, and in which there are so many slots.
    pub fn stored_segment(&self, id: ObjectId, slots: u32) -> Result<StoredObject> {
        let whole = self.segments.whole(id)?;
        let found = whole.footer.slots().len();
        if found < slots as usize {
            let what = format!("segment {id} has {found} slots, and {slots} are needed");
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        Ok(StoredObject {
            name: ObjectName::segment(id),
            bytes: whole.bytes,
        })
    }

    /// An index object, which was checked against its name.
    pub fn stored_index(&self, id: ObjectId) -> Result<StoredObject> {
        let name = ObjectName::index(id);
        let kind = ObjectKind::Index;
        let bytes = self.store.get(&name, kind.most_stored());
        let checked = bytes.and_then(|bytes| {
            self.sealer().open_object(kind, Some(id), &bytes)?;
            Ok(bytes)
        });
        let bytes = checked.map_err(|error| missing_is_damage(error, &format!("index {id}")))?;
        Ok(StoredObject { name, bytes })
    }

    /// An object of copies of footers, each of which was checked.
    ///
    /// # Errors
    /// `NotFound` and `Damaged` are no damage of the vault: readers do without.
    pub fn stored_copies(&self, copies: FooterCopiesRef) -> Result<StoredObject> {
        let bytes = self.segments.whole_copies(copies)?;
        let name = ObjectName::footers(copies);
        Ok(StoredObject { name, bytes })
    }

    /// A manifest, and what it says.
    ///
    /// # Errors
    /// `NotFound` when the snapshot was deleted.
    pub fn stored_manifest(&self, snapshot: &SnapshotRef) -> Result<(StoredObject, Manifest)> {
        let most = ObjectKind::Manifest.most_stored();
        let bytes = self.store.get(&snapshot.manifest, most)?;
        let manifest = self.decode(snapshot, &bytes)?;
        let name = snapshot.manifest.clone();
        Ok((StoredObject { name, bytes }, manifest))
    }

    /// Hands the runs of each of these index objects to `take`, in their order; each is of a disk
    /// of so many blocks. Several are got at once where the store is good for it.
    pub fn read_index_parts(
        &self,
        parts: &[(ObjectId, u64)],
        cancel: &dyn Cancel,
        take: &mut dyn FnMut(ObjectId, Result<RunMap>) -> Result<()>,
    ) -> Result<()> {
        let kind = ObjectKind::Index;
        let get =
            |(id, _): &(ObjectId, u64)| self.store.get(&ObjectName::index(*id), kind.most_stored());
        ask_of_each(
            self.store.as_ref(),
            parts,
            cancel,
            get,
            |(id, blocks), bytes| {
                let map = bytes.and_then(|bytes| {
                    let plain = self.sealer().open_object(kind, Some(*id), &bytes)?;
                    let mut map = RunMap::new();
                    decode_index(&plain, *blocks, &mut map)?;
                    Ok(map)
                });
                let what = format!("index {id}");
                take(*id, map.map_err(|error| missing_is_damage(error, &what)))
            },
        )
    }

    /// Hands the segments that each of these index objects names to `take`, of a disk of so many
    /// blocks. Several are got at once where the store is good for it.
    pub fn segments_named_by(
        &self,
        ids: &[ObjectId],
        blocks: u64,
        cancel: &dyn Cancel,
        take: &mut dyn FnMut(ObjectId, Result<NeededSegments>) -> Result<()>,
    ) -> Result<()> {
        let parts: Vec<_> = ids.iter().map(|id| (*id, blocks)).collect();
        self.read_index_parts(&parts, cancel, &mut |id, map| {
            take(id, map.map(|map| slots_of(&map)))
        })
    }

    /// The segments without which a snapshot cannot be restored: those that the maps of its disks
    /// lead to, which is fewer than what its index objects name where blocks were stored again.
    /// `cancel` is asked now and then, and its error is returned.
    pub fn segments_required_by(
        &self,
        manifest: &Manifest,
        cancel: &dyn Cancel,
    ) -> Result<NeededSegments> {
        let mut required = NeededSegments::new();
        for disk in &manifest.disks {
            let blocks = block_count(disk.identity.size);
            let map = self
                .read_index(&disk.index, blocks, cancel)
                .map_err(|error| error.context(&disk.identity.name))?;
            for (segment, slots) in slots_of(&map) {
                let needed = required.entry(segment).or_default();
                *needed = slots.max(*needed);
            }
        }
        Ok(required)
    }
}
