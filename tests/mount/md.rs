//! Mirrors of md inside a snapshot. The superblocks are made here by the kernel's header, field by
//! field; those that `mdadm` makes are seen in virtual machines.

use super::attached::assert_nothing_attached;
use super::lvm::{Bare, FIRST, LENGTH, assert_lacks, ext4, found, plan_of};
use super::scene::{Taken, assert_same_tree, listing, make};
use super::shot::{Shot, recorded};
use crate::support::host::available;
use std::path::Path;
use std::sync::Arc;
use stillpoint::engine::{MountPlan, PlannedDisk};

const MIB: usize = 1 << 20;
/// Where the data begins.
const DATA: usize = 2 * MIB;

/// A disk of a mirror of two.
#[derive(Clone)]
pub struct Leg {
    role: u16,
    roles: Vec<u16>,
    events: u64,
    features: u32,
    level: u32,
    flags: u8,
    /// Of the array, in bytes.
    size: u64,
    name: &'static str,
    /// The first entry of its list of bad blocks.
    bad: u64,
}

impl Leg {
    pub fn new(role: u16, size: usize) -> Self {
        Self {
            role,
            roles: vec![0, 1],
            events: 17,
            features: 1 | 8,
            level: 1,
            flags: 0,
            size: size as u64,
            name: "host:0",
            bad: u64::MAX,
        }
    }

    /// The disk, with these bytes as data.
    pub fn disk(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; DATA + self.size as usize + MIB];
        let room = self.size / 512 + 1024;
        let mut put = |at: usize, what: &[u8]| {
            bytes[4096 + at..4096 + at + what.len()].copy_from_slice(what);
        };
        put(0, &0xa92b_4efc_u32.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(8, &self.features.to_le_bytes());
        put(16, &[9; 16]);
        put(32, self.name.as_bytes());
        put(72, &self.level.to_le_bytes());
        put(80, &(self.size / 512).to_le_bytes());
        put(92, &2_u32.to_le_bytes());
        put(128, &(DATA as u64 / 512).to_le_bytes());
        put(136, &room.to_le_bytes());
        put(144, &8_u64.to_le_bytes());
        put(160, &u32::from(self.role).to_le_bytes());
        put(184, &[self.flags, 9]);
        put(186, &8_u16.to_le_bytes());
        put(188, &16_u32.to_le_bytes());
        put(200, &self.events.to_le_bytes());
        put(208, &u64::MAX.to_le_bytes());
        put(220, &8_u32.to_le_bytes());
        put(256, &[0xff; 16]);
        for (number, role) in self.roles.iter().enumerate() {
            put(256 + 2 * number, &role.to_le_bytes());
        }
        put(16 * 512, &self.bad.to_le_bytes());
        mend(&mut bytes);
        bytes[DATA..DATA + data.len()].copy_from_slice(data);
        bytes
    }
}

/// Makes the checksum of a superblock right.
pub fn mend(disk: &mut [u8]) {
    let Some(block) = disk.get_mut(4096..) else {
        return;
    };
    let Some(most) = block.get(220..224) else {
        return;
    };
    let most = u32::from_le_bytes(most.try_into().unwrap()) as usize;
    let length = most.saturating_mul(2).saturating_add(256);
    let Some(whole) = block.get_mut(..length) else {
        return;
    };
    whole[216..220].fill(0);
    let mut sum = 0_u64;
    let mut rest = &whole[..];
    while rest.len() >= 4 {
        sum += u64::from(u32::from_le_bytes(rest[..4].try_into().unwrap()));
        rest = &rest[4..];
    }
    if rest.len() == 2 {
        sum += u64::from(u16::from_le_bytes(rest.try_into().unwrap()));
    }
    let sum = ((sum & 0xffff_ffff) + (sum >> 32)) as u32;
    whole[216..220].copy_from_slice(&sum.to_le_bytes());
}

fn plan(legs: &[(&Leg, &[u8])]) -> MountPlan {
    let disks: Vec<Vec<u8>> = legs.iter().map(|(leg, data)| leg.disk(data)).collect();
    let disks: Vec<&[u8]> = disks.iter().map(Vec::as_slice).collect();
    plan_of(&disks)
}

#[test]
fn a_mirror_is_seen_as_it_was_and_at_its_place() {
    if !available("a_mirror_is_seen_as_it_was") {
        return;
    }
    let made = make("ext4", 20, Taken::Dirty);
    let size = made.bytes.len();
    let legs = [Leg::new(0, size), Leg::new(1, size)].map(|leg| leg.disk(&made.bytes));
    let mut shot = Shot::of_disks(&[&legs[0], &legs[1]]);
    for disk in &mut shot.manifest.disks {
        disk.filesystems = vec![recorded("ext4", "/dev/md0", &[("/srv", "/")])];
    }
    shot.look(|look| {
        assert_eq!(found(look.plan), ["md/host:0 ext4"]);
        let tree = look.tree()?;
        assert_eq!(tree.not_shown, []);
        assert_same_tree(&listing(&tree.path.join("srv")), &made.tree);
        assert_eq!(look.plan.filesystems[0].mounts[0].target, Path::new("/srv"));
        Ok(())
    })
    .unwrap();
    assert_nothing_attached(shot.run_dir.path());
}

#[test]
fn what_was_written_last_is_shown_and_none_that_missed_it() {
    let (good, stale) = (ext4(8), vec![0; 8 * MIB]);
    let new = Leg::new(1, 8 * MIB);
    // It was thrown out, and does not know.
    let mut old = Leg::new(0, 8 * MIB);
    old.events -= 3;
    let mut alone = new.clone();
    alone.roles = vec![0xfffe, 1];
    let shown = |legs: &[(&Leg, &[u8])]| found(&plan(legs));
    let mirror = ["md/host:0 ext4"];
    assert_eq!(shown(&[(&old, &stale), (&alone, &good)]), mirror);
    assert_eq!(shown(&[(&alone, &good)]), mirror);
    // Both are of one event: md reads the first.
    let first = Leg::new(0, 8 * MIB);
    assert_eq!(shown(&[(&new, &stale), (&first, &good)]), mirror);
    // The other one may be newer.
    let doubted = plan(&[(&old, &good)]);
    assert_eq!(found(&doubted), [""; 0]);
    assert_lacks(&doubted, "md/host:0", "may be newer");
    // Rebuilt, reshaped, replaced, with bad blocks, or behind: the other one has all.
    let changes: [fn(&mut Leg); 5] = [
        |leg| leg.features |= 2,
        |leg| leg.features |= 4,
        |leg| leg.features |= 16,
        |leg| leg.bad = 7,
        |leg| leg.flags = 1,
    ];
    for change in changes {
        let (mut bad, mut both) = (first.clone(), new.clone());
        change(&mut bad);
        assert_eq!(shown(&[(&bad, &stale), (&new, &good)]), mirror);
        change(&mut both);
        let none = plan(&[(&bad, &good), (&both, &good)]);
        assert_lacks(&none, "md/host:0", "none of its disks has all of it");
    }
}

#[test]
fn what_is_no_whole_mirror_is_named() {
    let data = ext4(8);
    let mut striped = [Leg::new(0, 8 * MIB), Leg::new(1, 8 * MIB)];
    striped.iter_mut().for_each(|leg| leg.level = 5);
    let raid = plan(&[(&striped[0], &data), (&striped[1], &data)]);
    assert_lacks(&raid, "md/host:0", "level 5");
    let twins = Leg::new(0, 8 * MIB);
    let twice = plan(&[(&twins, &data), (&twins, &data)]);
    assert_lacks(&twice, "md/host:0", "the same place");
    let mut damaged = Leg::new(0, 8 * MIB).disk(&data);
    damaged[4096 + 200] ^= 1;
    let told = plan_of(&[&damaged]);
    assert_eq!(found(&told), [""; 0]);
    assert_lacks(&told, "vda", "its superblock is damaged");
    assert_eq!(told.unproven.len(), 1);
    // Longer than its disk.
    let mut long = Leg::new(0, 8 * MIB);
    long.roles = vec![0, 0xffff];
    let mut short = long.disk(&data);
    short.truncate(6 * MIB);
    assert_lacks(
        &plan_of(&[&short]),
        "md/host:0",
        "behind the end of its disk",
    );
}

#[test]
fn volumes_on_a_mirror_are_found() {
    let mut group = FIRST.to_vec();
    group.resize(LENGTH, 0);
    let at = MIB + 5 * 4 * MIB;
    group[at..at + 8 * MIB].copy_from_slice(&ext4(8));
    let legs = [Leg::new(0, LENGTH), Leg::new(1, LENGTH)].map(|leg| leg.disk(&group));
    let shot = Shot::of_disks(&[&[0; MIB], &[0; MIB]]);
    let mut records: Vec<_> = shot.manifest.disks.clone();
    for record in &mut records {
        let a_b = recorded("ext4", "/dev/mapper/vg--one-a--b", &[("/ab", "/")]);
        record.filesystems = vec![a_b];
    }
    let disks = records.iter().zip(legs);
    let disks = disks.map(|(record, bytes)| PlannedDisk {
        record,
        image: Arc::new(Bare(bytes)),
    });
    let plan = MountPlan::of(&disks.collect::<Vec<_>>()).unwrap();
    assert_eq!(found(&plan), ["vg-one/a-b ext4"]);
    assert_eq!(plan.filesystems[0].mounts[0].target, Path::new("/ab"));
    let below: Vec<usize> = plan.filesystems[0]
        .below
        .iter()
        .map(|part| part.disk)
        .collect();
    assert_eq!(below, [0, 1]);
    assert_lacks(&plan, "vg-one/data", "not among those that are looked at");
}
