//! A store in memory, for tests: it obeys the same rules as the real ones.

use super::object_name::ObjectName;
use super::object_store::{Blob, Capabilities, ObjectInfo, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects in memory.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectName, StoredBlob>>,
    /// Whether it is good for one operation at a time only.
    one_at_a_time: bool,
}

/// An object, and when it was put.
struct StoredBlob {
    blob: Blob,
    modified: Timestamp,
}

impl StoredBlob {
    /// Put now. A writer's buffer may be far larger than what it holds; thousands of them were more
    /// addresses than a process may have that forks.
    fn new(bytes: &Blob) -> Self {
        let blob = Blob::copy_from_slice(bytes);
        let modified = Timestamp::now();
        Self { blob, modified }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that is good for one operation at a time.
    pub fn one_at_a_time() -> Self {
        Self {
            one_at_a_time: true,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, StoredBlob>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &ObjectName) -> Result<Blob> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{name} is not in the vault"));
        let objects = self.lock();
        let kept = objects.get(name).ok_or_else(missing)?;
        Ok(kept.blob.clone())
    }

    /// Replaces an object's bytes, as a failing disk would.
    pub fn corrupt(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.lock();
        if let Some(kept) = objects.get_mut(name) {
            let mut bytes = kept.blob.to_vec();
            change(&mut bytes);
            kept.blob = bytes.into();
        }
    }

    /// Makes an object older, by the store's clock.
    pub fn age(&self, name: &ObjectName, by: SignedDuration) {
        if let Some(kept) = self.lock().get_mut(name) {
            kept.modified -= by;
        }
    }
}

impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        "memory".into()
    }

    fn capabilities(&self) -> Capabilities {
        // More than a directory: what a distant store does is tested here.
        let at_once = |many| if self.one_at_a_time { 1 } else { many };
        Capabilities {
            puts: at_once(3),
            gets: at_once(4),
            confirms: false,
        }
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("{name} is in the vault already"),
            ));
        }
        objects.insert(name.clone(), StoredBlob::new(&bytes));
        Ok(())
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.lock().insert(name.clone(), StoredBlob::new(&bytes));
        Ok(())
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let blob = self.find(name)?;
        if blob.len() as u64 > limit {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("{name} is too long"),
            ));
        }
        Ok(blob)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let blob = self.find(name)?;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= blob.len() as u64);
        let end =
            end.ok_or_else(|| Error::new(ErrorKind::Damaged, format!("{name} is cut short")))?;
        Ok(blob.slice(offset as usize..end as usize))
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
        let mut below = objects.iter().filter(|(name, _)| name.is_below(prefix));
        below.try_for_each(|(name, kept)| {
            each(ObjectInfo {
                name: name.clone(),
                size: kept.blob.len() as u64,
                modified: kept.modified,
            })
        })
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.lock().remove(name);
        Ok(())
    }
}
