//! A file that is swapped to: the kernel writes to it also while its filesystem is frozen. All of
//! it is on a real disk: a page of a disk in memory could be sent out to that very disk, whose
//! worker would wait for itself then, and with it whoever calls sync(2), until the machine is
//! reset.

use super::lab::{Lab, tool, try_tool};
use crate::support::host::skipped;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
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
