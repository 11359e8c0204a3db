//! The keys of an encrypted vault: `keys/<ULID>`, each of which a passphrase opens; and what opens
//! a vault. It must never open one that is not the one that its key is of.

use super::key_source::KeySource;
use super::object_name::ObjectName;
use super::object_store::{Blob, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{KeyCost, KeyEntry, KeyName, NewEntry, ObjectKind, VaultInfo, VaultKeys};
use crate::model::{ObjectId, SnapshotId};
use crate::sys::secret::SecretBytes;
use jiff::Timestamp;
use std::cmp::Reverse;
use std::sync::Arc;

/// Most keys that a vault is given: a wrong passphrase is tried with each.
pub(super) const MOST_ENTRIES: usize = 32;
/// Most work that is done to try a passphrase, in KiB of all passes: half a minute.
const MOST_WORK: u64 = MOST_ENTRIES as u64 * KeyCost::MOST_WORK;

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
        false => open_by(store, info.id, secret.bytes(), MOST_WORK)?,
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

/// Tries a passphrase with the entries that can be read. The cheapest come first, of these the
/// newest: what somebody has put there holds nobody up for long. Those that are left after `most`
/// work are not tried.
fn open_by(
    store: &dyn ObjectStore,
    vault: ObjectId,
    passphrase: &[u8],
    most: u64,
) -> Result<Opened> {
    let found = read_all(store, vault)?;
    let count = found.len();
    let (mut entries, mut tries) = (Vec::new(), Tries::default());
    for EntryRead { id, entry } in found {
        match entry {
            Ok(entry) => entries.push((entry.cost().work(), Reverse(id), entry)),
            Err(error) => tries.failed(id, error),
        }
    }
    entries.sort_by_key(|(work, id, _)| (*work, *id));
    for (work, Reverse(id), entry) in entries {
        tries.work = tries.work.saturating_add(work);
        if tries.work > most {
            tries.left += 1;
            continue;
        }
        match entry.open(KeyName { vault, id }, passphrase) {
            Ok(Some(keys)) => return Ok(Opened::by(keys, Some(id))),
            Ok(None) => {}
            // It asks for more memory than there is here.
            Err(error) => tries.failed(id, error),
        }
    }
    Err(tries.none_opens(&store.location(), count))
}

/// How a passphrase was tried, in vain so far.
#[derive(Default)]
struct Tries {
    /// What was tried, in KiB of all passes.
    work: u64,
    /// How many entries were not tried, as there were too many.
    left: usize,
    /// What could not be tried, as text.
    unreadable: Vec<String>,
    /// The first reason that is no damage: it may be another one tomorrow.
    refused: Option<Error>,
}

impl Tries {
    fn failed(&mut self, id: SnapshotId, error: Error) {
        let error = error.context(format!("key {id}"));
        self.unreadable.push(error.to_string());
        if error.kind() != ErrorKind::Damaged && self.refused.is_none() {
            self.refused = Some(error);
        }
    }

    fn none_opens(self, place: &str, count: usize) -> Error {
        if let Some(error) = self.refused {
            return error
                .context(place)
                .and_said("the passphrase or key opens none of the vault's other keys".to_owned());
        }
        let what = match count {
            0 => format!("{place} is encrypted, and no key is left in it"),
            1 => format!("{place}: the passphrase or key does not open the vault"),
            many => format!("{place}: the passphrase or key opens none of the vault's {many} keys"),
        };
        let error = Error::new(ErrorKind::Unsupported, what);
        if self.left > 0 {
            return error
                .and_said(format!("{} of them were not tried: too many", self.left))
                .with_hint("take those away that you do not know: stillpoint key list");
        }
        match (count, self.unreadable.is_empty()) {
            (0, _) => error.with_hint("put the folder keys back from a copy of the vault"),
            (_, true) => error.with_hint("see which keys it has with: stillpoint key list"),
            (_, false) => error
                .and_said(self.unreadable.join("; "))
                .with_hint("put these objects of the folder keys back from a copy of the vault"),
        }
    }
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

/// An entry that is there, or why it cannot be read.
pub(super) struct EntryRead {
    /// Its name.
    pub(super) id: SnapshotId,
    /// What it says of itself.
    pub(super) entry: Result<KeyEntry>,
}

/// The names of what may be keys, the oldest first.
pub(super) fn names(store: &dyn ObjectStore) -> Result<Vec<SnapshotId>> {
    let mut names = Vec::new();
    store.list(&ObjectName::keys(), &mut |object| {
        let last = object.name.components().last();
        let id: Option<SnapshotId> = last.and_then(|last| last.parse().ok());
        // What stands deeper, or under another name, is no key.
        names.extend(id.filter(|id| object.name == ObjectName::key(*id)));
        Ok(())
    })?;
    names.sort_unstable();
    Ok(names)
}

/// An entry's bytes, which are a key of this vault.
///
/// # Errors
/// `Damaged`: they are none.
pub(super) fn read_one(store: &dyn ObjectStore, id: SnapshotId, vault: ObjectId) -> Result<Blob> {
    let bytes = store.get(&ObjectName::key(id), ObjectKind::Key.most_stored())?;
    KeyEntry::decode(&bytes, vault)?;
    Ok(bytes)
}

/// Whether an error is of the way to the store, or of whoever ends the run, and not of one entry.
pub(super) fn ends_all(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Interrupted(_))
}

/// All entries, the oldest first, however many there are: one that cannot be read hides no other.
pub(super) fn read_all(store: &dyn ObjectStore, vault: ObjectId) -> Result<Vec<EntryRead>> {
    let mut found = Vec::new();
    for id in names(store)? {
        let entry = read_one(store, id, vault).and_then(|bytes| KeyEntry::decode(&bytes, vault));
        match entry {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if ends_all(&error) => return Err(error),
            entry => found.push(EntryRead { id, entry }),
        }
    }
    Ok(found)
}

/// The keys that are there, by their names: the oldest first.
pub(super) fn find(store: &dyn ObjectStore, vault: ObjectId) -> Result<Vec<KeyFound>> {
    let found = read_all(store, vault)?.into_iter();
    let found = found.map(|EntryRead { id, entry }| KeyFound {
        id,
        entry: entry.map_err(|error| error.to_string()),
    });
    Ok(found.collect())
}

/// Puts an entry for these keys, whose name sorts after that of the `newest` there is, and opens
/// it as it is kept.
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
    let key = KeyName { vault: info.id, id };
    let entry = NewEntry {
        label: new.label.clone(),
        cost: new.cost,
        made,
    };
    let entry = KeyEntry::wrap(keys, key, new.secret.bytes(), entry)?;
    let bytes = entry.encode(info.format)?;
    let (name, length) = (ObjectName::key(id), bytes.len() as u64);
    store.put(&name, bytes.into())?;
    super::confirm::confirm_kept(store, &name, length)?;
    store.forget(&name);
    let kept = read_one(store, id, info.id).and_then(|bytes| KeyEntry::decode(&bytes, info.id));
    let opened = kept.and_then(|kept| kept.open(key, new.secret.bytes()));
    match opened {
        Ok(Some(opened)) if opened.public() == keys.public() => Ok(id),
        Err(error) if ends_all(&error) => Err(error),
        other => Err(does_not_open(id, other.err())),
    }
}

fn does_not_open(id: SnapshotId, error: Option<Error>) -> Error {
    let what = format!("key {id} was put, and what the store has kept does not open the vault");
    let error = match error {
        Some(error) => error.context(what),
        None => Error::new(ErrorKind::Damaged, what),
    };
    error.with_hint("no other key was changed; take this one away: stillpoint key remove")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn no_passphrase_is_tried_for_ever() {
        let store = MemoryStore::new();
        let vault = ObjectId([7; 16]);
        let keys = VaultKeys::generate(vault).unwrap();
        for (number, memory_kib) in [(1, 16), (2, 8), (3, 8)] {
            let id = SnapshotId::generate(number);
            let new = NewEntry {
                label: String::new(),
                cost: KeyCost {
                    memory_kib,
                    passes: 1,
                    lanes: 1,
                },
                made: Timestamp::UNIX_EPOCH,
            };
            let passphrase = format!("key {number}");
            let name = KeyName { vault, id };
            let entry = KeyEntry::wrap(&keys, name, passphrase.as_bytes(), new).unwrap();
            let bytes = entry.encode(2).unwrap();
            store.put(&ObjectName::key(id), bytes.into()).unwrap();
        }
        let tried = |passphrase: &str, most| open_by(&store, vault, passphrase.as_bytes(), most);
        let left = |passphrase: &str, most| {
            let error = tried(passphrase, most).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            error.to_string()
        };
        assert!(tried("key 1", 32).is_ok());
        assert!(!left("wrong", 32).contains("not tried"));
        // The least work first, then the newest.
        assert!(left("key 1", 31).contains("1 of them were not tried"));
        assert!(tried("key 2", 16).is_ok() && tried("key 3", 8).is_ok());
        assert!(left("key 2", 15).contains("2 of them were not tried"));
    }
}
