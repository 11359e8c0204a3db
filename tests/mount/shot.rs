//! Snapshots that tests look into.

use super::scene::disk_of;
use crate::support::rig::Ear;
use crate::support::vaults::{Take, take, vault_options};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use stillpoint::Result;
use stillpoint::engine::{LookIntoOptions, PlannedDisk, SnapshotLook, look_into};
use stillpoint::export::{Image, ServeOptions, ServedDisk, ViewOptions};
use stillpoint::format::{EscapedPath, FilesystemRecord, Manifest, MountRecord};
use stillpoint::model::{Bytes, Extent};
use stillpoint::store::{FaultStore, MemoryStore, Vault};

/// A snapshot of a disk with these bytes.
pub struct Shot {
    pub vault: Arc<Vault>,
    pub store: Arc<MemoryStore>,
    pub manifest: Manifest,
    pub run_dir: tempfile::TempDir,
    pub ear: Ear,
}

impl Shot {
    pub fn of(bytes: &[u8]) -> Self {
        Self::of_disks(&[bytes])
    }

    /// Of several disks.
    pub fn of_disks(disks: &[&[u8]]) -> Self {
        let store = Arc::new(MemoryStore::new());
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let disks = (0..)
            .zip(disks)
            .map(|(number, bytes)| disk_of(number, bytes));
        let disks: Vec<_> = disks.collect();
        let taken = take(&vault, &disks, Take::default()).unwrap();
        Self {
            vault,
            store,
            manifest: taken.manifest,
            run_dir: tempfile::tempdir().unwrap(),
            ear: Ear::default(),
        }
    }

    pub fn disks(&self) -> Vec<PlannedDisk<'_>> {
        let each = self.manifest.disks.iter();
        let each = each.map(|record| {
            let image = Image::open(&self.vault, record, &|| Ok(())).unwrap();
            let image = Arc::new(image);
            PlannedDisk { record, image }
        });
        each.collect()
    }

    pub fn look<T: Send>(
        &self,
        work: impl FnOnce(&SnapshotLook<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let options = LookIntoOptions {
            vault: &self.vault,
            manifest: &self.manifest,
            disks: self.manifest.disks.iter().collect(),
            run_dir: self.run_dir.path(),
        };
        look_into(&options, &self.ear, work)
    }
}

/// A vault that answers until it is told to hang.
pub fn hanging(inner: Arc<MemoryStore>) -> (Arc<Vault>, Arc<AtomicBool>) {
    let hangs = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&hangs);
    let store = FaultStore::new(inner, move |_| {
        while asked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    });
    (Arc::new(Vault::open(Arc::new(store)).unwrap()), hangs)
}

/// How tests serve.
#[derive(Clone, Copy)]
pub struct Serving {
    pub within: Duration,
    pub scratch: Bytes,
}

impl Shot {
    /// Options for a view of its only disk, and what it tells.
    pub fn view(&self, serving: Serving) -> (ViewOptions, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::clone(&told);
        let disks = self.disks();
        let serve = ServeOptions {
            disks: vec![ServedDisk {
                file: "vda.img".into(),
                image: disks[0].image.clone(),
            }],
            volumes: Vec::new(),
            time: SystemTime::now(),
            within: serving.within,
            scratch: serving.scratch,
            on_failure: Arc::new(move |failure| said.lock().unwrap().push(failure.what)),
        };
        let folder = self.run_dir.path().join("view");
        (ViewOptions { serve, folder }, told)
    }
}

/// What a snapshot says of a filesystem: each of `mounts` is a place and the folder that was there.
pub fn recorded(kind: &str, source: &str, mounts: &[(&str, &str)]) -> FilesystemRecord {
    let mount = |(target, root): &(&str, &str)| MountRecord {
        target: EscapedPath::new(&PathBuf::from(target)),
        root: EscapedPath::new(&PathBuf::from(root)),
    };
    FilesystemRecord {
        source: source.into(),
        target: mounts.first().map_or("", |first| first.0).into(),
        fstype: kind.into(),
        frozen: true,
        read_only: false,
        mounts: Some(mounts.iter().map(mount).collect()),
        place: None,
    }
}

/// The same, with its place.
pub fn recorded_at(place: Extent, record: FilesystemRecord) -> FilesystemRecord {
    let place = Some(place);
    FilesystemRecord { place, ..record }
}

/// A disk with an MBR: each part is a place and what stands there.
pub fn partitioned(size: u64, parts: &[(u64, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    for (number, (at, contents)) in parts.iter().enumerate() {
        bytes[*at as usize..*at as usize + contents.len()].copy_from_slice(contents);
        if number < 4 {
            let entry = 446 + 16 * number;
            let sectors = |bytes: u64| ((bytes / 512) as u32).to_le_bytes();
            bytes[entry + 4] = 0x83;
            bytes[entry + 8..entry + 12].copy_from_slice(&sectors(*at));
            bytes[entry + 12..entry + 16].copy_from_slice(&sectors(contents.len() as u64));
        }
    }
    bytes[510..512].copy_from_slice(&[0x55, 0xAA]);
    bytes
}
