//! The door to a snapshot's files for commands of this process: a thread that sees its filesystems.

use super::plan::{MountPlan, PlannedDisk};
use super::tree::{HostTree, tree_folder};
use super::volumes::PlannedVolume;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::restore::plain_name;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    AttachedFilesystem, Image, InPlace, ReadFailure, ServeOptions, ServedDisk, View, ViewOptions,
    with_view,
};
use crate::format::{DiskRecord, Manifest};
use crate::model::Bytes;
use crate::store::Vault;
use crate::sys::locked::LockExt;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Each read ends within this time.
pub const READ_WITHIN: Duration = Duration::from_secs(60);
/// The most that a driver may write while it replays a log, in memory; all together four times as
/// much.
pub const MOST_REPLAYED: Bytes = Bytes(128 << 20);
/// The folder in the run directory that is mounted on; nobody but the view's thread sees that.
pub(super) const VIEW: &str = "view";

/// What is looked into.
pub struct LookIntoOptions<'a> {
    /// The vault.
    pub vault: &'a Arc<Vault>,
    /// The snapshot.
    pub manifest: &'a Manifest,
    /// Which disks of it; those that are not named are not read at all.
    pub disks: Vec<&'a DiskRecord>,
    /// The run directory.
    pub run_dir: &'a Path,
}

/// A snapshot that is looked into, by the one thread that sees it.
pub struct SnapshotLook<'a> {
    /// What is attached, and where.
    pub view: &'a View,
    /// What the disks hold.
    pub plan: &'a MountPlan,
    /// What could not be read so far.
    failures: &'a Mutex<Vec<ReadFailure>>,
}

impl SnapshotLook<'_> {
    /// What could not be read of its disks so far, 65 failures at most.
    pub fn failures(&self) -> Vec<ReadFailure> {
        self.failures.locked().clone()
    }

    /// Attaches one filesystem of the plan.
    ///
    /// # Errors
    /// As [`View::attach`].
    pub fn attach(&self, filesystem: usize) -> Result<AttachedFilesystem> {
        let planned = self.plan.filesystems.get(filesystem);
        let planned = planned
            .ok_or_else(|| Error::new(ErrorKind::Failed, "the plan has no such filesystem"))?;
        self.view.attach(&planned.attach)
    }

    /// Attaches all that the host had mounted, each at its place.
    ///
    /// # Errors
    /// As [`HostTree::make`].
    pub fn tree(&self) -> Result<HostTree> {
        let path = tree_folder(self.view, "tree")?;
        HostTree::make(self.view, self.plan, &path)
    }
}

/// Runs `work` in a thread that sees the snapshot's filesystems, and takes all of it down again:
/// also on an error, and when the process is killed. The thread has descriptors of its own (see
/// [`with_view`]): no open file may come into `work` or out of it. Reads that failed are warnings.
///
/// # Errors
/// Those of `work`; else as [`with_view`], and as reading the vault has it.
pub fn look_into<T: Send>(
    options: &LookIntoOptions<'_>,
    monitor: &dyn Monitor,
    work: impl FnOnce(&SnapshotLook<'_>) -> Result<T> + Send,
) -> Result<T> {
    let disks = open_disks(options, monitor)?;
    let plan = MountPlan::of_snapshot(options.manifest, &disks, &|| monitor.check())?;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let serve = serve_options(options.manifest, &disks, &plan.volumes, &failures);
    let folder = options.run_dir.join(VIEW);
    let looked = with_view(ViewOptions { serve, folder }, |view| {
        work(&SnapshotLook {
            view,
            plan: &plan,
            failures: &failures,
        })
    });
    for failure in std::mem::take(&mut *failures.locked()) {
        monitor.tell(Event::Warning(failure.what));
    }
    looked
}

/// Reads the maps of the disks.
pub(super) fn open_disks<'a>(
    options: &LookIntoOptions<'a>,
    monitor: &dyn Monitor,
) -> Result<Vec<PlannedDisk<'a>>> {
    let mut disks = Vec::new();
    for record in &options.disks {
        let image = Image::open(options.vault, record, &|| monitor.check())
            .map_err(|error| error.on_disk(&record.identity.name))?;
        disks.push(PlannedDisk {
            record,
            image: Arc::new(image),
        });
    }
    Ok(disks)
}

/// How disks are served: `vda.img`; and what lies on them: `group_data.volume`. Each name once.
pub(super) fn serve_options(
    manifest: &Manifest,
    disks: &[PlannedDisk<'_>],
    volumes: &[PlannedVolume],
    failures: &Arc<Mutex<Vec<ReadFailure>>>,
) -> ServeOptions {
    let disks = disks.iter().map(|disk| UnnamedFile {
        name: &disk.record.identity.name,
        bytes: &disk.image,
    });
    let volumes = volumes.iter().map(|volume| UnnamedFile {
        name: &volume.name,
        bytes: &volume.bytes,
    });
    let failures = Arc::clone(failures);
    ServeOptions {
        disks: named(disks, "img"),
        volumes: named(volumes, "volume"),
        time: manifest.time.into(),
        within: READ_WITHIN,
        scratch: MOST_REPLAYED,
        on_failure: Arc::new(move |failure| failures.locked().push(failure)),
    }
}

/// Something that is served, and is to get a name.
struct UnnamedFile<'a> {
    name: &'a str,
    bytes: &'a Arc<dyn InPlace>,
}

fn named<'a>(all: impl Iterator<Item = UnnamedFile<'a>>, ending: &str) -> Vec<ServedDisk> {
    let mut served: Vec<ServedDisk> = Vec::new();
    let mut taken = HashSet::new();
    for (at, one) in all.enumerate() {
        let mut file = format!("{}.{ending}", plain_name(one.name));
        if !taken.insert(file.clone()) {
            file = format!("{}-{at}.{ending}", plain_name(one.name));
            taken.insert(file.clone());
        }
        served.push(ServedDisk {
            file,
            image: Arc::clone(one.bytes),
        });
    }
    served
}
