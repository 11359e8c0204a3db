//! The same questions asked of real loop disks, with real filesystems on them.

use super::{dev, names};
use crate::support::host::{LoopDisk, Mount, attach, available, detach, partition, run, skipped};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use stillpoint::ErrorKind;
use stillpoint::device::{
    DeviceKind, Filesystem, Host, HostChecks, Mounts, Topology, Use, filesystems_on, in_use,
};
use stillpoint::model::{Bytes, DevNumber};
use stillpoint::sys::block;

const MIB: u64 = 1 << 20;

struct Now {
    topology: Topology,
    mounts: Mounts,
}

fn look() -> Now {
    let host = Host::here();
    let topology = Topology::scan(&host, &host).unwrap();
    let mounts = Mounts::read(&host, &topology).unwrap();
    Now { topology, mounts }
}

fn at<'a>(mounts: &'a Mounts, target: &Path) -> &'a Filesystem {
    let mut all = mounts.filesystems().iter();
    all.find(|fs| fs.target() == target).expect("the mount")
}

fn mkfs(kind: &str, device: &Path) {
    let quiet = if kind == "ext4" { "-qF" } else { "-qf" };
    run(&format!("mkfs.{kind}"), &[quiet, device.to_str().unwrap()]);
}

#[test]
fn a_partitioned_disk_is_seen_as_the_system_tools_see_it() {
    if !available("partitioned disk") {
        return;
    }
    for (sector, first) in [(512_u32, 2048 * 512), (4096, 256 * 4096)] {
        let disk = LoopDisk::within("/tmp", 64 * MIB, &["--sector-size", &sector.to_string()]);
        let path = disk.path().to_str().unwrap();
        let sectors = 16 * MIB / u64::from(sector);
        let begin = first / u64::from(sector);
        partition(disk.path(), &[(begin, sectors), (begin + sectors, sectors)]);
        let second = PathBuf::from(format!("{path}p2"));
        mkfs("ext4", &second);
        let mounted = Mount::somewhere(&second, "rw");

        let Now { topology, mounts } = look();
        let host = Host::here();
        let found = topology.resolve_disk(&host, path).unwrap();
        let blkid = run("blkid", &["-p", "-o", "value", "-s", "PTUUID", path]);
        assert_eq!(found.identity.table_id.as_deref(), Some(blkid.trim()));
        assert_eq!(found.identity.size, Bytes(64 * MIB));
        assert_eq!(found.identity.logical_block, sector);
        assert_eq!((found.kind, found.request_based), (DeviceKind::Loop, true));
        assert_eq!(found.backing_file.as_deref(), Some(disk.file.as_path()));
        let starts: Vec<u64> = found.partitions.iter().map(|part| part.start.0).collect();
        assert_eq!(starts, [first, first + 16 * MIB]);

        let file = File::open(path).unwrap();
        assert_eq!(block::size_in_bytes(file.as_fd()).unwrap(), 64 * MIB);
        assert_eq!(block::logical_block_size(file.as_fd()).unwrap(), sector);
        assert_eq!(
            block::disk_sequence(file.as_fd()).ok(),
            found.identity.diskseq
        );
        assert!(!block::is_read_only(file.as_fd()).unwrap());
        let image = File::open(&disk.file).unwrap();
        let not_a_disk = block::size_in_bytes(image.as_fd()).unwrap_err();
        assert_eq!(not_a_disk.raw_os_error(), Some(libc::ENOTTY));

        let filesystem = at(&mounts, &mounted.place);
        let direct = filesystem.direct.unwrap();
        assert_eq!(direct.place, found.partitions[1].place());
        let uses = in_use(&topology, &mounts, &[], found.dev());
        let target = mounted.place.to_string_lossy().into_owned();
        assert_eq!(uses, [Use::Mounted(target)]);
        let of_partition = topology.resolve_disk(&host, second.to_str().unwrap());
        assert_eq!(of_partition.unwrap_err().kind(), ErrorKind::Usage);
        let of_file = topology.resolve_disk(&host, disk.file.to_str().unwrap());
        assert_eq!(of_file.unwrap_err().kind(), ErrorKind::Usage);
    }
}

/// Without its name nothing would ask it for its file: nor what that lies on, nor who shows it too.
#[test]
fn a_loop_device_whose_file_has_no_name_in_letters_is_asked_all_the_same() {
    if !available("loop file: bytes") {
        return;
    }
    let folder = tempfile::TempDir::new().unwrap();
    let image = folder.path().join(OsStr::from_bytes(b"\xff disk \xfe "));
    File::create(&image).unwrap().set_len(MIB).unwrap();
    let disk = LoopDisk::of_file(&image, &[]);
    let Now { topology, .. } = look();
    let device = topology.device(dev(&topology, &disk.name())).unwrap();
    assert_eq!(device.backing_file.as_deref(), Some(image.as_path()));
    let told = device.loop_file.map(|file| file.inode);
    assert_eq!(told, Some(image.metadata().unwrap().ino()));
}

/// A loop device on a file of another test's mount, detached before that is unmounted.
struct Inner(PathBuf);

impl Drop for Inner {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

#[test]
fn a_disk_in_a_file_on_a_disk() {
    if !available("nested loop") {
        return;
    }
    let outer = LoopDisk::new(64 * MIB);
    mkfs("ext4", outer.path());
    let outer_mount = Mount::somewhere(outer.path(), "rw");
    let image = outer_mount.place.join("inner disk.img");
    File::create(&image).unwrap().set_len(24 * MIB).unwrap();
    let inner = Inner(attach(&image, &[]));
    mkfs("ext4", &inner.0);
    let inner_mount = Mount::somewhere(&inner.0, "rw");

    let Now { topology, mounts } = look();
    let outer_dev = dev(&topology, &outer.name());
    let set = filesystems_on(&topology, &mounts, &[outer_dev]);
    let order: Vec<&Path> = set.filesystems.iter().map(Filesystem::target).collect();
    assert_eq!(
        order,
        [inner_mount.place.as_path(), outer_mount.place.as_path()]
    );
    assert!(set.partly_outside.is_empty());
    let below = &at(&mounts, &inner_mount.place).below;
    assert!(below.contains(&at(&mounts, &outer_mount.place).dev));
    drop(inner_mount);
    drop(inner);
}

#[test]
fn a_btrfs_over_two_disks() {
    if !available("btrfs over two disks") {
        return;
    }
    let disks = [LoopDisk::new(160 * MIB), LoopDisk::new(160 * MIB)];
    let paths = disks.each_ref().map(|disk| disk.path().to_str().unwrap());
    run(
        "mkfs.btrfs",
        &["-qf", "-d", "raid0", "-m", "raid1", paths[0], paths[1]],
    );
    run("btrfs", &["device", "scan", paths[0], paths[1]]);
    let mounted = Mount::somewhere(disks[0].path(), "rw");
    let Now { topology, mounts } = look();
    let filesystem = at(&mounts, &mounted.place);
    let mut expected = disks.each_ref().map(LoopDisk::name);
    expected.sort();
    let mut members = names(&topology, &filesystem.members);
    members.sort();
    assert_eq!(members, expected);
    assert!(filesystem.members_known);
    let one = filesystems_on(&topology, &mounts, &[dev(&topology, &disks[1].name())]);
    assert_eq!(one.filesystems.len(), 1);
    assert!(one.partly_outside.contains(&filesystem.dev));
}

/// A shell in a mount namespace of its own, killed when dropped.
struct Elsewhere(Child);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_mount_in_another_namespace_can_be_reached() {
    if !available("mount namespace") {
        return;
    }
    let disk = LoopDisk::new(32 * MIB);
    mkfs("ext4", disk.path());
    let folder = tempfile::TempDir::new().unwrap();
    let script = "mount \"$1\" \"$2\" && echo mounted && read end";
    let mut shell = Command::new("unshare");
    let shell = shell
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .args([disk.path(), folder.path()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut shell = Elsewhere(shell.spawn().unwrap());
    let mut line = String::new();
    let out = shell.0.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "mounted\n");

    let Now { topology, mounts } = look();
    let filesystem = at(&mounts, folder.path());
    assert_eq!(names(&topology, &filesystem.members), [disk.name()]);
    assert_eq!(filesystem.mounts[0].pid, Some(shell.0.id()));
    let path = filesystem.open_paths(&Host::here()).remove(0);
    let dev = File::open(path).unwrap().metadata().unwrap().dev();
    let dev = DevNumber {
        major: libc::major(dev),
        minor: libc::minor(dev),
    };
    assert_eq!(dev, filesystem.dev);
}

#[test]
fn this_host_can_be_looked_at() {
    let facts = HostChecks::gather(&Host::here()).unwrap();
    let uname = run("uname", &["-r"]);
    assert_eq!(facts.kernel, uname.trim());
    assert_eq!(facts.btf, Path::new("/sys/kernel/btf/vmlinux").exists());
    if !Path::new("/sys/block").exists() {
        skipped("look at this host's disks", "no /sys/block");
        return;
    }
    let Now { topology, mounts } = look();
    let root = fs::metadata("/").unwrap().dev();
    let filesystem = mounts.filesystem(DevNumber {
        major: libc::major(root),
        minor: libc::minor(root),
    });
    for disk in filesystem.into_iter().flat_map(|fs| &fs.disks) {
        let set = filesystems_on(&topology, &mounts, &[*disk]);
        assert!(
            set.filesystems
                .iter()
                .any(|fs| fs.target() == Path::new("/"))
        );
    }
}
