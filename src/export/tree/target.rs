//! The directories of the target that a copy is in. Few descriptors are kept, however deep it is;
//! one that was let go of is found again from below, and must be the same.

use super::slot::{Made, Placement, Slot};
use super::walk::NodeId;
use crate::sys::dirents::NameReader;
use crate::sys::handle::{look, open_handle, parent_of, target_handle_at};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Directories of which a descriptor is kept, the innermost ones.
const OPEN: usize = 64;

/// A directory that is being filled.
pub(super) struct TargetLevel {
    /// What it is to be called, without the directory that that is in.
    name: std::ffi::OsString,
    placement: Placement,
    /// `None`: it was there before.
    made: Option<Made>,
    /// `None`: it was let go of.
    directory: Option<Arc<OwnedFd>>,
    id: NodeId,
}

/// Directories on the way, the outermost first.
pub(super) struct TargetDirectories {
    /// Where the outermost one is.
    base: Arc<OwnedFd>,
    levels: Vec<TargetLevel>,
}

/// A directory that was filled, and where it is to stand.
pub(super) struct FilledDirectory {
    /// It.
    pub directory: Arc<OwnedFd>,
    /// Its name.
    pub slot: Slot,
    /// What it has until it is whole; `None`: it was there before.
    pub made: Option<Made>,
}

impl TargetDirectories {
    /// In a directory of the user's.
    pub fn in_base(base: Arc<OwnedFd>) -> Self {
        Self {
            base,
            levels: Vec::new(),
        }
    }

    /// The outermost directory that was entered.
    pub fn top(&self) -> Option<&Arc<OwnedFd>> {
        self.levels.first()?.directory.as_ref()
    }

    /// Makes a directory that nobody else may enter, and enters it. Where one is there, and may be
    /// replaced, that is entered.
    pub fn enter(&mut self, slot: &Slot) -> io::Result<()> {
        let is_dir = |mode: libc::mode_t| mode & libc::S_IFMT == libc::S_IFDIR;
        let old = match slot.placement {
            Placement::Replacing => slot.there()?.filter(|stat| is_dir(stat.st_mode)),
            Placement::Direct | Placement::Staged => None,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let (made, directory) = match old {
            Some(_) => {
                let handle = target_handle_at(&slot.directory, &slot.name)?;
                (None, open_handle(handle, flags)?)
            }
            None => {
                // Within a directory that is filled in place, a new one is made in place, too.
                let slot = Slot {
                    placement: match slot.placement {
                        Placement::Replacing => Placement::Direct,
                        other => other,
                    },
                    ..slot.clone()
                };
                let (made, handle) =
                    slot.make(libc::S_IFDIR, |at, name| mkdirat(at, name, Mode::S_IRWXU))?;
                let opened = open_handle(&handle, flags).and_then(refuse_filled);
                (Some(made), opened?)
            }
        };
        let directory = Arc::new(directory);
        let far = self.levels.len().checked_sub(OPEN);
        // The outermost stays: further names of files are looked for from it.
        if let Some(level) = far
            .filter(|far| *far > 0)
            .and_then(|far| self.levels.get_mut(far))
        {
            level.directory = None;
        }
        self.levels.push(TargetLevel {
            name: slot.name.clone(),
            placement: slot.placement,
            made,
            id: id_of(&directory)?,
            directory: Some(directory),
        });
        Ok(())
    }

    /// The directory that was entered last, and how things come to stand in it.
    pub fn innermost(&self) -> (Arc<OwnedFd>, Placement) {
        let level = self.levels.last();
        let inner = |level: &TargetLevel| match level.made {
            Some(_) => Placement::Direct,
            None => Placement::Replacing,
        };
        let directory = level.and_then(|level| level.directory.as_ref());
        let directory = Arc::clone(directory.unwrap_or(&self.base));
        (directory, level.map_or(Placement::Staged, inner))
    }

    /// Leaves the directory that was entered last.
    ///
    /// # Errors
    /// When the one that it is in is not where it was.
    pub fn leave(&mut self) -> io::Result<Option<FilledDirectory>> {
        let Some(level) = self.levels.pop() else {
            return Ok(None);
        };
        let Some(directory) = level.directory else {
            return Err(io::Error::other("a directory was let go of too early"));
        };
        let above = match self.levels.last_mut() {
            None => Arc::clone(&self.base),
            Some(above) => match &above.directory {
                Some(open) => Arc::clone(open),
                None => {
                    let found = Arc::new(parent_of(&directory)?);
                    if id_of(&found)? != above.id {
                        let why = "somebody has moved a directory while it was filled";
                        return Err(io::Error::other(why));
                    }
                    above.directory = Some(Arc::clone(&found));
                    found
                }
            },
        };
        Ok(Some(FilledDirectory {
            directory,
            slot: Slot {
                directory: above,
                name: level.name,
                placement: level.placement,
            },
            made: level.made,
        }))
    }
}

/// In a directory where others may write, another directory of ours may have been put in its place.
fn refuse_filled(made: OwnedFd) -> io::Result<OwnedFd> {
    let list = open_handle(&made, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    match NameReader::new(list).next_name()? {
        None => Ok(made),
        Some(_) => Err(io::Error::other(
            "somebody has exchanged it while it was made",
        )),
    }
}

fn id_of(directory: &OwnedFd) -> io::Result<NodeId> {
    Ok(NodeId::of_stat(&look(directory)?))
}
