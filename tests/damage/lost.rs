//! Segments that are lost between two snapshots: seen by their names and lengths, without a look at
//! any block, and what stood in them is stored anew.

use crate::cli::lab::{Lab, noise as noise_of, tool};
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check, take, vault_options, verify_all};
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use stillpoint::model::{BLOCK_SIZE, Content, Mode, ObjectId, block_count};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

/// More than the sample of an incremental looks at, each with a block of its own.
pub(super) const SEGMENTS: u64 = 60;

/// A vault in which each block of a disk stands in a segment of its own.
pub(super) fn scattered() -> (Arc<MemoryStore>, Arc<Vault>, ModelDisk, Taken) {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disk = ModelDisk::new(0, SEGMENTS * BLOCK_SIZE + 512, 1);
    let mut newest = None;
    for block in 0..SEGMENTS {
        disk.write(block * BLOCK_SIZE, &super::noise(5000, block + 1));
        newest = Some(take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap());
    }
    (store, vault, disk, newest.unwrap())
}

/// Where each block of the newest snapshot stands.
pub(super) fn segments(vault: &Vault, taken: &Taken) -> Vec<ObjectId> {
    let record = &taken.manifest.disks[0];
    let blocks = block_count(record.identity.size);
    let map = vault.load_index(&record.index, blocks).unwrap();
    let places = map.iter().filter_map(|run| match run.content {
        Content::Data { segment, .. } => Some(segment),
        Content::Zero | Content::Free => None,
    });
    places.collect()
}

#[test]
fn what_stood_in_lost_segments_is_stored_anew_though_no_sample_looks_there() {
    let (store, vault, disk, newest) = scattered();
    let segments = segments(&vault, &newest);
    let different: BTreeSet<_> = segments.iter().collect();
    assert_eq!(different.len() as u64, SEGMENTS, "a segment each");
    let name = |n: usize| ObjectName::segment(segments[n]);
    store.delete(&name(7)).unwrap();
    store.corrupt(&name(30), Vec::clear);
    // As long as its header: no block can be in it.
    store.corrupt(&name(59), |bytes| bytes.truncate(128));
    disk.write(3 * BLOCK_SIZE, &[9; 512]);
    let made = take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap();
    let record = &made.manifest.disks[0];
    // Nothing that the sample has found: that would have been a comparison of everything.
    assert_eq!(record.mode, Mode::Incremental, "{}", record.reason);
    let said = made.manifest.warnings.join("\n");
    for words in [
        "vda",
        "3 segments",
        "192.00 KiB",
        "stored anew",
        "verify --all",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(record.changed_bytes.0, 4 * BLOCK_SIZE);
    check(&vault, &made);
    let broken = verify_all(&vault).unwrap().broken;
    let id = made.manifest.snapshot;
    assert!(broken.iter().all(|one| one.snapshot != id), "{broken:?}");
    assert!(!broken.is_empty(), "the older ones have lost something");
    // And the next one has nothing to say.
    let next = take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap();
    assert_eq!(next.manifest.warnings, Vec::<String>::new());
    assert_eq!(next.manifest.disks[0].changed_bytes.0, 0);
    check(&vault, &next);
}

#[test]
fn what_is_free_now_need_not_be_found_again() {
    let (store, vault, disk, newest) = scattered();
    let segments = segments(&vault, &newest);
    for n in [7, 8] {
        store.delete(&ObjectName::segment(segments[n])).unwrap();
    }
    disk.free(8);
    let made = take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap();
    assert_eq!(made.manifest.disks[0].mode, Mode::Incremental);
    assert_eq!(made.manifest.disks[0].changed_bytes.0, BLOCK_SIZE);
    assert_eq!(made.manifest.disks[0].free_skipped_bytes.0, BLOCK_SIZE);
    check(&vault, &made);
    let id = made.manifest.snapshot;
    let broken = verify_all(&vault).unwrap().broken;
    assert!(broken.iter().all(|one| one.snapshot != id), "{broken:?}");
}

/// Also when everything is compared anyway: that goes by what is there.
#[test]
fn a_comparison_tells_what_is_lost_too() {
    let (store, vault, disk, newest) = scattered();
    let lost = segments(&vault, &newest)[20];
    store.delete(&ObjectName::segment(lost)).unwrap();
    disk.reboot();
    let made = take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap();
    assert_eq!(made.manifest.disks[0].mode, Mode::Compare);
    let said = made.manifest.warnings.join("\n");
    assert!(said.contains(&lost.to_string()), "{said}");
    check(&vault, &made);
}

/// The files of segments.
fn files(lab: &Lab) -> BTreeSet<PathBuf> {
    let below = lab.path("vault/segments");
    let all = lab.vault_files().into_iter().map(|(path, _)| path);
    all.filter(|path| path.starts_with(&below)).collect()
}

#[test]
fn a_run_on_a_vault_that_has_lost_a_segment_says_so_and_mends_what_it_can() {
    let Some(lab) = Lab::with_vault("damage: lost segment") else {
        return;
    };
    let disk = lab.disk("disk", 16 << 20);
    let device = std::fs::File::options()
        .write(true)
        .open(&disk.device)
        .unwrap();
    let put = |at: u64, length: usize| {
        device.write_all_at(&noise_of(length, at + 1), at).unwrap();
        device.sync_all().unwrap();
    };
    put(0, 12 << 20);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let before = files(&lab);
    put(5 << 20, 100 << 10);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let added: Vec<PathBuf> = files(&lab).difference(&before).cloned().collect();
    assert_eq!(added.len(), 1);
    std::fs::remove_file(&added[0]).unwrap();
    put(1 << 20, 512);
    let run = lab.run(&["snapshot", &disk.device]).expect(3);
    let lost = added[0].file_name().unwrap().to_str().unwrap();
    for words in [lost, "stored anew", "verify --all", disk.name()] {
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    lab.run(&["verify", "latest"]).expect(0);
    lab.run(&["verify", "--all"]).expect(4);
    lab.run(&["restore", "latest", &lab.at("out")]).expect(0);
    tool("cmp", &[&lab.at("out"), &disk.device]);
    // Built on what is whole now: nothing is to be said.
    put(2 << 20, 512);
    lab.run(&["snapshot", &disk.device]).expect(0);
    lab.run(&["verify", "latest"]).expect(0);
}
