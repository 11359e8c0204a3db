//! Which filesystems live on which disks, on recorded hosts.

use super::{dev, names};
use crate::support::recorded::Recorded;
use std::path::{Path, PathBuf};
use stillpoint::device::{
    Filesystem, Freezable, FreezeSet, HostChecks, Mounts, Topology, Use, filesystems_on, freezable,
    in_use, swapped_extents, swaps,
};
use stillpoint::model::{Bytes, Extent, Sectors};

struct Case {
    recorded: Recorded,
    topology: Topology,
    mounts: Mounts,
}

impl Case {
    fn open(case: &str) -> Self {
        let recorded = Recorded::open(case);
        let topology = recorded.topology();
        let mounts = recorded.mounts(&topology);
        Self {
            recorded,
            topology,
            mounts,
        }
    }

    fn at(&self, target: &str) -> &Filesystem {
        let filesystems = self.mounts.filesystems().iter();
        let mut found = filesystems.filter(|fs| fs.target() == Path::new(target));
        found
            .next()
            .unwrap_or_else(|| panic!("nothing at {target}"))
    }

    fn on(&self, disks: &[&str]) -> FreezeSet {
        let numbers: Vec<_> = disks.iter().map(|name| dev(&self.topology, name)).collect();
        filesystems_on(&self.topology, &self.mounts, &numbers)
    }

    /// Mount points, in freeze order, a `+` behind those that are also elsewhere.
    fn order(&self, disks: &[&str]) -> Vec<String> {
        let set = self.on(disks);
        let show = |fs: &Filesystem| {
            let outside = set.partly_outside.contains(&fs.dev);
            format!(
                "{}{}",
                fs.target().display(),
                if outside { "+" } else { "" }
            )
        };
        set.filesystems.iter().map(show).collect()
    }

    fn members(&self, target: &str) -> Vec<String> {
        names(&self.topology, &self.at(target).members)
    }

    fn uses(&self, name: &str) -> Vec<Use> {
        let swaps = swaps(&self.recorded.host, &self.topology);
        in_use(
            &self.topology,
            &self.mounts,
            &swaps,
            dev(&self.topology, name),
        )
    }
}

#[test]
fn each_filesystem_counts_once_and_only_if_on_a_disk() {
    let case = Case::open("virtio");
    let targets: Vec<&Path> = case
        .mounts
        .filesystems()
        .iter()
        .map(Filesystem::target)
        .collect();
    let data = Path::new("/srv/my data\\x");
    assert_eq!(targets, [Path::new("/"), Path::new("/boot/efi"), data]);
    let root = case.at("/");
    assert_eq!(root.mounts.len(), 2);
    assert!(!root.read_only, "its bind mount is, it is not");
    assert_eq!(freezable(root), Freezable::Yes);
    assert!(matches!(freezable(case.at("/boot/efi")), Freezable::No(why) if why.contains("vfat")));
    let place = Extent::new(Sectors(4_605_952).bytes(), Sectors(37_335_040).bytes());
    let direct = root.direct.unwrap();
    assert_eq!(
        (direct.disk, direct.place),
        (dev(&case.topology, "vda"), place)
    );
    let whole = case.at("/srv/my data\\x").direct.unwrap();
    assert_eq!(
        whole.place,
        Extent::new(Bytes(0), Sectors(209_715_200).bytes())
    );
    assert_eq!(case.order(&["vda"]), ["/boot/efi", "/"]);
    assert_eq!(
        case.order(&["vda", "vdb"]),
        ["/srv/my data\\x", "/boot/efi", "/"]
    );
    assert_eq!(
        root.open_paths(&case.recorded.host),
        [Path::new("/"), Path::new("/srv/www")]
    );
    let json = serde_json::to_value(case.on(&["vdb"])).unwrap();
    assert_eq!(
        json["filesystems"][0]["mounts"][0]["target"],
        "/srv/my data\\x"
    );
}

#[test]
fn swap_on_a_partition_is_known_by_its_place() {
    let case = Case::open("virtio");
    let found = swaps(&case.recorded.host, &case.topology);
    assert_eq!(found.len(), 1);
    let extents = swapped_extents(&case.topology, &found, dev(&case.topology, "vda"));
    let start = Sectors(411_648).bytes();
    let header = Bytes(65536);
    let length = Bytes(2_097_148 * 1024 + 4096) - header;
    assert_eq!(extents, [Extent::new(start + header, length)]);
    assert!(extents[0].end() <= start + Sectors(4_194_304).bytes());
    assert_eq!(
        swapped_extents(&case.topology, &found, dev(&case.topology, "vdb")),
        []
    );
    let lvm = Case::open("luks-lvm");
    let found = swaps(&lvm.recorded.host, &lvm.topology);
    assert_eq!(found.len(), 1);
    let on_disk = swapped_extents(&lvm.topology, &found, dev(&lvm.topology, "sda"));
    assert_eq!(
        on_disk,
        [],
        "swap inside a volume is not at a place of the disk"
    );
}

#[test]
fn through_luks_and_lvm_to_the_disk() {
    let case = Case::open("luks-lvm");
    assert_eq!(names(&case.topology, &case.at("/").disks), ["sda"]);
    assert_eq!(case.at("/").direct, None);
    assert_eq!(
        case.at("/boot").direct.unwrap().disk,
        dev(&case.topology, "sda")
    );
    assert_eq!(
        case.members("/data"),
        ["dm-3", "dm-4"],
        "its log is on another volume"
    );
    assert_eq!(case.order(&["sda"]), ["/data+", "/boot", "/"]);
    assert_eq!(case.order(&["sdb"]), ["/data+"]);
    assert_eq!(case.order(&["sdb", "sdc"]), ["/data+"]);
    assert_eq!(case.order(&["sda", "sdb", "sdc"]), ["/data", "/boot", "/"]);
}

#[test]
fn a_mirror_is_whole_only_with_all_its_disks() {
    let case = Case::open("raid");
    assert_eq!(case.order(&["sda"]), ["/data+"]);
    assert_eq!(case.order(&["sda", "sdb"]), ["/data"]);
    assert_eq!(case.order(&["sdc"]), [""; 0]);
    let holder = Use::Holder("md0".into());
    assert_eq!(case.uses("sdb"), [Use::Mounted("/data".into()), holder]);
    assert_eq!(case.uses("sdc"), []);
}

#[test]
fn a_filesystem_without_a_device_of_its_own_is_found_by_its_members() {
    let case = Case::open("btrfs");
    assert_eq!(case.members("/"), ["sda1", "sdb"]);
    assert_eq!(
        case.at("/").mounts.len(),
        2,
        "both subvolumes are one filesystem"
    );
    assert_eq!(case.at("/").direct, None);
    assert_eq!(case.order(&["sda"]), ["/+"]);
    assert_eq!(case.order(&["sda", "sdb"]), ["/"]);
    assert_eq!(case.order(&["sdc"]), ["/single"]);
    assert!(case.at("/single").direct.is_some());
    assert_eq!(case.members("/cache"), ["sdd", "sde"]);
    assert_eq!(case.order(&["sde"]), ["/cache+"]);
    let unknown: Vec<PathBuf> = case
        .on(&["sdc"])
        .undetermined
        .iter()
        .map(|fs| fs.target().to_owned())
        .collect();
    assert_eq!(unknown, [Path::new("/lost"), Path::new("/tank")]);
    assert!(
        !case
            .mounts
            .filesystems()
            .iter()
            .any(|fs| fs.fstype == "tmpfs")
    );
}

#[test]
fn what_lies_in_a_file_is_frozen_before_what_holds_the_file() {
    let case = Case::open("loops");
    assert_eq!(case.order(&["vda"]), ["/mnt/inner", "/mnt/outer", "/"]);
    let inner = case.at("/mnt/inner");
    assert_eq!(inner.depth, 2);
    assert_eq!(
        names(&case.topology, &inner.disks),
        ["loop0", "loop1", "vda"]
    );
    let outer = case.at("/mnt/outer");
    assert_eq!(
        (outer.depth, outer.below.contains(&case.at("/").dev)),
        (1, true)
    );
    assert_eq!(case.order(&["loop0"]), ["/mnt/inner", "/mnt/outer"]);
    assert_eq!(case.order(&["loop1"]), ["/mnt/inner"]);
    assert_eq!(
        names(&case.topology, &case.at("/mnt/remote").disks),
        ["loop2"]
    );
    assert_eq!(
        case.order(&["vdb"]),
        ["/mnt/whole"],
        "its loop device shows the disk"
    );
    let holders = [
        Use::Mounted("/mnt/whole".into()),
        Use::Holder("loop3".into()),
    ];
    assert_eq!(case.uses("vdb"), holders);
    assert_eq!(case.uses("zram0"), [Use::Swap("zram0".into())]);
    assert_eq!(case.uses("loop7"), []);
}

#[test]
fn a_container_may_have_mounted_what_the_host_has_not() {
    let case = Case::open("containers");
    let data = case.at("/var/lib/data base");
    assert_eq!(
        data.mounts[0].pid,
        Some(201),
        "not the one with another root"
    );
    let through = case.recorded.host.proc.join("201/root/var/lib/data base");
    assert_eq!(data.open_paths(&case.recorded.host), [through]);
    assert_eq!(case.order(&["vdb"]), ["/var/lib/data base"]);
    let root = case.at("/");
    assert_eq!(root.mounts.len(), 2);
    assert_eq!(root.open_paths(&case.recorded.host)[0], Path::new("/"));
    assert_eq!(case.order(&["vda", "vdb"]), ["/var/lib/data base", "/"]);
}

#[test]
fn facts_are_told_with_their_remedies() {
    let recorded = Recorded::open("virtio");
    let put = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put(
        recorded.host.sys.join("kernel/security/lockdown"),
        "none integrity [confidentiality]\n",
    );
    put(
        recorded.host.proc.join("sys/kernel/io_uring_disabled"),
        "2\n",
    );
    put(recorded.host.proc.join("sys/kernel/osrelease"), "6.1.0\n");
    let facts = HostChecks::gather(&recorded.host).unwrap();
    assert_eq!(facts.lockdown.as_deref(), Some("confidentiality"));
    assert!(!facts.btf && !facts.bpf_filesystem && facts.io_uring_disabled == 2);
    for finding in facts.findings() {
        assert_eq!(finding.ok, finding.remedy.is_none(), "{finding:?}");
    }
    let amiss = facts.findings().into_iter().filter(|finding| !finding.ok);
    let amiss: Vec<_> = amiss.map(|finding| finding.name).collect();
    for name in [
        "kernel type information",
        "lockdown",
        "io_uring",
        "bpf filesystem",
    ] {
        assert!(amiss.contains(&name), "{name}");
    }
    assert!(!amiss.contains(&"kernel"));
}
