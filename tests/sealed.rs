//! Encrypted vaults: what each key can do and cannot, what an attacker tries, and what is left when
//! a change of keys is cut off.

mod attacks;
mod by_command;
mod copies;
mod keys;
mod many_keys;
mod second_copy;
mod secrets;

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, take, vault_options};
use std::sync::Arc;
use stillpoint::format::{KeyCost, VaultKeys};
use stillpoint::model::{BLOCK_SIZE, ObjectId};
use stillpoint::store::{
    KeySource, MemoryStore, NewKey, ObjectName, ObjectStore, Vault, VaultOptions,
};
use stillpoint::sys::secret::SecretBytes;
use stillpoint::{Error, Result};

/// A passphrase that costs nothing to try.
pub fn key(passphrase: &str) -> NewKey {
    NewKey {
        secret: Arc::new(SecretBytes::copy_of(passphrase.as_bytes()).unwrap()),
        label: passphrase.to_uppercase(),
        cost: KeyCost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        },
    }
}

/// Where that passphrase comes from.
pub fn given(passphrase: &str) -> KeySource {
    KeySource::Given(key(passphrase).secret)
}

/// A writer's key of the vault, as a file would give it.
pub fn writer_of(vault: &Vault) -> KeySource {
    let text = vault.keys().unwrap().writer_text().unwrap();
    let line = text.bytes().strip_suffix(b"\n").unwrap();
    KeySource::Given(Arc::new(SecretBytes::copy_of(line).unwrap()))
}

/// What is on the disks, and nowhere in a store.
pub const MARK: &[u8] = b"plain to see: stillpoint, plain to see";

/// An encrypted vault in memory, and disks.
pub struct Safe {
    /// Where it is.
    pub store: Arc<MemoryStore>,
    /// Opened with its passphrase, "first".
    pub vault: Arc<Vault>,
    /// What is backed up.
    pub disks: Vec<ModelDisk>,
}

impl Safe {
    /// One without snapshots.
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let options = VaultOptions {
            encrypt: Some(key("first")),
            ..vault_options()
        };
        let vault = Arc::new(Vault::create(store.clone(), options).unwrap());
        let disks = vec![
            ModelDisk::new(0, 40 * BLOCK_SIZE + 512, 1),
            ModelDisk::new(1, 3 * BLOCK_SIZE, 2),
        ];
        disks[0].write(5 * BLOCK_SIZE, &MARK.repeat(3000));
        disks[0].write(8 * BLOCK_SIZE, &noise());
        disks[1].write(BLOCK_SIZE, &MARK.repeat(100));
        Self {
            store,
            vault,
            disks,
        }
    }

    /// The vault, opened anew.
    pub fn open(&self, key: &KeySource) -> Result<Arc<Vault>> {
        Vault::open_by(self.store.clone(), key).map(Arc::new)
    }

    /// A snapshot of the disks.
    pub fn take(&self, vault: &Arc<Vault>) -> Taken {
        take(vault, &self.disks, Take::default()).unwrap()
    }

    /// All objects below a folder.
    pub fn names(&self, folder: &str) -> Vec<ObjectName> {
        let listed = self.store.list_all(&ObjectName::parse(folder).unwrap());
        listed.unwrap().into_iter().map(|one| one.name).collect()
    }

    /// The bytes of an object.
    pub fn bytes(&self, name: &ObjectName) -> Vec<u8> {
        self.store.get(name, 64 << 20).unwrap().to_vec()
    }
}

/// The error of what must not be done.
pub fn refused<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it was done"),
        Err(error) => error,
    }
}

/// Whether `part` stands somewhere in `bytes`.
pub fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Bytes that do not pack, also on the disks.
pub fn noise() -> Vec<u8> {
    crate::resume::noise(2 * BLOCK_SIZE, 9)
}

/// Keys of a vault that has this ID, and which nobody else has.
pub fn foreign_keys(id: ObjectId) -> VaultKeys {
    VaultKeys::generate(id).unwrap()
}
