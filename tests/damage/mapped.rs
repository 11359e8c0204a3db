//! What is lost is told by the partition it lies in, and by what was mounted there.

use super::noise;
use super::noted::rot;
use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, take, vault_options, verify_all};
use std::slice::from_ref;
use std::sync::Arc;
use stillpoint::engine::{LostMount, LostPart};
use stillpoint::format::{FilesystemRecord, Sealer};
use stillpoint::model::{BLOCK_SIZE, Bytes, Content, Extent, ObjectId, Run, block_count};
use stillpoint::store::{MemoryStore, ObjectName, ObjectStore, Vault};

const SECTOR: u64 = 512;

/// A boot record with primary partitions at these blocks, so many of them long.
fn table(partitions: &[(u64, u64)]) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    for (n, (start, count)) in partitions.iter().enumerate() {
        let entry = &mut sector[446 + 16 * n..][..16];
        entry[4] = 0x83;
        let sectors = |blocks: &u64| ((blocks * BLOCK_SIZE / SECTOR) as u32).to_le_bytes();
        entry[8..12].copy_from_slice(&sectors(start));
        entry[12..].copy_from_slice(&sectors(count));
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[test]
fn what_is_lost_is_mapped_to_partitions_and_mount_points() {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let disk = ModelDisk::new(0, 20 * BLOCK_SIZE, 1);
    disk.write(0, &table(&[(2, 4), (8, 6)]));
    take(&vault, from_ref(&disk), Take::default()).unwrap();
    // Each in a segment of its own: the head in the first one.
    let mut last = None;
    for block in [3, 7, 9, 10, 18] {
        disk.write(block * BLOCK_SIZE, &noise(3000, block));
        last = Some(take(&vault, from_ref(&disk), Take::default()).unwrap());
    }
    let mut manifest = last.unwrap().manifest;
    let mount = |source: &str, target: &str| FilesystemRecord {
        source: source.into(),
        target: target.into(),
        fstype: "ext4".into(),
        frozen: true,
        read_only: false,
        mounts: None,
        place: None,
    };
    manifest.disks[0].filesystems = vec![
        mount("/dev/vda2", "/srv"),
        mount("/dev/vda2", "/srv/again"),
        mount("/dev/vda20", "/other"),
    ];
    let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
    let bytes = manifest.encode(&Sealer::without_keys()).unwrap();
    store.replace(&name, bytes.into()).unwrap();
    let record = &manifest.disks[0];
    let map = vault
        .load_index(&record.index, block_count(record.identity.size))
        .unwrap();
    let segment_of = |block: u64| -> ObjectId {
        let holds = |run: &Run| (run.start.0..run.end()).contains(&block);
        let found = map.iter().find(holds);
        match found.unwrap().content {
            Content::Data { segment, .. } => segment,
            other => panic!("{other:?}"),
        }
    };
    for block in [3, 7, 9, 10] {
        rot(&store, segment_of(block));
    }
    let report = verify_all(&vault).unwrap();
    let newest = report
        .broken
        .iter()
        .find(|one| one.snapshot == manifest.snapshot);
    let newest = newest.unwrap();
    let part = |partition, place: (u64, u64), lost: u64, mounted: &[&str]| LostPart {
        partition,
        is_disk: false,
        place: Extent::new(Bytes(place.0 * BLOCK_SIZE), Bytes(place.1 * BLOCK_SIZE)),
        mounted: (mounted.iter())
            .map(|target| LostMount {
                target: (*target).into(),
                fstype: "ext4".into(),
            })
            .collect(),
        lost: Bytes(lost * BLOCK_SIZE),
    };
    let all = [
        part(Some(1), (2, 4), 1, &[]),
        part(Some(2), (8, 6), 2, &["/srv", "/srv/again"]),
        part(None, (0, 20), 1, &[]),
    ];
    assert_eq!(newest.parts, all);
    assert_eq!(newest.lost, Bytes(4 * BLOCK_SIZE));
    // With the table itself lost all is one part.
    rot(&store, segment_of(0));
    let report = verify_all(&vault).unwrap();
    let newest = report
        .broken
        .iter()
        .find(|one| one.snapshot == manifest.snapshot);
    let mut disk = part(None, (0, 20), 5, &[]);
    disk.is_disk = true;
    assert_eq!(newest.unwrap().parts, [disk]);
}
