//! Which files of a snapshot lie where the vault has lost bytes: by what the kernel's drivers say
//! of each file's place on its disk. What lies in no file that was found is counted, and what could
//! not be asked is named: a list of files is never called all of them where it may not be.

use crate::capture::Baseline;
use crate::engine::monitor::Monitor;
use crate::engine::mount::{LookIntoOptions, PlannedFilesystem, SnapshotLook, look_into};
use crate::engine::verify::Broken;
use crate::error::{Error, ErrorKind, Result};
use crate::export::{
    FilesystemName, FilesystemRoots, HostPlaces, NodeKind, NodeSeen, TreeNode, TreeSource,
    TreeStep, TreeWalk, WalkOrder,
};
use crate::format::{DiskRecord, Manifest};
use crate::model::{BlockRange, BlockSet, Bytes, Extent, printable};
use crate::store::Vault;
use crate::sys::fiemap::file_extents;
use crate::sys::handle::open_handle;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use roaring::RoaringTreemap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files that are named.
const MOST_FILES: usize = 10_000;
/// Most places that could not be asked and are named.
const MOST_UNASKED: usize = 100;
/// Kinds whose drivers say where on the device a file lies. Others tell places of their own.
const TELLING: [&str; 4] = ["ext2", "ext3", "ext4", "xfs"];

/// A file of which bytes are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostFile {
    /// Where it was on the host; in its filesystem, where that was not mounted.
    pub path: PathBuf,
    /// Which filesystem it is in, for people: `vda1`.
    pub filesystem: String,
    /// Whether the filesystem was mounted.
    pub was_mounted: bool,
    /// How much of it is lost.
    pub lost: Bytes,
}

/// The files of a snapshot of which bytes are lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostFiles {
    /// The first ones.
    pub files: Vec<LostFile>,
    /// How many more there are.
    pub more: u64,
    /// What is lost in all.
    pub lost: Bytes,
    /// What of it lies in no file that was found.
    pub in_no_file: Bytes,
    /// What could not be asked, and why: there may be more files.
    pub unasked: Vec<String>,
}

/// Finds the files of a snapshot of which the vault has lost bytes: by what is noted in the vault,
/// by what of it is not there any more, and by what a look has just `seen`.
///
/// # Errors
/// As [`look_into`] has it; the vault cannot be asked. Of what is damaged it says so.
pub fn find_lost_files(
    vault: &Arc<Vault>,
    manifest: &Manifest,
    seen: &[Broken],
    run_dir: &Path,
    monitor: &dyn Monitor,
) -> Result<LostFiles> {
    let mut found = LostFiles::default();
    let mut disks: Vec<LossyDisk<'_>> = Vec::new();
    for record in &manifest.disks {
        let name = &record.identity.name;
        let is_of = |broken: &&Broken| {
            broken.snapshot == manifest.snapshot && broken.disk.as_ref() == Some(name)
        };
        let seen = seen.iter().find(is_of);
        match Baseline::load(vault, record, monitor) {
            Ok(baseline) => {
                let disk = LossyDisk::new(record, &baseline.lost().blocks, seen);
                let known = disk.bytes();
                if let Some(seen) = seen.filter(|seen| seen.lost > known) {
                    let why = format!("of {} that are lost the places are not known", seen.lost);
                    found.not_asked(name, &why);
                }
                if known > Bytes(0) {
                    disks.push(disk);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                found.not_asked(&record.identity.name, &error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    found.lost = Bytes(disks.iter().map(|disk| disk.bytes().0).sum());
    if disks.is_empty() {
        return Ok(found);
    }
    let looked = LookIntoOptions {
        vault,
        manifest,
        disks: disks.iter().map(|disk| disk.record).collect(),
        run_dir,
    };
    let mut search = LossSearch {
        disks: &disks,
        found,
        covered: vec![RoaringTreemap::new(); disks.len()],
    };
    look_into(&looked, monitor, |look| {
        search.look(look, monitor)?;
        Ok(())
    })?;
    Ok(search.end())
}

/// A disk of which bytes are lost.
struct LossyDisk<'a> {
    record: &'a DiskRecord,
    /// Where, ascending.
    lost: Vec<Extent>,
}

impl<'a> LossyDisk<'a> {
    fn new(record: &'a DiskRecord, blocks: &BlockSet, seen: Option<&Broken>) -> Self {
        let mut all = blocks.clone();
        for place in seen.into_iter().flat_map(|seen| &seen.places) {
            all.insert_touched(*place);
        }
        let size = record.identity.size;
        let extent = |range: BlockRange| {
            let start = range.start.offset();
            let end = range.end.offset().0.min(size.0);
            Extent::new(start, Bytes(end.saturating_sub(start.0)))
        };
        Self {
            record,
            lost: all.ranges(u64::MAX).map(extent).collect(),
        }
    }

    fn bytes(&self) -> Bytes {
        Bytes(self.lost.iter().map(|place| place.length.0).sum())
    }

    /// What is lost of a place.
    fn within(&self, place: Extent) -> impl Iterator<Item = Extent> {
        let first = self.lost.partition_point(|lost| lost.end() <= place.offset);
        let rest = self.lost.iter().skip(first);
        rest.map_while(move |lost| {
            let start = lost.offset.0.max(place.offset.0);
            let end = lost.end().0.min(place.end().0);
            (start < end).then(|| Extent::new(Bytes(start), Bytes(end - start)))
        })
    }
}

impl LostFiles {
    fn not_asked(&mut self, what: &str, why: &str) {
        match self.unasked.len() {
            0..MOST_UNASKED => self.unasked.push(format!("{what}: {why}")),
            MOST_UNASKED => self.unasked.push("others, too".into()),
            _ => {}
        }
    }
}

struct LossSearch<'a> {
    disks: &'a [LossyDisk<'a>],
    found: LostFiles,
    /// What of it lies in files, of each disk, by byte.
    covered: Vec<RoaringTreemap>,
}

/// A filesystem on one part of one disk.
struct LossyPart<'a> {
    filesystem: &'a PlannedFilesystem,
    /// The number of its disk.
    disk: usize,
    place: Extent,
}

impl LossSearch<'_> {
    fn look(&mut self, look: &SnapshotLook<'_>, monitor: &dyn Monitor) -> Result<()> {
        // What was mounted from elsewhere has a path for its name, and no part in these disks.
        let is_of_disk = |what: &str| !Path::new(what).is_absolute();
        let not_shown = look.plan.not_shown.iter();
        for not_shown in not_shown.filter(|one| is_of_disk(&one.what)) {
            self.found.not_asked(&not_shown.what, &not_shown.why);
        }
        for (number, filesystem) in look.plan.filesystems.iter().enumerate() {
            monitor.check()?;
            let attach = &filesystem.attach;
            if self.is_hit_below(filesystem) {
                let why = "what lies on LVM or md is not asked for its files";
                self.found.not_asked(&attach.name, why);
                continue;
            }
            let mut parts = attach.parts.iter().filter_map(|part| {
                let disk = self.disks.get(part.disk)?;
                disk.within(part.place).next().map(|_| *part)
            });
            let Some(part) = parts.next() else {
                continue;
            };
            drop(parts);
            if !TELLING.contains(&attach.kind.as_str()) || attach.parts.len() > 1 {
                let why = format!(
                    "{} does not tell where on a disk its files lie",
                    attach.kind
                );
                self.found.not_asked(&attach.name, &why);
                continue;
            }
            let part = LossyPart {
                filesystem,
                disk: part.disk,
                place: part.place,
            };
            match look.attach(number) {
                Ok(attached) => self.walk(&part, attached.root, monitor)?,
                Err(error) => self.found.not_asked(&attach.name, &error.to_string()),
            }
        }
        Ok(())
    }

    /// Whether something is lost of what a volume lies on.
    fn is_hit_below(&self, filesystem: &PlannedFilesystem) -> bool {
        let mut below = filesystem.below.iter();
        filesystem.below != filesystem.attach.parts
            && below.any(|part| {
                let disk = self.disks.get(part.disk);
                disk.is_some_and(|disk| disk.within(part.place).next().is_some())
            })
    }

    fn walk(&mut self, part: &LossyPart<'_>, root: OwnedFd, monitor: &dyn Monitor) -> Result<()> {
        let places = HostPlaces::of_one(FilesystemName::WholeDisk { disk: part.disk });
        let root = OneRoot(Arc::new(root));
        let source = TreeSource {
            tree: &places,
            roots: &root,
        };
        let mut walk = TreeWalk::new(source, WalkOrder::AsTheyAre);
        let top = source.root();
        if let Err(error) = top.and_then(|top| walk.enter(top)) {
            self.not_asked(part, Path::new("/"), &error);
            return Ok(());
        }
        while let Some(step) = walk.step()? {
            monitor.check()?;
            match step {
                TreeStep::Found(node) => match node.seen.kind() {
                    Some(NodeKind::Directory) => {
                        let place = node.place.clone();
                        if let Err(error) = walk.enter(node) {
                            self.not_asked(part, &place, &error);
                        }
                    }
                    Some(NodeKind::File) => self.ask(part, &node),
                    _ => {}
                },
                TreeStep::Unseen { place, error } => self.not_asked(part, &place, &error),
                TreeStep::Unlisted(error) => {
                    let place = walk.place().to_owned();
                    self.not_asked(part, &place, &error);
                }
                TreeStep::Left { .. } => {}
            }
        }
        Ok(())
    }

    fn not_asked(&mut self, part: &LossyPart<'_>, place: &Path, error: &Error) {
        let place = printable::path(&part.on_host(place));
        let what = format!("{}, {place}", part.filesystem.attach.name);
        self.found.not_asked(&what, &error.to_string());
    }

    /// Asks where a file lies.
    fn ask(&mut self, part: &LossyPart<'_>, node: &TreeNode) {
        let NodeSeen::File { handle, stat } = &node.seen else {
            return;
        };
        if stat.st_blocks == 0 {
            // It has no place of its own: what little it holds is in its inode.
            return;
        }
        let opened = open_handle(handle, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
        let extents = match opened.and_then(file_extents) {
            Ok(extents) => extents,
            Err(error) => {
                let why = match error.raw_os_error() {
                    Some(errno) => Errno::from_raw(errno).desc().to_owned(),
                    None => error.to_string(),
                };
                let place = printable::path(&part.on_host(&node.place));
                return self.found.not_asked(&place, &why);
            }
        };
        let (Some(disk), Some(covered)) =
            (self.disks.get(part.disk), self.covered.get_mut(part.disk))
        else {
            return;
        };
        let mut lost = 0;
        for extent in extents
            .iter()
            .filter(|extent| extent.certain && extent.written)
        {
            let start = part.place.offset.0.saturating_add(extent.place.offset.0);
            let place = Extent::new(Bytes(start), extent.place.length);
            for hit in disk.within(place) {
                lost += hit.length.0;
                covered.insert_range(hit.offset.0..hit.end().0);
            }
        }
        if lost == 0 {
            return;
        }
        if self.found.files.len() >= MOST_FILES {
            self.found.more += 1;
            return;
        }
        self.found.files.push(LostFile {
            path: part.on_host(&node.place),
            filesystem: part.filesystem.attach.name.clone(),
            was_mounted: !part.filesystem.mounts.is_empty(),
            lost: Bytes(lost),
        });
    }

    fn end(mut self) -> LostFiles {
        let covered: u64 = self.covered.iter().map(RoaringTreemap::len).sum();
        self.found.in_no_file = Bytes(self.found.lost.0.saturating_sub(covered));
        self.found.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.found
    }
}

impl LossyPart<'_> {
    /// Where the host saw a place of the filesystem, if it saw it at all.
    fn on_host(&self, place: &Path) -> PathBuf {
        let within = |root: &Path| place.strip_prefix(root).ok().map(Path::to_owned);
        let mut seen = self.filesystem.mounts.iter();
        seen.find_map(|mount| within(&mount.root).map(|rest| mount.target.join(rest)))
            .unwrap_or_else(|| place.to_owned())
    }
}

/// One filesystem, whatever is asked for.
struct OneRoot(Arc<OwnedFd>);

impl FilesystemRoots for OneRoot {
    fn root(&self, _: FilesystemName) -> Result<Arc<OwnedFd>> {
        Ok(Arc::clone(&self.0))
    }
}
