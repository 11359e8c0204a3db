//! Topology, identity and resolving, on recorded hosts.

use super::{dev, names};
use crate::support::recorded::Recorded;
use std::io::Cursor;
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::device::{DeviceKind, Disk, OpenDisk, ReadSeek, Topology};
use stillpoint::model::{Bytes, Extent, Sectors};

fn disk<'a>(topology: &'a Topology, name: &str) -> &'a Disk {
    topology.disk(dev(topology, name)).expect(name)
}

fn disk_names(topology: &Topology) -> Vec<&str> {
    topology.disks().map(Disk::name).collect()
}

#[test]
fn a_virtio_disk_with_partitions() {
    let topology = Recorded::open("virtio").topology();
    assert_eq!(disk_names(&topology), ["vda", "vdb"]);
    let vda = disk(&topology, "vda");
    assert_eq!(vda.identity.serial.as_deref(), Some("i-8vb0sysdisk"));
    assert_eq!(vda.identity.diskseq, Some(9));
    assert_eq!(vda.identity.size, Sectors(41_943_040).bytes());
    assert_eq!(vda.path, Path::new("/dev/vda"));
    assert!(vda.request_based && !vda.zoned && !vda.read_only && !vda.removable);
    let parts: Vec<_> = vda
        .partitions
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    assert_eq!(parts, ["vda1", "vda2", "vda3"]);
    let place = Extent::new(Sectors(4_605_952).bytes(), Sectors(37_335_040).bytes());
    assert_eq!(vda.partitions[2].place(), place);
    let vdb = disk(&topology, "vdb");
    assert_eq!(
        vdb.identity.serial.as_deref(),
        Some("vol-77"),
        "as udev wrote it down"
    );
    assert_eq!(topology.named("sr0").unwrap().kind, DeviceKind::Optical);
}

#[test]
fn nvme_namespaces_and_a_multipath_head() {
    let topology = Recorded::open("nvme").topology();
    assert_eq!(disk_names(&topology), ["nvme0n1", "nvme0n2", "nvme1n1"]);
    let first = disk(&topology, "nvme0n1");
    assert_eq!(
        (first.identity.logical_block, first.kind),
        (4096, DeviceKind::Disk)
    );
    assert_eq!(
        first.identity.size,
        Sectors(16_777_216).bytes(),
        "sysfs counts 512 bytes"
    );
    assert_eq!(
        first.identity.serial.as_deref(),
        Some("vol0123456789abcdef0")
    );
    assert_eq!(first.model.as_deref(), Some("Amazon Elastic Block Store"));
    let numbers: Vec<u32> = first.partitions.iter().map(|part| part.number).collect();
    assert_eq!(numbers, [1, 2, 128]);
    let second = disk(&topology, "nvme0n2");
    assert_eq!(
        second.identity.serial.as_deref(),
        Some("vol0123456789abcdef0_2")
    );
    assert!(second.zoned);
    let head = disk(&topology, "nvme1n1");
    assert_eq!(
        (head.kind, head.request_based),
        (DeviceKind::NvmeHead, false)
    );
    assert_eq!(head.nvme_paths, ["nvme1c1n1", "nvme1c2n1"]);
    assert_eq!(
        head.identity.wwn.as_deref(),
        Some("eui.36345730529004040025384500000001")
    );
}

#[test]
fn mapped_devices_end_at_their_disks() {
    let topology = Recorded::open("luks-lvm").topology();
    assert_eq!(disk_names(&topology), ["sda", "sdb", "sdc"]);
    let kind = |name: &str| topology.named(name).unwrap().kind;
    assert_eq!(
        [kind("dm-0"), kind("dm-1"), kind("dm-3")],
        [DeviceKind::Crypt, DeviceKind::Lvm, DeviceKind::Lvm]
    );
    let bottom = |name: &str| names(&topology, &topology.bottom(dev(&topology, name)));
    assert_eq!(bottom("dm-1"), ["sda"]);
    assert_eq!(bottom("dm-3"), ["sdb", "sdc"]);
    assert_eq!(bottom("sdb"), ["sdb"]);
    let sda = disk(&topology, "sda");
    assert_eq!(sda.identity.serial.as_deref(), Some("6000C29a1b2c"));
    assert_eq!(
        sda.identity.wwn.as_deref(),
        Some("naa.6000c29a1b2c3d4e5f60718293a4b5c6")
    );
    assert_eq!(sda.model.as_deref(), Some("Virtual disk"));
    let by_path = |path: &str| {
        topology
            .node(Path::new(path))
            .map(|device| device.name.as_str())
    };
    assert_eq!(by_path("/dev/mapper/my--vg-root"), Some("dm-1"));
    assert_eq!(by_path("/dev/my-vg/root"), Some("dm-1"));
    assert_eq!(by_path("/dev/sda2"), Some("sda2"));
    assert_eq!(by_path("/home/sda2"), None);
}

#[test]
fn raid_and_loops() {
    let topology = Recorded::open("raid").topology();
    assert_eq!(topology.named("md0").unwrap().kind, DeviceKind::Raid);
    let md0 = dev(&topology, "md0");
    assert_eq!(names(&topology, &topology.bottom(md0)), ["sda", "sdb"]);

    let topology = Recorded::open("loops").topology();
    assert_eq!(
        disk_names(&topology),
        ["loop0", "loop1", "loop2", "loop3", "vda", "vdb"],
        "the unbound one is not a disk to show"
    );
    let file = Path::new("/var/lib/images/disk one.img");
    assert_eq!(disk(&topology, "loop0").backing_file.as_deref(), Some(file));
    let deleted = Path::new("/mnt/outer/inner.img");
    assert_eq!(
        disk(&topology, "loop1").backing_file.as_deref(),
        Some(deleted)
    );
    assert_eq!(topology.named("zram0").unwrap().kind, DeviceKind::Zram);
    let over_disk = topology.bottom(dev(&topology, "loop3"));
    assert_eq!(names(&topology, &over_disk), ["vdb"]);
}

#[test]
fn a_user_may_name_a_disk_in_several_ways() {
    let host = Recorded::open("virtio");
    let topology = host.topology();
    let all = [
        "vda",
        "/dev/vda",
        "/dev/disk/by-id/virtio-i-8vb0sysdisk",
        "i-8vb0sysdisk",
    ];
    for text in all {
        assert_eq!(
            topology.resolve_disk(&host.host, text).unwrap().name(),
            "vda",
            "{text}"
        );
    }
    assert_eq!(
        topology.resolve_disk(&host.host, "vol-77").unwrap().name(),
        "vdb"
    );
    let nvme = Recorded::open("nvme");
    let topology = nvme.topology();
    let head = topology.resolve_disk(&nvme.host, "eui.36345730529004040025384500000001");
    assert_eq!(head.unwrap().name(), "nvme1n1");
}

#[test]
fn a_disk_with_another_way_to_it_is_known() {
    let topology = Recorded::open("multipath").topology();
    let way = |name: &str| topology.alias_of(disk(&topology, name)).map(|way| way.what);
    for member in ["sda", "sdb"] {
        let what = way(member).unwrap();
        assert!(what.contains("the multipath disk mpatha"), "{what}");
    }
    let what = way("sdc").unwrap();
    assert!(what.contains("sdd"), "{what}");
    assert!(way("sdd").is_some());
    // The serial number of an array, and other names or sizes.
    assert_eq!(["sde", "sdf", "sdg"].map(way), [None, None, None]);
    let refusal = topology
        .alias_of(disk(&topology, "sda"))
        .unwrap()
        .refusal("sda");
    assert_eq!(
        (refusal.kind(), refusal.disk()),
        (ErrorKind::Unsupported, Some("sda"))
    );

    let host = Recorded::open("virtio");
    let topology = host.topology();
    assert!(
        topology
            .disks()
            .all(|disk| topology.alias_of(disk).is_none())
    );
    let host = Recorded::open("nvme");
    let topology = host.topology();
    assert!(
        topology
            .disks()
            .all(|disk| topology.alias_of(disk).is_none())
    );
}

/// What is refused, how, and with which words in the message or its hint.
#[test]
fn what_is_no_disk_is_refused_with_the_way_out() {
    use ErrorKind::{NotFound, Unsupported, Usage};
    let cases = [
        (
            "virtio",
            "/dev/vda1",
            Usage,
            "/dev/vda1 is a partition of vda",
        ),
        ("virtio", "vda3", Usage, "give vda"),
        (
            "virtio",
            "/dev/disk/by-uuid/6c2ab8f0-0000-4000-8000-000000000003",
            Usage,
            "give vda",
        ),
        ("virtio", "sr0", Unsupported, "drive for discs"),
        ("virtio", "/dev/null", Usage, "not a block device"),
        ("virtio", "/dev/vdz", NotFound, "stillpoint disks"),
        ("virtio", "vdz", NotFound, "stillpoint disks"),
        ("virtio", "", NotFound, "stillpoint disks"),
        (
            "luks-lvm",
            "/dev/mapper/my--vg-root",
            Unsupported,
            "give what it lies on: sda",
        ),
        (
            "luks-lvm",
            "dm-3",
            Unsupported,
            "give what it lies on: sdb, sdc",
        ),
        (
            "raid",
            "/dev/md/host:0",
            Unsupported,
            "give what it lies on: sda, sdb",
        ),
        ("loops", "/dev/zram0", Unsupported, "compressed memory"),
        ("loops", "loop7", Unsupported, "no size"),
        ("nvme", "nvme1c2n1", Usage, "give the disk, nvme1n1"),
        ("nvme", "nvme9c2n1", NotFound, "stillpoint disks"),
        ("multipath", "dm-0", Unsupported, "leave it one path"),
        (
            "multipath",
            "dm-1",
            Unsupported,
            "several paths to one disk (sda, sdb)",
        ),
        ("multipath", "LUN1", Usage, "if they are two paths to one"),
    ];
    for (case, text, kind, words) in cases {
        let host = Recorded::open(case);
        let error = host.topology().resolve_disk(&host.host, text).unwrap_err();
        let said = format!("{error} | {}", error.hint().unwrap_or_default());
        assert_eq!(error.kind(), kind, "{case} {text}: {said}");
        assert!(said.contains(words), "{case} {text}: {said}");
    }
}

#[test]
fn a_serial_of_two_disks_and_a_disk_too_large_are_refused() {
    let host = Recorded::open("virtio");
    let vdb = host.host.sys.join("block/vdb");
    std::fs::write(vdb.join("serial"), "i-8vb0sysdisk").unwrap();
    let largest = ((1_u64 << 32) - 1) * 128;
    std::fs::write(vdb.join("size"), largest.to_string()).unwrap();
    let topology = host.topology();
    let error = topology
        .resolve_disk(&host.host, "i-8vb0sysdisk")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("vda and vdb"), "{error}");
    assert!(topology.resolve_disk(&host.host, "vdb").is_ok());
    std::fs::write(vdb.join("size"), (largest + 1).to_string()).unwrap();
    let error = host
        .topology()
        .resolve_disk(&host.host, "vdb")
        .map(Disk::name)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("too large"), "{error}");
}

/// A disk whose bytes are an MBR with one partition, whichever it is.
struct OneTable;

impl OpenDisk for OneTable {
    fn open(&self, name: &str) -> Option<Box<dyn ReadSeek>> {
        let mut disk = vec![0_u8; 8192];
        disk[440] = 0x11;
        disk[450] = 0x83;
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        (name != "sdb").then(|| Box::new(Cursor::new(disk)) as Box<dyn ReadSeek>)
    }
}

#[test]
fn tables_are_read_where_that_is_safe() {
    let host = Recorded::open("luks-lvm");
    let state = host.host.sys.join("block/sda/device/state");
    let id = || {
        let topology = Topology::scan(&host.host, &OneTable).unwrap();
        let id = |name: &str| disk(&topology, name).identity.table_id.clone();
        [id("sda"), id("sdb"), id("sdc")]
    };
    let found = Some("00000011".to_owned());
    assert_eq!(id(), [found.clone(), None, found.clone()]);
    std::fs::write(state, "offline").unwrap();
    assert_eq!(id(), [None, None, found]);
}

#[test]
fn a_host_may_show_nonsense() {
    let host = Recorded::open("virtio");
    let vda = host.host.sys.join("block/vda");
    std::fs::write(vda.join("size"), "many").unwrap();
    std::fs::write(vda.join("vda1/dev"), "254").unwrap();
    std::fs::write(vda.join("vda2/start"), u64::MAX.to_string()).unwrap();
    std::fs::write(vda.join("queue/logical_block_size"), [0xff; 9000]).unwrap();
    let topology = host.topology();
    let vda = disk(&topology, "vda");
    assert_eq!(vda.identity.size, Bytes(0));
    assert_eq!(vda.partitions.len(), 2);
    host.mounts(&topology);
}
