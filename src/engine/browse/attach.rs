//! Which disks of a snapshot are looked into for some paths, and which of the filesystems found
//! there is the one that the record means. A disk that turns out to be needed is looked into, too.

use crate::engine::monitor::{Event, Monitor};
use crate::engine::mount::{LookIntoOptions, PlannedFilesystem, SnapshotLook, look_into};
use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    FilesystemName, FilesystemRoots, HostMount, HostPlaces, NodeKind, NodeSeen, TreeNode,
    TreeSource,
};
use crate::format::{FilesystemRecord, Manifest};
use crate::model::{Bytes, printable};
use crate::store::Vault;
use crate::sys::locked::LockExt;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What is browsed.
pub struct BrowseOptions<'a> {
    /// The vault.
    pub vault: &'a Arc<Vault>,
    /// The snapshot.
    pub manifest: &'a Manifest,
    /// What paths mean.
    pub scope: BrowseScope,
    /// The run directory.
    pub run_dir: &'a Path,
}

/// What paths mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrowseScope {
    /// What they meant on the host.
    Host,
    /// Places in one filesystem, whether it was mounted or not.
    Partition {
        /// The disk's number in the manifest.
        disk: usize,
        /// The number of the partition; `None`: the whole disk is a filesystem.
        number: Option<u32>,
    },
}

impl BrowseOptions<'_> {
    /// The places that paths go through.
    pub fn places(&self) -> HostPlaces {
        match self.scope {
            BrowseScope::Host => HostPlaces::recorded(self.manifest),
            BrowseScope::Partition { disk, number } => HostPlaces::of_one(match number {
                Some(number) => FilesystemName::Partition { disk, number },
                None => FilesystemName::WholeDisk { disk },
            }),
        }
    }

    /// The disks that a filesystem is on, as far as the record says.
    fn disks_of(&self, name: FilesystemName) -> BTreeSet<usize> {
        let (FilesystemName::Recorded { disk, .. }
        | FilesystemName::Partition { disk, .. }
        | FilesystemName::WholeDisk { disk }) = name;
        let mut disks = BTreeSet::from([disk]);
        if let Some(record) = self.record(name) {
            let is_same = |other: &FilesystemRecord| {
                other.source == record.source && other.target == record.target
            };
            let all = self.manifest.disks.iter().enumerate();
            let others = all.filter(|(_, disk)| disk.filesystems.iter().any(is_same));
            disks.extend(others.map(|(disk, _)| disk));
        }
        disks
    }

    fn record(&self, name: FilesystemName) -> Option<&FilesystemRecord> {
        let FilesystemName::Recorded { disk, record } = name else {
            return None;
        };
        self.manifest.disks.get(disk)?.filesystems.get(record)
    }
}

/// Runs `work` on the tree, in the thread that sees the snapshot's filesystems. It is run again
/// with more disks where it turns out that they are needed, so it must change nothing before it has
/// asked for all that it needs. It cannot take open files with it.
///
/// # Errors
/// Those of `work`; else as [`look_into`] has it.
pub fn browse<T: Send>(
    options: &BrowseOptions<'_>,
    paths: &[PathBuf],
    monitor: &dyn Monitor,
    work: impl Fn(&Browsed<'_>) -> Result<T> + Sync,
) -> Result<T> {
    let places = options.places();
    for doubt in places.doubts() {
        monitor.tell(Event::Warning(doubt.clone()));
    }
    let mut disks = BTreeSet::new();
    for path in paths {
        // As if no symlink were on the way.
        let held = places.holding(&Path::new("/").join(path));
        if let Some((_, HostMount::Here { filesystem, .. })) = held {
            disks.extend(options.disks_of(*filesystem));
        }
    }
    loop {
        let lacking = Mutex::new(BTreeSet::new());
        let numbers: Vec<usize> = disks.iter().copied().collect();
        let looked = LookIntoOptions {
            vault: options.vault,
            manifest: options.manifest,
            disks: numbers
                .iter()
                .filter_map(|number| options.manifest.disks.get(*number))
                .collect(),
            run_dir: options.run_dir,
        };
        let done = look_into(&looked, monitor, |look| {
            let roots = AttachedRoots {
                options,
                look,
                monitor,
                disks: &numbers,
                attached: RefCell::default(),
                lacking: &lacking,
            };
            work(&Browsed {
                places: &places,
                roots: &roots,
            })
        });
        let lacking = std::mem::take(&mut *lacking.locked());
        if lacking.is_subset(&disks) {
            return done;
        }
        disks.extend(lacking);
    }
}

/// A snapshot's tree, within the thread that sees it.
pub struct Browsed<'a> {
    /// What was mounted where.
    pub places: &'a HostPlaces,
    roots: &'a AttachedRoots<'a>,
}

impl Browsed<'_> {
    /// The tree.
    pub fn source(&self) -> TreeSource<'_> {
        TreeSource {
            tree: self.places,
            roots: self.roots,
        }
    }

    /// What a path leads to; one that ends in a slash leads through a symlink to a directory.
    ///
    /// # Errors
    /// `NotFound` also for a place that something else was mounted at, if nothing of the snapshot
    /// lies below it.
    pub fn find(&self, path: &Path, follow: bool) -> Result<TreeNode> {
        let bytes = path.as_os_str().as_bytes();
        let ends_open = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        let source = self.source();
        let node = source.resolve(path, follow || ends_open)?;
        if ends_open && node.seen.kind() != Some(NodeKind::Directory) {
            let what = format!("{} is no directory", printable::path(&node.place));
            return Err(Error::new(ErrorKind::NotFound, what));
        }
        match node.seen {
            NodeSeen::Elsewhere { .. } if !self.places.leads_on(&node.place) => {
                Err(source.not_in_the_snapshot(&node.seen, &node.place, &node.place))
            }
            _ => Ok(node),
        }
    }

    /// Makes sure that the filesystem right at a place is on disks that are looked into.
    ///
    /// # Errors
    /// It is not: it is run again.
    pub fn need_at(&self, place: &Path) -> Result<()> {
        match self.places.at(place) {
            Some(HostMount::Here { filesystem, .. }) => self.roots.need(*filesystem),
            _ => Ok(()),
        }
    }

    /// Makes sure that all filesystems at and below a place are on disks that are looked into.
    ///
    /// # Errors
    /// They are not: it is run again.
    pub fn need_all_below(&self, place: &Path) -> Result<()> {
        let below = self.places.places();
        for (_, mount) in below.filter(|(path, _)| path.starts_with(place)) {
            if let HostMount::Here { filesystem, .. } = mount {
                self.roots.need(*filesystem)?;
            }
        }
        Ok(())
    }
}

/// Filesystems that are attached when they are first asked for.
struct AttachedRoots<'a> {
    options: &'a BrowseOptions<'a>,
    look: &'a SnapshotLook<'a>,
    monitor: &'a dyn Monitor,
    /// The numbers of the disks that are looked into.
    disks: &'a [usize],
    attached: RefCell<HashMap<usize, Result<Arc<OwnedFd>>>>,
    /// Disks that are needed and not looked into.
    lacking: &'a Mutex<BTreeSet<usize>>,
}

impl FilesystemRoots for AttachedRoots<'_> {
    fn root(&self, name: FilesystemName) -> Result<Arc<OwnedFd>> {
        self.need(name)?;
        let planned = self.planned(name)?;
        let mut attached = self.attached.borrow_mut();
        let root = attached.entry(planned).or_insert_with(|| {
            let attached = self.look.attach(planned)?;
            if let Some(why) = attached.without_log {
                let name = self.name(planned);
                self.monitor.tell(Event::Warning(format!(
                    "{name}: {why}; what was changed last may be missing, or half there"
                )));
            }
            Ok(Arc::new(attached.root))
        });
        match root {
            Ok(root) => Ok(Arc::clone(root)),
            Err(error) => Err(error.retold()),
        }
    }
}

impl AttachedRoots<'_> {
    fn need(&self, name: FilesystemName) -> Result<()> {
        let wanted = self.options.disks_of(name);
        let lacking: BTreeSet<usize> = wanted
            .into_iter()
            .filter(|disk| !self.disks.contains(disk))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        self.lacking.locked().extend(lacking);
        let what = "a disk of the snapshot was not looked into";
        Err(Error::new(ErrorKind::Failed, what))
    }

    fn name(&self, planned: usize) -> String {
        let planned = self.look.plan.filesystems.get(planned);
        planned.map_or(String::new(), |planned| planned.attach.name.clone())
    }

    /// The filesystem of the plan that is meant.
    fn planned(&self, name: FilesystemName) -> Result<usize> {
        let (FilesystemName::Recorded { disk, .. }
        | FilesystemName::Partition { disk, .. }
        | FilesystemName::WholeDisk { disk }) = name;
        let at = self.disks.iter().position(|number| *number == disk);
        let record = self.options.record(name);
        let size = self.options.manifest.disks.get(disk);
        let size = size.map_or(Bytes(0), |disk| disk.identity.size);
        let is_meant = |planned: &PlannedFilesystem| {
            let mut here = planned
                .attach
                .parts
                .iter()
                .filter(|part| Some(part.disk) == at);
            match (name, record) {
                (FilesystemName::Partition { number, .. }, _) => {
                    here.next().is_some() && planned.partition == Some(number)
                }
                (FilesystemName::WholeDisk { .. }, _) => here.any(|part| part.place.length == size),
                (FilesystemName::Recorded { .. }, Some(record)) => match record.place {
                    Some(place) => here.any(|part| part.place == place),
                    // With something between it is found by the plan, which goes by its device.
                    None => {
                        let mut below = planned.below.iter();
                        below.any(|part| Some(part.disk) == at) && is_mounted_alike(planned, record)
                    }
                },
                (FilesystemName::Recorded { .. }, None) => false,
            }
        };
        let found = self.look.plan.filesystems.iter().position(is_meant);
        found.ok_or_else(|| self.not_found(name, record))
    }

    fn not_found(&self, name: FilesystemName, record: Option<&FilesystemRecord>) -> Error {
        let there = self.look.plan.filesystems.iter();
        let there: Vec<&str> = there.map(|one| one.attach.name.as_str()).collect();
        let not_shown = self.look.plan.not_shown.iter();
        let not_shown: Vec<String> = not_shown
            .map(|one| format!("{}: {}", one.what, one.why))
            .collect();
        let what = match (name, record) {
            (_, Some(record)) => format!(
                "the {} that was mounted at {} from {} cannot be opened",
                record.fstype, record.target, record.source
            ),
            (FilesystemName::Partition { number, .. }, _) => {
                format!("partition {number} holds no filesystem that can be opened")
            }
            _ => "the disk as a whole is no filesystem that can be opened".to_owned(),
        };
        let what = match not_shown.is_empty() {
            true => what,
            false => format!("{what} ({})", not_shown.join("; ")),
        };
        let hint = match there.is_empty() {
            true => "restore the disk, and open it there: `stillpoint help rescue`".to_owned(),
            false => format!(
                "these can be: {}; name one with --disk and --partition",
                there.join(", ")
            ),
        };
        Error::new(ErrorKind::Unsupported, what).with_hint(hint)
    }
}

/// Whether the plan has a filesystem where the record has it: the plan was made of the same record.
fn is_mounted_alike(planned: &PlannedFilesystem, record: &FilesystemRecord) -> bool {
    let planned = planned.mounts.first().map(|mount| mount.target.clone());
    let recorded = record.mounts.as_ref().map(|mounts| {
        let first = mounts.first();
        first.map(|mount| mount.target.path())
    });
    let recorded = recorded.unwrap_or_else(|| Some(PathBuf::from(&record.target)));
    planned.is_some() && planned == recorded
}
