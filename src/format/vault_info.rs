//! `vault.json`: what a vault is. Written once, when the vault is made.
//!
//! One line of JSON: `{"vault":{…},"blake3":"<hex>"}`, the hash being that of the exact bytes of
//! the value of `vault`.

use super::block_dedup::BlockDedup;
use super::codec::Compression;
use super::json::from_json;
use super::manifest::MAX_VALUES as MAX_MANIFEST_VALUES;
use super::{ObjectKind, Sealer, VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::printable::json;
use crate::model::{LockRule, ObjectId};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a vault is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VaultInfo {
    /// Version of the format.
    pub format: u16,
    /// The vault's own name by which snapshots say where they belong.
    pub id: ObjectId,
    /// For people.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Bytes in a block.
    pub block_size: u64,
    /// When it was made.
    pub created: Timestamp,
    /// Across what equal blocks are stored once.
    pub dedup: BlockDedup,
    /// How what is stored is packed. Readers need it not: what is packed says how.
    #[serde(default)]
    pub compression: Compression,
    /// How the vault is encrypted; `None`: it is not.
    pub encryption: Option<Encryption>,
    /// How writers lock what snapshots need; `None`: they do not. Readers need it not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockRule>,
}

/// How a vault is encrypted: what anyone may know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encryption {
    /// Which of the ways there are; 1 is the only one.
    pub scheme: u64,
    /// The public half of the key that segments' keys are wrapped to. Nobody believes it: who has a
    /// key of the vault knows it better.
    #[serde(with = "hex")]
    pub public_key: [u8; 32],
}

impl Encryption {
    /// The only scheme there is.
    pub const SCHEME: u64 = 1;
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<'a> {
    #[serde(borrow)]
    vault: &'a RawValue,
    blake3: String,
}

#[derive(Deserialize)]
struct AnyVersion {
    format: u64,
    encryption: Option<serde_json::Value>,
}

/// What a manifest says of its vault.
#[derive(Deserialize)]
struct OfVault {
    format: u16,
    vault: ObjectId,
    started: Timestamp,
}

/// Most values that it holds: later versions may add some.
const MAX_VALUES: usize = 4096;

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    from_json(text.as_bytes(), MAX_VALUES)
}

impl VaultInfo {
    /// The longest `vault.json` that is read, in bytes.
    pub const MAX_LEN: u64 = 1 << 20;

    /// The bytes of `vault.json`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bug = |error| Error::new(ErrorKind::Failed, "vault.json").with_source(error);
        let text = json(self).map_err(bug)?;
        let blake3 = blake3::hash(text.as_bytes()).to_hex().to_string();
        let vault: &RawValue = serde_json::from_str(&text).map_err(bug)?;
        let mut bytes = serde_json::to_vec(&File { vault, blake3 }).map_err(bug)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The vault that a manifest belongs to. A manifest does not know the vault's name for people.
    pub fn from_manifest(manifest: &[u8], sealer: &Sealer) -> Result<Self> {
        let plain = sealer.open_object(ObjectKind::Manifest, None, manifest)?;
        let of: OfVault = from_json(&plain, MAX_MANIFEST_VALUES)
            .map_err(|why| damaged("a manifest cannot be understood").with_source(why))?;
        Ok(Self {
            format: of.format.clamp(1, VERSION),
            id: of.vault,
            name: "recovered".into(),
            description: None,
            block_size: crate::model::BLOCK_SIZE,
            created: of.started,
            dedup: BlockDedup::Disk,
            compression: Compression::default(),
            encryption: None,
            lock: None,
        })
    }

    /// Reads `vault.json`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let file: File<'_> = from_json(bytes, MAX_VALUES).map_err(|why| {
            damaged("vault.json cannot be understood: damaged, or not a vault of stillpoint")
                .with_source(why)
        })?;
        if blake3::hash(file.vault.get().as_bytes()).to_hex().as_str() != file.blake3 {
            return Err(damaged("vault.json does not match its checksum"));
        }
        let wrong = |why: String| damaged("vault.json has wrong fields").with_source(why);
        let version: AnyVersion = read(file.vault.get()).map_err(wrong)?;
        if version.format > u64::from(VERSION) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "the vault is of format {}, newer than format {VERSION}",
                    version.format
                ),
            )
            .with_hint("use the newest stillpoint; nothing was changed"));
        }
        if version.format == 0 {
            return Err(damaged("vault.json is of format 0, which there is not"));
        }
        // Before the fields that this version knows: an encrypted vault may have others.
        let scheme = version.encryption.map(|how| how.get("scheme")?.as_u64());
        if scheme.is_some_and(|scheme| scheme != Some(Encryption::SCHEME)) {
            return Err(Error::new(
                ErrorKind::Format,
                "the vault is encrypted in a way that this version cannot read",
            )
            .with_hint("use the newest stillpoint; nothing was changed"));
        }
        let info: Self = read(file.vault.get()).map_err(wrong)?;
        if info.block_size != crate::model::BLOCK_SIZE {
            return Err(Error::new(
                ErrorKind::Format,
                "the vault has a block size that this version cannot read",
            )
            .with_hint("use the newest stillpoint; nothing was changed"));
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> VaultInfo {
        VaultInfo {
            format: VERSION,
            id: ObjectId([7; 16]),
            name: "ordinary".into(),
            description: None,
            block_size: 65536,
            created: Timestamp::UNIX_EPOCH,
            dedup: BlockDedup::Disk,
            compression: Compression::default(),
            encryption: None,
            lock: None,
        }
    }

    #[test]
    fn it_comes_back_and_every_flip_is_seen_or_harmless() {
        let mut bytes = info().encode().unwrap();
        assert_eq!(VaultInfo::decode(&bytes).unwrap(), info());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                if let Ok(read) = VaultInfo::decode(&bytes) {
                    assert_eq!(read, info(), "byte {at} bit {bit}");
                }
                bytes[at] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn a_newer_vault_is_refused_in_words() {
        let newer = VaultInfo {
            format: VERSION + 1,
            ..info()
        };
        let error = VaultInfo::decode(&newer.encode().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains("newer"));
    }

    #[test]
    fn a_vault_without_locks_has_no_word_of_them() {
        let text = String::from_utf8(info().encode().unwrap()).unwrap();
        assert!(!text.contains("lock\""), "{text}");
        let locked = VaultInfo {
            lock: "governance:7d".parse().ok(),
            ..info()
        };
        let bytes = locked.encode().unwrap();
        assert!(locked.lock.is_some() && VaultInfo::decode(&bytes).unwrap() == locked);
    }
}
