//! Which folder a snapshot may be mounted on: an empty one, with nothing mounted on it. It only
//! looks. A path may lead elsewhere a moment later, so the folder itself is remembered.

use super::note::{MountState, list_mounts};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::mountinfo::mount_id;
use crate::sys::mounting::{folder, folder_below};
use nix::sys::stat::fstat;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A folder that was found fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFolder {
    /// Its path, without symlinks.
    pub path: PathBuf,
    device: u64,
    inode: u64,
    mount: Option<u64>,
}

impl MountFolder {
    fn of(path: &Path, handle: &OwnedFd) -> Result<Self> {
        let found = fstat(handle).io_context("look at", path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.st_dev,
            inode: found.st_ino,
            mount: mount_id(handle)?,
        })
    }

    /// Opens the folder, if it is still the one that was found, with nothing in or on it.
    ///
    /// # Errors
    /// `Inconsistent`: another one is there by now. `Exists`: something is in it.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        let path = &self.path;
        let root = folder(Path::new("/")).io_context("open", Path::new("/"))?;
        // No symlink is followed on the way, either.
        let handle = folder_below(root, path).io_context("open", path)?;
        if Self::of(path, &handle)? != *self {
            let what = format!("{} is another folder by now", path.display());
            return Err(Error::new(ErrorKind::Inconsistent, what));
        }
        refuse_filled(path, &handle)?;
        Ok(handle)
    }
}

fn refuse_filled(path: &Path, handle: &OwnedFd) -> Result<()> {
    let by_number = format!("/proc/thread-self/fd/{}", handle.as_raw_fd());
    let mut entries = fs::read_dir(by_number).io_context("list", path)?;
    if entries.next().is_some() {
        let what = format!("{} is not empty; nothing was mounted", path.display());
        return Err(Error::new(ErrorKind::Exists, what).with_hint("name an empty directory"));
    }
    Ok(())
}

/// Refuses a folder that a snapshot cannot be mounted on.
///
/// # Errors
/// `NotFound`, `Usage`, `Exists` (something is in it) or `Busy` (something is mounted on it).
pub fn refuse_mount_directory(run_dir: &Path, dir: &Path) -> Result<MountFolder> {
    let shown = dir.display();
    let found = fs::symlink_metadata(dir).map_err(|error| {
        let error = Error::io("look at", dir, error).and_said("nothing was mounted");
        match error.kind() {
            ErrorKind::NotFound => error.with_hint(format!("mkdir -p {shown}")),
            _ => error,
        }
    })?;
    if !found.is_dir() {
        let what = match found.is_symlink() {
            true => format!("{shown} is a symlink; nothing was mounted"),
            false => format!("{shown} is no directory; nothing was mounted"),
        };
        return Err(Error::new(ErrorKind::Usage, what).with_hint("name an empty directory"));
    }
    let real = fs::canonicalize(dir).io_context("look at", dir)?;
    let is_there = |state| matches!(state, MountState::Preparing | MountState::Mounted);
    let mounts = list_mounts(run_dir)?.mounts;
    let mut there = mounts.iter().filter(|one| is_there(one.state));
    if let Some(other) = there.find(|one| one.dir() == real) {
        let what = format!("snapshot {} is mounted on {shown} already", other.snapshot);
        let hint = format!("stillpoint unmount {shown}; or name another directory");
        return Err(Error::new(ErrorKind::Busy, what).with_hint(hint));
    }
    let handle = folder(&real).io_context("open", &real)?;
    let found = MountFolder::of(&real, &handle)?;
    let is_mounted = match real.parent() {
        Some(parent) => {
            let above = folder(parent).io_context("open", parent)?;
            mount_id(&above)? != found.mount
        }
        None => true,
    };
    if is_mounted {
        let what = format!("something is mounted on {shown}; nothing was mounted");
        return Err(Error::new(ErrorKind::Busy, what).with_hint("name another directory"));
    }
    refuse_filled(&real, &handle)?;
    Ok(found)
}
