//! A store in memory, for tests: it obeys the same rules as the real ones.

use super::name::ObjectName;
use super::object_store::{Blob, ObjectInfo, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects in memory.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectName, Blob>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Blob>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &ObjectName) -> Result<Blob> {
        let missing = || Error::new(ErrorKind::NotFound, format!("{name} is not in the vault"));
        self.lock().get(name).cloned().ok_or_else(missing)
    }

    /// Replaces an object's bytes, as a failing disk would.
    pub fn corrupt(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.lock();
        if let Some(blob) = objects.get_mut(name) {
            let mut bytes = blob.to_vec();
            change(&mut bytes);
            *blob = bytes.into();
        }
    }
}

impl ObjectStore for MemoryStore {
    fn location(&self) -> String {
        "memory".into()
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let mut objects = self.lock();
        if objects.contains_key(name) {
            return Err(Error::new(
                ErrorKind::Exists,
                format!("{name} is in the vault already"),
            ));
        }
        objects.insert(name.clone(), bytes);
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

    fn list(&self, prefix: &ObjectName) -> Result<Vec<ObjectInfo>> {
        let objects = self.lock();
        let below = objects.iter().filter(|(name, _)| name.is_below(prefix));
        Ok(below
            .map(|(name, blob)| ObjectInfo {
                name: name.clone(),
                size: blob.len() as u64,
            })
            .collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.lock().remove(name);
        Ok(())
    }
}
