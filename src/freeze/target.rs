//! The filesystems to freeze, each opened once while nothing is frozen yet. A path is never
//! trusted: what it leads to must be the very filesystem that was meant.

use crate::device::{Host, foreign_namespaces, other_roots};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::DevNumber;
use crate::sys::mountinfo::{self, mounted_device, read_table};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One filesystem to freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeTarget {
    /// Where it is mounted, as `mountinfo` shows it to the process that `namespace_pid` names.
    pub mount_point: PathBuf,
    /// A process in whose mount namespace it is mounted; `None` for our own.
    pub namespace_pid: Option<u32>,
    /// Its device number in `mountinfo`. For btrfs, whose every subvolume has another `st_dev`,
    /// this is the only number that they share.
    pub dev: DevNumber,
    /// Targets of one wave are frozen at the same time, waves one after another, in rising order. A
    /// target that lies on another (in a file, through a loop device) belongs in an earlier wave.
    pub wave: u16,
    /// What is mounted there (`/dev/vda1`), for messages.
    pub source: String,
    /// Its type (`ext4`), for messages.
    pub fstype: String,
}

impl FreezeTarget {
    /// Its name in messages.
    pub(super) fn name(&self) -> String {
        let place = self.mount_point.display();
        match self.namespace_pid {
            None => format!("{place} ({} on {})", self.fstype, self.source),
            Some(pid) => format!(
                "{place} in the mount namespace of process {pid} ({} on {})",
                self.fstype, self.source
            ),
        }
    }

    /// Opens the filesystem for freezing, without following a symlink anywhere.
    ///
    /// # Errors
    /// `NotFound` when the path leads to another filesystem, which then has not been touched.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        let handle = open_place(&self.mount_point, self.namespace_pid)
            .map_err(|error| error.context(self.name()))?;
        let found = match directory_device(&handle) {
            // A directory's own number is that of its filesystem, except on btrfs. If it is the
            // number that was meant, no table of mounts is needed: any user can make that long.
            Some(dev) if dev == self.dev => Some(dev),
            _ => mounted_device(&handle, self.namespace_pid)?,
        };
        if found != Some(self.dev) {
            let found = found.map_or("an unknown device".into(), |dev| dev.to_string());
            let message = format!(
                "{}: expected device {} there and found {found}; left alone",
                self.name(),
                self.dev
            );
            return Err(Error::new(ErrorKind::NotFound, message).with_hint(
                "the mounts changed meanwhile, or another mount hides this one: try again",
            ));
        }
        self.reopen(&handle)
    }

    /// A descriptor that takes ioctls, from one that cannot: of the same inode, by its number.
    fn reopen(&self, handle: &OwnedFd) -> Result<OwnedFd> {
        let stat = fstat(handle).io_context("look at", &self.mount_point)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let mut flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        match kind {
            SFlag::S_IFDIR => flags |= OFlag::O_DIRECTORY,
            // A file can be a mount point too: containers get their resolv.conf so.
            SFlag::S_IFREG => {}
            _ => {
                let message = format!("{}: neither a directory nor a file", self.name());
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        let by_number = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        open(&by_number, flags, Mode::empty()).io_context("open", &self.mount_point)
    }
}

/// A handle (`O_PATH`) on what is at `path`, which starts no automount and opens no device.
fn open_place(path: &Path, namespace_pid: Option<u32>) -> Result<OwnedFd> {
    let root = match namespace_pid {
        None => PathBuf::from("/"),
        Some(pid) => PathBuf::from(format!("/proc/{pid}/root")),
    };
    let handle = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let top = open(&root, handle | OFlag::O_DIRECTORY, Mode::empty()).io_context("open", &root)?;
    let Ok(relative) = path.strip_prefix("/") else {
        let message = format!("{} is not an absolute path", path.display());
        return Err(Error::new(ErrorKind::Usage, message));
    };
    if relative.as_os_str().is_empty() {
        return Ok(top);
    }
    let how = OpenHow::new()
        .flags(handle | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(&top, relative, how) {
        // Kernels before 5.6, and sandboxes. What is found there is compared in any case.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let flags = handle | OFlag::O_NOFOLLOW;
            openat(&top, relative, flags, Mode::empty()).io_context("open", path)
        }
        // A link or a file stands in the way: what was mounted there is not any more.
        Err(errno @ (Errno::ELOOP | Errno::ENOTDIR)) => {
            let opened = Err(errno).io_context("open", path);
            opened.map_err(|error| error.with_kind(ErrorKind::NotFound))
        }
        done => done.io_context("open", path),
    }
}

/// `st_dev` of a directory; `None` for all else, as overlay gives files the number of what is
/// below.
fn directory_device(handle: &OwnedFd) -> Option<DevNumber> {
    let stat = fstat(handle).ok()?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    (kind == SFlag::S_IFDIR).then(|| DevNumber::from_dev_t(stat.st_dev))
}

/// Other places where the filesystem is mounted: in our namespace first, as we see it and then as
/// processes with another root do, and then in all others. For when the recorded place is gone.
/// Each table is read only when the places of those before it have failed. A table that cannot be
/// read is an error, as the filesystem may be mounted there.
pub(super) fn other_places(target: &FreezeTarget) -> impl Iterator<Item = Result<FreezeTarget>> {
    let roots = std::iter::once_with(|| each_of(other_roots(&Host::here())));
    let foreign = std::iter::once_with(|| each_of(foreign_namespaces(&Host::here())));
    let seen_by = std::iter::once(Ok(None)).chain(roots.chain(foreign).flatten());
    let places = seen_by.flat_map(|pid| each_of(pid.and_then(|pid| places_in(target, pid))));
    places.filter(move |place| !place.as_ref().is_ok_and(|place| place == target))
}

fn each_of<T, U: From<T>>(found: Result<Vec<T>>) -> Vec<Result<U>> {
    match found {
        Ok(found) => found.into_iter().map(|one| Ok(one.into())).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Where the filesystem is mounted, as that process sees it; ourselves for `None`.
fn places_in(target: &FreezeTarget, namespace_pid: Option<u32>) -> Result<Vec<FreezeTarget>> {
    let has_exited = |pid| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_err();
    let table = match read_table(namespace_pid) {
        // Processes come and go.
        Err(_) if namespace_pid.is_some_and(has_exited) => return Ok(Vec::new()),
        read => read?,
    };
    let same = mountinfo::lines(&table).filter(|mount| mount.dev == target.dev);
    let places = same.map(|mount| FreezeTarget {
        mount_point: mountinfo::path(mount.target),
        namespace_pid,
        ..target.clone()
    });
    Ok(places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(path: &str, dev: DevNumber) -> FreezeTarget {
        FreezeTarget {
            mount_point: path.into(),
            namespace_pid: None,
            dev,
            wave: 0,
            source: "none".into(),
            fstype: "proc".into(),
        }
    }

    #[test]
    fn only_the_filesystem_that_was_meant_is_opened() {
        let table = read_table(None).unwrap();
        let mut mounts = mountinfo::lines(&table);
        let proc = mounts.find(|mount| mount.target == b"/proc").unwrap();
        assert!(here("/proc", proc.dev).open().is_ok());
        let wrong = DevNumber {
            major: 4095,
            minor: 1,
        };
        let error = here("/proc", wrong).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            here("/proc/self", proc.dev).open().is_err(),
            "a symlink was followed"
        );
        assert!(here("proc", proc.dev).open().is_err());
    }
}
