//! A vault: what `init` makes and every other command opens.

use super::ask::ask_of_each;
use super::cache::CacheStore;
use super::door::{bad_info, no_info};
use super::false_segments::FalseSegments;
use super::heeded_plans::HeededPlans;
use super::key_source::KeySource;
use super::keyring::{self, NewKey, Opened};
use super::lock_rules::{begin_locking, confirm_locked};
use super::lost_segments;
use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use super::presence::Presence;
use super::segment_reader::SegmentReader;
use super::session::{Session, SessionPace};
use super::slots::{SlotRange, StoredChunk};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    BlockDedup, Compression, Condemned, Encryption, Footer, FooterCopiesRef, IndexRef, ObjectKind,
    Sealer, SessionRecord, VERSION, VaultInfo, VaultKeys, decode_index,
};
use crate::model::{Cancel, LockRule, ObjectId, RequestCounts, RunMap, SnapshotId};
use crate::sys::memory;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The first version of the format with copies of footers.
const COPIES_SINCE: u16 = 2;

/// What a new vault shall be.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    /// 1 to 64 characters.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// How what is stored is packed.
    pub compression: Compression,
    /// Across what equal blocks are stored once.
    pub dedup: BlockDedup,
    /// Its first key, if it shall be encrypted.
    pub encrypt: Option<NewKey>,
}

/// An open vault.
pub struct Vault {
    pub(super) store: Arc<dyn ObjectStore>,
    info: VaultInfo,
    sealer: Sealer,
    /// The key that opened it.
    entry: Option<SnapshotId>,
    pub(super) segments: SegmentReader,
    pub(super) heeded: HeededPlans,
    pub(super) false_ones: FalseSegments,
}

impl Vault {
    /// Makes a vault in `store`, which the caller knows to be empty.
    pub fn create(store: Arc<dyn ObjectStore>, options: VaultOptions) -> Result<Self> {
        Self::create_locked(store, options, None)
    }

    /// The same; what its snapshots need is locked by this rule from the first object on.
    pub(super) fn create_locked(
        store: Arc<dyn ObjectStore>,
        options: VaultOptions,
        lock: Option<LockRule>,
    ) -> Result<Self> {
        let characters = options.name.chars().count();
        if !(1..=64).contains(&characters) || options.name.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("a vault's name has 1 to 64 characters, this one {characters}"),
            ));
        }
        let id = ObjectId::generate();
        let first = options.encrypt;
        let keys = first.as_ref().map(|_| VaultKeys::generate(id));
        let keys = keys.transpose()?.map(Arc::new);
        let info = VaultInfo {
            format: VERSION,
            id,
            name: options.name,
            description: options.description,
            block_size: crate::model::BLOCK_SIZE,
            created: Timestamp::now(),
            dedup: options.dedup,
            compression: options.compression,
            encryption: keys.as_ref().map(|keys| Encryption {
                scheme: Encryption::SCHEME,
                public_key: keys.public(),
            }),
            lock,
        };
        if let Some(rule) = lock {
            begin_locking(store.as_ref(), rule)?;
        }
        // The key first: no vault is ever there that nobody can open.
        let entry = match (&keys, &first) {
            (Some(keys), Some(first)) => {
                Some(keyring::put(store.as_ref(), &info, keys, first, None)?)
            }
            _ => None,
        };
        let made = Self::put_info(store.as_ref(), &info);
        made.inspect_err(|error| {
            // After any other error it may be there all the same.
            if let (ErrorKind::Exists, Some(id)) = (error.kind(), entry) {
                let _ = store.delete(&ObjectName::key(id));
            }
        })?;
        if let Some(rule) = lock {
            confirm_locked(store.as_ref(), rule)?;
        }
        let opened = Opened {
            keys,
            entry,
            is_missing: false,
        };
        Ok(Self::new(store, info, opened))
    }

    fn put_info(store: &dyn ObjectStore, info: &VaultInfo) -> Result<()> {
        store.put(&ObjectName::vault_info(), info.encode()?.into())?;
        // No name is refused there: of two that make a vault at once, the later one counts.
        if store.capabilities().confirms && Self::read_info(store)?.id != info.id {
            let what = format!(
                "{}: another vault was made there just now",
                store.location()
            );
            return Err(Error::new(ErrorKind::Exists, what));
        }
        Ok(())
    }

    /// Opens the vault in `store`, which is not encrypted.
    pub fn open(store: Arc<dyn ObjectStore>) -> Result<Self> {
        Self::open_by(store, &KeySource::Nobody)
    }

    /// Opens the vault in `store`, with a key where it is encrypted.
    pub fn open_by(store: Arc<dyn ObjectStore>, key: &KeySource) -> Result<Self> {
        let info = Self::read_info(store.as_ref())?;
        let opened = keyring::unlock(store.as_ref(), &info, key)?;
        Ok(Self::new(store, info, opened).locking())
    }

    /// Opens another place of the vault `of`, or what is there in its stead, with its keys.
    pub(super) fn open_as(store: Arc<dyn ObjectStore>, of: &Self) -> Result<Self> {
        let info = Self::read_info(store.as_ref())?;
        let opened = Opened {
            keys: of.sealer.shared_keys(),
            entry: of.entry,
            is_missing: of.sealer.is_without_key(),
        };
        Self::new(store, info, opened).locking_if_it_can()
    }

    /// The key that opened it; `None`: a writer's did, or it is not encrypted.
    pub(super) fn opened_entry(&self) -> Option<SnapshotId> {
        self.entry
    }

    /// The same; small objects are kept on this host, in a directory of the vault's own below
    /// `caches`; `reached` tells its place from every other. A cache that cannot be had costs time
    /// only. Who has no key has no cache: a manifest out of it may be of a snapshot that is gone
    /// with what it needs, and a mirror that cannot know what that is would send it.
    pub fn open_with_cache(
        store: Arc<dyn ObjectStore>,
        caches: &Path,
        reached: &str,
        key: &KeySource,
    ) -> Result<Self> {
        let info = Self::read_info(store.as_ref())?;
        let opened = keyring::unlock(store.as_ref(), &info, key)?;
        if opened.is_missing {
            return Ok(Self::new(store, info, opened).locking());
        }
        let place = blake3::hash(reached.as_bytes()).to_hex();
        let own = caches.join(format!("{}-{}", info.id, &place[..16]));
        let cached = CacheStore::open(Arc::clone(&store), &own);
        let store = cached.map_or(store, |cached| Arc::new(cached) as Arc<dyn ObjectStore>);
        Ok(Self::new(store, info, opened).locking())
    }

    pub(super) fn read_info(store: &dyn ObjectStore) -> Result<VaultInfo> {
        let bytes = store.get(&ObjectName::vault_info(), VaultInfo::MAX_LEN);
        match bytes.and_then(|bytes| VaultInfo::decode(&bytes)) {
            Ok(info) => Ok(info),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(no_info(store)),
            Err(error) => Err(bad_info(store, error)),
        }
    }

    pub(super) fn new(store: Arc<dyn ObjectStore>, info: VaultInfo, opened: Opened) -> Self {
        let sealer = Sealer::of(info.format, info.compression);
        let sealer = match opened.is_missing {
            true => sealer.without_key(),
            false => sealer.with_keys(opened.keys),
        };
        let segments = SegmentReader::new(Arc::clone(&store), sealer.clone());
        Self {
            store,
            info,
            sealer,
            entry: opened.entry,
            segments,
            heeded: HeededPlans::default(),
            false_ones: FalseSegments::default(),
        }
    }

    /// Seals what goes into the vault, and opens what comes out of it.
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The directory it is in, if it is in one.
    pub fn local_path(&self) -> Option<&Path> {
        let directory = self.store.directory()?;
        Some(directory.path.as_path())
    }

    /// The numbers of that directory's filesystem and of itself: a directory that has them, under
    /// whatever path, is the vault.
    pub fn local_root(&self) -> Option<(u64, u64)> {
        self.store.directory().map(|directory| directory.root)
    }

    /// Whether it is at the other end of a network, where each request waits.
    pub fn is_far(&self) -> bool {
        self.store.directory().is_none()
    }

    /// How many threads are to read back, of a host with so many cores: more than that where they
    /// mostly wait for a network.
    pub fn readers(&self, cores: usize) -> usize {
        match self.is_far() {
            false => cores,
            true => cores.max(self.store.capabilities().gets),
        }
    }

    /// What it is.
    pub fn info(&self) -> &VaultInfo {
        &self.info
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// What was asked of its store since it was opened, the opening included; `None`: nobody
    /// counts.
    pub fn requests(&self) -> Option<RequestCounts> {
        self.store.requests()
    }

    /// Reads the map of a disk of `blocks` blocks: its index objects laid over one another.
    pub fn load_index(&self, refs: &[IndexRef], blocks: u64) -> Result<RunMap> {
        self.read_index(refs, blocks, &|| Ok(()))
    }

    /// The same; `cancel` is asked at each object, and its error is returned. Several are got at
    /// once where the store is good for it.
    pub fn read_index(
        &self,
        refs: &[IndexRef],
        blocks: u64,
        cancel: &dyn Cancel,
    ) -> Result<RunMap> {
        let (most, kind) = (most_runs(), ObjectKind::Index);
        let mut map = RunMap::new();
        let get = |part: &IndexRef| {
            let name = ObjectName::index(part.id);
            self.store.get(&name, kind.most_stored())
        };
        ask_of_each(self.store.as_ref(), refs, cancel, get, |part, bytes| {
            cancel.check()?;
            if map.len() > most {
                return Err(too_many_pieces(most));
            }
            let read = bytes.and_then(|bytes| {
                let plain = self.sealer.open_object(kind, Some(part.id), &bytes)?;
                decode_index(&plain, blocks, &mut map)
            });
            read.map(drop)
                .map_err(|error| missing_is_damage(error, &format!("index {}", part.id)))
        })?;
        if !map.covers(blocks) {
            return Err(Error::new(
                ErrorKind::Damaged,
                "the index does not cover the whole disk",
            ));
        }
        Ok(map)
    }

    /// The segments that a map needs and that are missing or too short, by names and lengths alone,
    /// or [condemned](Self::is_condemned). `cancel` is asked now and then, and its error is
    /// returned.
    pub fn lost_segments(&self, map: &RunMap, cancel: &dyn Cancel) -> Result<BTreeSet<ObjectId>> {
        let mut lost = lost_segments::lost(self.store.as_ref(), map, cancel)?;
        let all = map.iter().filter_map(|run| run.segment());
        lost.extend(all.filter(|id| self.is_condemned(Condemned::Segment(*id))));
        Ok(lost)
    }

    /// Whether equal blocks are stored once, whoever stores them.
    pub fn shares_blocks(&self) -> bool {
        self.info.dedup == BlockDedup::Vault && self.info.format >= COPIES_SINCE
    }

    /// Whether runs put copies of footers (FORMAT.md, 6a): far away a segment may lie where it must
    /// be thawed first, and each costs a request; and whoever stores no block twice looks there.
    /// Vaults of the first format have none.
    pub(super) fn has_copies_of_footers(&self) -> bool {
        self.info.format >= COPIES_SINCE && (self.is_far() || self.shares_blocks())
    }

    /// Learns of copies of footers; those of `map`'s segments may be wanted. Nothing is read yet.
    pub fn know_footers(&self, copies: &[FooterCopiesRef], map: &RunMap) {
        if copies.is_empty() {
            return;
        }
        let segments: BTreeSet<ObjectId> = map.iter().filter_map(|run| run.segment()).collect();
        self.segments.know_copies(copies, segments.len());
    }

    /// Which of these segments are not in the store with just these lengths, or
    /// [condemned](Self::is_condemned). Nothing is read.
    pub fn lost_of_lengths(
        &self,
        lengths: impl Iterator<Item = (ObjectId, u64)>,
        cancel: &dyn Cancel,
    ) -> Result<BTreeSet<ObjectId>> {
        let all: BTreeMap<ObjectId, u64> = lengths.collect();
        let lengths = all.iter().map(|(id, length)| (*id, *length));
        let mut lost = lost_segments::lost_of_lengths(self.store.as_ref(), lengths, cancel)?;
        let condemned = |id: &&ObjectId| self.is_condemned(Condemned::Segment(**id));
        lost.extend(all.keys().filter(condemned));
        Ok(lost)
    }

    /// Fetches what tells where chunks stand in these segments, several at once where the store is
    /// far away. Only speed depends on it.
    pub fn fetch_footers(&self, segments: &[ObjectId], cancel: &dyn Cancel) -> Result<()> {
        match self.store.directory() {
            Some(_) => Ok(()),
            None => self.segments.fetch_footers(segments, cancel),
        }
    }

    /// What stands in a slot, without reading its bytes.
    pub fn chunk(&self, segment: ObjectId, slot: u32) -> Result<StoredChunk> {
        let footer = self.segments.footer(segment)?;
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
        let footer = self.segments.footer(segment)?;
        Ok(footer.segment_len())
    }

    /// The slots of a segment whose chunks cannot be had, each of which is read; `None`: none can.
    /// `cancel` is asked before each, and its error is returned.
    pub fn bad_slots(
        &self,
        segment: ObjectId,
        cancel: &dyn Cancel,
    ) -> Result<Option<BTreeSet<u32>>> {
        self.segments.bad_slots(segment, cancel)
    }

    /// Reads chunks and hands them to `take`, all checked against their hashes. They are in memory
    /// together: ask for few.
    pub fn read_chunks(
        &self,
        range: SlotRange,
        take: &mut dyn FnMut(&[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        self.segments.read_chunks(range, take)
    }

    /// Reads chunks with one request and hands each to `take` with its slot: its bytes, checked
    /// against their hash, or why they cannot be had. An error is of all of them. `spare` is memory
    /// to be used; what was not stays there.
    pub fn read_each_chunk(
        &self,
        range: SlotRange,
        spare: &mut Vec<Vec<u8>>,
        take: &mut dyn FnMut(u32, Result<Vec<u8>>),
    ) -> Result<()> {
        self.segments.read_each_chunk(range, spare, take)
    }

    /// Reads a whole segment and checks every byte of it; returns what is in it.
    pub fn check_segment(&self, segment: ObjectId) -> Result<Footer> {
        self.segments.check(segment)
    }

    /// Reads an object of copies of footers and hands each to `take`, checked; returns what is
    /// wrong with it, as text. One that is not there is not wrong.
    pub fn check_copies(
        &self,
        copies: FooterCopiesRef,
        take: &mut dyn FnMut(ObjectId, Footer),
    ) -> Result<Option<String>> {
        self.segments.check_copies(copies, take)
    }

    /// Hands the footers that stand in these segments themselves to `take`, each checked. Several
    /// are got at once where the store is good for it.
    pub fn own_footers(
        &self,
        segments: &[ObjectId],
        cancel: &dyn Cancel,
        take: &mut dyn FnMut(ObjectId, Result<Footer>) -> Result<()>,
    ) -> Result<()> {
        self.segments.own_footers(segments, cancel, take)
    }

    /// Says that a run writes to the vault, and goes on saying so each minute.
    pub fn begin_session(&self, run: SnapshotId, record: SessionRecord) -> Result<Session> {
        self.begin_session_at(SessionPace::default(), run, record)
    }

    /// The same at another pace.
    pub fn begin_session_at(
        &self,
        pace: SessionPace,
        run: SnapshotId,
        record: SessionRecord,
    ) -> Result<Session> {
        self.heeded.ask_again_after(pace.again);
        Session::begin(self.presence(run, record), pace, || {})
    }

    /// The same for a run that refers to what is there: the plans of collectors are looked at
    /// without another wait. What comes of it, [`heed_plans`](Self::heed_plans) says, and looks
    /// again if they could not be read.
    pub fn begin_session_heeding(&self, run: SnapshotId, record: SessionRecord) -> Result<Session> {
        let heed = || drop(self.heed_plans(run));
        Session::begin(self.presence(run, record), SessionPace::default(), heed)
    }

    fn presence(&self, run: SnapshotId, record: SessionRecord) -> Presence {
        Presence::new(Arc::clone(&self.store), self.sealer.clone(), run, record)
    }
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
