//! What a plan makes of a disk: of its table, of what the record says, and of what cannot be read.
//! Nothing is mounted.

use super::shot::{Shot, partitioned, recorded, recorded_at};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stillpoint::engine::MountPlan;
use stillpoint::format::{EscapedPath, FilesystemRecord, OtherMountRecord};
use stillpoint::model::{Bytes, Content, Extent, block_count};
use stillpoint::store::{FaultStore, ObjectName, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind};

const MIB: u64 = 1 << 20;

fn place(at: u64, mib: u64) -> Extent {
    Extent::new(Bytes(at * MIB), Bytes(mib * MIB))
}

/// So many MiB that look like an ext4.
fn ext4(mib: u64) -> Vec<u8> {
    let mut bytes = vec![0; (mib * MIB) as usize];
    bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    bytes[1024 + 0x60] = 0x40;
    bytes
}

/// So many MiB that look like a device of a btrfs.
fn btrfs(mib: u64) -> Vec<u8> {
    let mut bytes = vec![0; (mib * MIB) as usize];
    bytes[0x1_0020..0x1_0030].fill(7);
    bytes[0x1_0040..0x1_0048].copy_from_slice(b"_BHRfS_M");
    bytes
}

fn plan(shot: &Shot) -> MountPlan {
    MountPlan::of_snapshot(&shot.manifest, &shot.disks(), &|| Ok(())).unwrap()
}

/// What was found: a name, a kind, and the places where it was mounted.
fn found(plan: &MountPlan) -> Vec<String> {
    let each = plan.filesystems.iter();
    let each = each.map(|one| {
        let mounts = one
            .mounts
            .iter()
            .map(|mount| mount.target.display().to_string());
        let mounts: Vec<String> = mounts.collect();
        format!(
            "{} {} {}",
            one.attach.name,
            one.attach.kind,
            mounts.join(" ")
        )
    });
    each.collect()
}

#[track_caller]
fn assert_lacks(plan: &MountPlan, what: &str, why: &str) {
    let lacks = plan.not_shown.iter();
    let mut lacks = lacks.filter(|one| one.what == what && one.why.contains(why));
    assert!(
        lacks.next().is_some(),
        "{what}, {why}: {:#?}",
        plan.not_shown
    );
}

#[test]
fn what_a_disk_was_before_it_had_a_table_hides_no_partition() {
    let mut bytes = partitioned(16 * MIB, &[(MIB, &ext4(4)), (8 * MIB, &ext4(4))]);
    bytes[0x1_0040..0x1_0048].copy_from_slice(b"_BHRfS_M");
    let mut shot = Shot::of(&bytes);
    assert_eq!(found(&plan(&shot)), ["vda1 ext4 ", "vda2 ext4 "]);
    // What it was before is believed of the record alone.
    let whole = recorded_at(place(0, 16), recorded("btrfs", "/dev/vda", &[("/", "/")]));
    shot.manifest.disks[0].filesystems = vec![whole];
    assert_eq!(found(&plan(&shot)), ["vda btrfs /"]);
    // Without a partition that holds anything the disk as a whole is looked at.
    bytes[MIB as usize..].fill(0);
    assert_eq!(found(&plan(&Shot::of(&bytes))), ["vda btrfs "]);
}

#[test]
fn what_no_table_has_is_found_where_the_record_has_it_and_the_bytes_agree() {
    let parts: [(u64, &[u8]); 5] = [
        (MIB, &ext4(1)),
        (3 * MIB, &[0; MIB as usize]),
        (5 * MIB, &[0; MIB as usize]),
        (7 * MIB, &[0; MIB as usize]),
        // The table has room for four.
        (9 * MIB, &ext4(2)),
    ];
    let mut shot = Shot::of(&partitioned(16 * MIB, &parts));
    let at = |place, kind: &str, source: &str, target: &str| {
        recorded_at(place, recorded(kind, source, &[(target, "/")]))
    };
    shot.manifest.disks[0].filesystems = vec![
        at(place(1, 1), "ext4", "/dev/vda1", "/"),
        at(place(9, 2), "ext4", "/dev/vda5", "/srv"),
        at(place(9, 3), "xfs", "/dev/vda6", "/other kind"),
        at(place(15, 4), "ext4", "/dev/vda7", "/behind the end"),
        at(place(1, u64::MAX >> 20), "ext4", "/dev/vda8", "/no end"),
        at(place(1, 1), "ext4", "/dev/vda1", "/the same place"),
        recorded("ext4", "/dev/mapper/vg-data", &[("/lvm", "/")]),
    ];
    let plan = plan(&shot);
    assert_eq!(found(&plan), ["vda1 ext4 /", "vda5 ext4 /srv"]);
    assert_eq!(plan.filesystems[1].partition, Some(5));
    for target in ["/other kind", "/behind the end", "/no end"] {
        assert_lacks(&plan, target, "was found where the record has it");
    }
    assert_lacks(&plan, "/the same place", "two filesystems in one place");
    assert_lacks(&plan, "/lvm", "not opened by itself");
}

#[test]
fn a_mapped_device_is_not_taken_for_a_btrfs_on_several() {
    let bytes = partitioned(16 * MIB, &[(MIB, &btrfs(4)), (8 * MIB, &btrfs(4))]);
    let mut shot = Shot::of(&bytes);
    let records = &mut shot.manifest.disks[0].filesystems;
    *records = vec![
        recorded("btrfs", "/dev/mapper/vg-data", &[("/data", "/")]),
        recorded("btrfs", "/dev/vda2", &[("/srv", "/")]),
    ];
    let plan = plan(&shot);
    assert_eq!(found(&plan), ["vda1, vda2 btrfs /srv"]);
    assert_lacks(&plan, "/data", "not opened by itself");
}

#[test]
fn what_cannot_be_read_is_not_taken_for_nothing() {
    // Nothing is stored of the rest of the disk.
    let mut bytes = vec![0; (16 * MIB) as usize];
    bytes[(4 * MIB) as usize..(8 * MIB) as usize].copy_from_slice(&ext4(4));
    let mut shot = Shot::of(&bytes);
    let record = recorded_at(place(4, 4), recorded("ext4", "/dev/vda1", &[("/srv", "/")]));
    shot.manifest.disks[0].filesystems = vec![record];
    assert_eq!(found(&plan(&shot)), ["vda1 ext4 /srv"]);
    lose_segments(&shot);
    shot.vault = Arc::new(Vault::open(shot.store.clone()).unwrap());
    let damaged = plan(&shot);
    assert_eq!(found(&damaged), [""; 0]);
    assert_lacks(&damaged, "vda1", "what it is cannot be read");
    assert_lacks(&damaged, "/srv", "what it is cannot be read");
}

fn lose_segments(shot: &Shot) {
    let record = &shot.manifest.disks[0];
    let blocks = block_count(record.identity.size);
    let map = shot.vault.load_index(&record.index, blocks).unwrap();
    for run in map.iter() {
        if let Content::Data { segment, .. } = run.content {
            shot.store.delete(&ObjectName::segment(segment)).unwrap();
        }
    }
}

#[test]
fn a_plan_ends_when_it_is_told_to() {
    let parts = [(MIB, &ext4(1)[..]), (3 * MIB, &ext4(1)[..])];
    let shot = Shot::of(&partitioned(16 * MIB, &parts));
    let stop = || Err(Error::new(ErrorKind::Interrupted(2), "stopped"));
    let stopped = MountPlan::of_snapshot(&shot.manifest, &shot.disks(), &stop);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted(2));
}

#[test]
fn what_is_left_out_is_told() {
    let mut shot = Shot::of(&ext4(4));
    let mounts: Vec<String> = (0..299)
        .map(|number| format!("/a/b/mount{number}"))
        .collect();
    let mut mounts: Vec<(&str, &str)> = mounts.iter().map(|path| (path.as_str(), "/")).collect();
    // The last of all, and the first that is needed.
    mounts.push(("/", "/"));
    shot.manifest.disks[0].filesystems = vec![recorded_at(
        place(0, 4),
        recorded("ext4", "/dev/vda", &mounts),
    )];
    let other = |target: &str, kind: &str| OtherMountRecord {
        target: EscapedPath::new(target.as_ref()),
        fstype: kind.into(),
    };
    shot.manifest.other_mounts = vec![other("/srv", "nfs4"), other("/proc", "proc")];
    shot.manifest.mounts_left_out = 7;
    let plan = plan(&shot);
    assert_eq!(plan.filesystems[0].mounts.len(), 256);
    assert_eq!(plan.filesystems[0].mounts[0].target.to_str(), Some("/"));
    assert_lacks(&plan, "/a/b/mount0", "44 more places");
    assert_lacks(&plan, "/srv", "nfs4 was mounted there");
    assert_lacks(&plan, "/", "7 mounts were too many");
    assert_eq!(plan.not_shown.len(), 3, "{:#?}", plan.not_shown);
    // Names of filesystems cost nothing, however many a hostile record has.
    let record: FilesystemRecord = recorded("ext4", "/dev/none", &[("/x", "/")]);
    shot.manifest.disks[0].filesystems = vec![record; 100_000];
    let told = MountPlan::of(&shot.disks()).unwrap();
    assert_lacks(&told, "vda", "95904 more filesystems");
}

#[test]
fn a_disk_that_answers_nothing_ends_the_look_at_once() {
    let parts = [(MIB, &ext4(1)[..]), (3 * MIB, &ext4(1)[..])];
    let mut shot = Shot::of(&partitioned(16 * MIB, &parts));
    let asked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&asked);
    let store = FaultStore::new(shot.store.clone(), move |operation| {
        if operation.name.as_str().starts_with("segments/") {
            counted.fetch_add(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Io, "no answer"));
        }
        Ok(())
    });
    shot.vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    let failed = MountPlan::of(&shot.disks());
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
