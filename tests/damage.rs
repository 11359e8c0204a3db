//! Damage of every sort to every part of a vault: it is found or it is harmless, what is called
//! lost is what is lost, and a restore never succeeds with wrong bytes.

pub mod hostile;
mod kinds;
mod lost;
mod mapped;
mod matrix;
mod noted;
mod sampled;
mod stopped;

use crate::support::host::noise;
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, expected, restore, take, vault_options, verify_all};
use std::sync::Arc;
use stillpoint::engine::Broken;
use stillpoint::format::DiskRecord;
use stillpoint::model::{BLOCK_SIZE, Extent};
use stillpoint::store::{Blob, MemoryStore, ObjectName, ObjectStore, Vault};
use stillpoint::{ErrorKind, Result};

/// One object: its name and bytes.
type Object = (ObjectName, Blob);

/// A small vault and what it must give: two disks, three snapshots.
struct Sample {
    objects: Vec<Object>,
    truth: Vec<Truth>,
}

/// A disk of a snapshot and its bytes.
struct Truth {
    snapshot: String,
    record: DiskRecord,
    bytes: Vec<u8>,
}

/// All objects of a store, by name.
fn objects(store: &dyn ObjectStore) -> Vec<Object> {
    let mut names = vec![ObjectName::vault_info()];
    for prefix in ["index", "segments", "sessions", "snapshots"] {
        let listed = store.list_all(&ObjectName::parse(prefix).unwrap()).unwrap();
        names.extend(listed.into_iter().map(|object| object.name));
    }
    names.sort();
    let get = |name: ObjectName| {
        let bytes = store.get(&name, u64::MAX).unwrap();
        (name, bytes)
    };
    names.into_iter().map(get).collect()
}

fn store_of(objects: &[Object]) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for (name, bytes) in objects {
        store.put(name, bytes.clone()).unwrap();
    }
    Arc::new(store)
}

/// The disks of a sample: a few blocks each, of odd size, with bytes that can be packed and not.
fn sample_disks() -> Vec<ModelDisk> {
    let disks = vec![
        ModelDisk::new(0, 3 * BLOCK_SIZE + 1536, 1),
        ModelDisk::new(1, BLOCK_SIZE + 512, 2),
    ];
    disks[0].write(0, &b"stillpoint".repeat(4000));
    disks[0].write(3 * BLOCK_SIZE, &noise(700, 3));
    disks[1].write(512, &[7; 9000]);
    disks
}

/// Changes the disks and takes the next of three snapshots.
fn sample_step(vault: &Arc<Vault>, disks: &[ModelDisk], step: u8) -> Taken {
    match step {
        0 => {}
        1 => {
            disks[0].write(BLOCK_SIZE - 100, &[step; 300]);
            disks[1].write(BLOCK_SIZE, &noise(512, 9));
        }
        _ => disks[0].write(2 * BLOCK_SIZE, &[step; 4096]),
    }
    take(vault, disks, Take::default()).unwrap()
}

fn sample() -> Sample {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disks = sample_disks();
    let taken: Vec<Taken> = (0..3)
        .map(|step| sample_step(&vault, &disks, step))
        .collect();
    Sample {
        objects: objects(store.as_ref()),
        truth: truth_of(&vault, &taken),
    }
}

fn truth_of(vault: &Vault, taken: &[Taken]) -> Vec<Truth> {
    let mut truth = Vec::new();
    for snapshot in taken {
        for (record, stills) in snapshot.manifest.disks.iter().zip(&snapshot.truth) {
            truth.push(Truth {
                snapshot: snapshot.manifest.snapshot.to_string(),
                record: record.clone(),
                bytes: expected(vault, record, &stills[0]).unwrap(),
            });
        }
    }
    truth
}

/// What became of a damaged vault.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It was found.
    Found,
    /// It was not found, and everything restores to the right bytes.
    Harmless,
}

/// Judges a damaged vault: panics where damage is neither found nor harmless, or where `verify` and
/// the restores do not agree about what is lost.
fn judge(store: Arc<dyn ObjectStore>, truth: &[Truth], what: &str) -> Verdict {
    let vault = match Vault::open(store) {
        Ok(vault) => vault,
        Err(error) => {
            use ErrorKind::{Damaged, Format, NotFound};
            let kind = error.kind();
            assert!(
                matches!(kind, Damaged | Format | NotFound),
                "{what}: {error}"
            );
            return Verdict::Found;
        }
    };
    let report = verify_all(&vault).unwrap_or_else(|error| panic!("{what}: verify: {error}"));
    let mut missing = false;
    for one in truth {
        let Ok(found) = vault.find(&one.snapshot) else {
            missing = true;
            continue;
        };
        let broken: Vec<&Broken> = report
            .broken
            .iter()
            .filter(|broken| broken.snapshot == found.id)
            .collect();
        let Ok(manifest) = vault.manifest(&found) else {
            assert!(broken.iter().any(|broken| broken.disk.is_none()), "{what}");
            continue;
        };
        let name = &one.record.identity.name;
        let record = manifest
            .disks
            .iter()
            .find(|disk| disk.identity.name == *name);
        let lost: Vec<Extent> = broken
            .iter()
            .filter(|broken| broken.disk.as_ref() == Some(name))
            .flat_map(|broken| broken.places.clone())
            .collect();
        judge_disk(&vault, record.unwrap(), (&one.bytes, &lost), what);
    }
    match report.broken.is_empty() && report.harmless.is_empty() && !missing {
        true => Verdict::Harmless,
        false => Verdict::Found,
    }
}

/// A disk restores to `bytes`, but for what `verify` calls `lost`.
fn judge_disk(vault: &Vault, record: &DiskRecord, (bytes, lost): (&[u8], &[Extent]), what: &str) {
    let name = &record.identity.name;
    match restore(vault, record, false) {
        Ok((got, _)) => {
            assert!(got == bytes, "{what}: {name}: success with wrong bytes");
            assert!(
                lost.is_empty(),
                "{what}: {name}: verify calls {lost:?} lost"
            );
            return;
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {name}: {error}");
            assert!(
                !lost.is_empty(),
                "{what}: {name}: verify did not find: {error}"
            );
        }
    }
    let Ok((got, report)) = restore(vault, record, true) else {
        assert_eq!(lost, [Extent::new(lost[0].offset, record.identity.size)]);
        return;
    };
    let mut expected = bytes.to_vec();
    for place in lost {
        expected[place.offset.0 as usize..place.end().0 as usize].fill(0);
    }
    assert!(got == expected, "{what}: {name}: not just {lost:?} is lost");
    let damaged: u64 = report.damaged.iter().map(|one| one.place.length.0).sum();
    let called: u64 = lost.iter().map(|place| place.length.0).sum();
    assert_eq!(damaged, called, "{what}");
    assert_eq!(report.damaged_bytes.0, damaged);
    assert_eq!(
        report.data.0 + report.holes.0 + damaged,
        record.identity.size.0,
        "{what}: the sums"
    );
}

/// Changes one object of a sample and judges.
fn judge_changed(
    sample: &Sample,
    at: usize,
    change: impl FnOnce(&mut Vec<u8>),
    what: &str,
) -> Verdict {
    let store = store_of(&sample.objects);
    let name = &sample.objects[at].0;
    store.corrupt(name, change);
    judge(store, &sample.truth, &format!("{name}: {what}"))
}

#[test]
fn an_undamaged_vault_is_whole() {
    let sample = sample();
    assert!(
        sample.objects.len() >= 1 + 3 + 3 + 5,
        "{:?}",
        sample.objects.len()
    );
    let verdict = judge(store_of(&sample.objects), &sample.truth, "nothing");
    assert_eq!(verdict, Verdict::Harmless);
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let sample = sample();
    let mut harmless = Vec::new();
    for (at, (name, bytes)) in sample.objects.iter().enumerate() {
        for byte in 0..bytes.len() {
            let flip = |bytes: &mut Vec<u8>| bytes[byte] ^= 1 << (byte % 8);
            let what = format!("byte {byte} of {}", bytes.len());
            if judge_changed(&sample, at, flip, &what) == Verdict::Harmless {
                harmless.push(format!("{name} {what}"));
            }
        }
    }
    // White space at the end of vault.json is all that does not matter.
    harmless.retain(|place| !place.starts_with("vault.json"));
    assert!(harmless.is_empty(), "{harmless:?}");
}

#[test]
fn every_cut_is_found() {
    let sample = sample();
    for (at, (name, bytes)) in sample.objects.iter().enumerate() {
        let length = bytes.len();
        for cut in (0..length).filter(|cut| cut % 17 == 0 || length - cut < 40) {
            let what = format!("cut at {cut} of {length}");
            let verdict = judge_changed(&sample, at, |bytes| bytes.truncate(cut), &what);
            let newline = name.as_str() == "vault.json" && cut == length - 1;
            assert!(verdict == Verdict::Found || newline, "{name}: {what}");
        }
        let verdict = judge_changed(&sample, at, |bytes| bytes.push(0), "a byte more");
        assert_eq!(verdict, Verdict::Found, "{name}");
        let verdict = judge_changed(&sample, at, |bytes| bytes.insert(0, b'S'), "a byte before");
        assert_eq!(verdict, Verdict::Found, "{name}");
    }
}

#[test]
fn every_missing_object_is_found() {
    let sample = sample();
    for (name, _) in &sample.objects {
        let store = store_of(&sample.objects);
        store.delete(name).unwrap();
        let verdict = judge(store, &sample.truth, &format!("{name} deleted"));
        assert_eq!(verdict, Verdict::Found, "{name}");
    }
}

#[test]
fn objects_under_one_anothers_names_are_found() {
    let sample = sample();
    for (one, (name, _)) in sample.objects.iter().enumerate() {
        for (other, (theirs, bytes)) in sample.objects.iter().enumerate() {
            if one == other {
                continue;
            }
            let what = format!("{theirs} in its place");
            let swap = |into: &mut Vec<u8>| *into = bytes.to_vec();
            let verdict = judge_changed(&sample, one, swap, &what);
            assert_eq!(verdict, Verdict::Found, "{name}: {what}");
        }
    }
}

#[test]
fn a_manifest_of_another_host_or_vault_is_no_snapshot_of_this_one() {
    let (sample, other) = (sample(), sample_of_another_vault());
    let is_manifest = |object: &&Object| object.0.as_str().starts_with("snapshots/");
    let (name, bytes) = sample.objects.iter().find(is_manifest).unwrap();
    let stands = name.as_str().rsplit('/').next().unwrap();
    let elsewhere = ObjectName::parse(&format!("snapshots/other-host/{stands}")).unwrap();
    let foreign = other.iter().find(is_manifest).unwrap();
    for (at, bytes) in [(&elsewhere, bytes), (&foreign.0, &foreign.1)] {
        let store = store_of(&sample.objects);
        store.put(at, bytes.clone()).unwrap();
        let vault = Vault::open(store).unwrap();
        let report = verify_all(&vault).unwrap();
        assert_eq!(report.broken.len(), 1, "{:?}", report.broken);
        assert_eq!(report.broken[0].disk, None);
        let all = vault.snapshots().unwrap();
        let readable: Vec<Result<_>> = all.iter().map(|one| vault.manifest(one)).collect();
        assert_eq!(readable.iter().filter(|one| one.is_ok()).count(), 3);
    }
}

fn sample_of_another_vault() -> Vec<Object> {
    sample().objects
}

/// A checksum of 32 bits is no proof: the hash in the footer is.
#[test]
fn a_chunk_that_matches_its_crc_but_not_its_hash_is_found() {
    let sample = sample();
    let is_segment = |object: &Object| object.0.as_str().starts_with("segments/");
    let at = sample.objects.iter().position(is_segment).unwrap();
    let u32_at =
        |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (head, stored) = (128, 128 + 24);
    let length = u32_at(&sample.objects[at].1, head + 12) as usize;
    for byte in (0..length).step_by(7) {
        let change = |bytes: &mut Vec<u8>| {
            bytes[stored + byte] ^= 1;
            let mut crc = crc32fast::Hasher::new();
            crc.update(&bytes[head..head + 20]);
            crc.update(&bytes[stored..stored + length]);
            bytes[head + 20..head + 24].copy_from_slice(&crc.finalize().to_le_bytes());
        };
        let verdict = judge_changed(&sample, at, change, &format!("stored byte {byte}"));
        assert_eq!(verdict, Verdict::Found, "stored byte {byte}");
    }
}
