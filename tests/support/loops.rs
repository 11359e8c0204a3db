//! Loop disks: real block devices with a file behind them. Each is detached when dropped, also when
//! a test panics.

use super::disks::{losetup, skipped};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Whether this process can make loop devices. Says loudly when it cannot.
pub fn can_run(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if root && Path::new("/dev/loop-control").exists() {
        return true;
    }
    skipped(test, "needs root and loop devices");
    false
}

/// A loop disk with direct I/O, and the file behind it.
pub struct LoopDisk {
    device: PathBuf,
    backing: PathBuf,
    _directory: TempDir,
}

impl LoopDisk {
    /// A disk with these contents and this sector size.
    pub fn new(contents: &[u8], sector: u32) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("stillpoint-loop-")
            .tempdir_in("/tmp")
            .unwrap();
        let backing = directory.path().join("disk");
        std::fs::write(&backing, contents).unwrap();
        let sector = sector.to_string();
        let device = losetup(&[
            "--find",
            "--show",
            "--direct-io=on",
            "--sector-size",
            &sector,
            backing.to_str().unwrap(),
        ]);
        Self {
            device: PathBuf::from(device.trim()),
            backing,
            _directory: directory,
        }
    }

    /// `/dev/loopN`.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Gives the file behind it another length. The device keeps its size until `rescan`.
    pub fn set_backing_len(&self, length: u64) {
        let file = File::options().write(true).open(&self.backing).unwrap();
        file.set_len(length).unwrap();
    }

    /// Lets the device take the size of the file behind it.
    pub fn rescan(&self) {
        losetup(&["--set-capacity", self.device.to_str().unwrap()]);
    }

    /// Writes to the device, and waits until it is in the file behind it.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.device).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        file.sync_all().unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // The tests' verdict must not depend on it, and a panic here would hide theirs.
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}
