//! Free space of real filesystems: what is called free is thrown away, and all files must still be
//! there, and the checker content.

use super::dev;
use crate::support::held::frozen;
use crate::support::host::{LoopDisk, Mount, attach, available, detach, partition, run};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use stillpoint::device::{Filesystem, FreeAnswer, Host, Mounts, NoTables, Topology, free_blocks};
use stillpoint::model::{BlockSet, Bytes, Extent};

const MIB: u64 = 1 << 20;

/// Many files of all sizes, half of which are deleted again, some cut short. So many small ones
/// that the map has more records than are asked for at a time.
fn churn(folder: &Path) {
    let content = |number: u32, length: usize| -> Vec<u8> {
        let words = (0..length.div_ceil(8)).map(|at| {
            let at = u64::try_from(at).unwrap() + 1;
            at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number)
        });
        words.flat_map(u64::to_le_bytes).take(length).collect()
    };
    let name = |number: u32| folder.join(format!("folder{}/file{number}", number % 7));
    for number in 0..7 {
        fs::create_dir_all(folder.join(format!("folder{number}"))).unwrap();
    }
    for number in 0..400_u32 {
        let length = 700 * (number as usize % 97 + 1) * (number as usize % 5 + 1);
        fs::write(name(number), content(number, length)).unwrap();
        if number % 50 == 0 {
            sync(folder);
        }
    }
    let small = |number: u32| folder.join(format!("folder0/small{number}"));
    for number in 0..3000 {
        fs::write(small(number), content(number, 5000)).unwrap();
    }
    sync(folder);
    for number in (0..3000).step_by(2) {
        fs::remove_file(small(number)).unwrap();
    }
    for number in (0..400).step_by(2) {
        fs::remove_file(name(number)).unwrap();
    }
    for number in (1..400).step_by(22) {
        File::options()
            .write(true)
            .open(name(number))
            .unwrap()
            .set_len(5000)
            .unwrap();
    }
    sync(folder);
    for number in 400..450_u32 {
        let mut file = File::create(name(number)).unwrap();
        file.write_all(&content(number, 3 << 16)).unwrap();
    }
}

fn sync(folder: &Path) {
    nix::unistd::syncfs(File::open(folder).unwrap()).unwrap();
}

/// Every file's bytes, by its path below `root`.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// The free blocks of the filesystem mounted there, and where on which disk it lies.
fn ask(mounted: &Mount, disk: &LoopDisk) -> (BlockSet, Extent) {
    let host = Host::here();
    let topology = Topology::scan(&host, &NoTables).unwrap();
    let mounts = Mounts::read(&host, &topology).unwrap();
    let mut all = mounts.filesystems().iter();
    let filesystem = all.find(|fs| fs.target() == mounted.place).unwrap();
    let direct = filesystem.direct.unwrap();
    assert_eq!(direct.disk, dev(&topology, &disk.name()));
    match free_blocks(&host, &topology, filesystem, direct.disk).unwrap() {
        FreeAnswer::Free(free) => (free, direct.place),
        other => panic!("no map of free space: {other:?}"),
    }
}

/// A copy of the disk as a restore would make it: free blocks read as zeros.
fn copy_without(disk: &LoopDisk, free: &BlockSet, size: Bytes) -> PathBuf {
    let copy = disk.file.with_file_name("copy.img");
    let (from, to) = (disk.file.to_str().unwrap(), copy.to_str().unwrap());
    run("cp", &["--sparse=always", from, to]);
    let file = File::options().write(true).open(&copy).unwrap();
    let hole = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
        | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
    for range in free.ranges(u64::MAX) {
        let extent = Extent::of_blocks(range, size);
        let (start, length) = (extent.offset.0 as i64, extent.length.0 as i64);
        nix::fcntl::fallocate(&file, hole, start, length).unwrap();
    }
    copy
}

/// A loop device on the copy.
struct Copied(PathBuf);

impl Drop for Copied {
    fn drop(&mut self) {
        detach(&self.0);
    }
}

struct Variant {
    mkfs: &'static [&'static str],
    check: &'static [&'static str],
    mount: &'static str,
    /// Whether it lies on a partition.
    partitioned: bool,
}

fn throw_free_space_away(variant: &Variant) {
    let size = Bytes(400 * MIB + 12288);
    let disk = LoopDisk::new(size.0);
    let path = disk.path().to_str().unwrap().to_owned();
    let device = if variant.partitioned {
        // An odd start, so that no block of the filesystem is aligned to one of the disk.
        partition(disk.path(), &[(2049, 790_000)]);
        format!("{path}p1")
    } else {
        path
    };
    let (mkfs, options) = variant.mkfs.split_first().unwrap();
    let mut options = options.to_vec();
    options.push(&device);
    run(mkfs, &options);
    let mounted = Mount::somewhere(Path::new(&device), variant.mount);
    churn(&mounted.place);
    let before = files(&mounted.place);
    let (free, place, copy) = {
        let _held = frozen(&mounted.place);
        let (free, place) = ask(&mounted, &disk);
        let copy = copy_without(&disk, &free, size);
        (free, place, copy)
    };
    let space = nix::sys::statvfs::statvfs(&mounted.place).unwrap();
    let told = free.len() * 65536;
    let all = space.blocks_free() * space.fragment_size();
    // An xfs keeps some of its free space back for its own trees, and does not count it there.
    assert!(
        told > all / 2 && told <= all + 32 * MIB,
        "{told} of {all} bytes"
    );
    let blocks = place.offset.0.div_ceil(65536)..place.end().0.div_ceil(65536);
    assert!(free.iter().all(|block| blocks.contains(&block.0)));

    let offset = place.offset.0.to_string();
    let length = place.length.0.to_string();
    let options = ["--offset", offset.as_str(), "--sizelimit", length.as_str()];
    let copied = Copied(attach(&copy, &options));
    let copy_path = copied.0.to_str().unwrap();
    // A frozen xfs has an unmount record still to come: let a mount replay its log first.
    let nouuid = if variant.mkfs[0] == "mkfs.xfs" {
        "rw,nouuid"
    } else {
        "rw"
    };
    Mount::somewhere(&copied.0, nouuid).end();
    let (check, options) = variant.check.split_first().unwrap();
    let mut options = options.to_vec();
    options.push(copy_path);
    run(check, &options);
    let ro = if variant.mkfs[0] == "mkfs.xfs" {
        "ro,nouuid"
    } else {
        "ro"
    };
    let again = Mount::somewhere(&copied.0, ro);
    let after = files(&again.place);
    assert_eq!(before.len(), after.len());
    for (name, bytes) in &before {
        assert!(after.get(name) == Some(bytes), "{} changed", name.display());
    }
    drop(again);
}

const EXT4_CHECK: &[&str] = &["e2fsck", "-fn"];
const XFS_CHECK: &[&str] = &["xfs_repair", "-n"];

#[test]
fn ext4_survives_without_its_free_space() {
    if !available("free space of ext4") {
        return;
    }
    let variants: [(&[&str], bool); 4] = [
        (&["mkfs.ext4", "-qF"], false),
        (&["mkfs.ext4", "-qF"], true),
        (
            &["mkfs.ext4", "-qF", "-b", "1024", "-E", "lazy_itable_init=1"],
            false,
        ),
        (
            &["mkfs.ext4", "-qF", "-O", "bigalloc", "-C", "32768"],
            false,
        ),
    ];
    for (mkfs, partitioned) in variants {
        throw_free_space_away(&Variant {
            mkfs,
            check: EXT4_CHECK,
            mount: "rw",
            partitioned,
        });
    }
}

#[test]
fn xfs_survives_without_its_free_space() {
    if !available("free space of xfs") {
        return;
    }
    let variants: [(&[&str], bool); 3] = [
        (&["mkfs.xfs", "-qf", "-m", "rmapbt=0,reflink=0"], false),
        (&["mkfs.xfs", "-qf", "-m", "rmapbt=1"], false),
        (&["mkfs.xfs", "-qf", "-m", "rmapbt=1"], true),
    ];
    for (mkfs, partitioned) in variants {
        throw_free_space_away(&Variant {
            mkfs,
            check: XFS_CHECK,
            mount: "rw",
            partitioned,
        });
    }
}

#[test]
fn where_free_space_cannot_be_told_nothing_is_free() {
    if !available("free space that cannot be told") {
        return;
    }
    let disk = LoopDisk::new(160 * MIB);
    run("mkfs.ext4", &["-qF", disk.path().to_str().unwrap()]);
    let mounted = Mount::somewhere(disk.path(), "ro");
    let host = Host::here();
    let topology = Topology::scan(&host, &NoTables).unwrap();
    let mounts = Mounts::read(&host, &topology).unwrap();
    let mut all = mounts.filesystems().iter();
    let filesystem = all.find(|fs| fs.target() == mounted.place).unwrap();
    let disk = dev(&topology, &disk.name());
    let ask = |filesystem: &Filesystem| free_blocks(&host, &topology, filesystem, disk).unwrap();
    assert_eq!(ask(filesystem), FreeAnswer::Silent);
    let mut other = filesystem.clone();
    other.read_only = false;
    let told = ask(&other);
    assert!(matches!(told, FreeAnswer::Free(_)), "{told:?}");
    // What is mounted there by now is another filesystem.
    other.dev.minor += 1;
    other.members = vec![other.dev];
    assert_eq!(ask(&other), FreeAnswer::Silent);
    other.dev.minor -= 1;
    other.members = vec![other.dev];
    other.direct = None;
    assert_eq!(ask(&other), FreeAnswer::Silent);
}
