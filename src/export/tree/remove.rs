//! Takes away a tree that a copy has begun, without recursion and by descriptors alone. It must
//! never leave the tree: what is found there by a name is removed by that name in that directory.

use super::walk::NodeId;
use crate::sys::dirents::NameReader;
use crate::sys::handle::{handle_at, look, open_handle, parent_of};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Names that are removed before the list is read anew.
const BATCH: usize = 1024;

/// A directory on the way.
struct Way {
    name: OsString,
    id: NodeId,
}

/// Removes all that is in a directory, by its descriptor: whatever its name leads to by now,
/// nothing else is touched.
///
/// # Errors
/// When something cannot be removed; what was removed before is gone.
pub(super) fn empty(directory: &OwnedFd) -> io::Result<()> {
    let mut here = open_handle(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let mut way: Vec<Way> = Vec::new();
    loop {
        if let Some(inner) = remove_files(&here)? {
            let opened = open_directory(&here, &inner)?;
            way.push(Way {
                name: inner,
                id: id_of(&here)?,
            });
            here = opened;
            continue;
        }
        let Some(last) = way.pop() else {
            return Ok(());
        };
        here = parent_of(&here)?;
        if id_of(&here)? != last.id {
            return Err(io::Error::other("somebody has moved it meanwhile"));
        }
        unlinkat(&here, last.name.as_os_str(), UnlinkatFlags::RemoveDir)?;
    }
}

/// Removes what is no directory, and returns a directory if there is one.
fn remove_files(directory: &OwnedFd) -> io::Result<Option<OsString>> {
    loop {
        let again = open_handle(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut reader = NameReader::new(again);
        let mut names = Vec::new();
        while let Some(name) = reader.next_name()? {
            names.push(name.name);
            if names.len() >= BATCH {
                break;
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        for name in names {
            if let Some(inner) = remove(directory, &name)? {
                return Ok(Some(inner));
            }
        }
    }
}

/// Removes one; the name of a directory is returned.
fn remove(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<OsString>> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EISDIR) => Ok(Some(name.to_owned())),
        Err(errno) => Err(errno.into()),
    }
}

fn open_directory(directory: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let handle = handle_at(directory, name)?;
    open_handle(handle, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

fn id_of(directory: impl AsFd) -> io::Result<NodeId> {
    Ok(NodeId::of_stat(&look(directory)?))
}
