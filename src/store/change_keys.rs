//! Adds passphrases to an encrypted vault and takes them away; nothing else in the vault changes.
//! The last one must never go.

use super::keyring::{KeyFound, MOST_ENTRIES, NewKey, find, put};
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ObjectKind, VaultKeys};
use crate::model::SnapshotId;

/// What became of a key that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRemoved {
    /// It is gone.
    Gone,
    /// It is gone, and the one that was used was taken away by somebody else meanwhile: that is
    /// there again under this name.
    PutBack(SnapshotId),
}

impl Vault {
    /// The keys that are there, by their names.
    pub fn key_entries(&self) -> Result<Vec<KeyFound>> {
        find(self.store.as_ref(), self.info().id)
    }

    /// The keys it was opened with.
    ///
    /// # Errors
    /// `Unsupported`: it is not encrypted.
    pub fn keys(&self) -> Result<&VaultKeys> {
        self.sealer().keys().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("{} is not encrypted: it has no keys", self.location()),
            )
            .with_hint("a vault is encrypted from its first day on: stillpoint init --encrypt")
        })
    }

    /// An error unless what snapshots hold can be read: where the vault is encrypted, a writer's
    /// key is not enough.
    pub fn need_to_read(&self) -> Result<()> {
        self.sealer().keys().map_or(Ok(()), VaultKeys::need_to_read)
    }

    /// Has another passphrase open the vault, too.
    pub fn add_key(&self, new: &NewKey) -> Result<SnapshotId> {
        let there = self.key_entries()?;
        if there.len() >= MOST_ENTRIES {
            let what = format!("a vault has at most {MOST_ENTRIES} keys");
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let newest = there.last().map(|key| key.id);
        put(self.store.as_ref(), self.info(), self.keys()?, new, newest)
    }

    /// Takes a key away. `used`: the passphrase that the vault was opened with, whose own key
    /// stays: so the last one never goes, also when two do this at once.
    pub fn remove_key(&self, id: SnapshotId, used: &NewKey) -> Result<KeyRemoved> {
        let keys = self.keys()?;
        let own = self.opened_entry().ok_or_else(|| {
            let what = "a writer's key takes no keys away";
            Error::new(ErrorKind::Unsupported, what)
        })?;
        if own == id {
            let what = format!("key {id} is the one that was given: it stays");
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("give another key of the vault, or use: stillpoint key change"));
        }
        self.store.delete(&ObjectName::key(id))?;
        match self.store.size(&ObjectName::key(own)) {
            Ok(_) => Ok(KeyRemoved::Gone),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let newest = Some(own.max(id));
                let again = put(self.store.as_ref(), self.info(), keys, used, newest)?;
                Ok(KeyRemoved::PutBack(again))
            }
            Err(error) => Err(error),
        }
    }

    /// Has a new passphrase open the vault in place of the one that it was opened with.
    pub fn change_key(&self, new: &NewKey) -> Result<SnapshotId> {
        self.keys()?;
        let own = self.opened_entry().ok_or_else(|| {
            let what = "a writer's key changes no passphrase";
            Error::new(ErrorKind::Unsupported, what)
        })?;
        let id = put(
            self.store.as_ref(),
            self.info(),
            self.keys()?,
            new,
            Some(own),
        )?;
        // The new one opens the vault from here on, whatever becomes of the old one.
        self.store.delete(&ObjectName::key(own)).map_err(|error| {
            error.and_said(format!(
                "the new passphrase opens the vault, and so does the old one: take away key {own}"
            ))
        })?;
        Ok(id)
    }

    /// Puts the keys of `of`, which is the same vault, here where they are missing.
    pub(super) fn copy_keys(&self, of: &Self) -> Result<()> {
        if self.info().encryption.is_none() {
            return Ok(());
        }
        let here = self.store.list_all(&ObjectName::keys())?;
        for object in of.store.list_all(&ObjectName::keys())? {
            if here.iter().any(|known| known.name == object.name) {
                continue;
            }
            let bytes = of.store.get(&object.name, ObjectKind::Key.most_stored())?;
            if !ObjectKind::Key.is_whole(None, &bytes) {
                continue;
            }
            match self.store.put(&object.name, bytes) {
                Err(error) if error.kind() == ErrorKind::Exists => {}
                other => other?,
            }
        }
        Ok(())
    }
}
