//! A vault in a directory. Every path is opened beneath the directory's own descriptor, through no
//! symlink, and only plain files and folders are opened. An object gets its name only when it is
//! whole and on the disk.

use super::object_name::ObjectName;
use super::object_store::{Blob, Capabilities, Directory, ObjectInfo, ObjectLock, ObjectStore};
use super::remains::is_only_of_checks;
use super::unfinished::{self, FILE_MODE, no_unnamed_files, open_unnamed, put_by_rename};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::plain;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, OpenHow, RenameFlags, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A vault in a directory.
pub struct LocalStore {
    root: OwnedFd,
    directory: Directory,
}

const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o700);

impl LocalStore {
    /// Opens the directory, which must exist.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| {
            let error = Error::io("open the vault", path, errno.into());
            match errno {
                Errno::ENOENT => error.with_hint(
                    "mount the disk it is on, if it is not; a new one: stillpoint init DIRECTORY",
                ),
                Errno::ENOTDIR => error
                    .with_kind(ErrorKind::Usage)
                    .with_hint("a vault is a directory"),
                _ => error,
            }
        })?;
        let found = nix::sys::stat::fstat(&root).io_context("look at", path)?;
        let directory = Directory {
            path: path.to_owned(),
            root: (found.st_dev, found.st_ino),
        };
        Ok(Self { root, directory })
    }

    /// Makes the directory where it is missing, for its owner alone, and opens it.
    pub fn create(path: &Path) -> Result<Self> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::io("make the directory", path, error))
            }
            _ => Self::open(path),
        }
    }

    /// Whether nothing is in the directory but what making a filesystem or a check leaves there.
    pub fn is_empty(&self) -> Result<bool> {
        for entry in
            std::fs::read_dir(fd_path(&self.root)).io_context("list", &self.directory.path)?
        {
            let entry = entry.io_context("list", &self.directory.path)?;
            let name = entry.file_name();
            let is_nothing = name == "lost+found"
                || name == ObjectName::checks().as_str()
                    && is_only_of_checks(&self.root).io_context("list", &self.directory.path)?;
            if !is_nothing {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The directory, open.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    fn full_path(&self, name: &ObjectName) -> PathBuf {
        self.directory.path.join(name.as_str())
    }

    fn open_at(&self, relative: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(if flags.contains(OFlag::O_CREAT) {
                FILE_MODE
            } else {
                Mode::empty()
            })
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        openat2(&self.root, relative, how)
    }

    fn open_object(&self, name: &ObjectName, access: OFlag) -> Result<File> {
        // A name is only a name: what is no file is looked at, and never opened.
        let found = self.open_at(name.as_str(), OFlag::O_PATH);
        let path = || self.full_path(name);
        match found {
            Ok(handle) if plain::is_plain(&handle).io_context("look at", &path())? => {
                plain::reopen(handle, access).io_context("open", &path())
            }
            Ok(_) => Err(Error::new(
                ErrorKind::Damaged,
                format!("{name} is not a file"),
            )),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Err(Error::new(
                ErrorKind::NotFound,
                format!("{name} is not in the vault"),
            )),
            Err(Errno::ELOOP) => Err(Error::new(
                ErrorKind::Damaged,
                format!("{name} is a symlink, or below one: none is followed in a vault"),
            )),
            Err(errno) => Err(Error::io("open", &path(), errno.into())),
        }
    }

    fn length(&self, file: &File, name: &ObjectName) -> Result<u64> {
        let metadata = file.metadata();
        Ok(metadata.io_context("look at", &self.full_path(name))?.len())
    }

    fn read(&self, file: &File, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|error| self.unreadable(name, error))?;
        Ok(bytes.into())
    }

    fn unreadable(&self, name: &ObjectName, error: std::io::Error) -> Error {
        // A bad sector under the vault is damage of what it holds.
        let bad = error.raw_os_error() == Some(libc::EIO);
        let error = Error::io("read", &self.full_path(name), error);
        match bad {
            true => error.with_kind(ErrorKind::Damaged),
            false => error,
        }
    }

    /// Opens an object that has so many bytes from `offset` on.
    fn open_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<File> {
        let file = self.open_object(name, OFlag::O_RDONLY)?;
        let whole = self.length(&file, name)?;
        if offset.checked_add(length).is_none_or(|end| end > whole) {
            let what = format!("{name} is cut short");
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        Ok(file)
    }

    /// The folder that an object goes into, made where it is missing.
    fn folder_of(&self, name: &ObjectName) -> nix::Result<(OwnedFd, String)> {
        let mut components: Vec<&str> = name.components().collect();
        let last = components.pop().unwrap_or_default().to_owned();
        let mut folder = self.open_at(".", OFlag::O_DIRECTORY)?;
        let mut path = String::new();
        for component in components {
            path = match path.is_empty() {
                true => component.into(),
                false => format!("{path}/{component}"),
            };
            let next = match self.open_at(&path, OFlag::O_DIRECTORY) {
                Err(Errno::ENOENT) => {
                    match mkdirat(&folder, component, FOLDER_MODE) {
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    nix::unistd::fsync(&folder)?;
                    self.open_at(&path, OFlag::O_DIRECTORY)?
                }
                other => other?,
            };
            folder = next;
        }
        Ok((folder, last))
    }

    fn put_in(&self, folder: &OwnedFd, last: &str, bytes: &[u8]) -> std::io::Result<()> {
        match open_unnamed(folder, FILE_MODE) {
            Ok(fd) => {
                // Without a name until it is whole: a killed run leaves nothing behind.
                let mut file = File::from(fd);
                file.write_all(bytes)?;
                file.sync_all()?;
                let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(
                    AT_FDCWD,
                    link.as_str(),
                    folder,
                    last,
                    LinkatFlags::AT_SYMLINK_FOLLOW,
                )?;
            }
            Err(errno) if no_unnamed_files(errno) => {
                put_by_rename(folder, last, bytes, RenameFlags::RENAME_NOREPLACE)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(nix::unistd::fsync(folder)?)
    }
}

/// When a file was written, by the clock of the host that has its filesystem.
fn modified(metadata: &Metadata) -> Timestamp {
    let second = Timestamp::new(metadata.mtime(), 0);
    second.unwrap_or(Timestamp::UNIX_EPOCH)
}

fn fd_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

impl ObjectStore for LocalStore {
    fn location(&self) -> String {
        self.directory.path.display().to_string()
    }

    fn directory(&self) -> Option<&Directory> {
        Some(&self.directory)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::OF_DIRECTORY
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let (folder, last) = self
            .folder_of(name)
            .map_err(|errno| self.put_error(name, errno.into()))?;
        self.put_in(&folder, &last, &bytes)
            .map_err(|error| self.put_error(name, error))
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let replace = || -> std::io::Result<()> {
            let (folder, last) = self.folder_of(name)?;
            put_by_rename(&folder, &last, &bytes, RenameFlags::empty())?;
            Ok(nix::unistd::fsync(&folder)?)
        };
        replace().map_err(|error| self.put_error(name, error))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let file = self.open_object(name, OFlag::O_RDONLY)?;
        let length = self.length(&file, name)?;
        if length > limit {
            let what =
                format!("{name} is {length} bytes long, more than an object of its kind can be");
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        self.read(&file, name, 0, length)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let file = self.open_range(name, offset, length)?;
        self.read(&file, name, offset, length)
    }

    fn get_range_into(
        &self,
        name: &ObjectName,
        offset: u64,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let file = self.open_range(name, offset, length)?;
        // What is longer than before is cleared once, the rest is written over.
        into.resize(length as usize, 0);
        file.read_exact_at(into, offset)
            .map_err(|error| self.unreadable(name, error))
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        let file = self.open_object(name, OFlag::O_RDONLY)?;
        let whole = self.length(&file, name)?;
        let length = length.min(whole);
        Ok((self.read(&file, name, whole - length, length)?, whole))
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        let path = self.full_path(prefix);
        let folder = match self.open_at(prefix.as_str(), OFlag::O_DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Error::io("open", &path, errno.into())),
        };
        for entry in std::fs::read_dir(fd_path(&folder)).io_context("list", &path)? {
            let entry = entry.io_context("list", &path)?;
            // What is not a name of ours is not of the vault: a temporary file, `lost+found`.
            let Some(below) = entry
                .file_name()
                .to_str()
                .and_then(|text| prefix.join(text).ok())
            else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => self.list(&below, each)?,
                Ok(metadata) => each(ObjectInfo {
                    name: below,
                    // A fifo, a symlink: listed, so that it is found to be damage and not absence.
                    size: if metadata.is_file() {
                        metadata.len()
                    } else {
                        0
                    },
                    modified: modified(&metadata),
                })?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("look at", &path, error)),
            }
        }
        Ok(())
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let path = self.full_path(name);
        let (folder, last) = self
            .folder_of(name)
            .io_context("open the folder of", &path)?;
        match unlinkat(&folder, last.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => nix::unistd::fsync(&folder).io_context("write the folder of", &path),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::io("delete", &path, errno.into())),
        }
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<ObjectLock>> {
        // Over NFS a lock needs a file that may be written to.
        let file = self.open_object(name, OFlag::O_RDWR)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => {
                let links = held
                    .metadata()
                    .io_context("look at", &self.full_path(name))?;
                if links.nlink() == 0 {
                    let what = format!("{name} was deleted this very moment");
                    return Err(Error::new(ErrorKind::NotFound, what));
                }
                Ok(Some(ObjectLock::new(held)))
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let what = format!("{name} is locked by another run");
                Err(Error::new(ErrorKind::Busy, what))
            }
            // This filesystem has no locks.
            Err(_) => Ok(None),
        }
    }

    fn clear_unfinished(&self) {
        if open_unnamed(&self.root, FILE_MODE).is_err_and(no_unnamed_files) {
            unfinished::clear(&self.root);
        }
    }
}

impl LocalStore {
    fn put_error(&self, name: &ObjectName, source: std::io::Error) -> Error {
        let error = Error::io("write", &self.full_path(name), source);
        match error.kind() {
            ErrorKind::NoSpace if error.hint().is_some() => error,
            ErrorKind::NoSpace => error.with_hint(
                "the vault's disk is full: make room on it; the snapshots that are there are whole",
            ),
            ErrorKind::Exists => error.with_hint("names are never used twice; start the run again"),
            _ => error.with_hint("is the vault's disk writable, and mounted?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    #[test]
    fn what_mkfs_leaves_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("lost+found")).unwrap();
        assert!(store.is_empty().unwrap());
        std::fs::write(folder.path().join("file"), b"").unwrap();
        assert!(!store.is_empty().unwrap());
    }

    #[test]
    fn an_object_comes_back_whole_and_in_parts_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path()).unwrap();
        assert!(store.is_empty().unwrap());
        let at = name("segments/ab/1");
        store.put(&at, Blob::from_static(b"0123456789")).unwrap();
        assert_eq!(
            store.put(&at, Blob::new()).unwrap_err().kind(),
            ErrorKind::Exists
        );
        assert_eq!(store.get(&at, 10).unwrap(), "0123456789");
        assert_eq!(store.get(&at, 9).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(store.get_range(&at, 3, 2).unwrap(), "34");
        assert_eq!(
            store.get_range(&at, 9, 2).unwrap_err().kind(),
            ErrorKind::Damaged
        );
        assert_eq!(
            store.get_tail(&at, 3).unwrap(),
            (Blob::from_static(b"789"), 10)
        );
        let listed = store.list_all(&name("segments")).unwrap();
        let [object] = &listed[..] else {
            panic!("{listed:?}");
        };
        assert_eq!((&object.name, object.size), (&at, 10));
        let age = Timestamp::now().duration_since(object.modified);
        assert!((-1..60).contains(&age.as_secs()), "{age}");
        store.delete(&at).unwrap();
        store.delete(&at).unwrap();
        assert_eq!(store.get(&at, 10).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(store.list_all(&name("snapshots")).unwrap().is_empty());
    }

    /// A FIFO shows it: a writer that waits goes on as soon as anything opens the FIFO for reading.
    #[test]
    fn what_is_no_file_is_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path()).unwrap();
        let at = name("index/fifo");
        let path = folder.path().join(at.as_str());
        std::fs::create_dir(folder.path().join("index")).unwrap();
        nix::unistd::mkfifo(&path, FILE_MODE).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(nix::unistd::gettid()).unwrap();
                File::options().write(true).open(&path).unwrap();
            });
            let stat = format!("/proc/self/task/{}/stat", told.recv().unwrap());
            let waits = || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") S "));
            while !waits() {
                std::thread::yield_now();
            }
            let refused = [
                store.get(&at, 10).map(drop),
                store.get_range(&at, 0, 1).map(drop),
                store.get_tail(&at, 1).map(drop),
                store.lock(&at).map(drop),
            ];
            let listed = store.list_all(&name("index")).unwrap();
            let was_opened = !waits();
            // Lets the writer go that still waits, and waits for none that is gone.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            nix::fcntl::open(&path, flags, Mode::empty()).unwrap();
            for error in refused.map(Result::unwrap_err) {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                assert!(error.to_string().contains("not a file"), "{error}");
            }
            assert_eq!(listed.len(), 1, "damage, and not absence");
            assert!(!was_opened);
        });
    }

    #[test]
    fn no_symlink_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("x"), b"secret").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("index")).unwrap();
        let store = LocalStore::open(folder.path()).unwrap();
        assert!(store.get(&name("index/x"), 100).is_err());
        assert!(store.put(&name("index/y"), Blob::new()).is_err());
        assert!(!outside.path().join("y").exists());
    }

    #[test]
    fn what_is_kept_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&folder.path().join("vault")).unwrap();
        store.put(&name("index/x"), Blob::new()).unwrap();
        let mode = |path: &str| folder.path().join(path).metadata().unwrap().mode() & 0o777;
        assert_eq!(mode("vault"), 0o700);
        assert_eq!(mode("vault/index"), 0o700);
        assert_eq!(mode("vault/index/x"), 0o600);
    }
}
