//! An object of kind 8: what all keys of a sealed vault are made of, wrapped under a passphrase. It
//! is read without a key, so what it says is hostile until it has opened: it must never make a
//! reader take more memory or time than is bounded here.

use super::crypt::{self, TAG, TextNumber};
use super::json::from_json;
use super::vault_keys::VaultKeys;
use super::{ObjectKind, style::Style};
use super::{damaged, envelope};
use crate::error::{Error, ErrorKind, Result};
use crate::model::printable::json;
use crate::model::{ObjectId, SnapshotId};
use argon2::{Algorithm, Argon2, Params, Version};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Most values in one.
const MOST_VALUES: usize = 64;
/// The longest label, in bytes.
const MOST_LABEL: usize = 128;

/// What trying one passphrase costs: the parameters of argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl KeyCost {
    /// The second recommendation of RFC 9106, on one lane: 64 MiB, a fifth of a second.
    pub const USUAL: Self = Self {
        memory_kib: 64 << 10,
        passes: 3,
        lanes: 1,
    };

    /// Most memory, in KiB.
    const MOST_MEMORY: u32 = 256 << 10;
    /// Most passes over so much memory, in KiB: seconds.
    pub const MOST_WORK: u64 = 1 << 20;

    /// Passes over memory, in KiB of all of them.
    pub fn work(self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Whether a reader takes it upon itself.
    fn is_bounded(self) -> bool {
        let Self {
            memory_kib,
            passes,
            lanes,
        } = self;
        (1..=4).contains(&lanes)
            && (8 * lanes..=Self::MOST_MEMORY).contains(&memory_kib)
            && passes >= 1
            && self.work() <= Self::MOST_WORK
    }
}

/// A passphrase that opens a vault, without the passphrase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyEntry {
    vault: ObjectId,
    label: String,
    made: Timestamp,
    argon2id: KeyCost,
    #[serde(with = "hex")]
    salt: [u8; 16],
    #[serde(with = "hex")]
    wrapped: [u8; 32 + TAG],
}

impl KeyEntry {
    /// Wraps what the keys are made of, for the entry of this name.
    ///
    /// # Errors
    /// `Unsupported`: the keys are a writer's. `Usage`: the label is too long, or no text.
    pub fn wrap(keys: &VaultKeys, name: KeyName, passphrase: &[u8], new: NewEntry) -> Result<Self> {
        let NewEntry { label, cost, made } = new;
        if label.len() > MOST_LABEL || label.chars().any(char::is_control) {
            let what = format!("a key's label has at most {MOST_LABEL} bytes, in one line");
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let mut salt = [0; 16];
        salt.copy_from_slice(&crypt::fresh()?[..16]);
        let under = stretched(passphrase, &salt, cost)?;
        let mut text = Zeroizing::new(*keys.root()?);
        let bound = bound(name, &label);
        let tag = crypt::seal(&under, TextNumber::ONLY, &bound, &mut text[..]);
        let mut wrapped = [0; 32 + TAG];
        wrapped[..32].copy_from_slice(&text[..]);
        wrapped[32..].copy_from_slice(&tag);
        Ok(Self {
            vault: name.vault,
            label,
            made,
            argon2id: cost,
            salt,
            wrapped,
        })
    }

    /// The vault's keys; `None`: the passphrase is another one.
    pub fn open(&self, name: KeyName, passphrase: &[u8]) -> Result<Option<VaultKeys>> {
        let under = stretched(passphrase, &self.salt, self.argon2id)?;
        let mut sealed = Zeroizing::new(self.wrapped);
        let bound = bound(name, &self.label);
        let Some(text) = crypt::open(&under, TextNumber::ONLY, &bound, &mut sealed[..]) else {
            return Ok(None);
        };
        let mut root = Zeroizing::new([0; 32]);
        root.copy_from_slice(text);
        VaultKeys::from_root(name.vault, &root).map(Some)
    }

    /// What people call it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What trying it costs.
    pub fn cost(&self) -> KeyCost {
        self.argon2id
    }

    /// When it was made.
    pub fn made(&self) -> Timestamp {
        self.made
    }

    /// The bytes of the object.
    pub fn encode(&self, version: u16) -> Result<Vec<u8>> {
        let text = json(self).map_err(|why| {
            Error::new(ErrorKind::Failed, "a key cannot be written").with_source(why)
        })?;
        let style = Style {
            version,
            ..Style::PRESENT
        };
        envelope::seal_object(ObjectKind::Key, text.as_bytes(), style, None)
    }

    /// Reads an object of a vault.
    pub fn decode(bytes: &[u8], vault: ObjectId) -> Result<Self> {
        let plain = envelope::open_object(ObjectKind::Key, None, bytes, None)?;
        let entry: Self = from_json(&plain, MOST_VALUES)
            .map_err(|why| damaged("a key cannot be understood").with_source(why))?;
        if entry.vault != vault {
            return Err(damaged("a key of another vault"));
        }
        if entry.label.len() > MOST_LABEL || !entry.argon2id.is_bounded() {
            return Err(damaged(
                "a key asks for more work or memory than any should",
            ));
        }
        Ok(entry)
    }
}

/// What names an entry.
#[derive(Clone, Copy, Debug)]
pub struct KeyName {
    /// The vault's ID.
    pub vault: ObjectId,
    /// Its own.
    pub id: SnapshotId,
}

/// What is said of a new entry.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// What people call it.
    pub label: String,
    /// What trying it costs.
    pub cost: KeyCost,
    /// When it is made.
    pub made: Timestamp,
}

fn bound(name: KeyName, label: &str) -> Vec<u8> {
    let mut bound = name.vault.0.to_vec();
    bound.extend_from_slice(name.id.to_string().as_bytes());
    bound.extend_from_slice(label.as_bytes());
    bound
}

fn stretched(passphrase: &[u8], salt: &[u8; 16], cost: KeyCost) -> Result<crypt::Key> {
    let KeyCost {
        memory_kib,
        passes,
        lanes,
    } = cost;
    if !cost.is_bounded() {
        return Err(damaged(
            "a key asks for more work or memory than any should",
        ));
    }
    let failed = |why: argon2::Error| {
        Error::new(ErrorKind::Failed, "argon2id failed").with_source(why.to_string())
    };
    let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(failed)?;
    let mut key = crypt::Key::default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut key[..])
        .map_err(failed)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: KeyCost = KeyCost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn name() -> KeyName {
        KeyName {
            vault: ObjectId([3; 16]),
            id: SnapshotId::generate(1),
        }
    }

    fn new(cost: KeyCost) -> NewEntry {
        NewEntry {
            label: "office".into(),
            cost,
            made: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_right_passphrase_opens_and_no_other() {
        let name = name();
        let keys = VaultKeys::generate(name.vault).unwrap();
        let entry = KeyEntry::wrap(&keys, name, b"right", new(CHEAP)).unwrap();
        let entry = KeyEntry::decode(&entry.encode(2).unwrap(), name.vault).unwrap();
        let opened = entry.open(name, b"right").unwrap().unwrap();
        assert_eq!(opened.root().unwrap(), keys.root().unwrap());
        assert_eq!(opened.public(), keys.public());
        assert!(entry.open(name, b"Right").unwrap().is_none());
        // Under another name, with another label, of another vault, with one bit flipped.
        let other = KeyName {
            id: SnapshotId::generate(2),
            ..name
        };
        assert!(entry.open(other, b"right").unwrap().is_none());
        let mut renamed = entry.clone();
        renamed.label = "home".into();
        assert!(renamed.open(name, b"right").unwrap().is_none());
        let mut flipped = entry.clone();
        flipped.wrapped[40] ^= 1;
        assert!(flipped.open(name, b"right").unwrap().is_none());
        assert!(KeyEntry::decode(&entry.encode(2).unwrap(), ObjectId([4; 16])).is_err());
    }

    #[test]
    fn hostile_costs_are_refused_before_anything_is_taken() {
        let name = name();
        let keys = VaultKeys::generate(name.vault).unwrap();
        let entry = KeyEntry::wrap(&keys, name, b"right", new(CHEAP)).unwrap();
        for (memory_kib, passes, lanes) in [
            (u32::MAX, 1, 1),
            (KeyCost::MOST_MEMORY + 1, 1, 1),
            (KeyCost::MOST_MEMORY, 5, 1),
            (8, u32::MAX, 1),
            (64, 1, 5),
            (7, 1, 1),
            (8, 0, 1),
            (8, 1, 0),
        ] {
            let mut hostile = entry.clone();
            hostile.argon2id = KeyCost {
                memory_kib,
                passes,
                lanes,
            };
            let bytes = hostile.encode(2).unwrap();
            let error = KeyEntry::decode(&bytes, name.vault).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::Damaged,
                "{memory_kib} {passes} {lanes}"
            );
            assert!(hostile.open(name, b"right").is_err());
        }
        assert!(KeyCost::USUAL.is_bounded());
    }

    #[test]
    fn every_flip_of_the_object_is_seen() {
        let name = name();
        let keys = VaultKeys::generate(name.vault).unwrap();
        let entry = KeyEntry::wrap(&keys, name, b"right", new(CHEAP)).unwrap();
        let mut bytes = entry.encode(2).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(KeyEntry::decode(&bytes, name.vault).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }
}
