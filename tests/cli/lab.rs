//! A place for runs of the real program: loop disks, a vault, and a tracker of its own. Whatever a
//! test does or breaks, nothing of it stays.

pub use crate::support::host::{noise, run as tool};
use crate::support::{pace, run_dirs};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_stillpoint");
/// Nothing here takes so long unless it hangs.
pub const LONG: Duration = Duration::from_secs(120);

/// Multiplies how often the long loops go round (`STILLPOINT_TEST_ROUNDS`).
pub fn rounds(usual: u32) -> u32 {
    let factor = std::env::var("STILLPOINT_TEST_ROUNDS");
    usual * factor.ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Whether it says that the vault has no room. When the run finds out is up to what it had put by
/// then.
pub fn is_full(said: &str) -> bool {
    said.contains("No space left") || said.contains("MiB free, and at least")
}

/// Runs a program, whether it succeeds.
pub fn try_tool(program: &str, args: &[&str]) -> bool {
    let output = Command::new(program).args(args).output().unwrap();
    output.status.success()
}

/// How a run ended, and what it said.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one document on stdout.
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("not one JSON document: {error}: {self:?}"))
    }

    /// The exit code is this one.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Where runs happen.
pub struct Lab {
    pub dir: TempDir,
    pins: String,
}

impl Lab {
    /// `None`, and said loudly, where there are no loop disks or no tracking.
    pub fn new(test: &str) -> Option<Self> {
        Self::in_folder(test, "/dev/shm")
    }

    /// The same, with disks that are files on a real disk: what is swapped to must not be in
    /// memory itself, or the kernel waits for itself for ever.
    pub fn on_disk(test: &str) -> Option<Self> {
        let folder = "/var/tmp";
        let kind = nix::sys::statfs::statfs(folder).unwrap().filesystem_type();
        if ![EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC].contains(&kind) {
            crate::support::host::skipped(test, "/var/tmp is not on a disk");
            return None;
        }
        let lab = Self::in_folder(test, folder)?;
        lab.run(&["init", &lab.at("vault")]).expect(0);
        Some(lab)
    }

    fn in_folder(test: &str, folder: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !crate::support::host::available(test) {
            return None;
        }
        let obstacles = stillpoint::track::obstacles();
        if let Some(fatal) = obstacles.into_iter().find(|obstacle| obstacle.fatal) {
            crate::support::host::skipped(test, &fatal.what);
            return None;
        }
        pace::before_a_capacity_is_set();
        let dir = tempfile::Builder::new()
            .prefix("stillpoint-cli-")
            .tempdir_in(folder)
            .unwrap();
        run_dirs::make(&dir.path().join("run"));
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = format!("stillpoint-cli-{}-{count}", std::process::id());
        Some(Self { dir, pins })
    }

    /// With an empty vault.
    pub fn with_vault(test: &str) -> Option<Self> {
        let lab = Self::new(test)?;
        lab.run(&["init", &lab.at("vault")]).expect(0);
        Some(lab)
    }

    /// The name of the folder of its pins.
    pub fn pins(&self) -> &str {
        &self.pins
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The program with these arguments, its stdin /dev/null.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_with(&[], args)
    }

    /// The same, run by another program (`strace -f`).
    pub fn command_with(&self, prefix: &[&str], args: &[&str]) -> Command {
        let all: Vec<&str> = prefix.iter().copied().chain([PROGRAM]).collect();
        let mut command = Command::new(all[0]);
        command
            .args(&all[1..])
            .args(args)
            .env("STILLPOINT_VAULT", self.path("vault"))
            .env("STILLPOINT_RUN_DIR", self.path("run"))
            .env("STILLPOINT_JOB_DIR", self.path("jobs"))
            .env("STILLPOINT_CACHE_DIR", self.path("cache"))
            .env("STILLPOINT_PLAN_NOTES", self.path("plans"))
            .env("STILLPOINT_CLIENT_NOTE", self.path("client.json"))
            .env("STILLPOINT_PIN_NAME", &self.pins)
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Run {
        finish(&mut self.command(args))
    }

    /// Runs it with `--json`; it must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--json"]].concat();
        self.run(&args).expect(0).json()
    }

    /// Every file below the lab's folder with its size and what it holds at its end, mounts and
    /// run directories left out.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let device = self.dir.path().metadata().unwrap().dev();
        list(self.dir.path(), device, &mut found);
        let of_runs = |path: &Path| path.starts_with(self.path("run"));
        let of_jobs = |path: &Path| path.starts_with(self.path("jobs"));
        // Notes of what a failed run has put may stay: where they lie may be what is frozen.
        let of_notes = |path: &Path| path.starts_with(self.path("cache/sent"));
        found.retain(|(path, _)| !of_runs(path) && !of_jobs(path) && !of_notes(path));
        found.sort();
        found
    }

    /// The files of the vault.
    pub fn vault_files(&self) -> Vec<(PathBuf, u64)> {
        let vault = self.path("vault");
        let all = self.files().into_iter();
        all.filter(|(path, _)| path.starts_with(&vault)).collect()
    }

    /// Notes of freezes that a run has left.
    pub fn freeze_records(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("run"));
        let names = entries.into_iter().flatten().map(|entry| entry.unwrap());
        names
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect()
    }

    /// A loop disk of `size` bytes.
    pub fn disk(&self, name: &str, size: u64) -> Disk {
        self.disk_with(name, size, &["--direct-io=on"])
    }

    /// The same with options for `losetup`.
    pub fn disk_with(&self, name: &str, size: u64, options: &[&str]) -> Disk {
        let image = self.path(name);
        File::create_new(&image).unwrap().set_len(size).unwrap();
        let device = crate::support::host::attach(&image, options);
        Disk {
            device: device.to_str().unwrap().to_owned(),
            image,
            mounted: None,
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The verdict is given already; what can be undone is undone.
        let _ = self.command(&["track", "stop"]).output();
        let pins = Path::new("/sys/fs/bpf").join(&self.pins);
        let _ = std::fs::remove_dir_all(pins);
    }
}

fn list(folder: &Path, device: u64, found: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if metadata.is_dir() && metadata.dev() == device {
            list(&path, device, found);
        } else if !metadata.is_dir() {
            found.push((path, metadata.len()));
        }
    }
}

/// Runs a command to its end; it must come to one.
pub fn finish(command: &mut Command) -> Run {
    let shown = format!("{command:?}");
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let read = |stream: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || std::io::read_to_string(stream).unwrap())
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let status = wait(&mut child, &shown);
    Run {
        code: code_of(status),
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// Waits for the end of a process, but not for ever.
pub fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let until = Instant::now() + LONG;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            panic!("does not come to an end: {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The exit code; a death by a signal is its negative number.
pub fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
    assert!(![193, 194].contains(&code), "to some runners: power off");
    code
}

/// A loop disk, and what is mounted from it.
pub struct Disk {
    pub device: String,
    pub image: PathBuf,
    pub mounted: Option<PathBuf>,
}

impl Disk {
    /// `loop3`.
    pub fn name(&self) -> &str {
        self.device.strip_prefix("/dev/").unwrap()
    }

    /// Formats and mounts it.
    pub fn mount(&mut self, fstype: &str) -> PathBuf {
        let lazy = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
        let options: &[&str] = if fstype == "ext4" { &lazy } else { &[] };
        let args = [&["-q"], options, &[&self.device]].concat();
        tool(&format!("mkfs.{fstype}"), &args);
        self.mount_again(fstype)
    }

    /// Mounts what is on it.
    pub fn mount_again(&mut self, fstype: &str) -> PathBuf {
        let place = self.image.with_extension("mnt");
        std::fs::create_dir_all(&place).unwrap();
        tool(
            "mount",
            &["-t", fstype, &self.device, place.to_str().unwrap()],
        );
        self.mounted = Some(place.clone());
        place
    }

    /// Gives it one partition, from 1 MiB on for 8 MiB, and answers its path. By hand, as partition
    /// tools call sync(2), which waits for every filesystem of the machine, frozen ones too.
    pub fn partition(&self) -> String {
        use std::os::unix::fs::FileExt;
        let mut entry = [0; 66];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&2048u32.to_le_bytes());
        entry[12..16].copy_from_slice(&16384u32.to_le_bytes());
        entry[64..].copy_from_slice(&[0x55, 0xaa]);
        let device = File::options().write(true).open(&self.device).unwrap();
        device.write_all_at(&entry, 446).unwrap();
        device.sync_all().unwrap();
        tool("partx", &["--update", &self.device]);
        format!("{}p1", self.device)
    }

    /// Unmounts it, and waits until the filesystem has let go of it.
    pub fn unmount(&mut self) {
        if let Some(place) = self.mounted.take() {
            tool("umount", &[place.to_str().unwrap()]);
            crate::support::host::wait_until_nobodys(Path::new(&self.device));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(place) = &self.mounted {
            let place = place.to_str().unwrap();
            // Fails when it is not frozen, as it should be.
            try_tool("fsfreeze", &["--unfreeze", place]);
            if !try_tool("umount", &["-R", place]) {
                try_tool("umount", &["--lazy", place]);
            }
        }
        crate::support::host::detach(Path::new(&self.device));
    }
}

/// By asking the kernel: what is frozen cannot be frozen again.
pub fn is_frozen(place: &Path) -> bool {
    let place = place.to_str().unwrap();
    if try_tool("fsfreeze", &["--freeze", place]) {
        tool("fsfreeze", &["--unfreeze", place]);
        return false;
    }
    true
}
