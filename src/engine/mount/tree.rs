//! The tree of the host as it was: each filesystem of a snapshot at the place where it was mounted.
//! No symlink of the snapshot is followed to find that place, so nothing is ever mounted outside of
//! the tree.

use super::plan::{MountPlace, MountPlan, NotShown};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::{AttachedFilesystem, View};
use crate::sys::mounting::{
    TreePart, copy_mount, folder, folder_below, follow_no_links, put_mount,
};
use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Most mounts of a tree.
const MOST: usize = 1024;

/// A filesystem in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownMount {
    /// Where the host had it.
    pub target: String,
    /// `ext4`, ...
    pub kind: String,
    /// What it is on: `vda1`.
    pub name: String,
    /// Why its log was not replayed, if so.
    pub without_log: Option<String>,
    /// What else is to be known of it.
    pub note: Option<String>,
}

/// The tree.
#[derive(Debug)]
pub struct HostTree {
    /// The folder that stands for the host's `/`; only the view's thread sees it.
    pub path: PathBuf,
    /// What is there.
    pub shown: Vec<ShownMount>,
    /// What is not, and why.
    pub not_shown: Vec<NotShown>,
}

/// A mount that is to be made.
struct WantedMount<'p> {
    filesystem: usize,
    record: &'p MountPlace,
}

impl HostTree {
    /// Makes the tree at `path`, an empty folder in memory. What cannot be shown is said in it.
    ///
    /// # Errors
    /// Nothing can be mounted here at all.
    pub fn make(view: &View, plan: &MountPlan, path: &Path) -> Result<Self> {
        let mut tree = Self {
            path: path.to_owned(),
            shown: Vec::new(),
            not_shown: plan.not_shown.clone(),
        };
        let mut attached: BTreeMap<usize, Option<AttachedFilesystem>> = BTreeMap::new();
        let mut refused = None;
        let mut wanted_mounts = in_order(plan);
        let more = wanted_mounts.len().saturating_sub(MOST);
        wanted_mounts.truncate(MOST);
        if more > 0 {
            tree.lacks("/", &format!("{more} more mounts are left out"));
        }
        for wanted in wanted_mounts {
            let at = wanted.filesystem;
            let Some(planned) = plan.filesystems.get(at) else {
                continue;
            };
            if let std::collections::btree_map::Entry::Vacant(entry) = attached.entry(at) {
                entry.insert(match view.attach(&planned.attach) {
                    Ok(attached) => Some(attached),
                    Err(error) => {
                        tree.lacks(&wanted.record.target.to_string_lossy(), &error.to_string());
                        refused.get_or_insert(error);
                        None
                    }
                });
            }
            let Some(Some(filesystem)) = attached.get(&at) else {
                continue;
            };
            match tree.put(filesystem, wanted.record) {
                Ok(()) => tree.shown.push(ShownMount {
                    target: wanted.record.target.to_string_lossy().into_owned(),
                    kind: planned.attach.kind.clone(),
                    name: planned.attach.name.clone(),
                    without_log: filesystem.without_log.clone(),
                    note: (planned.attach.kind == "btrfs" && !planned.knows_roots).then(|| {
                        "which subvolume it was is not in this snapshot's record: the default one \
                         is shown"
                            .to_owned()
                    }),
                }),
                Err(why) => tree.lacks(&wanted.record.target.to_string_lossy(), &why),
            }
        }
        // Without loop devices nothing can be shown.
        let refused = refused.filter(|error: &Error| error.kind() == ErrorKind::Unsupported);
        if let Some(error) = refused.filter(|_| tree.shown.is_empty()) {
            return Err(error);
        }
        tree.name_unmounted(plan);
        Ok(tree)
    }

    /// Has no symlink in it lead anywhere from now on: whoever follows one gets an error. One in a
    /// snapshot may lead to the host's own files.
    ///
    /// # Errors
    /// `Unsupported`: this kernel cannot do that (before 5.14).
    pub fn follow_no_links(&self) -> Result<()> {
        for shown in &self.shown {
            let path = Path::new(&shown.target);
            let place = folder(&self.path).and_then(|root| folder_below(root, path));
            let done = place.and_then(follow_no_links);
            done.map_err(|errno| {
                let what = format!("links in {} cannot be kept from leading out", shown.target);
                Error::new(ErrorKind::Unsupported, what).with_source(errno)
            })?;
        }
        Ok(())
    }

    fn name_unmounted(&mut self, plan: &MountPlan) {
        for planned in plan.filesystems.iter().filter(|one| one.mounts.is_empty()) {
            self.not_shown.push(NotShown {
                what: planned.attach.name.clone(),
                why: match planned.knows_roots {
                    true => "the host's own files did not show where it was mounted".into(),
                    false => "the host did not have it mounted".into(),
                },
                was_mounted: false,
            });
        }
    }

    fn lacks(&mut self, what: &str, why: &str) {
        self.not_shown.push(NotShown {
            what: what.to_owned(),
            why: why.to_owned(),
            was_mounted: true,
        });
    }

    /// Puts a folder of a filesystem where the host had it.
    fn put(&self, filesystem: &AttachedFilesystem, record: &MountPlace) -> Result<(), String> {
        let root = folder_below(&filesystem.root, &record.root);
        let root = root.map_err(|errno| {
            format!(
                "it has no folder {}: {}",
                record.root.display(),
                errno.desc()
            )
        })?;
        let place = self.place(&record.target)?;
        let copy = copy_mount(root, TreePart::Mount);
        let put = copy.and_then(|copy| put_mount(copy, place));
        put.map_err(|errno| format!("it cannot be put there: {}", errno.desc()))
    }

    /// The folder of the tree that stands for one of the host's; one in memory is made.
    fn place(&self, target: &Path) -> Result<OwnedFd, String> {
        // Anew each time: what is mounted on it counts.
        let open = || folder(&self.path).and_then(|root| folder_below(root, target));
        let refused = |errno: Errno| match errno {
            Errno::ELOOP => "a symlink stands in its place".to_owned(),
            Errno::ENOENT => "its place is not in this snapshot".to_owned(),
            errno => format!("its place cannot be opened: {}", errno.desc()),
        };
        match open() {
            Ok(place) => Ok(place),
            Err(Errno::ENOENT) => {
                // Where the snapshot's own folders are, it is read-only, and this fails.
                make_folders(&self.path, target).map_err(|errno| match errno {
                    Errno::EROFS => refused(Errno::ENOENT),
                    errno => refused(errno),
                })?;
                open().map_err(refused)
            }
            Err(errno) => Err(refused(errno)),
        }
    }
}

fn make_folders(root: &Path, target: &Path) -> nix::Result<()> {
    let mut at = folder(root)?;
    for part in target.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        let name = Path::new(name);
        match mkdirat(at.as_fd(), name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = folder_below(&at, name)?;
    }
    Ok(())
}

/// What is to be mounted, those above before those below.
fn in_order(plan: &MountPlan) -> Vec<WantedMount<'_>> {
    let each = plan.filesystems.iter().enumerate();
    let each = each.flat_map(|(filesystem, planned)| {
        let mounts = planned.mounts.iter();
        mounts.map(move |record| WantedMount { filesystem, record })
    });
    let mut all: Vec<WantedMount<'_>> = each.collect();
    all.sort_by_key(|wanted| wanted.record.target.components().count());
    all
}

/// Makes an empty folder to make a tree in.
///
/// # Errors
/// It is there, or there is no memory.
pub fn tree_folder(view: &View, name: &str) -> Result<PathBuf> {
    let path = view.folder().join(name);
    fs::create_dir(&path).io_context("make", &path)?;
    Ok(path)
}
