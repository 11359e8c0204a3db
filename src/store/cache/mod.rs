//! Keeps small objects of a distant vault on this host: manifests, index objects, the ends of
//! segments, and objects of copies of these. An object never changes and no name is used twice, so
//! what was kept is right as long as the object is there; and that it is there is never taken from
//! here. A manifest is looked for only after it was listed, of an index object the store is asked
//! for the size, and the chunks of a segment are read from the store itself. Whoever judges the
//! store (`verify`) uses no cache.
//!
//! A put may return while filesystems are frozen, and the cache may lie on one of them: a thread
//! that writes there could not even be killed. So what a run puts is held back in memory until its
//! manifest is put, which is after each thaw.

mod files;
mod kept;

use super::object_name::ObjectName;
use super::object_store::{Blob, Capabilities, Directory, ObjectInfo, ObjectLock};
use super::object_store::{ObjectStore, VersionedStore};
use crate::error::Result;
use crate::format::{FooterCopies, ObjectKind, Trailer, is_end_of};
use crate::model::{ObjectId, RequestCounts};
use crate::sys::locked::LockExt;
use files::CacheFiles;
use kept::Kept;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Most bytes of one vault: manifests, index objects, and the ends of segments of 16 TiB.
const MOST: u64 = 1 << 30;
/// Most bytes that are held back: the ends of 20 GiB of segments.
const MOST_HELD_BACK: usize = 32 << 20;
/// Longest end of a segment that is kept, in bytes: a footer of as many slots as there can be.
const MOST_TAIL: u64 = 1 << 20;

/// A distant store with what is known of it on this host.
pub struct CacheStore {
    inner: Arc<dyn ObjectStore>,
    files: CacheFiles,
    held_back: Mutex<Vec<HeldBack>>,
}

/// Something that was put and is not written to the cache yet.
struct HeldBack {
    name: String,
    number: u64,
    bytes: Vec<u8>,
}

impl CacheStore {
    /// `inner` with a cache in `directory`, which holds nothing of another vault.
    ///
    /// # Errors
    /// The directory cannot be had, or others can write to it.
    pub fn open(inner: Arc<dyn ObjectStore>, directory: &Path) -> Result<Self> {
        let files = CacheFiles::open(directory, MOST)?;
        Ok(Self {
            inner,
            files,
            held_back: Mutex::default(),
        })
    }

    /// What is never kept is not removed: beats come and go while a filesystem is frozen.
    fn remove(&self, name: &ObjectName) {
        if Kept::of(name).is_some() {
            self.files.remove(name.as_str());
        }
    }

    /// Holds something back that was put; what does not fit is not kept.
    fn hold_back(&self, name: &ObjectName, number: u64, bytes: &[u8]) {
        let mut held_back = self.held_back.locked();
        let held: usize = held_back.iter().map(|one| one.bytes.len()).sum();
        if held + bytes.len() <= MOST_HELD_BACK {
            held_back.push(HeldBack {
                name: name.as_str().to_owned(),
                number,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// Writes what was held back.
    fn write_held_back(&self) {
        for one in std::mem::take(&mut *self.held_back.locked()) {
            self.files.keep(&one.name, one.number, &one.bytes);
        }
    }

    /// An index object that is kept, if it is still in the store.
    fn kept_index(&self, name: &ObjectName, limit: u64) -> Result<Option<Blob>> {
        let Some(kept) = self.files.get(name.as_str(), limit) else {
            return Ok(None);
        };
        let size = self.inner.size(name);
        if size.as_ref().is_ok_and(|size| *size == kept.number) {
            return Ok(Some(kept.bytes.into()));
        }
        self.files.remove(name.as_str());
        size.map(|_| None)
    }
}

/// The footer and trailer of the segment `name`, if they are whole within `end`, the last bytes of
/// `length` in all.
fn end_of<'a>(name: &ObjectName, end: &'a [u8], length: u64) -> Option<&'a [u8]> {
    // What is no trailer is for the reader to judge.
    let trailer = Trailer::decode(end, length).ok()?;
    let start = end
        .len()
        .checked_sub(usize::try_from(trailer.tail_len).ok()?)?;
    let tail = end.get(start..)?;
    is_end_of(tail, trailer, id_of(name)?).then_some(tail)
}

/// The name by content of an index object or a segment.
fn id_of(name: &ObjectName) -> Option<ObjectId> {
    name.components().last()?.parse().ok()
}

impl ObjectStore for CacheStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn directory(&self) -> Option<&Directory> {
        self.inner.directory()
    }

    fn storage_class(&self) -> Option<&str> {
        self.inner.storage_class()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.inner.put(name, bytes.clone())?;
        let length = bytes.len() as u64;
        match Kept::of(name) {
            Some(Kept::SegmentEnd) => {
                if let Some(end) = end_of(name, &bytes, length) {
                    self.hold_back(name, length, end);
                }
            }
            Some(Kept::Index) => self.hold_back(name, length, &bytes),
            Some(Kept::Manifest) => {
                self.write_held_back();
                self.files.keep(name.as_str(), length, &bytes);
            }
            // The next run reads it once.
            Some(Kept::Copies) | None => {}
        }
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.inner.replace(name, bytes)?;
        self.forget(name);
        Ok(())
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let kind = Kept::of(name);
        let kept = match kind {
            // Each copy is proven by its segment's name, and says nothing of whether that is there.
            Some(Kept::Manifest | Kept::Copies) => {
                let kept = self.files.get(name.as_str(), limit);
                kept.map(|kept| kept.bytes.into())
            }
            Some(Kept::Index) => self.kept_index(name, limit)?,
            Some(Kept::SegmentEnd) | None => None,
        };
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let bytes = self.inner.get(name, limit)?;
        let is_whole = match kind {
            Some(Kept::Manifest) => ObjectKind::Manifest.is_whole(None, &bytes),
            Some(Kept::Index) => {
                id_of(name).is_some_and(|id| ObjectKind::Index.is_whole(Some(id), &bytes))
            }
            Some(Kept::Copies) => FooterCopies::decode(&bytes, bytes.len() as u64).is_ok(),
            Some(Kept::SegmentEnd) | None => false,
        };
        is_whole.then(|| self.files.keep(name.as_str(), bytes.len() as u64, &bytes));
        Ok(bytes)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        self.inner.get_range(name, offset, length)
    }

    fn get_range_into(
        &self,
        name: &ObjectName,
        offset: u64,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        self.inner.get_range_into(name, offset, length, into)
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        // Who asks for no bytes asks whether it is there.
        let is_segment = length > 0 && Kept::of(name) == Some(Kept::SegmentEnd);
        if is_segment && let Some((end, whole)) = self.kept_tail(name) {
            let surplus = end.len().saturating_sub(length as usize);
            return Ok((end.slice(surplus..), whole));
        }
        let (end, whole) = self.inner.get_tail(name, length)?;
        if is_segment && let Some(kept) = end_of(name, &end, whole) {
            self.files.keep(name.as_str(), whole, kept);
        }
        Ok((end, whole))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.inner.size(name)
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        self.inner.list(prefix, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.remove(name);
        self.inner.delete(name)
    }

    fn forget(&self, name: &ObjectName) {
        self.remove(name);
        self.inner.forget(name);
    }

    fn kept_tail(&self, name: &ObjectName) -> Option<(Blob, u64)> {
        let kept = self.files.get(name.as_str(), MOST_TAIL)?;
        Some((kept.bytes.into(), kept.number))
    }

    fn keep_tail(&self, name: &ObjectName, tail: &[u8], whole: u64) {
        self.files.keep(name.as_str(), whole, tail);
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<ObjectLock>> {
        self.inner.lock(name)
    }

    fn versioned(&self) -> Option<&dyn VersionedStore> {
        self.inner.versioned()
    }

    fn requests(&self) -> Option<RequestCounts> {
        self.inner.requests()
    }

    fn clear_unfinished(&self) {
        self.inner.clear_unfinished();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::format::{Packed, Sealer, SessionRecord};
    use crate::model::SnapshotId;
    use crate::store::{CountStore, MemoryStore};
    use jiff::Timestamp;

    const SEALER: Sealer = Sealer::without_keys();

    /// A store in memory, the operations on it, and a cache before it.
    struct Stage {
        memory: Arc<MemoryStore>,
        counted: Arc<CountStore>,
        cache: CacheStore,
        directory: tempfile::TempDir,
    }

    impl Stage {
        fn new() -> Self {
            let memory = Arc::new(MemoryStore::new());
            let counted = Arc::new(CountStore::new(memory.clone()));
            let directory = tempfile::tempdir().unwrap();
            let at = directory.path().join("cache");
            let cache = CacheStore::open(counted.clone(), &at).unwrap();
            Self {
                memory,
                counted,
                cache,
                directory,
            }
        }

        /// How many operations the store has seen since this was asked last.
        fn seen(&self) -> u64 {
            let counts = self.counted.take();
            counts.values().map(|count| count.operations).sum()
        }

        /// The same cache, in another process.
        fn again(&self) -> CacheStore {
            let at = self.directory.path().join("cache");
            CacheStore::open(self.counted.clone(), &at).unwrap()
        }
    }

    fn manifest() -> (ObjectName, Blob) {
        let name = ObjectName::manifest("host", SnapshotId::generate(1));
        let bytes = SEALER.seal_object(ObjectKind::Manifest, b"{}").unwrap();
        (name, bytes.into())
    }

    fn index() -> (ObjectName, Blob) {
        let (id, bytes) = SEALER.seal_index(b"runs").unwrap();
        (ObjectName::index(id), bytes.into())
    }

    fn segment() -> (ObjectName, Blob) {
        let (mut writer, mut packed) = (
            SEALER.create_segment(Vec::new()).unwrap(),
            Packed::default(),
        );
        let chunk = SEALER.encode_chunk(&[7; 5000], &mut packed).unwrap();
        writer.push(&chunk, &packed);
        let (id, bytes) = writer.finish();
        (ObjectName::segment(id), bytes.into())
    }

    const MOST_GOT: u64 = 1 << 20;

    #[test]
    fn what_is_never_kept_is_not_looked_for_on_a_disk_that_may_stand_still() {
        let stage = Stage::new();
        let name = ObjectName::session(SnapshotId::generate(1), 0);
        stage.cache.files.keep(name.as_str(), 1, b"x");
        stage.memory.put(&name, Blob::from_static(b"x")).unwrap();
        stage.cache.delete(&name).unwrap();
        stage.cache.forget(&name);
        assert!(stage.cache.files.get(name.as_str(), 1).is_some());
        assert!(stage.memory.size(&name).is_err());
    }

    #[test]
    fn what_was_put_or_got_is_not_got_again() {
        for put_here in [true, false] {
            let stage = Stage::new();
            let (manifest, index, segment) = (manifest(), index(), segment());
            // The manifest last of all.
            for (name, bytes) in [&segment, &index, &manifest] {
                match put_here {
                    true => stage.cache.put(name, bytes.clone()).unwrap(),
                    false => stage.memory.put(name, bytes.clone()).unwrap(),
                }
            }
            if !put_here {
                stage.cache.get(&manifest.0, MOST_GOT).unwrap();
                stage.cache.get(&index.0, MOST_GOT).unwrap();
                stage.cache.get_tail(&segment.0, 5000).unwrap();
            }
            stage.seen();
            let cache = stage.again();
            assert_eq!(cache.get(&manifest.0, MOST_GOT).unwrap(), manifest.1);
            assert_eq!(stage.seen(), 0);
            assert_eq!(cache.get(&index.0, MOST_GOT).unwrap(), index.1);
            assert_eq!(stage.seen(), 1, "whether it is there");
            let (end, whole) = cache.get_tail(&segment.0, 5000).unwrap();
            assert_eq!(whole, segment.1.len() as u64);
            assert!(segment.1.ends_with(&end));
            let trailer = Trailer::decode(&end, whole).unwrap();
            assert_eq!(end.len() as u64, trailer.tail_len);
            assert_eq!(
                cache.get_tail(&segment.0, 10).unwrap().0,
                end.slice(end.len() - 10..)
            );
            assert_eq!(stage.seen(), 0);
        }
    }

    #[test]
    fn what_is_there_is_never_answered_from_here() {
        let stage = Stage::new();
        let (manifest, index, segment) = (manifest(), index(), segment());
        for (name, bytes) in [&segment, &index, &manifest] {
            stage.cache.put(name, bytes.clone()).unwrap();
        }
        for (name, _) in [&segment, &index, &manifest] {
            // By another host.
            stage.memory.delete(name).unwrap();
        }
        let gone = |error: crate::Error| assert_eq!(error.kind(), ErrorKind::NotFound);
        gone(stage.cache.get(&index.0, MOST_GOT).unwrap_err());
        gone(stage.cache.get_tail(&segment.0, 0).unwrap_err());
        gone(stage.cache.size(&segment.0).unwrap_err());
        gone(stage.cache.get_range(&segment.0, 0, 10).unwrap_err());
        assert!(
            stage
                .cache
                .list_all(&ObjectName::snapshots())
                .unwrap()
                .is_empty()
        );
        // What is deleted here is not kept here.
        stage.cache.delete(&manifest.0).unwrap();
        gone(stage.cache.get(&manifest.0, MOST_GOT).unwrap_err());
    }

    #[test]
    fn damage_on_the_way_is_not_kept() {
        let stage = Stage::new();
        let (mut good, mut name) = (Vec::new(), Vec::new());
        for (of, bytes) in [manifest(), index(), segment()] {
            let mut bad = bytes.to_vec();
            let at = bad.len() - 40;
            bad[at] ^= 1;
            stage.memory.put(&of, bad.into()).unwrap();
            let _ = stage.cache.get(&of, MOST_GOT);
            let _ = stage.cache.get_tail(&of, 5000);
            stage.memory.delete(&of).unwrap();
            stage.memory.put(&of, bytes.clone()).unwrap();
            name.push(of);
            good.push(bytes);
        }
        assert_eq!(stage.cache.get(&name[0], MOST_GOT).unwrap(), good[0]);
        assert_eq!(stage.cache.get(&name[1], MOST_GOT).unwrap(), good[1]);
        let (end, _) = stage.cache.get_tail(&name[2], 5000).unwrap();
        assert!(good[2].ends_with(&end));
        // A whole one of another name is not kept either.
        let (other, _) = index();
        stage.memory.put(&other, good[1].clone()).unwrap();
        stage.cache.get(&other, MOST_GOT).unwrap();
        stage.seen();
        stage.cache.get(&other, MOST_GOT).unwrap();
        assert_eq!(stage.seen(), 1);
    }

    #[test]
    fn nothing_is_written_before_the_manifest_is_put() {
        let stage = Stage::new();
        let files = || {
            let at = stage.directory.path().join("cache");
            std::fs::read_dir(at).unwrap().count()
        };
        let (manifest, index, segment) = (manifest(), index(), segment());
        for (name, bytes) in [&segment, &index] {
            stage.cache.put(name, bytes.clone()).unwrap();
            // Filesystems may be frozen now, and the cache be on one of them.
            assert_eq!(files(), 0);
        }
        stage.cache.put(&manifest.0, manifest.1).unwrap();
        assert_eq!(files(), 3);
        // A run that puts more than is held back loses some of it here, and nothing else.
        for _ in 0..10 {
            stage.cache.hold_back(&index.0, 0, &vec![0; 4 << 20]);
        }
        assert_eq!(
            stage.cache.held_back.locked().len(),
            MOST_HELD_BACK / (4 << 20)
        );
    }

    #[test]
    fn other_objects_are_not_kept() {
        let stage = Stage::new();
        let record = SessionRecord {
            host: "host".into(),
            pid: 1,
            boot_id: "boot".into(),
            command: "snapshot".into(),
            started: Timestamp::now(),
            heartbeat: Timestamp::now(),
        };
        let run = SnapshotId::generate(1);
        for (name, bytes) in [
            (ObjectName::session(run, 0), record.encode(&SEALER).unwrap()),
            (ObjectName::vault_info(), b"{}".to_vec()),
        ] {
            stage.cache.put(&name, bytes.into()).unwrap();
            stage.seen();
            stage.cache.get(&name, MOST_GOT).unwrap();
            assert_eq!(stage.seen(), 1);
        }
    }

    #[test]
    fn what_is_forgotten_is_got_again() {
        let stage = Stage::new();
        let (name, bytes) = manifest();
        stage.cache.put(&name, bytes).unwrap();
        stage.cache.forget(&name);
        stage.seen();
        stage.cache.get(&name, MOST_GOT).unwrap();
        assert_eq!(stage.seen(), 1);
    }
}
