//! `verify --against-disk`: what differs from the disk is allowed for a reason, or it is said.

use super::lab::{LONG, Lab, noise};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillpoint::format::{Manifest, Sealer};
use stillpoint::model::{BLOCK_SIZE, BlockIndex, Content, Run, block_count};
use stillpoint::store::{Draft, LocalStore, ObjectName, ObjectStore, Vault};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

const MIB: u64 = 1 << 20;

fn write_out(place: &Path) {
    nix::unistd::syncfs(File::open(place).unwrap()).unwrap();
}

fn compared(lab: &Lab, code: i32) -> Value {
    let run = lab.run(&["verify", "--against-disk", "--json"]);
    let answer = run.expect(code).json();
    assert_eq!(answer["snapshots"], 1, "{answer}");
    answer["against_disk"][0].clone()
}

/// Takes a snapshot, does something to the disk, and compares. Some kernels now and then hide a
/// write from the programs that track, and then nothing is proven: it is done again.
fn proven(lab: &Lab, snapshot: &[&str], code: i32, act: &mut dyn FnMut()) -> Value {
    for _ in 0..5 {
        lab.run(snapshot).expect(0);
        act();
        let run = lab.run(&["verify", "--against-disk", "--json"]);
        let found = run.json()["against_disk"][0].clone();
        if found["unproven"] == Value::Null {
            run.expect(code);
            return found;
        }
        assert_eq!(found["wrong"]["bytes"], 0, "{found}");
        run.expect(3);
    }
    panic!("nothing was ever proven");
}

#[test]
fn what_is_written_since_may_differ_and_nothing_else() {
    let Some(lab) = Lab::with_vault("against the disk") else {
        return;
    };
    let mut disk = lab.disk("disk", 128 * MIB);
    let place = disk.mount("ext4");
    fs::write(place.join("kept"), noise(8 << 20, 1)).unwrap();
    fs::write(place.join("gone"), noise(8 << 20, 2)).unwrap();
    fs::remove_file(place.join("gone")).unwrap();
    let plain = ["snapshot", &disk.device];
    let found = proven(&lab, &plain, 0, &mut || ());
    assert_eq!(found["wrong"]["bytes"], 0, "{found}");
    assert_eq!(found["unknown"]["bytes"], 0, "{found}");
    assert_eq!(found["compared_bytes"], 128 * MIB, "{found}");
    let mut seed = 3;
    let found = proven(&lab, &plain, 0, &mut || {
        seed += 1;
        fs::write(place.join("kept"), noise(8 << 20, seed)).unwrap();
        write_out(&place);
    });
    assert!(
        found["changed_bytes"].as_u64().unwrap() >= 8 * MIB,
        "{found}"
    );
    // Behind the disk's back: no request that anyone could have seen.
    let image = File::options().write(true).open(&disk.image).unwrap();
    let all = ["snapshot", &disk.device, "--all-blocks"];
    let found = proven(&lab, &all, 4, &mut || {
        seed += 1;
        image.write_all_at(&[seed as u8; 4096], 127 * MIB).unwrap();
    });
    assert_eq!(found["wrong"]["bytes"], BLOCK_SIZE, "{found}");
    assert_eq!(found["wrong"]["ranges"][0]["offset"], 127 * MIB, "{found}");
    // Where nothing tells what was written since, it cannot be said to be wrong.
    lab.run(&["track", "stop"]).expect(0);
    let found = compared(&lab, 3);
    assert_eq!(found["wrong"]["bytes"], 0, "{found}");
    assert!(
        found["unknown"]["bytes"].as_u64() >= Some(BLOCK_SIZE),
        "{found}"
    );
    assert!(found["unproven"].is_string(), "{found}");
}

#[test]
fn a_disk_that_is_not_here_is_not_compared() {
    let Some(lab) = Lab::with_vault("against no disk") else {
        return;
    };
    // No other disk has this size, should it get this one's name.
    let disk = lab.disk("disk", 8 * MIB + 37 * 512);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let image = disk.image.clone();
    let backing = format!("/sys/block/{}/loop/backing_file", disk.name());
    drop(disk);
    // Somebody who looks at it keeps it for a moment.
    let until = Instant::now() + LONG;
    let is_there =
        || fs::read_to_string(&backing).is_ok_and(|file| file.trim() == image.to_str().unwrap());
    while is_there() {
        assert!(Instant::now() < until, "it is never detached");
        std::thread::sleep(Duration::from_millis(10));
    }
    let run = lab.run(&["verify", "--against-disk", "latest"]).expect(1);
    assert!(run.stderr.contains("is here"), "{run:?}");
}

/// Rewrites the newest manifest as an early version would have written it: the blocks in which the
/// file lies are recorded as free.
fn as_an_early_version(lab: &Lab, lost: std::ops::Range<u64>, nested: bool) {
    let vault = Arc::new(Vault::open_local(&lab.path("vault")).unwrap());
    let newest = vault.snapshots().unwrap().pop().unwrap();
    let mut manifest: Manifest = vault.manifest(&newest).unwrap();
    let record = &mut manifest.disks[0];
    let blocks = block_count(record.identity.size);
    let mut map = vault.load_index(&record.index, blocks).unwrap();
    map.insert(Run {
        start: BlockIndex(lost.start),
        count: lost.end - lost.start,
        content: Content::Free,
    });
    let draft = Draft::begin(&vault);
    record.index = draft.put_index(&map, blocks, true).unwrap();
    record.free_rules = 0;
    if nested {
        let mut inner = record.filesystems[0].clone();
        (inner.source, inner.target) = ("/dev/loop987".into(), "/srv/inner".into());
        record.filesystems.push(inner);
    }
    vault.delete(&newest).unwrap();
    let store = LocalStore::open(&lab.path("vault")).unwrap();
    let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
    store
        .put(&name, manifest.encode(&SEALER).unwrap().into())
        .unwrap();
    std::mem::forget(draft);
}

#[test]
fn snapshots_of_early_versions_that_may_lack_blocks_are_named() {
    let Some(lab) = Lab::with_vault("snapshots that may lack blocks") else {
        return;
    };
    let mut disk = lab.disk("disk", 128 * MIB);
    let place = disk.mount("ext4");
    let kept = place.join("kept");
    fs::write(&kept, noise(8 << 20, 1)).unwrap();
    write_out(&place);
    let block = first_block(&kept);
    lab.run(&["snapshot", &disk.device]).expect(0);
    as_an_early_version(&lab, block..block + 10, true);
    let id = lab.json(&["list"])["may_lack"][0]["snapshot"].clone();
    let said = lab.run(&["list"]).expect(0).stdout;
    assert!(
        said.contains("--full") && said.contains("/srv/inner"),
        "{said}"
    );
    let verified = lab.run(&["verify", "--all"]).expect(3);
    assert!(
        verified.stdout.contains(id.as_str().unwrap()),
        "{verified:?}"
    );
    let restored = lab.run(&["restore", "latest", &lab.at("old")]).expect(3);
    assert!(restored.stdout.contains("/srv/inner"), "{restored:?}");
    found_missing(&lab, 10 * BLOCK_SIZE);
    // The next one reads what its parent has as free and is not: it is whole again.
    let next = lab.json(&["snapshot", &disk.device]);
    assert!(next["disks"][0]["changed_bytes"].as_u64() >= Some(10 * BLOCK_SIZE));
    lab.run(&["verify", "latest"]).expect(0);
    proven(&lab, &["snapshot", &disk.device], 0, &mut || ());
    // An incremental of an early version, with an ancestor that has free space.
    as_an_early_version(&lab, block..block + 1, false);
    let said = lab.json(&["list"])["may_lack"].to_string();
    assert!(said.contains("without a write"), "{said}");
}

/// So much is in a file, and not in the snapshot. Where a device of another test had this one's
/// number before, or a write was hidden, that is not certain for a moment.
fn found_missing(lab: &Lab, bytes: u64) {
    let until = Instant::now() + LONG;
    loop {
        let run = lab.run(&["verify", "--against-disk", "--json"]);
        let found = run.json()["against_disk"][0].clone();
        if found["wrong"]["bytes"] == bytes {
            run.expect(4);
            return;
        }
        let unknown = found["unknown"]["bytes"].as_u64().unwrap();
        let is_hidden = found["unproven"] != Value::Null;
        // Without a proof what was written since counts, too.
        let is_right = if is_hidden {
            unknown >= bytes
        } else {
            unknown == bytes
        };
        assert!(is_right, "{found}");
        run.expect(3);
        if is_hidden {
            return;
        }
        assert!(Instant::now() < until, "it is never certain: {found}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The disk's block in which a file's first bytes lie.
fn first_block(file: &Path) -> u64 {
    let file = File::open(file).unwrap();
    let extents = stillpoint::sys::fiemap::file_extents(&file).unwrap();
    let place = extents[0].place;
    assert!(place.length.0 > 12 * BLOCK_SIZE, "the test's file is whole");
    place.offset.0.div_ceil(BLOCK_SIZE)
}
