//! Vaults of every version there was are read by this one, and by a reader that shares no code with
//! it; one of a newer version is refused in words.

use crate::support::host::skipped;
use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, check_all, restore, take, vault_options, verify_all};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::format::{Compression, ObjectKind, Sealer, ZstdLevel};
use stillpoint::model::{BLOCK_SIZE, Mode};
use stillpoint::store::{ObjectName, ObjectStore, Vault, VaultOptions};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The BLAKE3 of each disk of each snapshot: `{"<snapshot>/<disk>": "<hex>"}`.
type Expected = BTreeMap<String, String>;

fn expected(version: u16) -> Expected {
    let path = fixtures().join(format!("vault-v{version}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What a vault restores to.
fn restored(vault: &Vault) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for snapshot in vault.snapshots().unwrap() {
        for record in vault.manifest(&snapshot).unwrap().disks {
            let (bytes, report) = restore(vault, &record, false).unwrap();
            assert!(report.damaged.is_empty());
            all.insert(format!("{}/{}", snapshot.id, record.identity.name), bytes);
        }
    }
    all
}

fn hashes(all: &BTreeMap<String, Vec<u8>>) -> Expected {
    let hash = |bytes: &Vec<u8>| blake3::hash(bytes).to_hex().to_string();
    all.iter()
        .map(|(name, bytes)| (name.clone(), hash(bytes)))
        .collect()
}

/// Disks with packed and raw chunks, zeros, free space, and a short last block.
fn fixture_disks() -> Vec<ModelDisk> {
    let disks = vec![
        ModelDisk::new(0, 7 * BLOCK_SIZE + 1536, 1),
        ModelDisk::new(1, 2 * BLOCK_SIZE, 2),
    ];
    disks[0].write(100, &b"stillpoint ".repeat(8000));
    let mut chance = Chance(4);
    let noise: Vec<u8> = (0..1536).map(|_| chance.next() as u8).collect();
    disks[0].write(7 * BLOCK_SIZE, &noise);
    disks[0].free(4);
    disks[1].write(BLOCK_SIZE, &[0xa5; 40_000]);
    disks
}

/// A vault that packs with what came last.
fn fill(path: &Path) -> Arc<Vault> {
    let options = VaultOptions {
        compression: Compression::Zstd(ZstdLevel::USUAL),
        ..vault_options()
    };
    let vault = Arc::new(Vault::create_local(path, options).unwrap());
    let disks = fixture_disks();
    take(&vault, &disks, Take::default()).unwrap();
    disks[0].write(2 * BLOCK_SIZE + 512, b"changed");
    disks[0].write(BLOCK_SIZE, &vec![0; BLOCK_SIZE as usize]);
    let second = take(&vault, &disks, Take::default()).unwrap();
    assert_eq!(second.manifest.disks[0].mode, Mode::Incremental);
    take(
        &vault,
        &disks[1..],
        Take {
            full: true,
            ..Take::default()
        },
    )
    .unwrap();
    vault
}

/// Makes the fixture of the present version. Run it once for each version, and commit it:
/// `cargo test --test stillpoint make_the_fixture -- --ignored`
#[test]
#[ignore = "makes a new fixture, which is done once for each version of the format"]
fn make_the_fixture() {
    let version = stillpoint::format::VERSION;
    let path = fixtures().join(format!("vault-v{version}"));
    assert!(!path.exists(), "a fixture is never changed");
    let vault = fill(&path);
    let text = serde_json::to_string_pretty(&hashes(&restored(&vault))).unwrap();
    fs::write(path.with_extension("json"), text + "\n").unwrap();
}

#[test]
fn every_version_has_a_fixture_that_is_read() {
    for version in 1..=stillpoint::format::VERSION {
        let vault = Vault::open_local(&fixtures().join(format!("vault-v{version}"))).unwrap();
        let report = verify_all(&vault).unwrap();
        assert!(report.broken.is_empty(), "{:?}", report.broken);
        assert_eq!(hashes(&restored(&vault)), expected(version));
        assert_eq!(expected(version).len(), 5);
    }
}

#[test]
fn the_fixture_can_be_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let source = fixtures().join("vault-v1");
    let copied = Command::new("cp").arg("-r").arg(source).arg(&path).status();
    assert!(copied.unwrap().success());
    let vault = Arc::new(Vault::open_local(&path).unwrap());
    let disks = fixture_disks();
    disks.iter().for_each(|disk| disk.scribble(5));
    // The fixture's tracker is long gone.
    disks.iter().for_each(ModelDisk::reboot);
    let next = take(&vault, &disks, Take::default()).unwrap();
    assert!(
        next.manifest
            .disks
            .iter()
            .all(|disk| disk.mode == Mode::Compare)
    );
    crate::support::vaults::check(&vault, &next);
    assert_eq!(vault.snapshots().unwrap().len(), 4);
    // What was added is of version 1, too: those who could read the vault still can.
    assert_eq!(next.manifest.format, 1);
    read_by_python(&path);
}

/// Runs the reader in another language; `None`: there is no such language here.
fn python(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("python3");
    command
        .arg(fixtures().join("read_vault.py"))
        .args(arguments);
    let Ok(output) = command.output() else {
        skipped("reading a vault by FORMAT.md alone", "no python3 here");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn read_by_python(path: &Path) {
    let vault = Vault::open_local(path).unwrap();
    let root = path.to_str().unwrap();
    let Some(list) = python(&[root]) else {
        return;
    };
    let all = restored(&vault);
    assert_eq!(list.lines().count(), all.len());
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in &all {
        let (snapshot, disk) = name.split_once('/').unwrap();
        let line = format!("{snapshot} {disk} {}", bytes.len());
        assert!(list.lines().any(|listed| listed == line), "{line}: {list}");
        let target = folder.path().join("image");
        python(&[root, snapshot, disk, target.to_str().unwrap()]).unwrap();
        assert!(fs::read(&target).unwrap() == *bytes, "{name}: other bytes");
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_reader_made_from_the_documentation_alone_reads_the_fixtures() {
    for version in 1..=stillpoint::format::VERSION {
        read_by_python(&fixtures().join(format!("vault-v{version}")));
    }
}

#[test]
fn a_reader_made_from_the_documentation_alone_reads_fresh_vaults() {
    for compression in ["none", "lz4", "zstd:1", "zstd:-3"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault");
        let options = VaultOptions {
            compression: compression.parse().unwrap(),
            ..vault_options()
        };
        let vault = Arc::new(Vault::create_local(&path, options).unwrap());
        let disks = [
            ModelDisk::new(0, 30 * BLOCK_SIZE + 512, 11),
            ModelDisk::new(1, 512, 12),
        ];
        let mut taken = Vec::new();
        for _ in 0..3 {
            disks.iter().for_each(|disk| disk.scribble(15));
            let options = Take {
                host: "höst with spaces/and.dots".into(),
                ..Take::default()
            };
            taken.push(take(&vault, &disks, options).unwrap());
        }
        check_all(&vault, &taken);
        read_by_python(&path);
        let opened = Vault::open_local(&path).unwrap();
        assert_eq!(opened.info().compression.to_string(), compression);
    }
}

/// Copies the fixture into memory and changes one object.
fn changed(prefix: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Arc<dyn ObjectStore> {
    let source = stillpoint::store::LocalStore::open(&fixtures().join("vault-v1")).unwrap();
    let store = stillpoint::store::MemoryStore::new();
    let mut names = vec![ObjectName::vault_info()];
    for folder in ["index", "segments", "snapshots"] {
        let listed = source
            .list_all(&ObjectName::parse(folder).unwrap())
            .unwrap();
        names.extend(listed.into_iter().map(|object| object.name));
    }
    for name in names {
        let mut bytes = source.get(&name, 1 << 20).unwrap().to_vec();
        if name.as_str().starts_with(prefix) {
            bytes = change(bytes);
        }
        store.put(&name, bytes.into()).unwrap();
    }
    Arc::new(store)
}

/// The text of `vault.json` with something replaced and its hash right again.
fn other_vault_json(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    let start = text.find("\"vault\":").unwrap() + 8;
    let end = text.rfind(",\"blake3\"").unwrap();
    let inner = text[start..end].replacen(from, to, 1);
    assert_ne!(inner, text[start..end], "{from} is not in {text}");
    let hash = blake3::hash(inner.as_bytes()).to_hex();
    format!("{{\"vault\":{inner},\"blake3\":\"{hash}\"}}\n").into_bytes()
}

#[test]
fn a_newer_or_an_encrypted_vault_is_refused_in_words() {
    let cases = [
        ("\"format\":1", "\"format\":3,\"unheard\":[1]", "newer"),
        ("\"format\":1", "\"format\":70000", "newer"),
        (
            "\"encryption\":null",
            "\"encryption\":{\"cipher\":\"AES-256-GCM\"}",
            "encrypted",
        ),
        (
            "\"block_size\":65536",
            "\"block_size\":131072",
            "block size",
        ),
    ];
    for (from, to, word) in cases {
        let store = changed("vault.json", |bytes| other_vault_json(&bytes, from, to));
        let Err(error) = Vault::open(store) else {
            panic!("{to} was opened");
        };
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert!(
            error.hint().unwrap().contains("newest"),
            "{:?}",
            error.hint()
        );
    }
    // A newer writer may say more in the same version.
    let more = |bytes: Vec<u8>| other_vault_json(&bytes, "\"format\":1", "\"format\":1,\"more\":1");
    Vault::open(changed("vault.json", more)).unwrap();
}

#[test]
fn a_newer_or_sealed_object_is_refused_in_words_when_its_hash_is_right() {
    for (at, value) in [(8, 3), (9, 1), (11, 1)] {
        let store = changed("snapshots/", |mut bytes| {
            bytes[at] = value;
            let body = bytes.len() - 32;
            let hash = blake3::hash(&bytes[..body]);
            bytes[body..].copy_from_slice(hash.as_bytes());
            bytes
        });
        let vault = Vault::open(store).unwrap();
        let error = vault
            .manifest(&vault.snapshots().unwrap().pop().unwrap())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        let report = verify_all(&vault).unwrap();
        assert_eq!(report.broken.len(), 3, "verify says so of each and goes on");
    }
}

#[test]
fn a_manifest_may_say_more_than_this_version_knows() {
    let store = changed("snapshots/", |bytes| {
        let plain = SEALER
            .open_object(ObjectKind::Manifest, None, &bytes)
            .unwrap();
        let text = String::from_utf8(plain).unwrap();
        let text = text.replacen(
            "{\"format\":1",
            "{\"unheard_of\":{\"a\":[1]},\"format\":1",
            1,
        );
        let text = text.replace("\"index\":[", "\"later\":null,\"index\":[");
        assert!(text.contains("unheard_of") && text.contains("later"));
        SEALER
            .seal_object(ObjectKind::Manifest, text.as_bytes())
            .unwrap()
    });
    let vault = Vault::open(store).unwrap();
    assert_eq!(hashes(&restored(&vault)), expected(1));
}
