//! The real command, a vault with a snapshot whose record says where filesystems were mounted, and
//! a folder to mount it on.

use super::attached::what_is_attached;
use super::scene::{Made, Taken, disk_of, make};
use crate::support::cli::Cli;
use crate::support::vaults::{Take, take, vault_options};
use std::cell::RefCell;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillpoint::format::{EscapedPath, FilesystemRecord, MountRecord, Sealer};
use stillpoint::model::{Bytes, Extent};
use stillpoint::store::{LocalStore, ObjectName, ObjectStore, Vault};

const MIB: u64 = 1 << 20;

/// Where a filesystem is recorded to have been.
pub struct WasMounted<'a> {
    pub target: &'a str,
    pub root: &'a str,
}

/// A filesystem of the disk.
pub struct Part<'a> {
    pub kind: &'a str,
    pub made: Made,
    pub mounts: Vec<WasMounted<'a>>,
}

impl<'a> Part<'a> {
    pub fn new(kind: &'a str, mib: u64, mounts: &[(&'a str, &'a str)]) -> Self {
        let mounts = mounts.iter();
        Self {
            kind,
            made: make(kind, mib, Taken::Clean),
            mounts: mounts
                .map(|(target, root)| WasMounted { target, root })
                .collect(),
        }
    }
}

/// The place of a test.
pub struct Place {
    pub cli: Cli,
    pub id: String,
    pub dir: PathBuf,
    pub disk: Vec<u8>,
    /// All processes that were seen to serve or to watch.
    seen: RefCell<Vec<i32>>,
}

impl Place {
    /// A snapshot of a disk with these partitions, and an empty folder.
    pub fn new(parts: &[Part<'_>]) -> Self {
        let cli = Cli::new();
        let (disk, places) = partitioned(parts);
        let store = Arc::new(LocalStore::create(Path::new(cli.vault())).unwrap());
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let model = disk_of(0, &disk);
        let taken = take(&vault, from_ref(&model), Take::default()).unwrap();
        let mut manifest = taken.manifest;
        let records = parts
            .iter()
            .zip(places)
            .map(|(part, place)| FilesystemRecord {
                source: "/dev/whatever".into(),
                target: part.mounts[0].target.into(),
                fstype: part.kind.into(),
                frozen: true,
                read_only: false,
                place: Some(place),
                mounts: Some(
                    part.mounts
                        .iter()
                        .map(|mount| MountRecord {
                            target: EscapedPath::new(Path::new(mount.target)),
                            root: EscapedPath::new(Path::new(mount.root)),
                        })
                        .collect(),
                ),
            });
        manifest.disks[0].filesystems = records.collect();
        let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
        let bytes = manifest.encode(&Sealer::without_keys()).unwrap();
        store.replace(&name, bytes.into()).unwrap();
        let dir = cli.folder().join("then");
        std::fs::create_dir(&dir).unwrap();
        Self {
            cli,
            id: manifest.snapshot.to_string(),
            dir,
            disk,
            seen: RefCell::default(),
        }
    }

    /// Mounts it; its processes are to be gone at the end.
    #[track_caller]
    pub fn mount(&self) {
        self.cli.run(&["mount", &self.id, self.dir()]).expect(0);
        self.server();
        self.watcher();
    }

    fn in_note(&self, what: impl Fn(&serde_json::Value) -> Option<i64>) -> i32 {
        let notes = std::fs::read_dir(self.run_dir()).unwrap().flatten();
        let is_note = |name: &str| name.starts_with("mount-") && name.ends_with(".json");
        let mut notes = notes.filter(|note| is_note(note.file_name().to_str().unwrap()));
        let text = std::fs::read_to_string(notes.next().unwrap().path()).unwrap();
        let pid = what(&serde_json::from_str(&text).unwrap()).unwrap() as i32;
        self.seen.borrow_mut().push(pid);
        pid
    }

    /// The process that serves the only mount, by its note.
    pub fn server(&self) -> i32 {
        self.in_note(|note| note["process"]["pid"].as_i64())
    }

    /// The watcher of the only mount, by its note.
    pub fn watcher(&self) -> i32 {
        self.in_note(|note| note["watcher"].as_i64())
    }

    pub fn dir(&self) -> &str {
        self.dir.to_str().unwrap()
    }

    pub fn fs(&self, below: &str) -> PathBuf {
        self.dir.join("fs").join(below)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.cli.folder().join("run")
    }

    /// The text of the only note; empty: there is none.
    pub fn note(&self) -> String {
        let notes = std::fs::read_dir(self.run_dir())
            .into_iter()
            .flatten()
            .flatten();
        let is_note = |name: &str| name.starts_with("mount-") && name.ends_with(".json");
        let mut notes = notes.filter(|note| is_note(note.file_name().to_str().unwrap()));
        let text = notes
            .next()
            .map(|note| std::fs::read_to_string(note.path()));
        text.and_then(Result::ok).unwrap_or_default()
    }

    /// The state of the only mount.
    pub fn state(&self) -> String {
        let list = self.cli.run(&["mount", "list", "--json"]).json();
        list["mounts"][0]["state"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub fn mounts(&self) -> Vec<serde_json::Value> {
        let list = self.cli.run(&["mount", "list", "--json"]).expect(0).json();
        list["mounts"].as_array().unwrap().clone()
    }

    /// Nothing is mounted, no device is left, no process, no note; the folder is there and empty.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let mut left = what_is_attached(self.cli.folder());
            let notes = std::fs::read_dir(self.run_dir()).unwrap();
            let notes = notes.map(|note| note.unwrap().file_name().into_string().unwrap());
            left.extend(notes.filter(|name| name.starts_with("mount-")));
            left.extend(self.processes());
            let seen = self.seen.borrow();
            left.extend(
                seen.iter()
                    .filter(|pid| is_there(**pid))
                    .map(i32::to_string),
            );
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "{left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.dir.read_dir().unwrap().next().is_none());
    }

    /// Processes that were started with this place's folder.
    fn processes(&self) -> Vec<String> {
        let folder = self.cli.folder().to_str().unwrap().to_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let path = entry.path();
            let environment = std::fs::read(path.join("environ")).unwrap_or_default();
            let said = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let is_ours = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&folder);
            let name = String::from_utf8_lossy(&said).replace('\0', " ");
            if name.contains("stillpoint") && (is_ours(&environment) || is_ours(&said)) {
                found.push(name);
            }
        }
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only what a test that failed has left.
        for _ in 0..5 {
            if self.dir.join("raw").exists() {
                let args = ["--lazy", self.dir()];
                let _ = std::process::Command::new("umount").args(args).output();
            }
        }
    }
}

/// A disk with a GPT and these partitions, and where they lie.
fn partitioned(parts: &[Part<'_>]) -> (Vec<u8>, Vec<Extent>) {
    let mut at = MIB;
    let mut places = Vec::new();
    for part in parts {
        let length = part.made.bytes.len() as u64;
        places.push(Extent::new(Bytes(at), Bytes(length)));
        at += length.next_multiple_of(MIB);
    }
    let size = at + MIB;
    let disk = Cursor::new(vec![0; size as usize]);
    let table = gpt::GptConfig::new().writable(true);
    let mut table = table.create_from_device(disk, None).unwrap();
    for (number, place) in (1..).zip(&places) {
        let kind = gpt::partition_types::LINUX_FS;
        let (first, length) = (place.offset.0 / 512, place.length.0 / 512);
        table
            .add_partition_at("", number, first, length, kind, 0)
            .unwrap();
    }
    let mut disk = table.write().unwrap();
    let mbr = gpt::mbr::ProtectiveMBR::with_lb_size((size / 512 - 1) as u32);
    mbr.overwrite_lba0(&mut disk).unwrap();
    let mut disk = disk.into_inner();
    for (part, place) in parts.iter().zip(&places) {
        let start = place.offset.0 as usize;
        disk[start..start + part.made.bytes.len()].copy_from_slice(&part.made.bytes);
    }
    (disk, places)
}

/// Whether a process of this program runs under that number.
fn is_there(pid: i32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ["mount-watch", "stillpoint", "stillpoint-job"].contains(&name.trim())
        && !state.contains(") Z ")
}
