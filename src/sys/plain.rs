//! Opening plain files, and nothing else: a device node is not opened even to find out that it is
//! one, as opening alone starts a watchdog or rewinds a tape, and no FIFO is waited for. No symlink
//! is followed at a path's end.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

/// For its owner alone.
const PRIVATE: Mode = Mode::from_bits_truncate(0o600);

/// Whether a handle (`O_PATH`) is one of a plain file.
///
/// # Errors
/// As fstat(2).
pub fn is_plain(handle: impl AsFd) -> io::Result<bool> {
    let kind = SFlag::from_bits_truncate(fstat(handle)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFREG)
}

/// Opens the very file that a handle (`O_PATH`) is of.
///
/// # Errors
/// `InvalidInput` when it is no plain file, which then was not opened; else as open(2).
pub fn reopen(handle: impl AsFd, access: OFlag) -> io::Result<File> {
    if !is_plain(&handle)? {
        let why = "it is no plain file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let by_number = format!("/proc/thread-self/fd/{}", handle.as_fd().as_raw_fd());
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = openat(AT_FDCWD, by_number.as_str(), flags, Mode::empty())?;
    Ok(File::from(file))
}

/// Opens the file of that name in a folder.
///
/// # Errors
/// As [`reopen`].
pub fn open_at(folder: impl AsFd, name: &str, access: OFlag) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    reopen(openat(folder, name, flags, Mode::empty())?, access)
}

/// Opens the file at that path.
///
/// # Errors
/// As [`reopen`].
pub fn open(path: &Path, access: OFlag) -> io::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    reopen(openat(AT_FDCWD, path, flags, Mode::empty())?, access)
}

/// The same; makes it, for its owner alone, where it is missing.
///
/// # Errors
/// As [`reopen`].
pub fn open_or_create(path: &Path, access: OFlag) -> io::Result<File> {
    let flags = access | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    match openat(AT_FDCWD, path, flags, PRIVATE) {
        Ok(made) => Ok(File::from(made)),
        Err(Errno::EEXIST) => open(path, access),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::mkfifo;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn only_a_plain_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut made = open_or_create(&path, OFlag::O_RDWR).unwrap();
        made.write_all(b"words").unwrap();
        let mode = made.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut text = String::new();
        let mut again = open_or_create(&path, OFlag::O_RDONLY).unwrap();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "words");
        let gone = open(&dir.path().join("gone"), OFlag::O_RDONLY).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);

        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, PRIVATE).unwrap();
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        for other in [fifo.as_path(), &link, dir.path(), Path::new("/dev/null")] {
            for access in [OFlag::O_RDONLY, OFlag::O_RDWR] {
                let refused = open(other, access).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{other:?}");
                assert!(open_or_create(other, access).is_err(), "{other:?}");
            }
        }
    }
}
