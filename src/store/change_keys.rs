//! Adds passphrases to an encrypted vault and takes them away; nothing else in the vault changes.
//! The last one must never go.

use super::keyring::{KeyFound, MOST_ENTRIES, NewKey, find, put};
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::VaultKeys;
use crate::model::SnapshotId;

/// What became of a key that was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRemoved {
    /// It is gone.
    Gone,
    /// It is gone, and so is the one that was used; the vault has others.
    OwnGone,
    /// It is gone. The last one, that was used, was taken away by somebody else meanwhile: it is
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

    /// The newest key; an error where one more would be too many. What is no key of the vault does
    /// not count.
    fn newest_with_room(&self) -> Result<Option<SnapshotId>> {
        let there = self.key_entries()?;
        let good = there.iter().filter(|key| key.entry.is_ok()).count();
        if good >= MOST_ENTRIES {
            let what = format!("a vault has at most {MOST_ENTRIES} keys, this one has {good}");
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("nothing was changed; take one away first: stillpoint key remove"));
        }
        Ok(there.last().map(|key| key.id))
    }

    /// Has another passphrase open the vault, too.
    pub fn add_key(&self, new: &NewKey) -> Result<SnapshotId> {
        let newest = self.newest_with_room()?;
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
                let left = self.key_entries()?;
                if left.iter().any(|key| key.entry.is_ok()) {
                    return Ok(KeyRemoved::OwnGone);
                }
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
        let newest = self.newest_with_room()?;
        let id = put(self.store.as_ref(), self.info(), self.keys()?, new, newest)?;
        // The new one opens the vault from here on, whatever becomes of the old one.
        self.store.delete(&ObjectName::key(own)).map_err(|error| {
            error.and_said(format!(
                "the new passphrase opens the vault, and so does the old one: take away key {own}"
            ))
        })?;
        Ok(id)
    }
}
