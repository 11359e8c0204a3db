//! Vaults made by someone who means harm: fields are changed and every checksum, hash and name is
//! made right again, so that the deepest decoders are reached. Nothing may panic, take memory
//! without bound, or write outside of the target; `verify` and `restore` must agree.

use super::{noise, objects, sample_disks, sample_step};
use crate::support::model::Chance;
use crate::support::vaults::{rounds, vault_options, verify_all};
use nix::sys::resource::{Resource, setrlimit};
use std::process::Command;
use std::sync::Arc;
use stillpoint::format::{CHUNK_HEADER, Manifest, ObjectKind, SEGMENT_HEADER, Sealer, TRAILER};
use stillpoint::model::{Bytes, Extent, ObjectId, block_count};
use stillpoint::restore::{CopyOptions, Target, copy};
use stillpoint::store::{Blob, MemoryStore, ObjectName, ObjectStore, Vault};
use stillpoint::{ErrorKind, Result};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

const CHILD: &str = "STILLPOINT_HOSTILE_SEED";
/// All address space that the child may take: far more than the bounds add up to, and far less than
/// a length that was believed would take.
const ADDRESS_SPACE: u64 = 1 << 30;

/// A vault with one snapshot, in pieces that can be put together again.
struct Pieces {
    vault_info: Blob,
    manifest: serde_json::Value,
    indexes: Vec<(String, Vec<u8>)>,
    segments: Vec<(ObjectId, Vec<u8>)>,
}

fn pieces() -> Pieces {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    sample_step(&vault, &sample_disks(), 0);
    let mut pieces = Pieces {
        vault_info: Blob::new(),
        manifest: serde_json::Value::Null,
        indexes: Vec::new(),
        segments: Vec::new(),
    };
    for (name, bytes) in objects(store.as_ref()) {
        let last = name.components().last().unwrap().to_owned();
        match name.components().next().unwrap() {
            "index" => {
                let body = SEALER.open_object(ObjectKind::Index, None, &bytes).unwrap();
                pieces.indexes.push((last, body));
            }
            "segments" => pieces
                .segments
                .push((last.parse().unwrap(), bytes.to_vec())),
            "snapshots" => {
                let json = SEALER
                    .open_object(ObjectKind::Manifest, None, &bytes)
                    .unwrap();
                pieces.manifest = serde_json::from_slice(&json).unwrap();
            }
            // Readers need no copies of footers.
            "footers" => {}
            _ => pieces.vault_info = bytes,
        }
    }
    assert!(pieces.segments.len() == 1 && pieces.indexes.len() == 2);
    pieces
}

/// Makes all checksums of a segment right again; answers its name.
pub fn mend_segment(bytes: &mut [u8]) -> ObjectId {
    let end = bytes.len().saturating_sub(TRAILER);
    if end < SEGMENT_HEADER {
        return ObjectId([0; 16]);
    }
    let crc = crc32fast::hash(&bytes[..SEGMENT_HEADER - 4]).to_le_bytes();
    bytes[SEGMENT_HEADER - 4..SEGMENT_HEADER].copy_from_slice(&crc);
    bytes.copy_within(..SEGMENT_HEADER, end + 32);
    let mut at = SEGMENT_HEADER;
    while bytes.get(at..at + 4) == Some(b"SPCK") {
        let stored: [u8; 4] = bytes[at + 12..at + 16].try_into().unwrap();
        let next = at + CHUNK_HEADER + u32::from_le_bytes(stored) as usize;
        if next > end {
            break;
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[at..at + 20]);
        crc.update(&bytes[at + CHUNK_HEADER..next]);
        bytes[at + 20..at + 24].copy_from_slice(&crc.finalize().to_le_bytes());
        at = next;
    }
    let offset: [u8; 8] = bytes[end + 16..end + 24].try_into().unwrap();
    let offset = usize::try_from(u64::from_le_bytes(offset)).unwrap();
    let (start, hashed) = (offset.min(end), bytes.len() - 32);
    let hash = blake3::hash(&bytes[start..hashed]);
    bytes[hashed..].copy_from_slice(hash.as_bytes());
    ObjectId(hash.as_bytes()[..16].try_into().unwrap())
}

/// Puts the pieces together: whoever names a piece names what it is called now.
fn together(mut pieces: Pieces) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    let put = |name: ObjectName, bytes: Vec<u8>| store.put(&name, bytes.into()).unwrap();
    put(ObjectName::vault_info(), pieces.vault_info.to_vec());
    for (old, bytes) in &mut pieces.segments {
        let new = mend_segment(bytes);
        put(ObjectName::segment(new), bytes.clone());
        for (_, body) in &mut pieces.indexes {
            let place = body.windows(16).position(|part| part == old.0);
            if let Some(at) = place {
                body[at..at + 16].copy_from_slice(&new.0);
            }
        }
    }
    let mut json = pieces.manifest.to_string();
    for (old, body) in &pieces.indexes {
        let (id, bytes) = SEALER.seal_index(body).unwrap();
        put(ObjectName::index(id), bytes);
        json = json.replace(old, &id.to_string());
    }
    let id = pieces.manifest["snapshot"].as_str().unwrap().to_owned();
    let name = ObjectName::manifest("host", id.parse().unwrap());
    put(
        name,
        SEALER
            .seal_object(ObjectKind::Manifest, json.as_bytes())
            .unwrap(),
    );
    Arc::new(store)
}

/// Numbers that decoders get wrong.
const NASTY: [u64; 12] = [
    0,
    1,
    2,
    0xff,
    0x4000,
    0xffff,
    0x1_0000,
    0x1_0001,
    0x7fff_ffff,
    0xffff_fffd,
    0xffff_ffff,
    u64::MAX,
];

/// Changes one place of a binary piece.
fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance, places: &[std::ops::Range<usize>]) {
    let place = places[chance.below(places.len() as u64) as usize].clone();
    let at = place.start + chance.below(place.len().max(1) as u64) as usize;
    let nasty = NASTY[chance.below(NASTY.len() as u64) as usize];
    match chance.below(6) {
        0 => bytes[at] ^= 1 << chance.below(8),
        1 => bytes[at] = chance.next() as u8,
        2 => {
            let at = at & !3;
            let value = nasty.to_le_bytes();
            let length = 4.min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&value[..length]);
        }
        3 => {
            let at = at & !7;
            let value = nasty.to_le_bytes();
            let length = 8.min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&value[..length]);
        }
        4 => bytes.truncate(at),
        _ => {
            let more = noise(chance.below(60) as usize, chance.next());
            bytes.splice(at..at, more);
        }
    }
}

/// Changes one number or list somewhere in a manifest.
fn mutate_json(value: &mut serde_json::Value, chance: &mut Chance) {
    use serde_json::Value;
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = chance.below(map.len() as u64) as usize;
            let (key, inner) = map.iter_mut().nth(at).unwrap();
            if !matches!(key.as_str(), "snapshot" | "host" | "vault") {
                mutate_json(inner, chance);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = chance.below(list.len() as u64) as usize;
            match chance.below(5) {
                0 => {
                    let again = list[at].clone();
                    list.extend(vec![again; 50]);
                }
                1 => {
                    list.remove(at);
                }
                _ => mutate_json(&mut list[at], chance),
            }
        }
        Value::Number(number) => {
            let was = number.as_u64().unwrap_or_default();
            let nasty = NASTY[chance.below(NASTY.len() as u64) as usize];
            let others = [
                nasty,
                was.wrapping_add(1),
                was.wrapping_add(512),
                1 << 48,
                was << 20,
            ];
            *value = others[chance.below(5) as usize].into();
        }
        other => {
            *other = [Value::Null, Value::from(-1), Value::from("x".repeat(5000))]
                [chance.below(3) as usize]
                .clone()
        }
    }
}

/// One vault of someone who means harm.
fn attack(seed: u64) -> Arc<MemoryStore> {
    let mut chance = Chance(seed);
    let mut pieces = pieces();
    for _ in 0..=chance.below(3) {
        match chance.below(4) {
            0 => {
                let disks = &mut pieces.manifest["disks"];
                mutate_json(disks, &mut chance);
            }
            1 => {
                let which = chance.below(2) as usize;
                let body = &mut pieces.indexes[which].1;
                if !body.is_empty() {
                    let all = 0..body.len();
                    mutate(body, &mut chance, std::slice::from_ref(&all));
                }
            }
            _ => {
                let bytes = &mut pieces.segments[0].1;
                let length = bytes.len();
                if length < 1000 {
                    continue;
                }
                // Header, first chunk's header and packed bytes, footer, trailer, anything.
                let places = [0..128, 128..152, 152..200, length - 500..length - 192];
                let more = [length - 192..length - 160, 0..length];
                mutate(bytes, &mut chance, &[&places[..], &more[..]].concat());
            }
        }
    }
    together(pieces)
}

/// A target without bytes, as large as it says.
struct Bounded(Bytes);

impl Target for Bounded {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        self.hole(Extent::new(offset, Bytes(blocks.concat().len() as u64)))
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        let end = extent.offset.0.checked_add(extent.length.0);
        assert!(
            end.is_some_and(|end| end <= self.0.0),
            "{extent} is outside"
        );
        assert!(extent.length.0 > 0);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn restores(vault: &Vault, manifest: &Manifest, disk: usize) -> Result<u64> {
    let record = &manifest.disks[disk];
    let size = record.identity.size;
    let map = vault.load_index(&record.index, block_count(size))?;
    let options = CopyOptions {
        workers: 2,
        keep_going: false,
        cancel: &|| Ok(()),
        progress: &|_| {},
    };
    let report = copy(vault, &map, size, &Bounded(size), options)?;
    assert_eq!(report.data.0 + report.holes.0, size.0, "all of the disk");
    Ok(report.data.0)
}

/// Survives one attack; answers how far it got: 0 manifest, 1 index or chunks, 2 all restored.
fn survive(seed: u64) -> usize {
    let vault = Vault::open(attack(seed)).unwrap();
    let report = verify_all(&vault).unwrap();
    let found = vault.snapshots().unwrap().pop().unwrap();
    let manifest = match vault.manifest(&found) {
        Ok(manifest) => manifest,
        Err(error) => {
            assert!(matches!(
                error.kind(),
                ErrorKind::Damaged | ErrorKind::Format
            ));
            assert_eq!(report.broken.len(), 1, "seed {seed}");
            return 0;
        }
    };
    let mut whole = true;
    for disk in 0..manifest.disks.len() {
        let restored = restores(&vault, &manifest, disk);
        let name = &manifest.disks[disk].identity.name;
        let twins = manifest
            .disks
            .iter()
            .filter(|one| one.identity.name == *name);
        let alone = twins.count() == 1;
        let lost = report
            .broken
            .iter()
            .any(|broken| broken.disk.as_ref() == Some(name) && broken.lost.0 > 0);
        if let Err(error) = &restored {
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Damaged | ErrorKind::Format),
                "{error}"
            );
        }
        assert!(
            !alone || lost == restored.is_err(),
            "seed {seed}: {restored:?}: {report:?}"
        );
        whole &= restored.is_ok();
    }
    1 + usize::from(whole)
}

/// The child of the test below: does nothing when it is run as a test of its own.
#[test]
fn attacked_child() {
    let Ok(seed) = std::env::var(CHILD) else {
        return;
    };
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE).unwrap();
    let first: u64 = seed.parse().unwrap();
    let mut reached = [0; 3];
    for seed in first..first + 1500 {
        reached[survive(seed)] += 1;
    }
    assert!(
        reached.iter().all(|count| *count > 50),
        "{reached:?} is no good mix"
    );
}

#[test]
fn no_vault_can_do_harm() {
    for round in 0..rounds() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["damage::hostile::attacked_child", "--exact", "--nocapture"])
            .env(CHILD, (u64::from(round) << 32).to_string())
            // Sixteen threads read from afar: an arena of each would reserve 64 MiB.
            .env("MALLOC_ARENA_MAX", "2")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
    }
}

/// A vault whose manifest is changed so.
fn with_manifest(change: impl Fn(&mut serde_json::Value)) -> Vault {
    let mut pieces = pieces();
    change(&mut pieces.manifest);
    Vault::open(together(pieces)).unwrap()
}

#[test]
fn what_no_writer_writes_is_no_manifest() {
    let read = |change: &dyn Fn(&mut serde_json::Value)| {
        let vault = with_manifest(change);
        let newest = vault.snapshots().unwrap().pop().unwrap();
        vault.manifest(&newest).map(drop)
    };
    read(&|_| ()).unwrap();
    let long = |length: usize| serde_json::Value::from("x".repeat(length));
    let cut = |length: usize| {
        serde_json::json!({"boot_id": "x".repeat(length), "programs": [1, 2], "map": 3,
            "misses": [0, 0], "unaccounted": null, "voids": 0, "epoch": 1})
    };
    read(&|manifest| manifest["disks"][0]["identity"]["serial"] = long(4096)).unwrap();
    read(&|manifest| manifest["disks"][0]["cut"] = cut(36)).unwrap();
    let changes: [&dyn Fn(&mut serde_json::Value); 5] = [
        &|manifest| manifest["disks"][0]["identity"]["serial"] = long(4097),
        &|manifest| manifest["disks"][0]["identity"]["name"] = long(256),
        &|manifest| manifest["disks"][0]["cut"] = cut(256),
        // Or a small vault has a reader lay one object over itself for hours.
        &|manifest| manifest["disks"][1]["index"] = manifest["disks"][0]["index"].clone(),
        &|manifest| {
            let index = manifest["disks"][0]["index"].as_array_mut().unwrap();
            index.push(index[0].clone());
        },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        assert_eq!(read(change).unwrap_err().kind(), ErrorKind::Damaged, "{n}");
    }
}

#[test]
fn many_disks_that_cannot_be_read_are_told_in_few_words() {
    let vault = with_manifest(|manifest| {
        let disk = |n: u32| {
            let mut disk = manifest["disks"][0].clone();
            let id = format!("{n:032x}");
            disk["index"] = serde_json::json!([{"id": id, "runs": 1, "base": true}]);
            disk
        };
        manifest["disks"] = (0..400).map(disk).collect();
    });
    let report = verify_all(&vault).unwrap();
    assert_eq!(report.broken.len(), 256);
    let lost: Bytes = report.broken.iter().map(|broken| broken.lost).sum();
    let newest = vault.snapshots().unwrap().pop().unwrap();
    let size = vault.manifest(&newest).unwrap().disks[0].identity.size;
    assert_eq!(lost, Bytes(400 * size.0));
}

#[test]
fn an_envelope_that_lies_about_its_lengths_is_refused_before_memory_is_taken() {
    let plain = b"some body ".repeat(500);
    let good = SEALER.seal_object(ObjectKind::Session, &plain).unwrap();
    for at in [10, 12, 13, 32, 40] {
        for nasty in NASTY {
            let mut bytes = good.clone();
            let length = if at < 32 { 1 } else { 8 };
            bytes[at..at + length].copy_from_slice(&nasty.to_le_bytes()[..length]);
            if bytes == good {
                continue;
            }
            let body = bytes.len() - 32;
            let hash = blake3::hash(&bytes[..body]);
            bytes[body..].copy_from_slice(hash.as_bytes());
            let error = SEALER
                .open_object(ObjectKind::Session, None, &bytes)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{nasty} at {at}: {error}");
        }
    }
}
