//! What a path of the host leads to in a snapshot. Each component is looked up by itself, and where
//! something was mounted, the record says what was to be seen. Symlinks are read and followed here,
//! within the tree alone.

use crate::error::{Error, ErrorKind, Result};
use crate::export::host_places::{FilesystemName, HostMount, HostPlaces};
use crate::model::printable;
use crate::sys::handle::{handle_at, look};
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Most symlinks on the way to a file, as the kernel has it (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Hands out filesystems of a snapshot.
pub trait FilesystemRoots {
    /// The root directory of a filesystem, attached read-only.
    ///
    /// # Errors
    /// When it cannot be attached: why.
    fn root(&self, filesystem: FilesystemName) -> Result<Arc<OwnedFd>>;
}

/// What is seen at a place.
#[derive(Debug)]
pub enum NodeSeen {
    /// Something in a filesystem of the snapshot.
    File {
        /// Of it itself, whatever it is.
        handle: Arc<OwnedFd>,
        /// What it is.
        stat: FileStat,
    },
    /// Nothing of the snapshot, but on the way to something that was mounted there.
    Between,
    /// Something was mounted there that the snapshot does not have.
    Elsewhere {
        /// Its type.
        fstype: String,
        /// What it was mounted on, where the snapshot has that.
        under: Option<(Arc<OwnedFd>, FileStat)>,
    },
}

/// What sort of thing is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A plain file.
    File,
    /// A directory, or what stands for one.
    Directory,
    /// A symlink.
    Link,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
}

impl NodeKind {
    /// By a file's mode; `None` where it is none that Linux knows.
    pub fn of(stat: &FileStat) -> Option<Self> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        Some(match kind {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFLNK => Self::Link,
            SFlag::S_IFBLK => Self::BlockDevice,
            SFlag::S_IFCHR => Self::CharacterDevice,
            SFlag::S_IFIFO => Self::Fifo,
            SFlag::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }
}

impl NodeSeen {
    /// What it is; what stands for a directory is one.
    pub fn kind(&self) -> Option<NodeKind> {
        match self {
            Self::File { stat, .. } => NodeKind::of(stat),
            Self::Between | Self::Elsewhere { .. } => Some(NodeKind::Directory),
        }
    }
}

/// Something at a place of the host's tree.
#[derive(Debug)]
pub struct TreeNode {
    /// Where, without symlinks.
    pub place: PathBuf,
    /// What is seen there.
    pub seen: NodeSeen,
}

/// The host's tree as a snapshot has it.
#[derive(Clone, Copy)]
pub struct TreeSource<'a> {
    /// What was mounted where.
    pub tree: &'a HostPlaces,
    /// Where its filesystems come from: each is attached when it is first needed.
    pub roots: &'a dyn FilesystemRoots,
}

impl TreeSource<'_> {
    /// The root of the tree.
    ///
    /// # Errors
    /// When the filesystem that was there cannot be attached.
    pub fn root(&self) -> Result<TreeNode> {
        let place = PathBuf::from("/");
        let seen = self.mounted_at(&place, None)?;
        let seen = seen.unwrap_or(NodeSeen::Between);
        Ok(TreeNode { place, seen })
    }

    /// What a path leads to. Symlinks on the way are followed; the last one only if `follow`.
    ///
    /// # Errors
    /// `NotFound`, with the place up to which the path leads; else as for reading.
    pub fn resolve(&self, path: &Path, follow: bool) -> Result<TreeNode> {
        let mut left = parts(path);
        let mut node = self.root()?;
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                if node.seen.kind() != Some(NodeKind::Directory) {
                    return Err(unreadable(&node.place, nix::errno::Errno::ENOTDIR.into()));
                }
                let above = node.place.parent().unwrap_or(Path::new("/")).to_owned();
                node = self.walk_down(&above)?;
                continue;
            }
            let next = self.child(&node, &part)?;
            let Some(to) = self.link(&next).filter(|_| follow || !left.is_empty()) else {
                node = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                let path = printable::path(path);
                let what = format!("{path} leads through more than {MOST_LINKS} symlinks");
                return Err(Error::new(ErrorKind::Usage, what)
                    .with_hint("they lead in a circle: name the file itself"));
            }
            let to = PathBuf::from(to?);
            if to.is_absolute() {
                node = self.root()?;
            }
            left.extend(parts(&to));
        }
        Ok(node)
    }

    /// What is at a place to which no symlink leads.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn walk_down(&self, place: &Path) -> Result<TreeNode> {
        let mut node = self.root()?;
        for part in parts(place).into_iter().rev() {
            node = self.child(&node, &part)?;
        }
        Ok(node)
    }

    /// What has that name in a directory.
    ///
    /// # Errors
    /// `NotFound`; `Usage` where it is no directory; else as for reading.
    pub fn child(&self, node: &TreeNode, name: &OsStr) -> Result<TreeNode> {
        self.child_of(&node.seen, &node.place, name)
    }

    /// The same of what is seen at a place.
    ///
    /// # Errors
    /// As [`Self::child`].
    pub fn child_of(&self, seen: &NodeSeen, place: &Path, name: &OsStr) -> Result<TreeNode> {
        let below = place.join(name);
        let found = match seen {
            NodeSeen::File { handle, .. } => Some(open(handle, name)),
            NodeSeen::Between | NodeSeen::Elsewhere { .. } => None,
        };
        let under = match &found {
            Some(Ok(under)) => Some(under),
            _ => None,
        };
        if let Some(seen) = self.mounted_at(&below, under)? {
            return Ok(TreeNode { place: below, seen });
        }
        let seen = match found {
            Some(Ok((handle, stat))) => NodeSeen::File { handle, stat },
            Some(Err(error)) if is_absent(&error) && self.tree.leads_on(&below) => {
                NodeSeen::Between
            }
            Some(Err(error)) => return Err(unreadable(&below, error)),
            None if self.tree.leads_on(&below) => NodeSeen::Between,
            None => return Err(self.not_in_the_snapshot(seen, place, &below)),
        };
        Ok(TreeNode { place: below, seen })
    }

    /// Where a symlink leads to; `None` for other things.
    fn link(&self, node: &TreeNode) -> Option<Result<OsString>> {
        let NodeSeen::File { handle, .. } = &node.seen else {
            return None;
        };
        let is_link = node.seen.kind() == Some(NodeKind::Link);
        is_link.then(|| {
            let read = readlinkat(handle, "").map_err(io::Error::from);
            read.map_err(|error| unreadable(&node.place, error))
        })
    }

    /// What was to be seen at a place because it was mounted there.
    fn mounted_at(
        &self,
        place: &Path,
        under: Option<&(Arc<OwnedFd>, FileStat)>,
    ) -> Result<Option<NodeSeen>> {
        match self.tree.at(place) {
            None => Ok(None),
            Some(HostMount::Elsewhere { fstype }) => Ok(Some(NodeSeen::Elsewhere {
                fstype: fstype.clone(),
                under: under.map(|(handle, stat)| (Arc::clone(handle), *stat)),
            })),
            Some(HostMount::Here { filesystem, root }) => {
                let mut handle = self.roots.root(*filesystem)?;
                let mut stat = look(&handle).map_err(|error| unreadable(place, error))?;
                for part in parts(root).into_iter().rev() {
                    (handle, stat) = open(&handle, &part).map_err(|error| {
                        let (root, place) = (printable::path(root), printable::path(place));
                        let what = format!("{root} of the filesystem that was mounted at {place}");
                        Error::io("find", Path::new(&what), error)
                    })?;
                }
                Ok(Some(NodeSeen::File { handle, stat }))
            }
        }
    }

    /// That nothing below a place is in the snapshot, and why.
    pub fn not_in_the_snapshot(&self, seen: &NodeSeen, place: &Path, below: &Path) -> Error {
        let (below, place) = (printable::path(below), printable::path(place));
        let NodeSeen::Elsewhere { fstype, .. } = seen else {
            let what = format!("nothing that the snapshot has was mounted at or above {below}");
            return Error::new(ErrorKind::NotFound, what)
                .with_hint("`stillpoint ls ID` names what was mounted, and where");
        };
        let fstype = printable::one_line(fstype);
        let what = format!(
            "{below} is not in the snapshot: what was mounted at {place} ({fstype}) is not on its \
             disks"
        );
        Error::new(ErrorKind::NotFound, what)
            .with_hint("a snapshot has what lies on its disks; perhaps another one has that disk")
    }
}

/// The components of a path, the last one first; without `.`, as they say nothing.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    named.collect()
}

fn open(directory: &OwnedFd, name: &OsStr) -> io::Result<(Arc<OwnedFd>, FileStat)> {
    let handle = handle_at(directory, name)?;
    let stat = look(&handle)?;
    Ok((Arc::new(handle), stat))
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

/// Why something in the snapshot cannot be read.
pub fn unreadable(place: &Path, error: io::Error) -> Error {
    let shown = printable::path(place);
    match error.raw_os_error() {
        Some(libc::ENOENT) => {
            Error::new(ErrorKind::NotFound, format!("the snapshot has no {shown}"))
                .with_hint("`stillpoint ls ID:DIRECTORY` shows what there is")
        }
        Some(libc::ENOTDIR) => {
            let what = format!("{shown}: what it should lie in is no directory");
            Error::new(ErrorKind::NotFound, what)
        }
        // What the kernel has for blocks that the vault has lost, and drivers for what they make no
        // sense of.
        Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG) => Error::io(
            "read",
            Path::new(&shown),
            error,
        )
        .with_kind(ErrorKind::Damaged)
        .with_hint(
            "what else the snapshot has can still be copied; the warnings say what is lost, \
                     and `stillpoint verify ID` names all of it",
        ),
        _ => Error::io("read", Path::new(&shown), error),
    }
}
