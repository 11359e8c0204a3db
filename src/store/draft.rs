//! What one run has put into the vault before its manifest makes a snapshot of it. Dropping a draft
//! deletes its objects again; a killed process leaves them to the collector.

use super::name::ObjectName;
use super::object_store::Blob;
use super::session::Session;
use super::vault::Vault;
use crate::error::Result;
use crate::format::{IndexRef, Manifest, Sealer, decode_index, encode_index};
use crate::model::{ObjectId, RunMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Objects that belong to no snapshot yet.
pub struct Draft {
    vault: Arc<Vault>,
    session: Option<Session>,
    put: Mutex<Vec<ObjectName>>,
}

impl Draft {
    /// An empty draft.
    pub fn begin(vault: &Arc<Vault>) -> Self {
        Self {
            vault: Arc::clone(vault),
            session: None,
            put: Mutex::default(),
        }
    }

    /// An empty draft of a run with a session, which lasts until the draft is dropped.
    pub fn begin_in(vault: &Arc<Vault>, session: Session) -> Self {
        let mut draft = Self::begin(vault);
        draft.session = Some(session);
        draft
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        // Noted first: an error does not say that the object is not there.
        let mut put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        put.push(name.clone());
        drop(put);
        self.check_session()?;
        self.vault.store.put(name, bytes)
    }

    fn check_session(&self) -> Result<()> {
        self.session.as_ref().map_or(Ok(()), Session::check)
    }

    /// How many segments are worth putting at once.
    pub fn puts_at_once(&self) -> usize {
        self.vault.store.capabilities().puts
    }

    /// Seals what goes into the vault.
    pub fn sealer(&self) -> &Sealer {
        self.vault.sealer()
    }

    /// Puts a finished segment.
    pub fn put_segment(&self, id: ObjectId, bytes: Blob) -> Result<()> {
        self.put(&ObjectName::segment(id), bytes)
    }

    /// Stores a map as one or more index objects; those of a base are marked so.
    pub fn put_index(&self, map: &RunMap, blocks: u64, base: bool) -> Result<Vec<IndexRef>> {
        let mut refs = Vec::new();
        for part in encode_index(map, blocks) {
            let (id, bytes) = self.sealer().seal_index(&part)?;
            self.put(&ObjectName::index(id), bytes.into())?;
            let runs = decode_index(&part, blocks, &mut RunMap::new())?;
            refs.push(IndexRef { id, runs, base });
        }
        Ok(refs)
    }

    /// Makes a snapshot exist.
    pub fn commit(self, manifest: &Manifest) -> Result<()> {
        let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
        let bytes = manifest.encode(self.sealer())?;
        self.check_session()?;
        let keep = |draft: &Self| {
            draft
                .put
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        };
        if let Err(error) = self.vault.store.put(&name, bytes.into()) {
            // It may be there all the same. As long as it may, so must what it refers to.
            if self.vault.store.delete(&name).is_err() {
                keep(&self);
            }
            return Err(error.context("the snapshot was not made"));
        }
        keep(&self);
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let put = self.put.get_mut().unwrap_or_else(PoisonError::into_inner);
        for name in put.drain(..) {
            // What stays is not referred to by anything.
            let _ = self.vault.store.delete(&name);
        }
    }
}
