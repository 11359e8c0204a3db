//! What tests need of the host: programs that are run, loop disks and mounts that go away also when
//! a test fails, and words about what cannot be tested here.

use super::pace;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Reports that a test cannot run here, past the harness, which keeps what passing tests print.
pub fn skipped(test: &str, why: &str) {
    // In one piece: others speak at the same time.
    let line = format!("SKIPPED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether tests can have loop devices here; reports it when not.
pub fn available(test: &str) -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !Path::new("/dev/loop-control").exists() {
        "no /dev/loop-control"
    } else {
        return true;
    };
    skipped(test, reason);
    false
}

/// Runs a program, which must succeed; returns its output without the space around it.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let output = attempt(program, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs a program to its end, whatever becomes of it.
#[track_caller]
pub fn attempt(program: &str, args: &[&str]) -> Output {
    let command = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    command.unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
}

fn folder(parent: &Path) -> TempDir {
    tempfile::Builder::new()
        .prefix("stillpoint-test-")
        .tempdir_in(parent)
        .unwrap()
}

/// A loop device and the file behind it.
pub struct LoopDisk {
    /// `/dev/loop3`.
    pub device: String,
    pub file: PathBuf,
    /// Dropped when the device is gone.
    _folder: Option<TempDir>,
}

impl LoopDisk {
    /// So many bytes on a new sparse file.
    pub fn new(size: u64) -> Self {
        Self::within("/tmp", size, &[])
    }

    /// The same with the file below `parent`, and options for `losetup`.
    pub fn within(parent: &str, size: u64, options: &[&str]) -> Self {
        let folder = folder(Path::new(parent));
        let file = folder.path().join("disk.img");
        File::create_new(&file).unwrap().set_len(size).unwrap();
        let mut disk = Self::of_file(&file, options);
        disk._folder = Some(folder);
        disk
    }

    /// With these contents.
    pub fn holding(contents: &[u8], options: &[&str]) -> Self {
        let folder = folder(Path::new("/tmp"));
        let file = folder.path().join("disk.img");
        std::fs::write(&file, contents).unwrap();
        let mut disk = Self::of_file(&file, options);
        disk._folder = Some(folder);
        disk
    }

    /// On a file that is there.
    pub fn of_file(file: &Path, options: &[&str]) -> Self {
        Self {
            device: attach(file, options).to_str().unwrap().to_owned(),
            file: file.to_owned(),
            _folder: None,
        }
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        Path::new(&self.device)
    }

    /// The kernel's name: `loop3`.
    pub fn name(&self) -> String {
        self.device.trim_start_matches("/dev/").to_owned()
    }

    /// Gives the file another length. The device keeps its size until `rescan`.
    pub fn set_file_len(&self, length: u64) {
        let file = File::options().write(true).open(&self.file).unwrap();
        file.set_len(length).unwrap();
    }

    /// Has the device take the size of its file.
    pub fn rescan(&self) {
        losetup(&["--set-capacity", &self.device]);
    }

    /// Writes to the device, and waits until it is in the file.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) {
        let device = File::options().write(true).open(&self.device).unwrap();
        device.write_all_at(bytes, offset).unwrap();
        device.sync_all().unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        detach(self.path());
    }
}

/// Runs losetup until it succeeds; what it says. Two tests may race for the same free device, and
/// one that somebody has open for a look is let go when they close it.
pub fn losetup(args: &[impl AsRef<OsStr>]) -> String {
    static TURN: Mutex<()> = Mutex::new(());
    pace::before_a_capacity_is_set();
    let mut args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        // One that was given the number of a free device opens it for writing, also when another is
        // faster: whose disk it is by then would be in use for an instant.
        let turn = TURN.lock().unwrap_or_else(|poison| poison.into_inner());
        let output = Command::new("losetup").args(&args).output().unwrap();
        drop(turn);
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

/// Takes a loop device and its partitions away. A partition that a process with mounts of its own
/// keeps busy for a while (see `Mount::end`) would be the next one's who gets the device.
pub fn detach(device: &Path) {
    let until = Instant::now() + Duration::from_secs(30);
    while has_partitions(device) && Instant::now() < until {
        if !attempt("partx", &["-d", device.to_str().unwrap()])
            .status
            .success()
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let _ = Command::new("losetup").arg("-d").arg(device).output();
}

fn has_partitions(device: &Path) -> bool {
    let name = device.file_name().unwrap_or_default();
    let entries = std::fs::read_dir(Path::new("/sys/block").join(name));
    let is_one = |entry: std::fs::DirEntry| entry.path().join("partition").exists();
    entries.is_ok_and(|entries| entries.flatten().any(is_one))
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

/// Makes a filesystem that the kernel will not go on making in the background.
pub fn format(fstype: &str, device: &str) {
    let eager = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let extra: &[&str] = if fstype == "ext4" { &eager } else { &[] };
    let args = [&["-q"], extra, &[device]].concat();
    run(&format!("mkfs.{fstype}"), &args);
}

/// A mount. When it is dropped it is thawed and undone, whatever happened.
pub struct Mount {
    pub place: PathBuf,
    source: PathBuf,
    /// Dropped when nothing is mounted there.
    _folder: Option<TempDir>,
}

impl Mount {
    /// In a folder that is made if need be.
    pub fn new(device: &str, place: &Path, options: &str) -> Self {
        std::fs::create_dir_all(place).unwrap();
        run("mount", &["-o", options, device, place.to_str().unwrap()]);
        Self {
            place: place.to_owned(),
            source: PathBuf::from(device),
            _folder: None,
        }
    }

    /// In a folder of its own.
    pub fn somewhere(device: &Path, options: &str) -> Self {
        let folder = folder(Path::new("/tmp"));
        let place = folder.path().join("mount point");
        let mut mount = Self::new(device.to_str().unwrap(), &place, options);
        mount._folder = Some(folder);
        mount
    }

    /// A tmpfs of this size in a folder of its own.
    pub fn tmpfs(size: &str) -> Self {
        let folder = folder(Path::new("/tmp"));
        let place = folder.path().to_owned();
        let size = format!("size={size}");
        let at = ["stillpoint-test", place.to_str().unwrap()];
        run("mount", &["-t", "tmpfs", "-o", &size, at[0], at[1]]);
        Self {
            place,
            source: PathBuf::from("stillpoint-test"),
            _folder: Some(folder),
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &str {
        self.place.to_str().unwrap()
    }

    /// Unmounts the last mount of a device, and waits until the filesystem has let go of it.
    pub fn end(self) {
        let device = self.source.clone();
        drop(self);
        wait_until_nobodys(&device);
    }
}

/// Waits until no filesystem has a device any more. A process that got mounts of its own meanwhile
/// (another test's) keeps a copy of one that is undone here until it ends, where `/` is not shared:
/// the filesystem is at work until then, and still writes.
pub fn wait_until_nobodys(device: &Path) {
    let until = Instant::now() + Duration::from_secs(120);
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_EXCL);
    while let Err(error) = options.open(device) {
        assert!(Instant::now() < until, "{}: {error}", device.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let place = self.place.to_str().unwrap_or_default();
        // Busy for an instant while another test starts a process, which has our descriptors then.
        for _ in 0..50 {
            // Fails when it is not frozen, as it should be.
            attempt("fsfreeze", &["--unfreeze", place]);
            let is_mounted = attempt("mountpoint", &["-q", place]).status.success();
            if !is_mounted || attempt("umount", &["--recursive", place]).status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("LEFT BUSY: {place} is unmounted as soon as it is free");
        attempt("umount", &["--recursive", "--lazy", place]);
    }
}

/// A mounted filesystem on a loop disk of its own.
pub struct Filesystem {
    /// Where it is mounted.
    pub place: PathBuf,
    _mount: Mount,
    _disk: LoopDisk,
    /// Dropped last.
    _folder: TempDir,
}

impl Filesystem {
    /// With its file in /tmp.
    pub fn new(fstype: &str) -> Self {
        let folder = folder(Path::new("/tmp"));
        let file = folder.path().join("disk.img");
        Self::on_file(fstype, &file, 320, folder)
    }

    /// With its file of `mib` MiB on whatever filesystem `parent` is.
    pub fn within(fstype: &str, parent: &Path, mib: u64) -> Self {
        let file = parent.join("disk.img");
        Self::on_file(fstype, &file, mib, folder(Path::new("/tmp")))
    }

    fn on_file(fstype: &str, file: &Path, mib: u64, folder: TempDir) -> Self {
        File::create_new(file).unwrap().set_len(mib << 20).unwrap();
        let disk = LoopDisk::of_file(file, &[]);
        format(fstype, &disk.device);
        let place = folder.path().join("mnt");
        Self {
            _mount: Mount::new(&disk.device, &place, "rw"),
            place,
            _disk: disk,
            _folder: folder,
        }
    }

    /// Where it is mounted, as text.
    pub fn path(&self) -> &str {
        self.place.to_str().unwrap()
    }
}

/// Bytes that no compressor likes, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        use std::hash::Hasher;
        hasher.write_u64(seed);
        bytes.extend(hasher.finish().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
