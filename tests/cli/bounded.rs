//! A vault of a few megabytes whose manifests unpack to gigabytes: no command takes more memory
//! than the bounds add up to, and what is whole is found among them.

use super::lab::{Lab, Run, finish, noise};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use stillpoint::format::{ObjectKind, Sealer};
use stillpoint::model::SnapshotId;

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

/// All that a command may allocate: `RLIMIT_DATA`.
const MEMORY: u64 = 512 << 20;
/// Most plain bytes of a manifest.
const MOST: usize = 16 << 20;
/// How many of them are not within the bounds.
const DAMAGED: usize = 8;

/// A manifest of so many bytes: this unit as often as it fits, for the warnings.
fn filled(manifest: &Value, head: &str, unit: &str, tail: &str, length: usize) -> Vec<u8> {
    let mut manifest = manifest.clone();
    manifest["warnings"] = "@@".into();
    let text = manifest.to_string();
    let (before, after) = text.split_once("\"@@\"").unwrap();
    let room = length - text.len() - head.len() - tail.len();
    let middle = unit.repeat(room / unit.len());
    [before, head, &middle, tail, after].concat().into_bytes()
}

/// An object of the kind of a manifest, however long it is.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let packed = lz4_flex::block::compress(plain);
    let mut bytes = b"SPOBJECT\x01\0\x02\0\x01\0\0\0................".to_vec();
    bytes.extend((plain.len() as u64).to_le_bytes());
    bytes.extend((packed.len() as u64).to_le_bytes());
    bytes.extend(packed);
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// Many manifests beside the one of the vault; answers its name.
fn fill(vault: &Path) -> String {
    let host = fs::read_dir(vault.join("snapshots")).unwrap().next();
    let host = host.unwrap().unwrap().path();
    let real = fs::read_dir(&host).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(real.path()).unwrap();
    let bytes = SEALER
        .open_object(ObjectKind::Manifest, None, &bytes)
        .unwrap();
    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
    let real = manifest["snapshot"].as_str().unwrap().to_owned();
    // All are older.
    let mut time = 1_700_000_000_000;
    let mut put = |manifest: &mut Value, make: &dyn Fn(&Value) -> Vec<u8>, count: u32| {
        for _ in 0..count {
            time += 1;
            let id = SnapshotId::generate(time).to_string();
            manifest["snapshot"] = id.as_str().into();
            fs::write(host.join(id), make(manifest)).unwrap();
        }
    };
    let whole = |text: Vec<u8>| SEALER.seal_object(ObjectKind::Manifest, &text).unwrap();
    let long = |m: &Value| whole(filled(m, "[\"", "w", "\"]", MOST));
    put(&mut manifest, &long, 16);
    let escapes = |m: &Value| whole(filled(m, "[\"", "\\u001b", "\"]", MOST));
    put(&mut manifest, &escapes, 8);
    let values = |m: &Value| whole(filled(m, "[", "\"\",", "\"\"]", 3 << 20));
    put(&mut manifest, &values, 8);
    let too_many = |m: &Value| sealed(&filled(m, "[", "\"\",", "\"\"]", MOST));
    put(&mut manifest, &too_many, 1);
    let too_long = |m: &Value| sealed(&filled(m, "[", "\"\",", "\"\"]", 64 << 20));
    put(&mut manifest, &too_long, 2);
    // What cannot be read is not quoted at length.
    let wrong = |m: &Value| {
        let mut m = m.clone();
        m["disks"][0]["level"] = "x".repeat(8 << 20).into();
        whole(m.to_string().into_bytes())
    };
    put(&mut manifest, &wrong, 4);
    let disks = |m: &Value| {
        let mut m = m.clone();
        let one = m["disks"][0].clone();
        m["disks"] = vec![one; 9000].into();
        whole(m.to_string().into_bytes())
    };
    put(&mut manifest, &disks, 1);
    real
}

fn bounded(lab: &Lab, args: &[&str]) -> Run {
    let limit = format!("--data={MEMORY}");
    finish(&mut lab.command_with(&["prlimit", &limit], args))
}

#[test]
fn manifests_that_unpack_to_gigabytes_take_bounded_memory() {
    let Some(lab) = Lab::with_vault("manifests_that_unpack_to_gigabytes") else {
        return;
    };
    let disk = lab.disk("disk", 4 << 20);
    fs::write(&disk.device, noise(4 << 20, 1)).unwrap();
    lab.run(&["snapshot", &disk.device]).expect(0);
    let real = fill(&lab.path("vault"));
    for args in [["list"].as_slice(), &["list", "--json"], &["disks"]] {
        let run = bounded(&lab, args);
        assert!(
            run.stdout.contains(&real) || args[1..] == ["--json"],
            "{args:?}: {}",
            run.code
        );
        if args.contains(&"--json") {
            let answer = run.json();
            assert!(answer["left_out"].as_u64().unwrap() > 0);
            assert_eq!(answer["damaged"].as_array().unwrap().len(), DAMAGED);
        }
    }
    // The newest is the one that is whole.
    bounded(&lab, &["snapshot", &disk.device]).expect(0);
    bounded(&lab, &["restore", "latest", &lab.at("image")]).expect(0);
    let verified = bounded(&lab, &["verify", "--all", "--json"]).expect(4);
    let damaged = verified.json()["damaged"].as_array().unwrap().len();
    assert_eq!(damaged, DAMAGED);
    // Those that are as long as they may be can be looked at.
    let all = fs::read_dir(lab.path("vault/snapshots")).unwrap().next();
    let mut all: Vec<String> = fs::read_dir(all.unwrap().unwrap().path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    // The first are long texts; then, of many values.
    for which in [&all[0], &all[24]] {
        bounded(&lab, &["show", which]).expect(0);
        let shown = bounded(&lab, &["show", which, "--json"]).expect(0);
        assert_eq!(shown.json()["snapshot"], json!(which));
    }
}
