//! The second place of a vault: what is there, whether it may become one, and its `vault.json`.
//! Nothing that is there already is ever changed here.

use super::location::{Location, taken};
use super::mirror_writer::same_place;
use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::VaultInfo;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the second place of a vault; `None`: nothing is there yet. Nothing is made.
///
/// # Errors
/// Something else is there, or another vault; or the place is, or is within, the vault's own.
pub fn open_second(place: &Location, of: &Vault) -> Result<Option<Vault>> {
    if let Some(path) = place.path() {
        refuse_within(path, of)?;
    }
    let store = match place.open_store() {
        Err(error) if error.kind() == ErrorKind::NotFound && !place.is_s3() => return Ok(None),
        other => other?,
    };
    match Vault::open_as(Arc::clone(&store), of) {
        Ok(vault) => is_the_same(&vault, of).map(|()| Some(vault)),
        Err(error) if error.kind() == ErrorKind::NotFound => match place.is_empty()? {
            true => Ok(None),
            false => Err(taken(store.as_ref(), "place")),
        },
        Err(error) => Err(error),
    }
}

/// The same; where nothing is there yet, the place becomes a vault of the same ID.
pub fn make_second(place: &Location, of: &Vault) -> Result<Vault> {
    let vault = match open_second(place, of)? {
        Some(vault) => vault,
        None => {
            let store = place.make_store().map_err(|error| match error.kind() {
                ErrorKind::NotFound if !place.is_s3() => {
                    error.with_hint("make the directory above it first: mkdir -p")
                }
                _ => error,
            })?;
            Vault::create_second(store, of)?
        }
    };
    vault.copy_keys(of)?;
    Ok(vault)
}

impl Vault {
    /// Makes `store`, in which the caller knows nothing to be, a vault of the same ID as `of`: its
    /// `vault.json` is copied byte for byte.
    pub fn create_second(store: Arc<dyn ObjectStore>, of: &Self) -> Result<Self> {
        let name = ObjectName::vault_info();
        let bytes = of.store.get(&name, VaultInfo::MAX_LEN)?;
        // What is copied is what was opened.
        if VaultInfo::decode(&bytes)? != *of.info() {
            let what = format!("{}: its vault.json has become another", of.location());
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        match store.put(&name, bytes) {
            // Another mirror was faster.
            Err(error) if error.kind() == ErrorKind::Exists => {}
            other => other?,
        }
        let vault = Self::open_as(store, of)?;
        is_the_same(&vault, of)?;
        Ok(vault)
    }
}

/// Refuses what is another vault, or cannot hold what the first one holds.
fn is_the_same(vault: &Vault, of: &Vault) -> Result<()> {
    let (place, source) = (vault.location(), of.location());
    if vault.local_root().is_some() && vault.local_root() == of.local_root() {
        return Err(same_place(&source, &place));
    }
    let (there, here) = (vault.info(), of.info());
    if there.id != here.id {
        let what = format!(
            "{place} holds another vault ({}, {:?}): nothing was put there",
            there.id, there.name
        );
        return Err(Error::new(ErrorKind::Exists, what)
            .with_hint("name an empty place, or one that was mirrored to from this vault"));
    }
    if there.encryption != here.encryption {
        let what = format!(
            "the vault.json of {place} and that of {source} differ in how the vault is encrypted: \
             somebody has changed one of them; nothing was put there"
        );
        return Err(Error::new(ErrorKind::Damaged, what)
            .with_hint("compare both with what a host has opened before"));
    }
    if there.format < here.format {
        let what = format!(
            "{place} is of format {}, and {source} of format {}: who reads the former may not \
             read what the latter holds",
            there.format, here.format
        );
        return Err(Error::new(ErrorKind::Format, what).with_hint("name an empty place"));
    }
    Ok(())
}

/// A second copy within the first is lost with it, and the other way round.
fn refuse_within(path: &Path, of: &Vault) -> Result<()> {
    let (Some(root), Some(source)) = (of.local_root(), of.local_path()) else {
        return Ok(());
    };
    let target = nearest(path);
    let numbers = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let is_within = |path: &Path, root: u64, dev: u64| {
        let above = std::fs::canonicalize(path).unwrap_or_default();
        let is_root = |path: &Path| numbers(path).is_ok_and(|found| found == (dev, root));
        above.ancestors().any(is_root)
    };
    // The vault itself is told of in other words.
    let own = numbers(path).is_ok_and(|found| found == root);
    let inside = is_within(&target, root.1, root.0);
    let around = numbers(path).is_ok_and(|(dev, ino)| is_within(source, ino, dev));
    if own || !(inside || around) {
        return Ok(());
    }
    let what = format!(
        "{} and {} lie within one another: a second copy there is lost with the first",
        path.display(),
        of.location()
    );
    Err(Error::new(ErrorKind::Usage, what).with_hint("name a place on another disk with --to"))
}

/// The path, or the nearest directory above it that is there.
fn nearest(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = absolute.ancestors().find(|path| path.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}
