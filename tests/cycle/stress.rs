//! Marks one by one: each write that was done before an epoch ended is marked.

use super::RAW_PARENT;
use super::load::Raw;
use crate::support::host::LoopDisk;
use crate::support::rig::{Rig, rounds, told};
use stillpoint::model::{BlockIndex, BlockSet};
use stillpoint::track::ChangeSource;

/// Tells in minutes whether a host's kernel shows every completed request to the programs. One that
/// is not shown voids the proof by the kernel's statistics, so nothing is lost, but everything is
/// read.
#[test]
#[ignore = "for hosts whose kernel may hide requests from tracing programs; 4 s a round"]
fn every_single_write_is_marked() {
    let Some(rig) = Rig::new("every_single_write_is_marked") else {
        return;
    };
    let size: u64 = 128 << 20;
    let blocks = size >> 16;
    let disk = LoopDisk::within(RAW_PARENT, size, &["--direct-io=on"]);
    let mut marks = rig.marks(&disk);
    let raw = Raw::open(&disk.device, size);
    let (mut lost, rounds) = (0, rounds(15));
    for _ in 0..rounds {
        let since = marks.advance().unwrap();
        for block in 0..blocks {
            raw.write(block * 128 + block % 120, &[1; 512]);
        }
        marks.advance().unwrap();
        let mut missing = BlockSet::from_range(0..blocks);
        missing.remove(&marks.changed_since(since).unwrap());
        for BlockIndex(block) in missing.iter() {
            told(&format!("not marked: block {block}, written in {since:?}"));
            lost += 1;
        }
    }
    let witness = marks.witness().unwrap();
    let writes = rounds as u64 * blocks;
    assert_eq!(lost, 0, "marks lost of {writes} writes; {witness:?}");
}
