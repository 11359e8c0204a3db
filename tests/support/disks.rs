//! Real loop disks and real mounts, that go away also when a test fails.

use super::pace;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Says that a test cannot run here, past the harness that keeps the output of tests that pass.
pub fn skipped(test: &str, why: &str) {
    // In one piece: others speak at the same time.
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether loop devices can be had; says loudly when not.
pub fn available(test: &str) -> bool {
    let root = nix::unistd::Uid::effective().is_root();
    let can = root && Path::new("/dev/loop-control").exists();
    if !can {
        skipped(test, "needs root and loop devices");
    }
    can
}

/// Runs a program, which must succeed; its output.
pub fn run(program: &str, args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

/// A loop device on a sparse file of its own.
pub struct LoopDisk {
    pub path: PathBuf,
    pub image: PathBuf,
    _folder: TempDir,
}

impl LoopDisk {
    pub fn new(size: u64) -> Self {
        Self::with_options(size, &[])
    }

    /// `options` are those of `losetup`.
    pub fn with_options(size: u64, options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let image = folder.path().join("disk.img");
        File::create(&image).unwrap().set_len(size).unwrap();
        Self {
            path: attach(&image, options),
            image,
            _folder: folder,
        }
    }

    /// A loop device on a file that is there.
    pub fn of_file(image: &Path, options: &[&str]) -> Self {
        Self {
            path: attach(image, options),
            image: image.to_owned(),
            _folder: TempDir::new().unwrap(),
        }
    }

    /// The kernel's name: `loop3`.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap().to_str().unwrap().to_owned()
    }
}

/// Writes a GPT of partitions, each from a sector on and so many sectors long, and tells the
/// kernel. Not by `sfdisk`, which ends with a `sync` of all the host's filesystems: one that
/// another test holds frozen would stop it.
pub fn partition(disk: &Path, parts: &[(u64, u64)]) {
    let mut file = File::options().read(true).write(true).open(disk).unwrap();
    let sector = stillpoint::sys::block::logical_block_size(file.as_fd()).unwrap();
    let size = stillpoint::sys::block::size_in_bytes(file.as_fd()).unwrap();
    let last = u32::try_from(size / u64::from(sector) - 1).unwrap();
    let mbr = gpt::mbr::ProtectiveMBR::with_lb_size(last);
    mbr.overwrite_lba0(&mut file).unwrap();
    let sector = gpt::disk::LogicalBlockSize::try_from(u64::from(sector)).unwrap();
    let table = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(sector);
    let mut table = table.create_from_device(file, None).unwrap();
    for (number, (first, length)) in (1..).zip(parts) {
        let kind = gpt::partition_types::LINUX_FS;
        table
            .add_partition_at("", number, *first, *length, kind, 0)
            .unwrap();
    }
    table.write().unwrap().sync_all().unwrap();
    run("partx", &["-u", disk.to_str().unwrap()]);
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        detach(&self.path);
    }
}

/// Runs losetup until it succeeds; what it says. Two tests may race for the same free device, and
/// one that somebody has open for a look is let go when they close it.
pub fn losetup(args: &[impl AsRef<OsStr>]) -> String {
    pace::before_a_capacity_is_set();
    let mut args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let output = Command::new("losetup").args(&args).output().unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap().trim().to_owned();
        }
        let said = String::from_utf8_lossy(&output.stderr);
        // Files in memory cannot be read directly before 6.6: the page cache does as well.
        let in_memory = args
            .iter()
            .any(|arg| Path::new(arg).starts_with("/dev/shm"));
        let direct = OsStr::new("--direct-io=on");
        if in_memory && said.contains("Invalid argument") && args.contains(&direct) {
            args.retain(|arg| *arg != direct);
            continue;
        }
        assert!(Instant::now() < until, "losetup {args:?}: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Binds a file to a free loop device.
pub fn attach(image: &Path, options: &[&str]) -> PathBuf {
    let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    args.extend(["--find", "--show"].map(OsStr::new));
    args.push(image.as_os_str());
    PathBuf::from(losetup(&args))
}

pub fn detach(path: &Path) {
    let _ = Command::new("partx").arg("-d").arg(path).output();
    let _ = Command::new("losetup").arg("-d").arg(path).output();
}

/// A mounted filesystem.
pub struct Mounted {
    pub target: PathBuf,
    _folder: TempDir,
}

impl Mounted {
    pub fn new(device: &Path, options: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let target = folder.path().join("mount point");
        std::fs::create_dir(&target).unwrap();
        let (device, at) = (device.to_str().unwrap(), target.to_str().unwrap());
        run("mount", &["-o", options, device, at]);
        Self {
            target,
            _folder: folder,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmount = |how: &str| {
            let done = Command::new("umount").arg(how).arg(&self.target).output();
            done.is_ok_and(|output| output.status.success())
        };
        // Lazily if it is still busy: what is left behind would be in the way of other tests.
        let _ = unmount("-R") || unmount("-Rl");
    }
}
