//! A second place of an encrypted vault, with a key and without; and the reader that was made from
//! FORMAT.md alone.

use super::*;
use crate::support::host::skipped;
use crate::support::vaults::{check, check_all, restore, verify_all};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stillpoint::ErrorKind;
use stillpoint::engine::{Silent, mirror, mirror_sealed};
use stillpoint::store::{
    FaultStore, LocalStore, Location, SealedFolder, make_second, open, open_second,
};

/// An encrypted vault in a directory.
struct Place {
    folder: tempfile::TempDir,
    vault: Arc<Vault>,
    disks: Vec<ModelDisk>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = VaultOptions {
            encrypt: Some(key("first")),
            ..vault_options()
        };
        let vault = Vault::create_local(&folder.path().join("vault"), options).unwrap();
        Self {
            folder,
            vault: Arc::new(vault),
            disks: Safe::new().disks,
        }
    }

    fn take(&self) -> Taken {
        self.disks.iter().for_each(|disk| disk.scribble(5));
        take(&self.vault, &self.disks, Take::default()).unwrap()
    }

    fn at(&self, name: &str) -> Location {
        let path = self.folder.path().join(name);
        Location::parse(path.to_str().unwrap()).unwrap()
    }

    fn second(&self, key: &str) -> Arc<Vault> {
        let path = self.folder.path().join("second");
        Arc::new(Vault::open_local_by(&path, &given(key)).unwrap())
    }
}

fn open_without_key(place: &Place) -> Vault {
    let vault = open(&place.at("vault").with_key(KeySource::NotWanted)).unwrap();
    assert!(vault.is_without_key());
    vault
}

#[test]
fn who_has_no_key_mirrors_it_whole_and_goes_on() {
    let place = Place::new();
    let mut taken = vec![place.take(), place.take()];
    for round in 0..2 {
        let source = open_without_key(&place);
        let target = make_second(&place.at("second"), &source).unwrap();
        let report = mirror_sealed(&source, Some(&target), false, &Silent).unwrap();
        assert_eq!(report.sent.len(), 2 - round);
        assert_eq!((report.there, report.damaged.len()), (2 * round, 0));
        assert!(report.warnings.is_empty() && report.wrong.is_empty());
        check_all(&place.second("first"), &taken);
        let again = mirror_sealed(&source, Some(&target), false, &Silent).unwrap();
        assert_eq!((again.objects, again.there), (0, taken.len()));
        assert_eq!(
            fs::read_dir(place.folder.path().join("second/sessions"))
                .unwrap()
                .count(),
            0
        );
        taken.push(place.take());
        place.vault.add_key(&key(&format!("more{round}"))).unwrap();
    }
    check(&place.second("more0"), &taken[0]);
    // Nothing is opened or made by it.
    let source = open_without_key(&place);
    let snapshots = source.snapshots().unwrap();
    assert_eq!(
        refused(source.manifest(&snapshots[0])).kind(),
        ErrorKind::Unsupported
    );
    let none = take(&Arc::new(source), &place.disks, Take::default());
    assert!(none.is_err());
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn what_is_damaged_is_not_carried_without_a_key_either() {
    let place = Place::new();
    place.take();
    let segments = files(&place.folder.path().join("vault/segments"));
    let mut bytes = fs::read(&segments[0]).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::remove_file(&segments[0]).unwrap();
    fs::write(&segments[0], bytes).unwrap();
    let source = open_without_key(&place);
    let target = make_second(&place.at("second"), &source).unwrap();
    let report = mirror_sealed(&source, Some(&target), false, &Silent).unwrap();
    assert_eq!((report.sent.len(), report.damaged.len()), (0, 1));
    assert!(
        report.warnings[0].contains("segments/"),
        "{:?}",
        report.warnings
    );
    assert!(place.second("first").snapshots().unwrap().is_empty());
}

/// That something is gone which is listed still is no reason to send what may need it.
#[test]
fn what_is_listed_and_not_there_holds_manifests_back() {
    let place = Place::new();
    place.take();
    let path = place.folder.path().join("vault");
    let local = Arc::new(LocalStore::open(&path).unwrap());
    let store = FaultStore::new(local, |operation| {
        let is_it = operation.verb == "get" && operation.name.as_str().starts_with("segments/");
        match is_it && !operation.done {
            true => Err(Error::new(ErrorKind::NotFound, "the test says so")),
            false => Ok(()),
        }
    });
    let source = Vault::open_by(Arc::new(store), &KeySource::NotWanted).unwrap();
    let target = make_second(&place.at("second"), &source).unwrap();
    let report = mirror_sealed(&source, Some(&target), false, &Silent).unwrap();
    assert_eq!((report.sent.len(), report.damaged.len()), (0, 1));
    assert!(report.warnings[0].contains("is listed"), "{report:?}");
    assert!(place.second("first").snapshots().unwrap().is_empty());
}

/// A manifest out of this host's cache may be of a snapshot that is gone, with all that it needs.
#[test]
fn who_has_no_key_asks_the_vault_itself() {
    let place = Place::new();
    place.take();
    let path = place.folder.path().join("vault");
    let caches = tempfile::tempdir().unwrap();
    let open = |key: &KeySource| {
        let store = Arc::new(LocalStore::open(&path).unwrap());
        Vault::open_with_cache(store, caches.path(), "here", key).unwrap()
    };
    let vault = open(&given("first"));
    let snapshot = vault.snapshots().unwrap().remove(0);
    vault.manifest(&snapshot).unwrap();
    let source = open(&KeySource::NotWanted);
    let listed = source.sealed_objects(SealedFolder::Manifests).unwrap();
    let name = listed.keys().next().unwrap();
    source.sealed_object(SealedFolder::Manifests, name).unwrap();
    fs::remove_file(path.join(name.as_str())).unwrap();
    vault.manifest(&snapshot).expect("it is in the cache");
    let gone = refused(source.sealed_object(SealedFolder::Manifests, name));
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

/// With the key of a writer or a reader the usual mirror works, and brings the keys, too.
#[test]
fn who_has_a_key_mirrors_as_ever() {
    let place = Place::new();
    let taken = [place.take(), place.take()];
    let path = place.folder.path().join("vault");
    for key in [writer_of(&place.vault), given("first")] {
        let source = Vault::open_local_by(&path, &key).unwrap();
        let target = make_second(&place.at("second"), &source).unwrap();
        let snapshots = source.snapshots().unwrap();
        let report = mirror(&source, &target, &snapshots, &Silent).unwrap();
        assert!(report.damaged.is_empty() && report.wrong.is_empty());
        check_all(&place.second("first"), &taken);
        fs::remove_dir_all(place.folder.path().join("second")).unwrap();
    }
    // Another vault of the same ID that is encrypted in another way is none.
    let source = Vault::open_local_by(&path, &given("first")).unwrap();
    make_second(&place.at("second"), &source).unwrap();
    let info = place.folder.path().join("second/vault.json");
    let public = hex::encode(source.keys().unwrap().public());
    let others = hex::encode(foreign_keys(source.info().id).public());
    let text = fs::read_to_string(&info).unwrap();
    let (start, end) = (
        text.find("\"vault\":").unwrap() + 8,
        text.rfind(",\"blake3\"").unwrap(),
    );
    let inner = text[start..end].replace(&public, &others);
    let hash = blake3::hash(inner.as_bytes()).to_hex();
    fs::remove_file(&info).unwrap();
    fs::write(
        &info,
        format!("{{\"vault\":{inner},\"blake3\":\"{hash}\"}}\n"),
    )
    .unwrap();
    let error = refused(open_second(&place.at("second"), &source));
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vault-v2-sealed")
}

const FIXTURE_KEY: &str = "a passphrase that everybody knows";

/// The BLAKE3 of each disk of each snapshot.
fn hashes(vault: &Vault) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for snapshot in vault.snapshots().unwrap() {
        for record in vault.manifest(&snapshot).unwrap().disks {
            let (bytes, _) = restore(vault, &record, false).unwrap();
            let hash = blake3::hash(&bytes).to_hex().to_string();
            all.insert(format!("{}/{}", snapshot.id, record.identity.name), hash);
        }
    }
    all
}

fn expected() -> BTreeMap<String, String> {
    serde_json::from_slice(&fs::read(fixture().with_extension("json")).unwrap()).unwrap()
}

/// Makes the fixture: once, as the others (`old_formats.rs`).
#[test]
#[ignore = "makes a new fixture, which is done once for each version of the format"]
fn make_the_sealed_fixture() {
    assert!(!fixture().exists(), "a fixture is never changed");
    let options = VaultOptions {
        compression: "zstd:3".parse().unwrap(),
        encrypt: Some(NewKey {
            cost: KeyCost {
                memory_kib: 1024,
                passes: 2,
                lanes: 1,
            },
            ..key(FIXTURE_KEY)
        }),
        ..vault_options()
    };
    let vault = Arc::new(Vault::create_local(&fixture(), options).unwrap());
    vault.add_key(&key("another")).unwrap();
    let disks = [ModelDisk::new(0, 7 * BLOCK_SIZE + 1536, 1)];
    disks[0].write(100, &b"stillpoint ".repeat(8000));
    disks[0].free(4);
    take(&vault, &disks, Take::default()).unwrap();
    disks[0].write(2 * BLOCK_SIZE + 512, b"changed");
    take(&vault, &disks, Take::default()).unwrap();
    let text = vault.keys().unwrap().writer_text().unwrap();
    fs::write(fixture().with_extension("writer"), text.bytes()).unwrap();
    let text = serde_json::to_string_pretty(&hashes(&vault)).unwrap();
    fs::write(fixture().with_extension("json"), text + "\n").unwrap();
}

#[test]
fn the_sealed_fixture_is_read_and_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(fixture())
        .arg(&path)
        .status();
    assert!(copied.unwrap().success());
    for passphrase in [FIXTURE_KEY, "another"] {
        let vault = Vault::open_local_by(&path, &given(passphrase)).unwrap();
        assert!(verify_all(&vault).unwrap().broken.is_empty());
        assert_eq!(hashes(&vault), expected());
        assert_eq!(expected().len(), 2);
    }
    let text = fs::read(fixture().with_extension("writer")).unwrap();
    let line = SecretBytes::copy_of(text.strip_suffix(b"\n").unwrap()).unwrap();
    let writer = Vault::open_local_by(&path, &KeySource::Given(Arc::new(line))).unwrap();
    let disks = [ModelDisk::new(0, 7 * BLOCK_SIZE + 1536, 3)];
    let taken = take(&Arc::new(writer), &disks, Take::default()).unwrap();
    let vault = Vault::open_local_by(&path, &given("another")).unwrap();
    check(&Arc::new(vault), &taken);
}

/// Runs the reader in another language; `None`: there is no such language here.
fn python(arguments: &[&str], key: &str) -> Option<(bool, String)> {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/read_vault.py");
    let needs = Command::new("python3")
        .args([
            "-c",
            "from cryptography.hazmat.primitives.kdf.argon2 import Argon2id",
        ])
        .output();
    if !needs.is_ok_and(|ended| ended.status.success()) {
        skipped(
            "reading a sealed vault by FORMAT.md alone",
            "no python3 with cryptography 44 or newer",
        );
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(reader).args(arguments).env("VAULT_KEY", key);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

fn read_by_python(path: &Path, key: &str, hashes: &BTreeMap<String, String>) {
    let root = path.to_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, hash) in hashes {
        let (snapshot, disk) = name.split_once('/').unwrap();
        let target = folder.path().join("image");
        let arguments = [root, snapshot, disk, target.to_str().unwrap()];
        let Some((done, said)) = python(&arguments, key) else {
            return;
        };
        assert!(done, "{name}: {said}");
        let bytes = fs::read(&target).unwrap();
        assert_eq!(blake3::hash(&bytes).to_hex().as_str(), hash, "{name}");
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_reader_made_from_the_documentation_alone_opens_sealed_vaults() {
    read_by_python(&fixture(), FIXTURE_KEY, &expected());
    let place = Place::new();
    let taken = [place.take(), place.take()];
    check_all(&place.vault, &taken);
    let path = place.folder.path().join("vault");
    read_by_python(&path, "first", &hashes(&place.vault));
    // With a writer's key it lists, and reads no chunk.
    let text = fs::read_to_string(fixture().with_extension("writer")).unwrap();
    let root = fixture();
    let Some((done, said)) = python(&[root.to_str().unwrap()], &text) else {
        return;
    };
    assert!(done && said.lines().count() == 2, "{said}");
    let name = expected().into_keys().next().unwrap();
    let (snapshot, disk) = name.split_once('/').unwrap();
    let target = place.folder.path().join("none");
    let arguments = [
        root.to_str().unwrap(),
        snapshot,
        disk,
        target.to_str().unwrap(),
    ];
    let (done, said) = python(&arguments, &text).unwrap();
    assert!(
        !done && said.contains("a writer's key reads no chunk"),
        "{said}"
    );
    let (done, said) = python(&[root.to_str().unwrap()], "wrong").unwrap();
    assert!(!done && said.contains("wrong passphrase"), "{said}");
}
