//! Filesystems that are mounted only where another process sees them.

use super::*;
use serde_json::{Value, json};
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

/// Writes the record of a dead run that froze `target`.
fn record(run_dir: &Path, target: &FreezeTarget) {
    let dead = json!({"pid": u32::MAX, "start": 1});
    let boot_id = stillpoint::sys::machine::boot_id().unwrap();
    let text = json!({
        "version": 1, "boot_id": boot_id, "deadline_ms": 1000, "guardian": dead, "engine": dead,
        "targets": [{
            "mount_point": target.mount_point, "namespace_pid": null, "dev": target.dev,
            "source": target.source, "fstype": target.fstype,
        }],
    });
    let text = format!("{{\"progress\":\"F\",{}", &text.to_string()[1..]);
    std::fs::write(run_dir.join("freeze-9.json"), text).unwrap();
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

/// As in a service with `RootDirectory=`: its own table of mounts shows what is below its root.
#[test]
fn a_thaw_with_a_root_of_its_own_finds_what_others_of_its_namespace_see() {
    if !available("freeze: another root") {
        return;
    }
    let run_dir = memory_dir();
    let hidden = Hidden::new();
    let place = hidden.place.to_str().unwrap();
    assert!(
        hidden
            .inside(&["fsfreeze", "--freeze", place])
            .status
            .success()
    );
    record(&run_dir.path().join("run"), &hidden.target());
    let root = hidden._dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    // All that this machine has, but for the filesystem in question.
    let script = "mount --rbind / \"$1\" && umount \"$1$2\" && \
        chroot \"$1\" env STILLPOINT_RUN_DIR=\"$3\" \"$4\" thaw --json";
    let run = run_dir.path().join("run");
    let (root, run) = (root.to_str().unwrap(), run.to_str().unwrap());
    let program = env!("CARGO_BIN_EXE_stillpoint");
    let told = hidden.inside(&["sh", "-c", script, "sh", root, place, run, program]);
    let document: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(document["mounts"][0]["outcome"], "thawed", "{told:?}");
    assert!(told.status.success() && !hidden.is_frozen(), "{told:?}");
    assert!(records(run_dir.path()).is_empty());
}
