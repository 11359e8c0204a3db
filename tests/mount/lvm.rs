//! Filesystems on LVM inside a snapshot. What stands at the beginning of both disks is as LVM
//! itself has written it; where each extent lies is told here by hand, from what `lvs` said then.

use super::attached::assert_nothing_attached;
use super::scene::{Made, Taken, assert_same_tree, listing, make};
use super::shot::{Shot, partitioned, recorded};
use crate::support::host::available;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stillpoint::Result;
use stillpoint::engine::{
    BrowseOptions, BrowseScope, CopyRequest, CopyTarget, MountPlan, PlannedDisk, copy_from_snapshot,
};
use stillpoint::export::{InPlace, PhysicalLabel, VolumeGroup};
use stillpoint::model::{Bytes, Extent};

const MIB: usize = 1 << 20;
/// The beginning of two disks of the group `vg-one`.
pub const FIRST: &[u8] = include_bytes!("../fixtures/lvm/first.head");
pub const SECOND: &[u8] = include_bytes!("../fixtures/lvm/second.head");
/// How long both were.
pub const LENGTH: usize = 64 * MIB;
const EXTENT: usize = 4 * MIB;

/// The disks of the group.
struct Group {
    first: Vec<u8>,
    second: Vec<u8>,
}

impl Group {
    /// `data` is 20 MiB, first on the one disk, then on the other; `striped` is 16 MiB in stripes
    /// of 64 KiB; `a-b` is 8 MiB.
    fn of(data: &[u8], striped: &[u8]) -> Self {
        let disk = |head: &[u8]| {
            let mut bytes = head.to_vec();
            bytes.resize(LENGTH, 0);
            bytes
        };
        let (mut first, mut second) = (disk(FIRST), disk(SECOND));
        let at = |extent: usize| MIB + extent * EXTENT;
        let mut data = data.to_vec();
        data.resize(5 * EXTENT, 0);
        first[at(0)..at(3)].copy_from_slice(&data[..3 * EXTENT]);
        second[at(2)..at(4)].copy_from_slice(&data[3 * EXTENT..]);
        for (row, stripes) in striped.chunks(128 << 10).enumerate() {
            let (one, other) = stripes.split_at(stripes.len().min(64 << 10));
            let (to, and) = (at(3) + row * (64 << 10), at(0) + row * (64 << 10));
            first[to..to + one.len()].copy_from_slice(one);
            second[and..and + other.len()].copy_from_slice(other);
        }
        Self { first, second }
    }

    /// A snapshot of both, the second one in a partition.
    fn shot(&self) -> Shot {
        let second = partitioned(66 * MIB as u64, &[(MIB as u64, &self.second)]);
        Shot::of_disks(&[&self.first, &second])
    }
}

/// A disk as bytes, of which no vault is needed.
pub struct Bare(pub Vec<u8>);

impl InPlace for Bare {
    fn size(&self) -> Bytes {
        Bytes(self.0.len() as u64)
    }

    fn read_within(&self, offset: Bytes, buffer: &mut [u8], _: Duration) -> Result<()> {
        let from = offset.0 as usize;
        buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
        Ok(())
    }
}

/// The plan of disks with these bytes.
pub fn plan_of(disks: &[&[u8]]) -> MountPlan {
    let shot = Shot::of_disks(&vec![&[0; MIB][..]; disks.len()]);
    let records = shot.manifest.disks.iter().zip(disks);
    let disks = records.map(|(record, bytes)| PlannedDisk {
        record,
        image: Arc::new(Bare(bytes.to_vec())),
    });
    MountPlan::of(&disks.collect::<Vec<_>>()).unwrap()
}

fn plan(shot: &Shot) -> MountPlan {
    MountPlan::of_snapshot(&shot.manifest, &shot.disks(), &|| Ok(())).unwrap()
}

pub fn found(plan: &MountPlan) -> Vec<String> {
    let each = plan.filesystems.iter();
    each.map(|one| format!("{} {}", one.attach.name, one.attach.kind))
        .collect()
}

#[track_caller]
pub fn assert_lacks(plan: &MountPlan, what: &str, why: &str) {
    let lacks = plan.not_shown.iter();
    let mut lacks = lacks.filter(|one| one.what == what && one.why.contains(why));
    let all = &plan.not_shown;
    assert!(lacks.next().is_some(), "{what}, {why}: {all:#?}");
}

/// So many MiB that look like an ext4.
pub fn ext4(mib: usize) -> Vec<u8> {
    let mut bytes = vec![0; mib * MIB];
    bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
    bytes[1024 + 0x60] = 0x40;
    bytes
}

/// The host had both mounted.
fn record_mounts(shot: &mut Shot) {
    let data = recorded("ext4", "/dev/mapper/vg--one-data", &[("/", "/")]);
    let striped = recorded("ext4", "/dev/mapper/vg--one-striped", &[("/srv", "/")]);
    let thin = recorded("xfs", "/dev/mapper/vg--one-thin", &[("/thin", "/")]);
    // One on several disks has a record on each.
    shot.manifest.disks[0].filesystems = vec![data.clone(), striped.clone(), thin];
    shot.manifest.disks[1].filesystems = vec![striped, data];
}

#[test]
fn volumes_are_seen_as_they_were_with_what_their_logs_have() {
    if !available("volumes_are_seen_as_they_were") {
        return;
    }
    let (data, striped): (Made, Made) = (
        make("ext4", 20, Taken::Dirty),
        make("ext4", 16, Taken::Clean),
    );
    let mut shot = Group::of(&data.bytes, &striped.bytes).shot();
    record_mounts(&mut shot);
    shot.look(|look| {
        let names: Vec<&str> = look.plan.volumes.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["vg-one/data", "vg-one/striped", "vg-one/a-b"]);
        for (number, truth) in [(0, &data), (1, &striped)] {
            let attached = look.attach(number)?;
            assert_eq!(attached.without_log, None);
            assert_same_tree(&listing(&attached.path), &truth.tree);
        }
        // Disks alone are shown as they are in the vault.
        let raw = std::fs::read_dir(look.view.images().join("raw")).unwrap();
        assert_eq!(raw.count(), 2);
        // What a checker is shown is the whole volume.
        let attached = look.attach(1)?;
        let part = look.plan.filesystems[1].attach.parts[0];
        let closed = look.view.closed(attached, &part)?;
        let bytes = std::fs::read(closed.path()).unwrap();
        assert!(bytes == striped.bytes, "{} bytes", bytes.len());
        drop(closed);
        let tree = look.tree()?;
        let seen = listing(&tree.path.join("srv"));
        assert_same_tree(&seen, &striped.tree);
        let thin = tree
            .not_shown
            .iter()
            .find(|one| one.what == "/thin")
            .unwrap();
        assert!(thin.was_mounted, "{thin:?}");
        Ok(())
    })
    .unwrap();
    assert_nothing_attached(shot.run_dir.path());
}

#[test]
fn a_path_of_the_host_is_found_on_a_volume() {
    if !available("a_path_of_the_host") {
        return;
    }
    let (data, striped) = (
        make("ext4", 20, Taken::Clean),
        make("ext4", 16, Taken::Dirty),
    );
    let mut shot = Group::of(&data.bytes, &striped.bytes).shot();
    record_mounts(&mut shot);
    let to = tempfile::tempdir().unwrap();
    let paths = ["/srv/etc/deep/er/one", "/etc/hostname"].map(PathBuf::from);
    let options = BrowseOptions {
        vault: &shot.vault,
        manifest: &shot.manifest,
        scope: BrowseScope::Host,
        run_dir: shot.run_dir.path(),
    };
    let copy = |paths: &[PathBuf]| {
        let request = CopyRequest {
            paths,
            target: &CopyTarget::Into(to.path().to_owned()),
            replace: false,
            follow: false,
        };
        copy_from_snapshot(&options, &request, &shot.ear)
    };
    copy(&paths).unwrap();
    let length = std::fs::metadata(to.path().join("one")).unwrap().len();
    assert_eq!(length, 300_000);
    let name = std::fs::read_to_string(to.path().join("hostname")).unwrap();
    assert_eq!(name, "before");
    let refused = copy(&["/thin/x".into()]).unwrap_err().to_string();
    assert!(refused.contains("/dev/mapper/vg--one-thin"), "{refused}");
    assert_nothing_attached(shot.run_dir.path());
}

#[test]
fn a_plan_names_volumes_and_what_is_mounted_from_them() {
    let mut shot = Group::of(&ext4(20), &ext4(16)).shot();
    record_mounts(&mut shot);
    let whole = plan(&shot);
    assert_eq!(found(&whole), ["vg-one/data ext4", "vg-one/striped ext4"]);
    let targets: Vec<_> = whole
        .filesystems
        .iter()
        .map(|one| one.mounts[0].target.clone())
        .collect();
    assert_eq!(targets, ["/", "/srv"].map(PathBuf::from));
    assert_lacks(&whole, "/thin", "not opened by itself");
    let unproven: Vec<&str> = whole.unproven.iter().map(|one| &*one.name).collect();
    assert_eq!(unproven, ["vg-one/a-b"]);
    let below: Vec<usize> = whole.filesystems[0]
        .below
        .iter()
        .map(|part| part.disk)
        .collect();
    assert_eq!(below, [0, 1]);
    // One disk alone has the texts of all, and not the extents.
    let disks: Vec<_> = shot.disks().into_iter().take(1).collect();
    let half = MountPlan::of(&disks).unwrap();
    assert_eq!(found(&half), [""; 0]);
    for name in ["vg-one/data", "vg-one/striped", "/", "/srv"] {
        assert_lacks(&half, name, "which is not among those that are looked at");
    }
}

#[test]
fn of_two_disks_with_one_name_none_is_believed() {
    let group = Group::of(&ext4(20), &ext4(16));
    let plan = plan_of(&[&group.first, &group.second, &group.first]);
    assert_eq!(found(&plan), [""; 0]);
    assert_lacks(&plan, "vg-one/data", "is there more than once");
}

#[test]
fn the_newest_text_counts() {
    let mut group = Group::of(&ext4(20), &ext4(16));
    // As the second disk was when it was not there for the last change, which made `a-b`.
    let old = earlier(&group.second);
    group.second[..old.len()].copy_from_slice(&old);
    let plan = plan_of(&[&group.first, &group.second]);
    assert_eq!(found(&plan), ["vg-one/data ext4", "vg-one/striped ext4"]);
    let stale = Group {
        first: [earlier(&group.first), group.first[16384..].to_vec()].concat(),
        second: group.second,
    };
    let volumes = plan_of(&[&stale.first, &stale.second]).volumes;
    let names: Vec<&str> = volumes.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["vg-one/data", "vg-one/striped"]);
}

/// The beginning of a disk as it was before its group was changed for the last time.
fn earlier(disk: &[u8]) -> Vec<u8> {
    let mut head = disk[..16384].to_vec();
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap()) as usize;
    // LVM writes each text behind the one before, at a sector.
    let now = 4096 + number(4096 + 40);
    let start = (4608..now)
        .step_by(512)
        .rfind(|at| head[*at..].starts_with(b"vg-one {"))
        .unwrap();
    let length = head[start..].iter().position(|byte| *byte == 0).unwrap() + 1;
    head[4096 + 40..4096 + 48].copy_from_slice(&(start as u64 - 4096).to_le_bytes());
    head[4096 + 48..4096 + 56].copy_from_slice(&(length as u64).to_le_bytes());
    mend(&mut head);
    head
}

/// LVM's checksum.
fn sum(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(!0xf597_a6cf);
    hasher.update(bytes);
    (!hasher.finalize()).to_le_bytes()
}

/// Makes the checksums of a label, of the head of its texts, and of the text right.
pub fn mend(head: &mut [u8]) {
    if head.len() < 4608 {
        return;
    }
    let number = |head: &[u8], at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
    let start = number(head, 4136).saturating_add(4096) as usize;
    let end = start.saturating_add(number(head, 4144) as usize);
    let text = head.get(start..end).map(sum);
    text.into_iter()
        .for_each(|sum| head[4152..4156].copy_from_slice(&sum));
    let header = sum(&head[4100..4608]);
    head[4096..4100].copy_from_slice(&header);
    let label = sum(&head[532..1024]);
    head[528..532].copy_from_slice(&label);
}

#[test]
fn what_lvm_has_written_is_understood() {
    let whole = Extent::new(Bytes(0), Bytes(LENGTH as u64));
    let disk = Bare(Group::of(&[], &[]).first);
    let label = PhysicalLabel::read(&disk, whole).unwrap();
    assert!(label.trouble.is_none());
    let group = VolumeGroup::parse(&label.texts[0]).unwrap();
    assert_eq!((group.name.as_str(), group.sequence), ("vg-one", 5));
    assert_eq!(group.extent, Bytes(EXTENT as u64));
    assert_eq!(group.physical[0].uuid, label.uuid);
    assert_eq!(group.physical[1].first, Bytes(MIB as u64));
}

#[test]
fn a_text_goes_on_at_the_beginning_of_its_area() {
    let mut disk = Group::of(&[], &[]).first;
    let text = disk[4096 + 6656..][..1900].to_vec();
    // 700 bytes before the end of the area, and the rest behind its head.
    let (area, offset) = (4096, 1_044_480 - 700);
    disk[area + 512..area + 12_000].fill(0);
    disk[area + offset..][..700].copy_from_slice(&text[..700]);
    disk[area + 512..][..1200].copy_from_slice(&text[700..]);
    disk[area + 40..area + 48].copy_from_slice(&(offset as u64).to_le_bytes());
    let header = sum(&disk[4100..4608]);
    disk[4096..4100].copy_from_slice(&header);
    let whole = Extent::new(Bytes(0), Bytes(LENGTH as u64));
    let read = |disk: Vec<u8>| PhysicalLabel::read(&Bare(disk), whole).unwrap();
    assert_eq!(read(disk.clone()).texts, [text]);
    disk[area + 512 + 1199] ^= 1;
    let damaged = read(disk);
    assert!(damaged.texts.is_empty() && damaged.trouble.is_some());
}

#[test]
fn what_is_damaged_of_lvm_is_named_and_nothing_is_guessed() {
    let whole = Group::of(&ext4(20), &ext4(16));
    // The label, the name in it, the head of the texts, the text: of both disks.
    for at in [530, 550, 4100, 4136, 4096 + 6656 + 100] {
        let mut group = Group {
            first: whole.first.clone(),
            second: whole.second.clone(),
        };
        group.first[at] ^= 1;
        let one = plan_of(&[&group.first, &group.second]);
        let told = one.not_shown.iter().any(|told| told.what == "vda");
        assert!(told, "{at}: {:#?}", one.not_shown);
        group.second[at] ^= 1;
        let both = plan_of(&[&group.first, &group.second]);
        assert_eq!(found(&both), [""; 0], "{at}");
        assert_lacks(&both, "vda", "LVM");
        assert_lacks(&both, "vdb", "LVM");
        assert!(both.unproven.len() >= 2, "{:#?}", both.unproven);
    }
}
