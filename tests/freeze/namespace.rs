//! Filesystems that are mounted only where another process sees them.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// A filesystem mounted only where one other process sees it.
struct Hidden {
    shell: Child,
    place: PathBuf,
    _disk: LoopDisk,
    _dir: TempDir,
}

impl Hidden {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = LoopDisk::new(64 << 20);
        format("ext4", &disk.device);
        let place = dir.path().join("mnt");
        std::fs::create_dir(&place).unwrap();
        let mut shell = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount \"$0\" \"$1\" && echo ready && exec sleep 600")
            .args([&disk.device, place.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self {
            shell,
            place,
            _disk: disk,
            _dir: dir,
        }
    }

    fn inside(&self, args: &[&str]) -> std::process::Output {
        let pid = self.shell.id().to_string();
        attempt("nsenter", &[&["--mount", "--target", &pid], args].concat())
    }

    fn target(&self) -> FreezeTarget {
        let place = self.place.to_str().unwrap();
        let told = self.inside(&["findmnt", "-rnvo", "MAJ:MIN", "--mountpoint", place]);
        let told = String::from_utf8(told.stdout).unwrap();
        let (major, minor) = told.trim().split_once(':').unwrap();
        FreezeTarget {
            mount_point: self.place.clone(),
            namespace_pid: Some(self.shell.id()),
            dev: DevNumber {
                major: major.parse().unwrap(),
                minor: minor.parse().unwrap(),
            },
            wave: 0,
            source: self._disk.device.clone(),
            fstype: "ext4".into(),
        }
    }

    fn is_frozen(&self) -> bool {
        let place = self.place.to_str().unwrap();
        let free = self
            .inside(&["fsfreeze", "--freeze", place])
            .status
            .success();
        if free {
            self.inside(&["fsfreeze", "--unfreeze", place]);
        }
        !free
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.inside(&["fsfreeze", "--unfreeze", self.place.to_str().unwrap()]);
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn a_filesystem_in_another_mount_namespace_is_reached() {
    if !available("freeze: mount namespace") {
        return;
    }
    let run_dir = memory_dir();
    let hidden = Hidden::new();
    let mut options = options(run_dir.path(), &[], FAR);
    options.targets = vec![hidden.target()];
    let mut here = options.clone();
    here.targets[0].namespace_pid = None;
    assert!(Guardian::start(here).is_err(), "it is not mounted here");
    let mut guardian = Guardian::start(options).unwrap();
    guardian.freeze().unwrap();
    assert!(hidden.is_frozen());
    guardian.thaw().unwrap();
    assert!(!hidden.is_frozen());
}
