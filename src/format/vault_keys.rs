//! The keys of a sealed vault, as one of two sorts of people holds them: who may read everything,
//! and who may write, and read only what the vault says of itself. It must never hold more for a
//! writer than a writer may know.

use super::chunk::ChunkHash;
use super::crypt::{self, Key, WRAPPED};
use super::damaged;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use crate::sys::secret::SecretBytes;

/// A text that is a writer's key begins so.
const WRITER: &str = "stillpoint-writer-key";
const WRITER_VERSION: &str = "1";

/// The keys of a sealed vault.
#[derive(Debug)]
pub struct VaultKeys {
    vault: ObjectId,
    /// Of metadata, 32 bytes, and of hashes, 32; of readers also the private half, 32, and what all
    /// of these are made of, 32.
    secrets: SecretBytes,
    public: [u8; 32],
}

impl VaultKeys {
    /// Keys of a new vault.
    pub fn generate(vault: ObjectId) -> Result<Self> {
        Self::from_root(vault, &*crypt::fresh()?)
    }

    /// The keys that are made of `root`.
    pub(super) fn from_root(vault: ObjectId, root: &[u8; 32]) -> Result<Self> {
        let of = |use_: &[u8]| crypt::derive(root, &vault.0, &[use_]);
        let (metadata, hashes) = (of(b"stillpoint 1 metadata"), of(b"stillpoint 1 hashes"));
        let private = of(b"stillpoint 1 reader");
        let public = crypt::public_of(&private);
        let parts: [&[u8; 32]; 4] = [&metadata, &hashes, &private, root];
        let secrets = gathered(&parts)?;
        Ok(Self {
            vault,
            secrets,
            public,
        })
    }

    /// The public half of the key that readers have.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Whether they open what snapshots hold, and not only what says where it is.
    pub fn can_read(&self) -> bool {
        self.secrets.bytes().len() == 128
    }

    fn part(&self, at: usize) -> Option<&[u8; 32]> {
        let part = self.secrets.bytes().get(32 * at..32 * at + 32)?;
        part.try_into().ok()
    }

    fn metadata(&self) -> &[u8; 32] {
        self.part(0).expect("everyone has it")
    }

    fn hashes(&self) -> &[u8; 32] {
        self.part(1).expect("everyone has it")
    }

    /// What all keys are made of.
    ///
    /// # Errors
    /// These are a writer's.
    pub(super) fn root(&self) -> Result<&[u8; 32]> {
        self.part(3)
            .ok_or_else(|| writers("neither makes keys nor takes them away"))
    }

    /// The hash by which the vault knows a chunk: nobody else can say whether a text is in it.
    pub(super) fn hash_of(&self, plain: &[u8]) -> ChunkHash {
        *blake3::keyed_hash(self.hashes(), plain).as_bytes()
    }

    /// A salt for an object of this body: random, and another one for another body even where
    /// random numbers come twice.
    pub(super) fn salt_for(&self, plain: &[u8]) -> Result<[u8; 16]> {
        let mut hasher = blake3::Hasher::new_keyed(&*crypt::fresh()?);
        hasher.update(self.hashes());
        hasher.update(plain);
        let mut salt = [0; 16];
        salt.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok(salt)
    }

    /// The key of the object that has this salt.
    pub(super) fn of_object(&self, salt: &[u8]) -> Key {
        crypt::derive(self.metadata(), salt, &[b"stillpoint 1 object"])
    }

    /// The key of the footer of the segment that has this salt, and chunks with this hash.
    pub(super) fn of_footer(&self, salt: &[u8], chunks: &[u8; 32]) -> Key {
        let info: [&[u8]; 2] = [b"stillpoint 1 footer", chunks];
        crypt::derive(self.metadata(), salt, &info)
    }

    /// A segment's key for whoever may read.
    pub(super) fn wrap(&self, salt: &[u8], key: &[u8; 32]) -> Result<[u8; WRAPPED]> {
        crypt::wrap(&self.public, salt, key)
    }

    /// A segment's key.
    ///
    /// # Errors
    /// `Unsupported`: these are a writer's. `Damaged`: it is not the vault's.
    pub(super) fn unwrap(&self, salt: &[u8], wrapped: &[u8; WRAPPED]) -> Result<Key> {
        let private = self.part(2);
        let private = private.ok_or_else(|| writers("reads nothing of what snapshots hold"))?;
        crypt::unwrap(private, salt, wrapped)
            .ok_or_else(|| damaged("the segment's key was not sealed for this vault"))
    }

    /// An error unless these open what snapshots hold.
    pub fn need_to_read(&self) -> Result<()> {
        match self.can_read() {
            true => Ok(()),
            false => Err(writers("reads nothing of what snapshots hold")),
        }
    }

    /// An error unless other keys can be made with these.
    pub fn need_to_make_keys(&self) -> Result<()> {
        self.root().map(drop)
    }

    /// A writer's key as the text of a file.
    pub fn writer_text(&self) -> Result<SecretBytes> {
        let head = format!("{WRITER}:{WRITER_VERSION}:{}:", self.vault);
        let body = 2 * 96;
        SecretBytes::made(head.len() + body + 1, |room| {
            room[..head.len()].copy_from_slice(head.as_bytes());
            let secret =
                zeroize::Zeroizing::new([&self.secrets.bytes()[..64], &self.public].concat());
            hex::encode_to_slice(&secret[..], &mut room[head.len()..head.len() + body])
                .expect("the room is twice as long");
            room[head.len() + body] = b'\n';
            Ok(())
        })
    }

    /// Whether a text is meant as a writer's key.
    pub fn is_writer_text(text: &[u8]) -> bool {
        text.starts_with(WRITER.as_bytes())
    }

    /// A writer's keys of `vault`, out of the text of a file without the end of its line.
    ///
    /// # Errors
    /// `Unsupported`: they are another vault's, or not whole.
    pub fn from_writer_text(vault: ObjectId, text: &[u8]) -> Result<Self> {
        let bad = |what: &str| {
            Error::new(ErrorKind::Unsupported, format!("the writer's key {what}"))
                .with_hint("make one with: stillpoint key export --writer FILE")
        };
        let mut parts = text.split(|byte| *byte == b':').skip(1);
        if parts.next() != Some(WRITER_VERSION.as_bytes()) {
            return Err(bad("is of a version that is not known here"));
        }
        if parts.next() != Some(vault.to_string().as_bytes()) {
            return Err(bad("is of another vault"));
        }
        let body = parts.next().unwrap_or_default();
        let mut bytes = zeroize::Zeroizing::new([0; 96]);
        hex::decode_to_slice(body, &mut bytes[..]).map_err(|_| bad("is not whole"))?;
        let mut public = [0; 32];
        public.copy_from_slice(&bytes[64..]);
        Ok(Self {
            vault,
            secrets: SecretBytes::copy_of(&bytes[..64])?,
            public,
        })
    }
}

fn gathered(parts: &[&[u8; 32]]) -> Result<SecretBytes> {
    SecretBytes::made(32 * parts.len(), |room| {
        for (to, from) in room.chunks_exact_mut(32).zip(parts) {
            to.copy_from_slice(&from[..]);
        }
        Ok(())
    })
}

fn writers(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("a writer's key {what}"))
        .with_hint("give a passphrase or key file of the vault with --password-file")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAULT: ObjectId = ObjectId([3; 16]);

    fn without_end(text: &SecretBytes) -> &[u8] {
        text.bytes().strip_suffix(b"\n").unwrap()
    }

    #[test]
    fn a_writer_has_what_it_needs_and_no_more() {
        let all = VaultKeys::generate(VAULT).unwrap();
        let text = all.writer_text().unwrap();
        assert!(VaultKeys::is_writer_text(text.bytes()));
        let writer = VaultKeys::from_writer_text(VAULT, without_end(&text)).unwrap();
        assert_eq!(writer.public(), all.public());
        assert_eq!(writer.hash_of(b"block"), all.hash_of(b"block"));
        assert_ne!(writer.hash_of(b"block"), *blake3::hash(b"block").as_bytes());
        assert_eq!(writer.of_object(&[1; 16]), all.of_object(&[1; 16]));
        let wrapped = writer.wrap(&[1; 16], &[7; 32]).unwrap();
        assert_eq!(*all.unwrap(&[1; 16], &wrapped).unwrap(), [7; 32]);
        for refused in [
            writer.unwrap(&[1; 16], &wrapped).unwrap_err(),
            writer.root().unwrap_err(),
            writer.need_to_read().unwrap_err(),
        ] {
            assert_eq!(refused.kind(), ErrorKind::Unsupported);
        }
        // Nothing of the reader's is in the text.
        let hex = String::from_utf8(text.bytes().to_vec()).unwrap();
        assert!(!hex.contains(&hex::encode(all.part(2).unwrap())));
        assert!(!hex.contains(&hex::encode(all.root().unwrap())));
    }

    #[test]
    fn a_writers_key_of_another_vault_or_cut_short_is_refused() {
        let text = VaultKeys::generate(VAULT).unwrap().writer_text().unwrap();
        let text = without_end(&text);
        let other = VaultKeys::from_writer_text(ObjectId([4; 16]), text).unwrap_err();
        assert!(other.to_string().contains("another vault"), "{other}");
        for cut in 0..text.len() {
            let error = VaultKeys::from_writer_text(VAULT, &text[..cut]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "cut at {cut}");
        }
    }

    #[test]
    fn keys_of_one_root_in_two_vaults_are_different() {
        let [one, two] = [VAULT, ObjectId([4; 16])].map(|vault| {
            let keys = VaultKeys::from_root(vault, &[9; 32]).unwrap();
            (keys.public(), keys.hash_of(b"x"), *keys.of_object(&[1; 16]))
        });
        assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2);
    }

    #[test]
    fn they_are_never_printed() {
        let keys = VaultKeys::from_root(VAULT, &[0xab; 32]).unwrap();
        let printed = format!("{keys:?} {:?}", keys.writer_text().unwrap());
        assert!(!printed.contains("171, 171") && printed.contains("SecretBytes"));
    }
}
