//! The keys of an encrypted vault: `keys/<ULID>`, each of which a passphrase opens; and what opens
//! a vault. It must never open one that is not the one that its key is of.

use super::key_source::KeySource;
use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{KeyCost, KeyEntry, KeyName, NewEntry, ObjectKind, VaultInfo, VaultKeys};
use crate::model::{ObjectId, SnapshotId};
use crate::sys::secret::SecretBytes;
use jiff::Timestamp;
use std::sync::Arc;

/// Most entries that a vault may have: a wrong passphrase is tried with each.
pub(super) const MOST_ENTRIES: usize = 32;

/// A passphrase that shall open a vault.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The passphrase or key.
    pub secret: Arc<SecretBytes>,
    /// What people call it.
    pub label: String,
    /// What trying one costs.
    pub cost: KeyCost,
}

/// A key of a vault, as far as anyone may know it.
#[derive(Clone, Debug)]
pub struct KeyFound {
    /// Its name.
    pub id: SnapshotId,
    /// What it says of itself, or why that cannot be read.
    pub entry: Result<KeyEntry, String>,
}

/// What opened a vault.
pub(super) struct Opened {
    pub(super) keys: Option<Arc<VaultKeys>>,
    /// The entry that was opened; `None`: a writer's key, or no key is needed.
    pub(super) entry: Option<SnapshotId>,
    /// A key is needed, and nobody has it.
    pub(super) is_missing: bool,
}

impl Opened {
    fn by(keys: VaultKeys, entry: Option<SnapshotId>) -> Self {
        Self {
            keys: Some(Arc::new(keys)),
            entry,
            is_missing: false,
        }
    }

    /// Nothing, of a vault that is not encrypted.
    pub(super) fn not_encrypted() -> Self {
        Self {
            keys: None,
            entry: None,
            is_missing: false,
        }
    }

    /// Nothing, of one that is.
    pub(super) fn without_key() -> Self {
        Self {
            is_missing: true,
            ..Self::not_encrypted()
        }
    }
}

/// Opens what `source` has a key for; nothing, where none is wanted.
///
/// # Errors
/// `Unsupported`: there is no key, or it is another one; or the vault is not encrypted, and there
/// is a key. `Damaged`: `vault.json` is not the one that the key belongs to.
pub(super) fn unlock(
    store: &dyn ObjectStore,
    info: &VaultInfo,
    source: &KeySource,
) -> Result<Opened> {
    let place = store.location();
    let Some(encryption) = &info.encryption else {
        return match source.is_named() {
            // Data would go there in the clear that was never meant to.
            true => Err(is_not_encrypted(&place)),
            false => Ok(Opened::not_encrypted()),
        };
    };
    if matches!(source, KeySource::NotWanted) {
        return Ok(Opened::without_key());
    }
    let secret = source.read(&place)?.ok_or_else(|| no_key(&place))?;
    let opened = match VaultKeys::is_writer_text(secret.bytes()) {
        true => Opened::by(VaultKeys::from_writer_text(info.id, secret.bytes())?, None),
        false => open_by(store, info.id, secret.bytes())?,
    };
    let public = opened.keys.as_ref().map(|keys| keys.public());
    if public != Some(encryption.public_key) {
        let what = format!(
            "{place}: the key opens the vault, and vault.json names another public key: somebody \
             has changed it"
        );
        return Err(Error::new(ErrorKind::Damaged, what)
            .with_hint("put vault.json back from a copy of the vault; nothing was changed"));
    }
    Ok(opened)
}

/// Tries a passphrase with all entries.
fn open_by(store: &dyn ObjectStore, vault: ObjectId, passphrase: &[u8]) -> Result<Opened> {
    let found = find(store, vault)?;
    let mut unreadable = Vec::new();
    for key in &found {
        let entry = match &key.entry {
            Ok(entry) => entry,
            Err(why) => {
                unreadable.push(format!("key {}: {why}", key.id));
                continue;
            }
        };
        let name = KeyName { vault, id: key.id };
        if let Some(keys) = entry.open(name, passphrase)? {
            return Ok(Opened::by(keys, Some(key.id)));
        }
    }
    let place = store.location();
    let what = match found.len() {
        0 => format!("{place} is encrypted, and no key is left in it"),
        1 => format!("{place}: the passphrase or key does not open the vault"),
        many => format!("{place}: the passphrase or key opens none of the vault's {many} keys"),
    };
    let error = Error::new(ErrorKind::Unsupported, what);
    Err(match (found.is_empty(), unreadable.is_empty()) {
        (true, _) => error.with_hint("put the folder keys back from a copy of the vault"),
        (_, true) => error.with_hint("see which keys it has with: stillpoint key list"),
        (_, false) => error
            .and_said(unreadable.join("; "))
            .with_hint("put these objects of the folder keys back from a copy of the vault"),
    })
}

fn no_key(place: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("{place} is encrypted, and no key was given"),
    )
    .with_hint(
        "give one with --password-file, STILLPOINT_PASSWORD_FILE, or password_file in the \
         configuration",
    )
}

fn is_not_encrypted(place: &str) -> Error {
    let what = format!(
        "{place} is not encrypted, and a key was given for it: it is another vault, or somebody \
         has changed its vault.json; nothing was done"
    );
    Error::new(ErrorKind::Unsupported, what)
        .with_hint("if it is meant to be readable by all, give no key for it")
}

/// The keys that are there, by their names: the oldest first.
pub(super) fn find(store: &dyn ObjectStore, vault: ObjectId) -> Result<Vec<KeyFound>> {
    let mut names = store.list_all(&ObjectName::keys())?;
    names.sort_by(|one, two| one.name.cmp(&two.name));
    let mut found = Vec::new();
    for object in names {
        let last = object.name.components().last();
        let id = last.and_then(|last| last.parse().ok());
        // What stands deeper, or under another name, is no key.
        let Some(id) = id.filter(|id| object.name == ObjectName::key(*id)) else {
            continue;
        };
        if found.len() == MOST_ENTRIES {
            let what = format!("{} has more than {MOST_ENTRIES} keys", store.location());
            return Err(Error::new(ErrorKind::Unsupported, what)
                .with_hint("somebody has put some there: take away those you do not know"));
        }
        let bytes = match store.get(&object.name, ObjectKind::Key.most_stored()) {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if error.kind() != ErrorKind::Damaged => return Err(error),
            bytes => bytes,
        };
        let entry = bytes.and_then(|bytes| KeyEntry::decode(&bytes, vault));
        found.push(KeyFound {
            id,
            entry: entry.map_err(|error| error.to_string()),
        });
    }
    Ok(found)
}

/// Puts an entry for these keys, whose name sorts after that of the `newest` there is.
pub(super) fn put(
    store: &dyn ObjectStore,
    info: &VaultInfo,
    keys: &VaultKeys,
    new: &NewKey,
    newest: Option<SnapshotId>,
) -> Result<SnapshotId> {
    let made = Timestamp::now();
    let now = u64::try_from(made.as_millisecond()).unwrap_or_default();
    let id = SnapshotId::after(newest, now);
    if new.secret.bytes().is_empty() || VaultKeys::is_writer_text(new.secret.bytes()) {
        let what = "a passphrase that is empty, or a writer's key, cannot open a vault";
        return Err(Error::new(ErrorKind::Usage, what));
    }
    let name = KeyName { vault: info.id, id };
    let entry = NewEntry {
        label: new.label.clone(),
        cost: new.cost,
        made,
    };
    let entry = KeyEntry::wrap(keys, name, new.secret.bytes(), entry)?;
    let bytes = entry.encode(info.format)?;
    let (name, length) = (ObjectName::key(id), bytes.len() as u64);
    store.put(&name, bytes.into())?;
    super::confirm::confirm_kept(store, &name, length)?;
    Ok(id)
}
