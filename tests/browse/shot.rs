//! Snapshots of disks with real filesystems, in a store in memory.

use crate::support::host::{LoopDisk, Mount, format, run};
use crate::support::model::ModelDisk;
use crate::support::rig::Ear;
use crate::support::vaults::{Take, take, vault_options};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stillpoint::Result;
use stillpoint::engine::{
    BrowseOptions, BrowseScope, CopyRequest, CopyResult, CopyTarget, ListRequest,
    copy_from_snapshot, list_tree, stream_from_snapshot,
};
use stillpoint::format::{EscapedPath, FilesystemRecord, Manifest, MountRecord};
use stillpoint::model::{Bytes, Content, Extent, block_count};
use stillpoint::store::{CountStore, MemoryStore, ObjectName, Vault};
use tempfile::TempDir;

/// A filesystem on a disk of its own, and where the host had it.
pub struct MadeDisk {
    pub kind: &'static str,
    pub place: &'static str,
    /// Its bytes, and what was in it, are here.
    pub disk: LoopDisk,
}

impl MadeDisk {
    /// Made, filled and unmounted.
    pub fn new(kind: &'static str, place: &'static str, fill: impl FnOnce(&Path)) -> Self {
        let mib: u64 = if kind == "btrfs" { 128 } else { 48 };
        let disk = LoopDisk::within("/dev/shm", mib << 20, &[]);
        match kind {
            // Smaller ones than 300 MiB are for tests.
            "xfs" => drop(run("mkfs.xfs", &["-q", "--unsupported", &disk.device])),
            _ => format(kind, &disk.device),
        }
        let mount = Mount::somewhere(disk.path(), "rw");
        fill(&mount.place);
        mount.end();
        Self { kind, place, disk }
    }

    /// The tree itself, to compare with.
    pub fn truth(&self) -> Mount {
        Mount::somewhere(self.disk.path(), "ro")
    }
}

/// A snapshot.
pub struct Shot {
    pub vault: Arc<Vault>,
    pub store: Arc<MemoryStore>,
    pub counted: Arc<CountStore>,
    pub manifest: Manifest,
    pub folder: TempDir,
    pub ear: Ear,
}

impl Shot {
    pub fn of(disks: &[MadeDisk]) -> Self {
        let store = Arc::new(MemoryStore::new());
        let counted = Arc::new(CountStore::new(store.clone()));
        let vault = Arc::new(Vault::create(counted.clone(), vault_options()).unwrap());
        let models: Vec<ModelDisk> = (0..)
            .zip(disks)
            .map(|(number, made)| model(number, &std::fs::read(&made.disk.file).unwrap()))
            .collect();
        let mut manifest = take(&vault, &models, Take::default()).unwrap().manifest;
        for (record, made) in manifest.disks.iter_mut().zip(disks) {
            let whole = Extent::new(Bytes(0), record.identity.size);
            record.filesystems = vec![FilesystemRecord {
                source: format!("/dev/{}", record.identity.name),
                target: made.place.into(),
                fstype: made.kind.into(),
                frozen: true,
                read_only: false,
                mounts: Some(vec![MountRecord {
                    target: EscapedPath::new(Path::new(made.place)),
                    root: EscapedPath::new(Path::new("/")),
                }]),
                place: Some(whole),
            }];
        }
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(folder.path().join("to")).unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        // As another command finds it: nothing is known of what was put.
        let vault = Arc::new(Vault::open(counted.clone()).unwrap());
        counted.take();
        Self {
            vault,
            store,
            counted,
            manifest,
            folder,
            ear: Ear::default(),
        }
    }

    pub fn to(&self, name: &str) -> PathBuf {
        self.folder.path().join("to").join(name)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn browse<T>(&self, scope: BrowseScope, work: impl FnOnce(&BrowseOptions<'_>) -> T) -> T {
        work(&BrowseOptions {
            vault: &self.vault,
            manifest: &self.manifest,
            scope,
            run_dir: &self.run_dir(),
        })
    }

    /// Copies into the folder for copies.
    pub fn copy(&self, scope: BrowseScope, paths: &[&str]) -> Result<CopyResult> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let request = CopyRequest {
            paths: &paths,
            target: &CopyTarget::Into(self.folder.path().join("to")),
            replace: false,
            follow: false,
        };
        self.browse(scope, |options| {
            copy_from_snapshot(options, &request, &self.ear)
        })
    }

    /// Copies one thing under that name.
    pub fn copy_as(&self, path: &str, name: &str) -> Result<CopyResult> {
        let target = CopyTarget::As {
            directory: self.folder.path().join("to"),
            name: name.into(),
        };
        let request = CopyRequest {
            paths: &[PathBuf::from(path)],
            target: &target,
            replace: false,
            follow: false,
        };
        let scope = BrowseScope::Host;
        self.browse(scope, |options| {
            copy_from_snapshot(options, &request, &self.ear)
        })
    }

    /// What a file holds, as it goes to standard output.
    pub fn stream(&self, path: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let scope = BrowseScope::Host;
        self.browse(scope, |options| {
            stream_from_snapshot(options, Path::new(path), &mut bytes, &self.ear)
        })?;
        Ok(bytes)
    }

    /// The names at a path.
    pub fn list(&self, scope: BrowseScope, path: &str, recursive: bool) -> Result<Vec<String>> {
        let request = ListRequest {
            path: Path::new(path),
            recursive,
        };
        let mut names = Vec::new();
        self.browse(scope, |options| {
            list_tree(options, &request, &self.ear, &mut |entry| {
                names.push(entry.path.to_string_lossy().into_owned());
                Ok(())
            })
        })?;
        Ok(names)
    }

    /// Damages the block of a disk in which these bytes begin.
    pub fn damage(&self, disk: usize, image: &[u8], bytes: &[u8]) {
        let at = image
            .windows(bytes.len())
            .position(|window| window == bytes);
        let block = Bytes(at.unwrap() as u64).block();
        let record = &self.manifest.disks[disk];
        let blocks = block_count(record.identity.size);
        let map = self.vault.load_index(&record.index, blocks).unwrap();
        let Some(Content::Data { segment, slot }) = map.get(block) else {
            panic!("{block:?} is nowhere");
        };
        self.store.corrupt(&ObjectName::segment(segment), |object| {
            let is_it = |at: &usize| {
                object[*at..].starts_with(b"SPCK") && object[at + 16..at + 20] == slot.to_le_bytes()
            };
            let at = (0..object.len() - 24).find(is_it).unwrap();
            object[at + 30] ^= 1;
        });
    }
}

fn model(number: u32, bytes: &[u8]) -> ModelDisk {
    let disk = ModelDisk::new(number, bytes.len() as u64, 1);
    // What is zero is there already.
    for (at, part) in (0..).step_by(1 << 16).zip(bytes.chunks(1 << 16)) {
        if part.iter().any(|byte| *byte != 0) {
            disk.write(at, part);
        }
    }
    disk
}
