//! What somebody tries who has the store, or a writer's key, or both.

use super::*;
use crate::support::vaults::{Notes, check, check_all, restore, verify_all};
use std::slice::from_ref;
use stillpoint::ErrorKind;
use stillpoint::model::Mode;
use stillpoint::store::SlotRange;

#[test]
fn who_has_no_key_sees_names_and_lengths_only() {
    let safe = Safe::new();
    let taken = safe.take(&safe.vault);
    check(&safe.vault, &taken);
    let host = taken.manifest.host.as_bytes();
    let disk = taken.manifest.disks[0].identity.name.as_bytes();
    assert!(host == b"host" && !disk.is_empty());
    let mut seen = 0;
    for folder in ["segments", "index", "snapshots"] {
        for name in safe.names(folder) {
            let bytes = safe.bytes(&name);
            seen += bytes.len();
            let noise = noise();
            let parts = [MARK, b"SPCK", b"\"host\"", b"identity", &noise[7000..7040]];
            for part in parts {
                assert!(!holds(&bytes, part), "{name} shows {part:?}");
            }
        }
    }
    assert!(seen > 2 * BLOCK_SIZE as usize, "{seen}");
    for key in [
        KeySource::Nobody,
        given("First"),
        given("firs"),
        given("first "),
    ] {
        let error = refused(safe.open(&key));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.hint().is_some() && !error.to_string().contains("First"));
    }
}

/// A host that is taken over: all that its key is good for, and all that it is not.
#[test]
fn a_stolen_writers_key_takes_snapshots_and_reads_nothing() {
    let safe = Safe::new();
    let before = safe.take(&safe.vault);
    let stolen = writer_of(&safe.vault);
    let host = safe.open(&stolen).unwrap();
    // It goes on from what was there, and compares, and takes fulls.
    safe.disks[0].write(9 * BLOCK_SIZE, b"changed");
    let incremental = safe.take(&host);
    assert_eq!(incremental.manifest.disks[0].mode, Mode::Incremental);
    safe.disks.iter().for_each(ModelDisk::reboot);
    safe.disks[0].write(11 * BLOCK_SIZE, b"changed more");
    let compare = safe.take(&host);
    let mode = &compare.manifest.disks[0];
    assert_eq!(mode.mode, Mode::Compare);
    assert!(
        mode.stored_bytes.0 < 4 * BLOCK_SIZE,
        "it stores what differs only"
    );
    let full = Take {
        full: true,
        ..Take::default()
    };
    let full = take(&host, &safe.disks, full).unwrap();
    let all = [before, incremental, compare, full];
    check_all(&safe.vault, &all);
    // Without a passphrase it reads none of them, its own included.
    for taken in &all {
        for record in &taken.manifest.disks {
            let error = refused(restore(&host, record, false));
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
    }
    for name in safe.names("segments") {
        let segment: ObjectId = name.components().last().unwrap().parse().unwrap();
        let footer = host.check_segment(segment).unwrap();
        for first in 0..footer.slots().len() as u32 {
            let one = SlotRange {
                segment,
                first,
                count: 1,
            };
            let mut got = Vec::new();
            let read = host.read_chunks(one, &mut |chunks| {
                got.extend_from_slice(chunks[0]);
                Ok(())
            });
            assert_eq!(refused(read).kind(), ErrorKind::Unsupported);
            assert!(got.is_empty());
        }
    }
    // It makes no key, takes none away, and changes none.
    let keys = host.key_entries().unwrap();
    for error in [
        refused(host.add_key(&key("own"))),
        refused(host.change_key(&key("own"))),
        refused(host.remove_key(keys[0].id, &key("own"))),
        refused(host.need_to_read()),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(host.key_entries().unwrap().len(), 1);
    assert!(
        refused(safe.open(&given("own")))
            .to_string()
            .contains("does not open")
    );
    // What it exports is no more than what it has.
    let again = writer_of(&host);
    assert!(safe.open(&again).unwrap().need_to_read().is_err());
    assert!(verify_all(&host).unwrap().broken.is_empty());
}

/// A host with a writer's key that was cut off goes on, and relies on nothing that is wrong.
#[test]
fn a_writer_goes_on_from_a_run_that_was_cut_off() {
    const BLOCKS: u64 = 1100;
    for wrong in [false, true] {
        let safe = Safe::new();
        let host = safe.open(&writer_of(&safe.vault)).unwrap();
        let disk = ModelDisk::new(7, BLOCKS * BLOCK_SIZE, 1);
        disk.write(0, &crate::resume::noise(BLOCKS * BLOCK_SIZE, 1));
        let notes = tempfile::tempdir().unwrap();
        let options = |cut_off| Take {
            notes: Some(Notes {
                directory: notes.path().join("sent"),
                machine: Some("machine"),
            }),
            cut_off,
            ..Take::default()
        };
        let error = refused(take(&host, from_ref(&disk), options(true)));
        assert!(error.to_string().contains("goes on from"), "{error}");
        if wrong {
            for name in safe.names("segments") {
                safe.store.corrupt(&name, |bytes| bytes[5000] ^= 1);
            }
        }
        let host = safe.open(&writer_of(&safe.vault)).unwrap();
        let taken = take(&host, from_ref(&disk), options(false)).unwrap();
        check(&safe.vault, &taken);
        let resumed = taken.manifest.disks[0].resumed_bytes.0 / BLOCK_SIZE;
        assert_eq!(resumed, if wrong { 0 } else { BLOCKS });
    }
}

/// The text of `vault.json` with something replaced and its hash right again.
fn with_other_info(safe: &Safe, change: impl Fn(&str) -> String) {
    let name = ObjectName::vault_info();
    safe.store.corrupt(&name, |bytes| {
        let text = std::str::from_utf8(bytes).unwrap();
        let start = text.find("\"vault\":").unwrap() + 8;
        let end = text.rfind(",\"blake3\"").unwrap();
        let inner = change(&text[start..end]);
        assert_ne!(inner, text[start..end]);
        let hash = blake3::hash(inner.as_bytes()).to_hex();
        *bytes = format!("{{\"vault\":{inner},\"blake3\":\"{hash}\"}}\n").into_bytes();
    });
}

/// A store that would have hosts write in the clear, or to a key of its own.
#[test]
fn a_vault_json_that_somebody_has_changed_is_noticed() {
    let safe = Safe::new();
    let writer = writer_of(&safe.vault);
    let id = safe.vault.info().id;
    let public = hex::encode(safe.vault.keys().unwrap().public());
    let others = hex::encode(foreign_keys(id).public());
    let good = safe.bytes(&ObjectName::vault_info());
    with_other_info(&safe, |info| info.replace(&public, &others));
    for key in [&writer, &given("first")] {
        let error = refused(safe.open(key));
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("another public key"), "{error}");
    }
    safe.store
        .corrupt(&ObjectName::vault_info(), |bytes| *bytes = good.clone());
    safe.open(&writer).unwrap();
    let start = "\"encryption\":";
    with_other_info(&safe, |info| {
        let at = info.find(start).unwrap() + start.len();
        let end = at + info[at..].find('}').unwrap() + 1;
        format!("{}null{}", &info[..at], &info[end..])
    });
    for key in [&writer, &given("first")] {
        let error = refused(safe.open(key));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("is not encrypted"), "{error}");
    }
    // Who gives no key sees no snapshot in it, for each of them is sealed.
    safe.take(&safe.vault);
    let plain = Vault::open(safe.store.clone()).unwrap();
    let snapshots = plain.snapshots().unwrap();
    assert!(plain.manifest(&snapshots[0]).is_err());
}

#[test]
fn objects_under_other_names_and_of_other_vaults_are_noticed() {
    let (safe, other) = (Safe::new(), Safe::new());
    let taken = [safe.take(&safe.vault), safe.take(&safe.vault)];
    let [_, _] = [other.take(&other.vault), other.take(&other.vault)];
    let whole = |what: &str| {
        let read = verify_all(&safe.open(&given("first")).unwrap());
        let is_whole =
            read.is_ok_and(|report| report.broken.is_empty() && report.harmless.is_empty());
        assert!(!is_whole, "{what} was not noticed");
    };
    for folder in ["segments", "index", "snapshots"] {
        let (own, theirs) = (safe.names(folder), other.names(folder));
        assert!(own.len() >= 2 || folder == "segments", "{folder}");
        for (at, name) in own.iter().enumerate() {
            let good = safe.bytes(name);
            let swap = |bytes: &[u8], what: &str| {
                safe.store.corrupt(name, |object| *object = bytes.to_vec());
                whole(&format!("{what}: {name}"));
                safe.store.corrupt(name, |object| *object = good.clone());
            };
            swap(&other.bytes(&theirs[at % theirs.len()]), "another vault's");
            let neighbour = &own[(at + 1) % own.len()];
            if neighbour != name {
                swap(&safe.bytes(neighbour), "a neighbour's");
            }
            for cut in [0, 1, good.len() / 2, good.len() - 1] {
                swap(&good[..cut], "cut");
            }
            for flip in (0..good.len()).step_by(1 + good.len() / 40) {
                let mut flipped = good.clone();
                flipped[flip] ^= 0x20;
                swap(&flipped, &format!("byte {flip} of"));
            }
        }
    }
    check_all(&safe.vault, &taken);
    assert!(verify_all(&safe.vault).unwrap().broken.is_empty());
}

/// What is not sealed has no place in an encrypted vault, also where its hashes are right.
#[test]
fn what_somebody_has_put_unsealed_is_noticed() {
    let safe = Safe::new();
    let plain = Arc::new(Vault::create(Arc::new(MemoryStore::new()), vault_options()).unwrap());
    let theirs = take(&plain, &safe.disks, Take::default()).unwrap();
    let text = plain.sealer().clone();
    let mut forged = theirs.manifest.clone();
    forged.vault = safe.vault.info().id;
    let bytes = forged.encode(&text).unwrap();
    let name = ObjectName::manifest(&forged.host, forged.snapshot);
    safe.store.put(&name, bytes.into()).unwrap();
    let vault = safe.open(&given("first")).unwrap();
    let snapshots = vault.snapshots().unwrap();
    let error = refused(vault.manifest(&snapshots[0]));
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("not sealed"), "{error}");
}

/// Who opens no chunk still tells a whole segment from one that is damaged.
#[test]
fn a_writer_calls_no_whole_segment_lost() {
    let safe = Safe::new();
    safe.take(&safe.vault);
    let host = safe.open(&writer_of(&safe.vault)).unwrap();
    let name = safe.names("segments").remove(0);
    let id: ObjectId = name.components().last().unwrap().parse().unwrap();
    let bad = || host.bad_slots(id, &|| Ok(())).unwrap();
    assert_eq!(bad(), Some(std::collections::BTreeSet::new()));
    safe.store.corrupt(&name, |bytes| bytes[200] ^= 1);
    assert_eq!(bad(), None);
}

/// Somebody has taken `vault.json` away, and put a manifest that is not sealed.
#[test]
fn no_vault_json_in_the_clear_is_made_up_for_an_encrypted_vault() {
    let safe = Safe::new();
    let plain = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(plain.clone(), vault_options()).unwrap());
    take(&vault, &safe.disks, Take::default()).unwrap();
    for object in plain.list_all(&ObjectName::snapshots()).unwrap() {
        let bytes = plain.get(&object.name, 1 << 20).unwrap();
        safe.store.put(&object.name, bytes).unwrap();
    }
    safe.store.delete(&ObjectName::vault_info()).unwrap();
    let error = refused(safe.open(&given("first")));
    let hint = error.hint().unwrap();
    assert!(!hint.contains("\"encryption\":null"), "{hint}");
    assert!(hint.contains("It was encrypted"), "{hint}");
}
