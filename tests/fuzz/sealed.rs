//! The decoders of encrypted vaults, as `targets.rs` has the others.

/// What anyone may put into `keys/`: read by who has no key yet.
pub mod key_entry {
    use crate::fuzz::targets::SEALER;
    use crate::sealed::{foreign_keys, key};
    use jiff::Timestamp;
    use stillpoint::format::{KeyEntry, KeyName, NewEntry, ObjectKind};
    use stillpoint::model::{ObjectId, SnapshotId};

    const VAULT: ObjectId = ObjectId([7; 16]);

    pub fn seeds() -> Vec<Vec<u8>> {
        let (keys, id) = (foreign_keys(VAULT), SnapshotId::generate(1));
        let new = NewEntry {
            label: "label".into(),
            cost: key("x").cost,
            made: Timestamp::UNIX_EPOCH,
        };
        let name = KeyName { vault: VAULT, id };
        let entry = KeyEntry::wrap(&keys, name, b"passphrase", new).unwrap();
        let bytes = entry.encode(2).unwrap();
        vec![SEALER.open_object(ObjectKind::Key, None, &bytes).unwrap()]
    }

    pub fn feed(json: &[u8]) -> bool {
        let Ok(bytes) = SEALER.seal_object(ObjectKind::Key, json) else {
            return false;
        };
        let Ok(entry) = KeyEntry::decode(&bytes, VAULT) else {
            return false;
        };
        let again = KeyEntry::decode(&entry.encode(2).unwrap(), VAULT).unwrap();
        assert_eq!((again.label(), again.made()), (entry.label(), entry.made()));
        true
    }
}

/// An object whose hash was made right again by who has no key.
pub mod sealed_object {
    use crate::sealed::foreign_keys;
    use std::sync::{Arc, OnceLock};
    use stillpoint::format::{ObjectKind, Sealer};
    use stillpoint::model::ObjectId;

    const BODY: &[u8] = b"a body that packs well, packs well, packs well, packs well";

    fn sealer() -> &'static Sealer {
        static SEALED: OnceLock<Sealer> = OnceLock::new();
        SEALED.get_or_init(|| {
            let keys = foreign_keys(ObjectId([7; 16]));
            Sealer::without_keys().with_keys(Some(Arc::new(keys)))
        })
    }

    pub fn seeds() -> Vec<Vec<u8>> {
        vec![sealer().seal_object(ObjectKind::Session, BODY).unwrap()]
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        if let Some(body) = bytes.len().checked_sub(32) {
            let hash = blake3::hash(&bytes[..body]);
            bytes[body..].copy_from_slice(hash.as_bytes());
        }
        let Ok(plain) = sealer().open_object(ObjectKind::Session, None, &bytes) else {
            return false;
        };
        assert_eq!(plain, BODY, "nobody else has the key");
        true
    }
}
