//! What one run has put into the vault before its manifest makes a snapshot of it. Dropping a draft
//! deletes its objects again; a killed process leaves them to the collector.

use super::ask::ask_of_each;
use super::name::ObjectName;
use super::object_store::Blob;
use super::session::Session;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{IndexRef, Manifest, Sealer, decode_index, encode_index};
use crate::model::{ObjectId, RunMap};
use std::sync::{Arc, Mutex, PoisonError};

/// An object that was put, or may have been.
struct PutObject {
    name: ObjectName,
    /// In bytes.
    size: u64,
}

/// Objects that belong to no snapshot yet.
pub struct Draft {
    vault: Arc<Vault>,
    session: Option<Session>,
    put: Mutex<Vec<PutObject>>,
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
        put.push(PutObject {
            name: name.clone(),
            size: bytes.len() as u64,
        });
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

    /// Asks the store for the size of each object that was put, where it is of a sort that says
    /// "done" of what it has not kept. An error when one is missing or has another size.
    fn confirm(&self) -> Result<()> {
        if !self.vault.store.capabilities().confirms {
            return Ok(());
        }
        let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        let store = self.vault.store.as_ref();
        let confirm = |object: &PutObject| self.confirm_one(object);
        ask_of_each(store, &put, &|| Ok(()), confirm, |_, confirmed| confirmed)
    }

    fn confirm_one(&self, object: &PutObject) -> Result<()> {
        if !self.vault.store.capabilities().confirms {
            return Ok(());
        }
        let name = &object.name;
        let what = match self.vault.store.size(name) {
            Ok(size) if size == object.size => return Ok(()),
            Ok(size) => format!("has kept {size} of the {} bytes of {name}", object.size),
            Err(error) if error.kind() == ErrorKind::NotFound => format!("has not kept {name}"),
            Err(error) => return Err(error),
        };
        let what = format!("the store said that it had put everything, and {what}");
        Err(Error::new(ErrorKind::Failed, what)
            .with_hint("run it again; if that happens often, another store is needed"))
    }

    /// Makes a snapshot exist. The manifest is told what was asked of the vault up to it.
    pub fn commit(self, manifest: &mut Manifest) -> Result<()> {
        let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
        self.confirm()?;
        self.check_session()?;
        manifest.requests = self.vault.requests();
        let bytes = manifest.encode(self.sealer())?;
        let size = bytes.len() as u64;
        let keep = |draft: &Self| {
            draft
                .put
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        };
        let put = self.vault.store.put(&name, bytes.into());
        let put = put.and_then(|()| {
            self.confirm_one(&PutObject {
                name: name.clone(),
                size,
            })
        });
        if let Err(error) = put {
            // It may be there all the same, and from a distant store's point of view come later
            // than this delete. As long as it may, so must what it refers to.
            let deleted = self.vault.store.delete(&name);
            if deleted.is_err() || self.vault.store.capabilities().confirms {
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
        for object in put.drain(..) {
            // What stays is not referred to by anything.
            let deleted = self.vault.store.delete(&object.name);
            if deleted.is_err() && self.vault.store.capabilities().confirms {
                // It was tried for minutes, or is not permitted.
                return;
            }
        }
    }
}
