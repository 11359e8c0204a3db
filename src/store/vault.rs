//! A vault: what `init` makes and every other command opens.

use super::door::{bad_info, no_info, was_vault};
use super::local::LocalStore;
use super::name::ObjectName;
use super::object_store::ObjectStore;
use super::segments::{
    SegmentCache, SlotRange, StoredChunk, bad_slots, check_segment, lost_segments, read_chunks,
};
use super::session::{BEAT, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BlockDedup, IndexRef, ObjectKind, SessionRecord, VERSION, VaultInfo, decode_index, open_object,
};
use crate::model::{ObjectId, RunMap, SnapshotId};
use crate::sys::memory;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a new vault shall be.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    /// 1 to 64 characters.
    pub name: String,
    /// For people.
    pub description: Option<String>,
}

/// An open vault.
pub struct Vault {
    pub(super) store: Arc<dyn ObjectStore>,
    info: VaultInfo,
    cache: SegmentCache,
    local: Option<Local>,
}

/// Where a vault in a directory is.
struct Local {
    path: PathBuf,
    root: (u64, u64),
}

impl Vault {
    /// Makes a vault in `store`, which the caller knows to be empty.
    pub fn create(store: Arc<dyn ObjectStore>, options: VaultOptions) -> Result<Self> {
        let characters = options.name.chars().count();
        if !(1..=64).contains(&characters) || options.name.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("a vault's name has 1 to 64 characters, this one {characters}"),
            ));
        }
        let info = VaultInfo {
            format: VERSION,
            id: ObjectId::generate(),
            name: options.name,
            description: options.description,
            block_size: crate::model::BLOCK_SIZE,
            created: Timestamp::now(),
            dedup: BlockDedup::Disk,
            encryption: None,
        };
        store.put(&ObjectName::vault_info(), info.encode()?.into())?;
        Ok(Self {
            store,
            info,
            cache: SegmentCache::default(),
            local: None,
        })
    }

    /// Opens the vault in `store`.
    pub fn open(store: Arc<dyn ObjectStore>) -> Result<Self> {
        let bytes = store.get(&ObjectName::vault_info(), VaultInfo::MAX_LEN);
        let info = match bytes.and_then(|bytes| VaultInfo::decode(&bytes)) {
            Ok(info) => info,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(no_info(store.as_ref()));
            }
            Err(error) => return Err(bad_info(store.as_ref(), error)),
        };
        Ok(Self {
            store,
            info,
            cache: SegmentCache::default(),
            local: None,
        })
    }

    /// Makes a vault in a directory, which must be empty or not there yet.
    pub fn create_local(path: &Path, options: VaultOptions) -> Result<Self> {
        let store = LocalStore::create(path)?;
        if !store.is_empty()? {
            return Err(taken(&store, path));
        }
        let root = store.root()?;
        let vault = Self::create(Arc::new(store), options)?;
        Ok(vault.in_directory(path, root))
    }

    /// Opens the vault in a directory.
    pub fn open_local(path: &Path) -> Result<Self> {
        let store = LocalStore::open(path)?;
        let root = store.root()?;
        Ok(Self::open(Arc::new(store))?.in_directory(path, root))
    }

    fn in_directory(self, path: &Path, root: (u64, u64)) -> Self {
        let path = path.to_owned();
        Self {
            local: Some(Local { path, root }),
            ..self
        }
    }

    /// The directory it is in, if it is in one.
    pub fn local_path(&self) -> Option<&Path> {
        self.local.as_ref().map(|local| local.path.as_path())
    }

    /// The numbers of that directory's filesystem and of itself: whoever meets them again, under
    /// whatever path, is in the vault.
    pub fn local_root(&self) -> Option<(u64, u64)> {
        self.local.as_ref().map(|local| local.root)
    }

    /// What it is.
    pub fn info(&self) -> &VaultInfo {
        &self.info
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// Reads the map of a disk of `blocks` blocks: its index objects laid over one another.
    pub fn load_index(&self, refs: &[IndexRef], blocks: u64) -> Result<RunMap> {
        self.read_index(refs, blocks, &|| Ok(()))
    }

    /// The same; `check` is asked before each object, and its error is returned.
    pub fn read_index(
        &self,
        refs: &[IndexRef],
        blocks: u64,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<RunMap> {
        let most = most_runs();
        let mut map = RunMap::new();
        for part in refs {
            check()?;
            if map.len() > most {
                return Err(too_many_pieces(most));
            }
            let mut read = || {
                let bytes = self
                    .store
                    .get(&ObjectName::index(part.id), ObjectKind::Index.most_stored())?;
                let plain = open_object(ObjectKind::Index, Some(part.id), &bytes)?;
                decode_index(&plain, blocks, &mut map)
            };
            read().map_err(|error| missing_is_damage(error, &format!("index {}", part.id)))?;
        }
        if !map.covers(blocks) {
            return Err(Error::new(
                ErrorKind::Damaged,
                "the index does not cover the whole disk",
            ));
        }
        Ok(map)
    }

    /// The segments that a map needs and that the vault has lost, as far as names and lengths tell.
    /// `check` is asked now and then, and its error is returned.
    pub fn lost_segments(
        &self,
        map: &RunMap,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<BTreeSet<ObjectId>> {
        lost_segments(self.store.as_ref(), map, check)
    }

    /// What stands in a slot, without reading its bytes.
    pub fn chunk(&self, segment: ObjectId, slot: u32) -> Result<StoredChunk> {
        let footer = self.cache.footer(self.store.as_ref(), segment)?;
        let slot = footer
            .slot(slot)
            .map_err(|error| error.context(format!("segment {segment}")))?;
        Ok(StoredChunk {
            hash: slot.hash,
            plain_len: slot.plain_len,
            stored_len: slot.length,
        })
    }

    /// How long a segment is, in bytes, as its footer says.
    pub fn segment_length(&self, segment: ObjectId) -> Result<u64> {
        let footer = self.cache.footer(self.store.as_ref(), segment)?;
        Ok(footer.segment_len())
    }

    /// The slots of a segment whose chunks cannot be had, each of which is read; `None`: none can.
    /// `check` is asked before each, and its error is returned.
    pub fn bad_slots(
        &self,
        segment: ObjectId,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Option<BTreeSet<u32>>> {
        bad_slots(&self.cache, self.store.as_ref(), segment, check)
    }

    /// Reads chunks and hands them to `take`, all checked against their hashes. They are in memory
    /// together: ask for few.
    pub fn read_chunks(
        &self,
        range: SlotRange,
        take: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        read_chunks(&self.cache, self.store.as_ref(), range, take)
    }

    /// Reads a whole segment and checks every byte of it; answers its length.
    pub fn check_segment(&self, segment: ObjectId) -> Result<u64> {
        check_segment(self.store.as_ref(), segment)
    }

    /// Says that a run writes to the vault, and goes on saying so each minute.
    pub fn begin_session(&self, run: SnapshotId, record: SessionRecord) -> Result<Session> {
        self.begin_session_every(BEAT, run, record)
    }

    /// The same with another time between two beats.
    pub fn begin_session_every(
        &self,
        every: Duration,
        run: SnapshotId,
        record: SessionRecord,
    ) -> Result<Session> {
        Session::begin(Arc::clone(&self.store), run, record, every)
    }
}

/// Why no vault is made in a directory that is not empty.
fn taken(store: &LocalStore, path: &Path) -> Error {
    let info = store.get(&ObjectName::vault_info(), VaultInfo::MAX_LEN);
    let nothing_there = info
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::NotFound);
    if nothing_there && was_vault(store) {
        return no_info(store);
    }
    let place = path.display();
    if !nothing_there {
        return Error::new(ErrorKind::Exists, format!("{place} is a vault already")).with_hint(
            format!("use it as it is: --vault {place}; nothing was changed"),
        );
    }
    let what = format!("{place} is not empty: no vault was made in it");
    Error::new(ErrorKind::Exists, what)
        .with_hint("name an empty directory, or one that is not there yet")
}

/// Most runs that the map of a disk may be in before another index object is laid over it: a map
/// takes at most a quarter of the machine's memory, and one object more.
fn most_runs() -> usize {
    const RUN_BYTES: u64 = 64;
    const LEAST: u64 = 256 << 20;
    let quarter = memory::total().map_or(0, |total| total.0 / 4);
    usize::try_from(quarter.max(LEAST) / RUN_BYTES).unwrap_or(usize::MAX)
}

fn too_many_pieces(most: usize) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the disk's map is in more than {most} pieces: it does not fit into a quarter of this \
             host's memory"
        ),
    )
    .with_hint("read it on a host with more memory")
}

pub(super) fn missing_is_damage(error: Error, what: &str) -> Error {
    let missing = error.kind() == ErrorKind::NotFound;
    let error = error.context(what);
    if missing {
        error.with_kind(ErrorKind::Damaged)
    } else {
        error
    }
}
