//! A file that is swapped to: the kernel writes to it also while its filesystem is frozen. All of
//! it is on a real disk: a page of a disk in memory could be sent out to that very disk, whose
//! worker would wait for itself then, and with it whoever calls sync(2), until the machine is
//! reset.

use super::lab::{Disk, Lab, tool, try_tool};
use crate::support::held::Held;
use crate::support::host::skipped;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Swapped to until it is dropped.
struct SwapFile(PathBuf);

impl Drop for SwapFile {
    fn drop(&mut self) {
        try_tool("swapoff", &[self.0.to_str().unwrap()]);
    }
}

/// Memory of which all is dirty again and again, and sent out each time.
const PRESSURE: &str = "
import mmap, os
size = 24 << 20
memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while True:
    for page in range(0, size, 4096):
        memory[page:page + 8] = os.urandom(8)
    memory.madvise(21)  # MADV_PAGEOUT
    print('out', flush=True)
";

struct Pressure(Child);

impl Drop for Pressure {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pressure {
    fn start() -> Self {
        let mut child = Command::new("python3");
        let child = child.args(["-c", PRESSURE]).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "out\n", "memory cannot be sent out");
        // Read on, so that it never waits.
        std::thread::spawn(move || out.lines().count());
        Self(child)
    }
}

fn sectors_written(disk: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/sys/block/{disk}/stat")).unwrap();
    stat.split_whitespace().nth(6).unwrap().parse().unwrap()
}

#[test]
#[ignore = "has the machine swap to a loop disk: scripts/vm-test runs it in a virtual one"]
fn a_swap_file_on_the_disk_is_no_obstacle_and_its_contents_are_not_copied() {
    let Some(lab) = Lab::on_disk("swap: a file") else {
        return;
    };
    let mut disk = lab.disk("disk", 160 << 20);
    let place = disk.mount("ext4");
    std::fs::write(place.join("file"), super::lab::noise(3 << 20, 1)).unwrap();
    let file = place.join("swap file");
    let name = file.to_str().unwrap();
    tool(
        "dd",
        &[
            "if=/dev/zero",
            &format!("of={name}"),
            "bs=1M",
            "count=64",
            "conv=fsync",
        ],
    );
    tool("chmod", &["600", name]);
    tool("mkswap", &[name]);
    if !try_tool("swapon", &["--priority", "32000", name]) {
        skipped("swap: a file", "cannot swap here");
        return;
    }
    let swap = SwapFile(file.clone());
    let pressure = Pressure::start();
    let before = sectors_written(disk.name());
    let full = lab.run(&["snapshot", &disk.device, "--json"]);
    let swapped = sectors_written(disk.name()) - before;
    let next = lab.run(&["snapshot", &disk.device, "--json"]);
    drop(pressure);
    drop(swap);
    assert!(
        swapped > 2048,
        "nothing was swapped out meanwhile: {swapped} sectors"
    );
    let full = full.expect(0).json();
    assert_eq!(full["level"], "filesystem");
    let read = full["disks"][0]["read_bytes"].as_u64().unwrap();
    assert!(
        read < 40 << 20,
        "the swapped-out memory was read: {read} bytes"
    );
    let next = next.expect(0).json();
    assert_eq!(next["disks"][0]["mode"], "incremental", "{next}");

    // The file is there after a restore, and can be swapped to.
    lab.run(&["restore", "latest", &lab.at("out")]).expect(0);
    tool("e2fsck", &["-fn", &lab.at("out")]);
    let back = lab.at("back");
    std::fs::create_dir(&back).unwrap();
    tool("mount", &["-o", "ro,loop", &lab.at("out"), &back]);
    let header = tool(
        "blkid",
        &[
            "-p",
            "-o",
            "value",
            "-s",
            "TYPE",
            &format!("{back}/swap file"),
        ],
    );
    tool("umount", &[&back]);
    assert_eq!(header, "swap");
    // No longer swapped to, it is a file like any other.
    std::fs::write(&file, super::lab::noise(8 << 20, 2)).unwrap();
    lab.run(&["snapshot", &disk.device]).expect(0);
    lab.run(&["restore", "latest", &lab.at("again")]).expect(0);
    disk.unmount();
    tool("mount", &["-o", "ro,loop", &lab.at("again"), &back]);
    let same = std::fs::read(format!("{back}/swap file")).unwrap() == super::lab::noise(8 << 20, 2);
    tool("umount", &[&back]);
    assert!(same);
}

const AREA: usize = 1 << 20;
/// What is kept of a swap area.
const KEPT: usize = 64 << 10;

/// Switched on for so short a time, and so small, that next to nothing is sent there; in a
/// namespace of mounts of its own, where its name stays what it is.
fn swapped_to(file: &Path) -> Option<Held> {
    std::fs::write(file, super::lab::noise(AREA, 6)).unwrap();
    write_out(file);
    tool("chmod", &["600", file.to_str().unwrap()]);
    tool("mkswap", &[file.to_str().unwrap()]);
    let on = "swapon --priority 0 \"$1\"";
    Held::new(true, on, "swapoff \"$1\"", &[file])
}

fn write_out(file: &Path) {
    nix::unistd::syncfs(std::fs::File::open(file).unwrap()).unwrap();
}

/// What the file `swap` holds in a restored copy of the disk.
fn restored(lab: &Lab, disk: &Disk) -> Vec<u8> {
    let (target, back) = (lab.at(&format!("{}.img", disk.name())), lab.at("back"));
    lab.run(&["restore", "latest", "--disk", disk.name(), &target])
        .expect(0);
    std::fs::create_dir_all(&back).unwrap();
    tool("mount", &["-o", "ro,loop", &target, &back]);
    let bytes = std::fs::read(format!("{back}/swap"));
    tool("umount", &[&back]);
    bytes.unwrap()
}

/// `/proc/swaps` has names, and a name may lead elsewhere by now.
#[test]
fn a_file_with_the_name_of_a_swap_file_that_a_mount_hides_is_copied() {
    let Some(lab) = Lab::on_disk("swap: a hidden file") else {
        return;
    };
    let mut below = lab.disk("below", 32 << 20);
    let mut above = lab.disk("above", 64 << 20);
    let place = below.mount("ext4");
    let file = place.join("swap");
    let Some(swap) = swapped_to(&file) else {
        skipped("swap: a hidden file", "cannot swap here");
        return;
    };
    // Its own contents are left out: the kernel says that it swaps to this very file.
    lab.run(&["snapshot", &below.device]).expect(0);
    let own = restored(&lab, &below);
    assert!(own[..KEPT].iter().any(|byte| *byte != 0));
    // All blocks that hold nothing else.
    let left_out = own[KEPT..].iter().filter(|byte| **byte == 0).count();
    assert!(left_out > AREA / 2, "it was copied");

    tool("mkfs.ext4", &["-q", &above.device]);
    tool("mount", &[&above.device, place.to_str().unwrap()]);
    above.mounted = Some(place.clone());
    let ordinary = super::lab::noise(AREA, 7);
    std::fs::write(&file, &ordinary).unwrap();
    write_out(&file);
    let table = std::fs::read_to_string("/proc/swaps").unwrap();
    let taken = lab.run(&["snapshot", &above.device, "--json"]);
    above.unmount();
    drop(swap);
    assert!(table.contains(file.to_str().unwrap()), "the test: {table}");
    let taken = taken.expect(0).json();
    let same = restored(&lab, &above) == ordinary;
    assert!(same, "it was taken for the swap file: {taken}");
}

/// A container has its devices under names of its own, and the table has those.
#[test]
fn a_device_with_the_name_of_one_that_is_swapped_to_is_copied() {
    let Some(lab) = Lab::on_disk("swap: another's name") else {
        return;
    };
    let (real, mut other) = (lab.disk("real", 4 << 20), lab.disk("other", 64 << 20));
    let place = other.mount("ext4");
    let bytes = super::lab::noise(16 << 20, 8);
    let file = place.join("file");
    std::fs::write(&file, &bytes).unwrap();
    write_out(&file);
    tool("mkswap", &[&real.device]);
    let on = "mount --bind \"$1\" \"$2\" && swapon --priority 0 \"$2\"";
    let devices = [Path::new(&real.device), Path::new(&other.device)];
    let Some(swap) = Held::new(true, on, "swapoff \"$2\"", &devices) else {
        skipped("swap: another's name", "cannot swap here");
        return;
    };
    let table = std::fs::read_to_string("/proc/swaps").unwrap();
    let taken = lab.run(&["snapshot", &other.device, "--json"]);
    drop(swap);
    assert!(table.contains(&other.device), "the test: {table}");
    let taken = taken.expect(0).json();
    let target = lab.at("restored");
    lab.run(&["restore", "latest", &target]).expect(0);
    let back = lab.at("back");
    std::fs::create_dir_all(&back).unwrap();
    tool("mount", &["-o", "ro,loop", &target, &back]);
    let same = std::fs::read(format!("{back}/file")).unwrap() == bytes;
    tool("umount", &[&back]);
    assert!(same, "it was taken for swap: {taken}");
}
