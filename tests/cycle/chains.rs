//! Many snapshots in a row, each whole by itself: restored in any order, with some of them deleted,
//! through indexes that were folded.

use super::RAW_PARENT;
use super::load::Raw;
use crate::support::host::LoopDisk;
use crate::support::rig::{Hashes, Rig, assert_mode, hashes, told};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use stillpoint::format::Manifest;
use stillpoint::model::Mode;

/// Snapshots and what they are of.
type Kept = Vec<(Manifest, Hashes)>;

fn check(rig: &Rig, disk: &LoopDisk, (manifest, truth): &(Manifest, Hashes)) {
    // As whoever restores it finds it.
    let reference = rig.vault.find(&manifest.snapshot.to_string()).unwrap();
    let found = rig.vault.manifest(&reference).unwrap();
    let image = hashes(&rig.restore(&rig.vault, &found, disk));
    assert!(image == *truth, "{} is not what it was", manifest.snapshot);
}

fn parts(manifest: &Manifest) -> usize {
    manifest.disks[0].index.len()
}

#[test]
fn every_snapshot_of_a_long_chain_is_whole() {
    let Some(rig) = Rig::new("every_snapshot_of_a_long_chain_is_whole") else {
        return;
    };
    let size = (16 << 20) + 3 * 512;
    let disk = LoopDisk::within(RAW_PARENT, size, &["--direct-io=on"]);
    let mut raw = Raw::open(&disk.device, size);
    let mut random = SmallRng::seed_from_u64(11);
    let mut kept: Kept = Vec::new();
    let mut folded = 0;
    for n in 0..36 {
        for _ in 0..random.random_range(1..6) {
            raw.one(&mut random);
        }
        let manifest = rig.snapshot(&[&disk], |_| {}).unwrap();
        let mode = if n == 0 {
            Mode::Full
        } else {
            Mode::Incremental
        };
        assert_mode(&manifest.disks[0], mode);
        folded += usize::from(n > 0 && parts(&manifest) == 1);
        kept.push((manifest, hashes(&disk.file)));
    }
    assert!(folded > 0, "so many parts are folded");
    kept.shuffle(&mut random);
    for one in &kept[..12] {
        check(&rig, &disk, one);
    }
    for (manifest, _) in kept.drain(..14) {
        let reference = rig.vault.find(&manifest.snapshot.to_string()).unwrap();
        rig.vault.delete(&reference).unwrap();
    }
    for one in &kept {
        check(&rig, &disk, one);
    }
    raw.one(&mut random);
    let manifest = rig.snapshot(&[&disk], |_| {}).unwrap();
    assert_mode(&manifest.disks[0], Mode::Incremental);
    check(&rig, &disk, &(manifest, hashes(&disk.file)));
}

#[test]
fn scattered_changes_are_folded_into_a_new_base() {
    let Some(rig) = Rig::new("scattered_changes_are_folded_into_a_new_base") else {
        return;
    };
    const BLOCKS: u64 = 10_000;
    const SECTORS: u64 = 128;
    let size = BLOCKS << 16;
    let disk = LoopDisk::within(RAW_PARENT, size, &["--direct-io=on"]);
    let raw = Raw::open(&disk.device, size);
    let mut kept: Kept = Vec::new();
    let mut shapes = Vec::new();
    // Every so many blocks one sector is written. 5,000 runs beside a base of one: folded. 1000 and
    // 2,000 more: not yet, as few deltas never are. The next makes them too many.
    for step in [0, 2, 10, 5, 4, 3] {
        let blocks = (0..BLOCKS).filter(|block| step > 0 && block % step == 0);
        for block in blocks {
            let sector = block * SECTORS + block % SECTORS;
            raw.write(sector, &[step as u8; 512]);
        }
        let manifest = rig.snapshot(&[&disk], |_| {}).unwrap();
        shapes.push(parts(&manifest));
        kept.push((manifest, hashes(&disk.file)));
    }
    told(&format!("index parts of each snapshot: {shapes:?}"));
    assert_eq!(shapes[..4], [1, 1, 2, 3]);
    assert!(shapes[4..].contains(&1), "{shapes:?}");
    for one in kept.iter().rev() {
        check(&rig, &disk, one);
    }
}
