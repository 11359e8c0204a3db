//! A bucket in memory that keeps versions, by a clock of its own: what was put over or deleted
//! stays beneath, as in S3. Its listings may lack what a test says.

use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use stillpoint::model::{LockRule, ObjectRetention};
use stillpoint::store::{
    Blob, BucketLock, Capabilities, KeepsVersions, ObjectInfo, ObjectName, ObjectStore,
    ObjectVersion, VersionedStore, VersionsOf,
};
use stillpoint::{Error, ErrorKind, Result};

struct Kept {
    id: String,
    /// `None`: a mark of deletion.
    blob: Option<Blob>,
    modified: Timestamp,
}

/// Objects with all their versions, the newest last.
type Objects = BTreeMap<ObjectName, Vec<Kept>>;

/// The bucket.
pub struct VersionStore {
    objects: Mutex<Objects>,
    now: Mutex<Timestamp>,
    next: AtomicU64,
    /// Versions that were handed out by listings.
    pub listed: AtomicU64,
    /// What listings of folders lack.
    late: Mutex<BTreeSet<ObjectName>>,
}

impl VersionStore {
    pub fn new() -> Self {
        Self {
            objects: Mutex::default(),
            now: Mutex::new(Timestamp::from_second(Timestamp::now().as_second()).unwrap()),
            next: AtomicU64::new(0),
            listed: AtomicU64::new(0),
            late: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap()
    }

    /// A minute passes; the time then, before all that comes.
    pub fn moment(&self) -> Timestamp {
        let mut now = self.now.lock().unwrap();
        *now += SignedDuration::from_mins(1);
        *now
    }

    /// Listings of folders lack these from now on.
    pub fn lists_late(&self, names: impl IntoIterator<Item = ObjectName>) {
        *self.late.lock().unwrap() = names.into_iter().collect();
    }

    /// What stands, by name.
    pub fn contents(&self) -> BTreeMap<ObjectName, Blob> {
        let objects = self.lock();
        let standing = objects
            .iter()
            .filter_map(|(name, versions)| Some((name.clone(), versions.last()?.blob.clone()?)));
        standing.collect()
    }

    /// How many versions and marks there are.
    pub fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn push(&self, name: &ObjectName, blob: Option<Blob>) {
        let id = format!("v{}", self.next.fetch_add(1, Ordering::Relaxed));
        let modified = *self.now.lock().unwrap();
        let kept = Kept { id, blob, modified };
        self.lock().entry(name.clone()).or_default().push(kept);
    }

    fn find(&self, name: &ObjectName) -> Result<Blob> {
        let objects = self.lock();
        let current = objects.get(name).and_then(|versions| versions.last());
        let blob = current.and_then(|kept| kept.blob.clone());
        blob.ok_or_else(|| missing(name))
    }
}

fn missing(name: &ObjectName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name} is not in the vault"))
}

fn etag_of(blob: &Blob) -> String {
    let sum = blob.iter().fold(blob.len() as u64, |sum, byte| {
        sum.wrapping_mul(31) + u64::from(*byte)
    });
    format!("\"{sum:x}\"")
}

impl ObjectStore for VersionStore {
    fn location(&self) -> String {
        "s3://memory/vault".into()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            puts: 1,
            gets: 1,
            confirms: true,
        }
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.replace(name, bytes)
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.push(name, Some(bytes));
        Ok(())
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let blob = self.find(name)?;
        match blob.len() as u64 <= limit {
            true => Ok(blob),
            false => Err(Error::new(ErrorKind::Damaged, "it is too long")),
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let blob = self.find(name)?;
        let range = offset as usize..(offset + length) as usize;
        match range.end <= blob.len() {
            true => Ok(blob.slice(range)),
            false => Err(Error::new(ErrorKind::Damaged, "it is cut short")),
        }
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        let blob = self.find(name)?;
        let start = blob.len().saturating_sub(length as usize);
        Ok((blob.slice(start..), blob.len() as u64))
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        let objects = self.lock();
        for (name, versions) in objects.iter().filter(|(name, _)| name.is_below(prefix)) {
            let Some(Kept { blob, modified, .. }) = versions.last() else {
                continue;
            };
            if let Some(blob) = blob {
                each(ObjectInfo {
                    name: name.clone(),
                    size: blob.len() as u64,
                    modified: *modified,
                })?;
            }
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.push(name, None);
        Ok(())
    }

    fn versioned(&self) -> Option<&dyn VersionedStore> {
        Some(self)
    }
}

impl VersionedStore for VersionStore {
    fn lock_what_is_put(&self, _: LockRule) {}

    fn bucket_lock(&self) -> Result<Option<BucketLock>> {
        Ok(Some(BucketLock::Never))
    }

    fn retention(&self, _: &ObjectName) -> Result<Option<ObjectRetention>> {
        Ok(None)
    }

    fn retain(&self, _: &ObjectName, _: ObjectRetention) -> Result<()> {
        Ok(())
    }

    fn keeps_versions(&self) -> Result<KeepsVersions> {
        Ok(KeepsVersions::Yes)
    }

    fn list_versions(
        &self,
        of: VersionsOf<'_>,
        each: &mut dyn FnMut(ObjectVersion) -> Result<()>,
    ) -> Result<()> {
        let late = match of {
            VersionsOf::Below(_) => self.late.lock().unwrap().clone(),
            VersionsOf::One(_) => BTreeSet::new(),
        };
        let objects = self.lock();
        let all = objects.iter().filter(|(name, _)| of.has(name));
        for (name, versions) in all.filter(|(name, _)| !late.contains(*name)) {
            for (number, kept) in versions.iter().rev().enumerate() {
                self.listed.fetch_add(1, Ordering::Relaxed);
                each(ObjectVersion {
                    name: name.clone(),
                    id: kept.id.clone(),
                    size: kept.blob.as_ref().map(|blob| blob.len() as u64),
                    etag: kept.blob.as_ref().map(etag_of),
                    modified: kept.modified,
                    is_current: number == 0,
                })?;
            }
        }
        Ok(())
    }

    fn get_version(&self, name: &ObjectName, version: &str, limit: u64) -> Result<Blob> {
        let objects = self.lock();
        let mut versions = objects.get(name).into_iter().flatten();
        let found = versions.find(|kept| kept.id == version);
        let blob = found.and_then(|kept| kept.blob.clone());
        let blob = blob.ok_or_else(|| missing(name))?;
        match blob.len() as u64 <= limit {
            true => Ok(blob),
            false => Err(Error::new(ErrorKind::Damaged, "it is too long")),
        }
    }
}
