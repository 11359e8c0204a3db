//! Real disks for tests: loop devices on scratch files, formatted and mounted. Each is undone when
//! it is dropped, thawed first; only what was made here is ever thawed or unmounted.

use super::disks::{losetup, skipped};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Runs a command to its end and gives what it printed; panics with its words when it fails.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = attempt(program, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a command to its end, whatever it says.
pub fn attempt(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
}

/// Whether tests can have loop devices here; says so loudly when not.
pub fn available(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    let reason = if !root {
        "not root"
    } else if !Path::new("/dev/loop-control").exists() {
        "no /dev/loop-control"
    } else {
        return true;
    };
    skipped(test, reason);
    false
}

/// A loop device on a file.
pub struct LoopDisk {
    pub device: String,
}

impl LoopDisk {
    /// A device of `mib` MiB on a new sparse file.
    pub fn new(file: &Path, mib: u64) -> Self {
        let backing = std::fs::File::create_new(file).unwrap();
        backing.set_len(mib << 20).unwrap();
        let name = file.to_str().unwrap();
        let device = losetup(&["--find", "--show", name]);
        Self { device }
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        attempt("losetup", &["--detach", &self.device]);
    }
}

/// Makes a filesystem that the kernel will not go on making in the background.
pub fn format(fstype: &str, device: &str) {
    let eager = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let extra: &[&str] = if fstype == "ext4" { &eager } else { &[] };
    let args = [&["-q"], extra, &[device]].concat();
    run(&format!("mkfs.{fstype}"), &args);
}

/// A mounted filesystem on a loop device of its own.
pub struct Mounted {
    pub place: PathBuf,
    _disk: LoopDisk,
    /// Dropped last.
    _dir: TempDir,
}

impl Mounted {
    /// With its file in /tmp.
    pub fn new(fstype: &str) -> Self {
        Self::within(fstype, Path::new("/tmp"), 320)
    }

    /// With its file of `mib` MiB on whatever filesystem `parent` is.
    pub fn within(fstype: &str, parent: &Path, mib: u64) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("stillpoint-test-")
            .tempdir()
            .unwrap();
        let file = if parent == Path::new("/tmp") {
            dir.path().join("disk.img")
        } else {
            parent.join("disk.img")
        };
        let disk = LoopDisk::new(&file, mib);
        format(fstype, &disk.device);
        let place = dir.path().join("mnt");
        std::fs::create_dir(&place).unwrap();
        run(
            "mount",
            &["-t", fstype, &disk.device, place.to_str().unwrap()],
        );
        Self {
            place,
            _disk: disk,
            _dir: dir,
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &str {
        self.place.to_str().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Fails when it is not frozen, as it should be.
        attempt("fsfreeze", &["--unfreeze", self.path()]);
        if !attempt("umount", &[self.path()]).status.success() {
            println!(
                "LEFT BUSY: {} is unmounted as soon as it is free",
                self.path()
            );
            attempt("umount", &["--lazy", self.path()]);
        }
    }
}
