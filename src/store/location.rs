//! The place of a vault, as a user names it, and opening what is there. Whatever a place needs to
//! be reached (a network, keys) is known here and nowhere above.

use super::door::{no_info, was_vault};
use super::local::LocalStore;
use super::name::ObjectName;
use super::object_store::ObjectStore;
use super::vault::{Vault, VaultOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::VaultInfo;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a vault is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// In a directory.
    Directory(PathBuf),
}

impl Location {
    /// The place that a user has named: a path. Addresses are refused.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains("://") {
            let what = format!("{text}: this version keeps vaults in directories only");
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("name a directory on another disk"));
        }
        Ok(Self::Directory(text.into()))
    }
}

/// Opens the vault at a place.
pub fn open(place: &Location) -> Result<Vault> {
    match place {
        Location::Directory(path) => Vault::open_local(path),
    }
}

/// Makes a vault at a place, where nothing is yet.
pub fn create(place: &Location, options: VaultOptions) -> Result<Vault> {
    match place {
        Location::Directory(path) => Vault::create_local(path, options),
    }
}

impl Vault {
    /// Makes a vault in a directory, which must be empty or not there yet.
    pub fn create_local(path: &Path, options: VaultOptions) -> Result<Self> {
        let store = LocalStore::create(path)?;
        if !store.is_empty()? {
            return Err(taken(&store, path));
        }
        Self::create(Arc::new(store), options)
    }

    /// Opens the vault in a directory.
    pub fn open_local(path: &Path) -> Result<Self> {
        Self::open(Arc::new(LocalStore::open(path)?))
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
