//! What stands in `keys/` besides the right key never keeps that from opening.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use stillpoint::ErrorKind;
use stillpoint::format::{ObjectKind, Sealer};
use stillpoint::model::SnapshotId;
use stillpoint::store::{FaultStore, KeyRemoved};

/// Names that sort after those of today.
fn later(number: u64) -> SnapshotId {
    SnapshotId::generate(4_000_000_000_000 + number)
}

fn plant(safe: &Safe, number: u64, bytes: Vec<u8>) {
    let name = ObjectName::key(later(number));
    safe.store.put(&name, bytes.into()).unwrap();
}

/// The first key of the vault as somebody else would put it, with what it says changed.
fn changed(safe: &Safe, from: &str, to: &str) -> Vec<u8> {
    let bytes = safe.bytes(&safe.names("keys")[0]);
    let sealer = Sealer::without_keys();
    let text = sealer.open_object(ObjectKind::Key, None, &bytes).unwrap();
    let text = String::from_utf8(text).unwrap();
    let other = text.replace(from, to);
    assert_ne!(other, text);
    let sealed = sealer.seal_object(ObjectKind::Key, other.as_bytes());
    sealed.unwrap()
}

#[test]
fn however_many_lie_there_the_right_one_opens_and_others_can_go() {
    let safe = Safe::new();
    let vault = safe.vault.info().id.to_string();
    let foreign = changed(&safe, &vault, &"7".repeat(32));
    // So much work that hours would go by.
    let cheap = "\"memory_kib\":8,\"passes\":1";
    let costly = changed(&safe, cheap, "\"memory_kib\":262144,\"passes\":4");
    for number in 0..40 {
        plant(&safe, number, b"no key at all".to_vec());
        plant(&safe, 100 + number, foreign.clone());
        plant(&safe, 200 + number, costly.clone());
    }
    let opened = safe.open(&given("first")).unwrap();
    assert_eq!(opened.key_entries().unwrap().len(), 121);
    for entry in &opened.key_entries().unwrap()[1..] {
        let removed = opened.remove_key(entry.id, &key("first"));
        assert_eq!(removed.unwrap(), KeyRemoved::Gone);
    }
    assert_eq!(safe.names("keys").len(), 1);
    opened.add_key(&key("second")).unwrap();
}

#[test]
fn what_is_no_key_of_the_vault_does_not_count_and_too_many_are_refused_at_once() {
    let safe = Safe::new();
    for number in 0..40 {
        plant(&safe, number, b"no key at all".to_vec());
    }
    for number in 1..32 {
        safe.vault.add_key(&key(&format!("more{number}"))).unwrap();
    }
    let before = safe.names("keys");
    for error in [
        refused(safe.vault.add_key(&key("new"))),
        refused(safe.vault.change_key(&key("new"))),
    ] {
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.hint().unwrap().contains("key remove"));
    }
    assert_eq!(safe.names("keys"), before);
    safe.open(&given("more31")).unwrap();
    let error = refused(safe.open(&given("wrong")));
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn one_that_may_not_be_read_hides_no_other() {
    let safe = Safe::new();
    let second = safe.vault.add_key(&key("second")).unwrap();
    for kind in [
        ErrorKind::Archived,
        ErrorKind::Unsupported,
        ErrorKind::Failed,
    ] {
        let faulty = FaultStore::new(safe.store.clone(), move |operation| {
            match operation.verb == "get" && *operation.name == ObjectName::key(second) {
                true => Err(Error::new(kind, "the test says so")),
                false => Ok(()),
            }
        });
        let faulty = Arc::new(faulty);
        let opened = Vault::open_by(faulty.clone(), &given("first")).unwrap();
        let entries = opened.key_entries().unwrap();
        assert!(entries[0].entry.is_ok() && entries[1].entry.is_err());
        let error = refused(Vault::open_by(faulty, &given("second")));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&second.to_string()), "{error}");
    }
    let cut = FaultStore::new(safe.store.clone(), |operation| match operation.verb {
        "get" if operation.name.is_below(&ObjectName::keys()) => {
            Err(Error::new(ErrorKind::Io, "the test says so"))
        }
        _ => Ok(()),
    });
    let error = refused(Vault::open_by(Arc::new(cut), &given("first")));
    assert_eq!(error.kind(), ErrorKind::Io);
}

/// A directory in which an `init --encrypt` was cut off.
#[test]
fn a_place_with_keys_alone_says_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    let text = format!("keys/{}", later(1));
    std::fs::write(folder.path().join(text), "a key").unwrap();
    let error = refused(Vault::create_local(folder.path(), vault_options()));
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(error.to_string().contains("keys lie there"), "{error}");
}

/// What the store has kept is opened before the old key goes.
#[test]
fn a_new_key_that_was_kept_wrong_replaces_none() {
    let safe = Safe::new();
    let old = safe.names("keys");
    let (store, known) = (safe.store.clone(), old.clone());
    let armed = Arc::new(AtomicBool::new(false));
    let is_armed = Arc::clone(&armed);
    let faulty = FaultStore::new(safe.store.clone(), move |operation| {
        let is_new = operation.name.is_below(&ObjectName::keys())
            && operation.name.components().count() == 2
            && !known.contains(operation.name);
        if is_armed.load(Ordering::SeqCst) && is_new && operation.verb == "put" && operation.done {
            store.corrupt(operation.name, |bytes| bytes[60] ^= 1);
        }
        Ok(())
    });
    let vault = Vault::open_by(Arc::new(faulty), &given("first")).unwrap();
    armed.store(true, Ordering::SeqCst);
    for error in [
        refused(vault.change_key(&key("new"))),
        refused(vault.add_key(&key("new"))),
    ] {
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.hint().unwrap().contains("no other key"), "{error}");
    }
    safe.open(&given("first")).unwrap();
    refused(safe.open(&given("new")));
}

/// Of two that change keys at once: the old passphrase does not come back for nothing.
#[test]
fn a_key_that_was_changed_meanwhile_is_not_put_back() {
    let safe = Safe::new();
    let other = safe.vault.add_key(&key("other")).unwrap();
    let one = safe.open(&given("first")).unwrap();
    safe.open(&given("first"))
        .unwrap()
        .change_key(&key("new"))
        .unwrap();
    let removed = one.remove_key(other, &key("first")).unwrap();
    assert_eq!(removed, KeyRemoved::OwnGone);
    refused(safe.open(&given("first")));
    safe.open(&given("new")).unwrap();
    assert_eq!(safe.names("keys").len(), 1);
}
