//! The few operations that a sealed vault is made of (FORMAT.md, 9): HKDF-SHA256, AES-256-GCM and
//! X25519, each by a crate that others keep. It must never use one key and number for two texts,
//! also where a machine goes back to what its memory was.

use super::damaged;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::machine::since_boot;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

/// What sealing adds to a text, in bytes.
pub(super) const TAG: usize = 16;
/// Length of a key that is wrapped to a public one: an ephemeral key, the key, a tag.
pub(super) const WRAPPED: usize = 80;

/// A key, which is cleared when it is let go.
pub(super) type Key = Zeroizing<[u8; 32]>;

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

/// A key that is made of another one, for one use.
pub(super) fn derive(secret: &[u8], salt: &[u8], info: &[&[u8]]) -> Key {
    let mut key = Key::default();
    let extracted = Salt::new(HKDF_SHA256, salt).extract(secret);
    let expanded = extracted.expand(info, KeyLength);
    expanded
        .and_then(|expanded| expanded.fill(&mut key[..]))
        .expect("HKDF-SHA256 gives 32 bytes");
    key
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("the key of AES-256 has 32 bytes");
    LessSafeKey::new(key)
}

/// What tells apart the texts under one key: 12 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TextNumber([u8; 12]);

impl TextNumber {
    /// Of the only text under its key.
    pub(super) const ONLY: Self = Self([0; 12]);

    /// Of the text in a slot: another text in the same slot has another number, too, where `hash`
    /// is of what it says.
    pub(super) fn of_slot(hash: &[u8; 32], slot: u32) -> Self {
        let mut number = [0; 12];
        number[..8].copy_from_slice(&hash[..8]);
        number[8..].copy_from_slice(&slot.to_le_bytes());
        Self(number)
    }

    fn nonce(self) -> Nonce {
        Nonce::assume_unique_for_key(self.0)
    }
}

/// Seals `text` where it stands, as the text of this number under the key; returns the tag that
/// goes after it. `bound`: what must be the same when it is opened.
pub(super) fn seal(key: &[u8; 32], number: TextNumber, bound: &[u8], text: &mut [u8]) -> [u8; TAG] {
    let tag = cipher(key)
        .seal_in_place_separate_tag(number.nonce(), Aad::from(bound), text)
        .expect("no text here is longer than AES-GCM allows");
    let mut bytes = [0; TAG];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// Opens `sealed`, a text and its tag, where it stands; `None`: it is not what was sealed so.
pub(super) fn open<'a>(
    key: &[u8; 32],
    number: TextNumber,
    bound: &[u8],
    sealed: &'a mut [u8],
) -> Option<&'a mut [u8]> {
    let opened = cipher(key).open_in_place(number.nonce(), Aad::from(bound), sealed);
    opened.ok()
}

/// 32 bytes that come once. The kernel's random numbers alone may come twice, when a machine's
/// memory is taken back to what it was: so clocks and a count go in.
pub(super) fn fresh() -> Result<Key> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = Key::default();
    getrandom::fill(&mut random[..])
        .map_err(|error| Error::new(ErrorKind::Failed, "no random numbers").with_source(error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut others = Vec::with_capacity(40);
    others.extend_from_slice(&now.unwrap_or_default().as_nanos().to_le_bytes());
    others.extend_from_slice(&since_boot()?.as_nanos().to_le_bytes());
    others.extend_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Ok(derive(&random[..], b"stillpoint fresh", &[&others]))
}

/// The public half of a key.
pub(super) fn public_of(private: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

fn agreed(private: &StaticSecret, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    let shared = private.diffie_hellman(&PublicKey::from(*public));
    // A point of small order makes one key of all.
    shared
        .was_contributory()
        .then(|| Zeroizing::new(shared.to_bytes()))
}

const WRAP: &[u8] = b"stillpoint 1 segment key";

/// Wraps a key so that only who has the private half of `public` can have it.
pub(super) fn wrap(public: &[u8; 32], bound: &[u8], key: &[u8; 32]) -> Result<[u8; WRAPPED]> {
    let mut once = fresh()?;
    let ephemeral = StaticSecret::from(*once);
    once.zeroize();
    let sent = PublicKey::from(&ephemeral).to_bytes();
    let shared = agreed(&ephemeral, public)
        .ok_or_else(|| damaged("the vault's public key is none that anything can be sealed to"))?;
    let under = derive(&shared[..], &[sent, *public].concat(), &[WRAP]);
    let mut text = *key;
    let tag = seal(&under, TextNumber::ONLY, bound, &mut text);
    let mut wrapped = [0; WRAPPED];
    wrapped[..32].copy_from_slice(&sent);
    wrapped[32..64].copy_from_slice(&text);
    wrapped[64..].copy_from_slice(&tag);
    Ok(wrapped)
}

/// The key that was wrapped to the public half of `private`; `None`: it was not, or is damaged.
pub(super) fn unwrap(private: &[u8; 32], bound: &[u8], wrapped: &[u8; WRAPPED]) -> Option<Key> {
    let own = StaticSecret::from(*private);
    let public = PublicKey::from(&own).to_bytes();
    let mut sent = [0; 32];
    sent.copy_from_slice(&wrapped[..32]);
    let shared = agreed(&own, &sent)?;
    let under = derive(&shared[..], &[sent, public].concat(), &[WRAP]);
    let mut rest = Zeroizing::new([0; WRAPPED - 32]);
    rest.copy_from_slice(&wrapped[32..]);
    let text = open(&under, TextNumber::ONLY, bound, &mut rest[..])?;
    let mut key = Key::default();
    key.copy_from_slice(text);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, test case 1, its first 32 bytes.
    #[test]
    fn keys_are_derived_as_the_standard_says() {
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..0xfa).collect();
        let key = derive(&[0x0b; 22], &salt, &[&info[..4], &info[4..]]);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        assert_eq!(hex::encode(&key[..]), expected);
    }

    /// RFC 7748, 5.2, the first iteration.
    #[test]
    fn a_public_key_is_what_the_standard_says() {
        let mut nine = [0; 32];
        nine[0] = 9;
        let public = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
        assert_eq!(hex::encode(public_of(&nine)), public);
    }

    #[test]
    fn what_is_sealed_opens_only_as_it_was_sealed() {
        let key = [7; 32];
        let mut text = *b"some text";
        let at = |slot| TextNumber::of_slot(&[1; 32], slot);
        let tag = seal(&key, at(3), b"bound", &mut text);
        let sealed = [&text[..], &tag].concat();
        let opens = |key: &[u8; 32], number, bound: &[u8], sealed: &[u8]| {
            let mut sealed = sealed.to_vec();
            open(key, at(number), bound, &mut sealed).map(|text| text.to_vec())
        };
        assert_eq!(opens(&key, 3, b"bound", &sealed).unwrap(), b"some text");
        assert!(opens(&key, 4, b"bound", &sealed).is_none());
        assert!(opens(&key, 3, b"Bound", &sealed).is_none());
        assert!(opens(&[8; 32], 3, b"bound", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(opens(&key, 3, b"bound", &flipped).is_none(), "{at}");
            assert!(
                opens(&key, 3, b"bound", &sealed[..at]).is_none(),
                "cut {at}"
            );
        }
    }

    #[test]
    fn a_wrapped_key_is_for_the_private_half_alone() {
        let (private, key) = (*fresh().unwrap(), *fresh().unwrap());
        let public = public_of(&private);
        let wrapped = wrap(&public, b"segment", &key).unwrap();
        assert_eq!(*unwrap(&private, b"segment", &wrapped).unwrap(), key);
        assert!(unwrap(&private, b"another", &wrapped).is_none());
        assert!(unwrap(&fresh().unwrap(), b"segment", &wrapped).is_none());
        // Not even who has the public half, and took it for the private one.
        assert!(unwrap(&public, b"segment", &wrapped).is_none());
        for at in 0..wrapped.len() {
            let mut flipped = wrapped;
            flipped[at] ^= 1;
            assert!(unwrap(&private, b"segment", &flipped).is_none(), "{at}");
        }
        assert_ne!(wrapped, wrap(&public, b"segment", &key).unwrap());
        // A point of small order.
        assert!(wrap(&[0; 32], b"segment", &key).is_err());
    }
}
