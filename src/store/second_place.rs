//! The second place of a vault: what is there, whether it may become one, and its `vault.json`.
//! Nothing that is there already is ever changed here, but for a `vault.json` that cannot be read.

use super::catalog::named_by;
use super::confirm::confirm_kept;
use super::location::{Location, taken};
use super::mirror_writer::same_place;
use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ObjectKind, VaultInfo};
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

/// The same; where nothing is there yet, the place becomes a vault of the same ID. Its keys come
/// with the first mirror, before anything that they open.
pub fn make_second(place: &Location, of: &Vault) -> Result<Vault> {
    if let Some(vault) = open_second(place, of)? {
        return Ok(vault);
    }
    let store = place.make_store().map_err(|error| match error.kind() {
        ErrorKind::NotFound if !place.is_s3() => {
            error.with_hint("make the directory above it first: mkdir -p")
        }
        _ => error,
    })?;
    Vault::create_second(store, of)
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

/// How the `vault.json` of a place stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoStanding {
    /// It can be read.
    Good,
    /// It cannot, and the place's manifests say that the second place is of the same vault.
    CanBePutBack,
    /// It was put back from the second place.
    PutBack,
}

/// Most manifests that are asked which vault they belong to.
const MOST_ASKED: usize = 16;

/// Puts a `vault.json` that is lost or rotten back from the second place of the vault, where what
/// else is there shows that it is this vault; with `only_look`, nothing is put.
///
/// # Errors
/// `Damaged`: the place is not known to be of that vault.
pub fn put_info_back(place: &Location, from: &Vault, only_look: bool) -> Result<InfoStanding> {
    put_back(place.open_store()?.as_ref(), from, only_look)
}

fn put_back(store: &dyn ObjectStore, from: &Vault, only_look: bool) -> Result<InfoStanding> {
    let name = ObjectName::vault_info();
    let read = store.get(&name, VaultInfo::MAX_LEN);
    match read.and_then(|bytes| VaultInfo::decode(&bytes)) {
        Ok(_) => return Ok(InfoStanding::Good),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {}
        Err(error) => return Err(error),
    }
    let listed = store.list_some(&ObjectName::snapshots(), MOST_ASKED)?;
    let is_of_it = |name: ObjectName| {
        let snapshot = named_by(name)?;
        let most = ObjectKind::Manifest.most_stored();
        let bytes = store.get(&snapshot.manifest, most).ok()?;
        from.decode(&snapshot, &bytes).ok()
    };
    if listed
        .into_iter()
        .find_map(|object| is_of_it(object.name))
        .is_none()
    {
        let what = format!(
            "{} has no vault.json that can be read, and no manifest there says that it is the \
             vault of {}",
            store.location(),
            from.location()
        );
        return Err(Error::new(ErrorKind::Damaged, what)
            .with_hint("is that its second place? if it is, copy its vault.json by hand"));
    }
    if only_look {
        return Ok(InfoStanding::CanBePutBack);
    }
    let bytes = from.store.get(&name, VaultInfo::MAX_LEN)?;
    if VaultInfo::decode(&bytes)? != *from.info() {
        let what = format!("{}: its vault.json has become another", from.location());
        return Err(Error::new(ErrorKind::Damaged, what));
    }
    let length = bytes.len() as u64;
    store.replace(&name, bytes)?;
    confirm_kept(store, &name, length)?;
    Ok(InfoStanding::PutBack)
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
