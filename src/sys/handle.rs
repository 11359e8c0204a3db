//! Files by descriptors alone, also of what must not be opened (`O_PATH`): symlinks, FIFOs, device
//! nodes. A name is one component, never followed; what is there is told by its descriptor.
#![expect(
    unsafe_code,
    reason = "extended attributes and times are not known to the compiler"
)]

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fchmodat, fstat};
use nix::unistd::{Gid, Uid, fchownat, linkat};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Longest list of names of attributes, and longest attribute, that the kernel has
/// (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX` of `include/uapi/linux/limits.h`).
const ATTRIBUTE_LIMIT: usize = 64 << 10;

/// Whether a name is one component of a path, and leads down.
pub fn is_one_name(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/') && !bytes.contains(&0)
}

/// A handle (`O_PATH`) of what has that name in a directory, whatever it is; no symlink is
/// followed, and no other mount is entered.
///
/// # Errors
/// As openat2(2); `EINVAL` when it is not one name.
pub fn handle_at(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    if !is_one_name(name) {
        return Err(Errno::EINVAL.into());
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    Ok(openat2(directory, name, how)?)
}

/// The same where a mount may be entered: it was put there by the owner of the place.
///
/// # Errors
/// As [`handle_at`].
pub fn target_handle_at(directory: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    if !is_one_name(name) {
        return Err(Errno::EINVAL.into());
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

/// Opens the very file or directory that a handle is of.
///
/// # Errors
/// As open(2).
pub fn open_handle(handle: impl AsFd, flags: OFlag) -> io::Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    Ok(openat(
        AT_FDCWD,
        by_number(&handle).as_c_str(),
        flags,
        Mode::empty(),
    )?)
}

/// The directory that a directory is in.
///
/// # Errors
/// As openat(2).
pub fn parent_of(directory: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(directory, "..", flags, Mode::empty())?)
}

/// What it is.
///
/// # Errors
/// As fstat(2).
pub fn look(handle: impl AsFd) -> io::Result<FileStat> {
    Ok(fstat(handle)?)
}

/// A file that has no name yet in a directory, open for reading and writing.
///
/// # Errors
/// As open(2); some filesystems cannot make one.
pub fn nameless_file(directory: impl AsFd) -> io::Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = openat(directory, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    Ok(File::from(file))
}

/// Gives what a handle is of another name. Nothing is replaced.
///
/// # Errors
/// As linkat(2).
pub fn link_handle(handle: impl AsFd, directory: impl AsFd, name: &OsStr) -> io::Result<()> {
    let from = by_number(&handle);
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    Ok(linkat(AT_FDCWD, from.as_c_str(), directory, name, follow)?)
}

/// Sets owner and group, by their numbers.
///
/// # Errors
/// As chown(2).
pub fn set_owner(handle: impl AsFd, owner: u32, group: u32) -> io::Result<()> {
    let (owner, group) = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(group)));
    Ok(fchownat(handle, "", owner, group, AtFlags::AT_EMPTY_PATH)?)
}

/// Sets the mode of what is no symlink.
///
/// # Errors
/// As chmod(2).
pub fn set_mode(handle: impl AsFd, mode: u32) -> io::Result<()> {
    let mode = Mode::from_bits_truncate(mode & 0o7777);
    let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
    Ok(fchmodat(
        AT_FDCWD,
        by_number(&handle).as_c_str(),
        mode,
        follow,
    )?)
}

/// A time of a file, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTime {
    /// Since 1970.
    pub seconds: i64,
    /// Of the second.
    pub nanoseconds: i64,
}

/// When a file was read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTimes {
    /// Last read.
    pub read: FileTime,
    /// Last written.
    pub written: FileTime,
}

impl FileTimes {
    /// Those of a file.
    pub fn of(stat: &FileStat) -> Self {
        Self {
            read: FileTime {
                seconds: stat.st_atime,
                nanoseconds: stat.st_atime_nsec,
            },
            written: FileTime {
                seconds: stat.st_mtime,
                nanoseconds: stat.st_mtime_nsec,
            },
        }
    }
}

/// Sets when it was read and written.
///
/// # Errors
/// As utimensat(2).
pub fn set_times(handle: impl AsFd, times: FileTimes) -> io::Result<()> {
    let raw = |time: FileTime| libc::timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanoseconds,
    };
    let times = [raw(times.read), raw(times.written)];
    let handle = handle.as_fd().as_raw_fd();
    // SAFETY: the kernel reads an empty text and two `timespec`, which live across the call.
    let result =
        unsafe { libc::utimensat(handle, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) };
    done(result as isize).map(drop)
}

/// The names of its extended attributes.
///
/// # Errors
/// As listxattr(2). `EOPNOTSUPP` is none: there are none then.
pub fn attributes(handle: impl AsFd) -> io::Result<Vec<OsString>> {
    let path = by_number(&handle);
    let read = |buffer: &mut Vec<u8>| {
        // SAFETY: the path ends with a zero; the kernel writes at most as much as the buffer has.
        unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    };
    let names = match filled(read) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let names = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Ok(names
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect())
}

/// The value of an extended attribute.
///
/// # Errors
/// As getxattr(2).
pub fn attribute(handle: impl AsFd, name: &OsStr) -> io::Result<Vec<u8>> {
    let (path, name) = (by_number(&handle), text(name)?);
    filled(|buffer| {
        // SAFETY: both texts end with a zero; the kernel writes at most as much as the buffer has.
        unsafe {
            let to = buffer.as_mut_ptr().cast();
            libc::getxattr(path.as_ptr(), name.as_ptr(), to, buffer.len())
        }
    })
}

/// Sets an extended attribute.
///
/// # Errors
/// As setxattr(2).
pub fn set_attribute(handle: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let (path, name) = (by_number(&handle), text(name)?);
    // SAFETY: both texts end with a zero; the kernel reads the value's bytes, which live across it.
    let result = unsafe {
        let from = value.as_ptr().cast();
        libc::setxattr(path.as_ptr(), name.as_ptr(), from, value.len(), 0)
    };
    done(result as isize).map(drop)
}

/// Takes an extended attribute away.
///
/// # Errors
/// As removexattr(2).
pub fn remove_attribute(handle: impl AsFd, name: &OsStr) -> io::Result<()> {
    let (path, name) = (by_number(&handle), text(name)?);
    // SAFETY: both texts end with a zero, and live across the call.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    done(result as isize).map(drop)
}

/// Its path below `/proc`: it leads to it itself, also where that is a symlink. A thread may have
/// descriptors of its own, which `/proc/self` does not show.
fn by_number(handle: impl AsFd) -> CString {
    let path = format!("/proc/thread-self/fd/{}", handle.as_fd().as_raw_fd());
    CString::new(path).expect("a number has no zero byte")
}

fn text(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL.into())
}

fn done(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// What a call writes into a buffer: it says how much.
fn filled(read: impl Fn(&mut Vec<u8>) -> isize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match done(read(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {
                if buffer.len() >= ATTRIBUTE_LIMIT {
                    return Err(error);
                }
                buffer.resize((buffer.len() * 16).min(ATTRIBUTE_LIMIT), 0);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn a_symlink_is_handled_and_what_it_leads_to_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "x").unwrap();
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", at("link")).unwrap();
        let directory = File::open(folder.path()).unwrap();
        let link = handle_at(&directory, OsStr::new("link")).unwrap();
        let before = fs::metadata(at("file")).unwrap();
        let time = FileTime {
            seconds: -7,
            nanoseconds: 5,
        };
        let times = FileTimes {
            read: time,
            written: time,
        };
        set_times(&link, times).unwrap();
        let stat = look(&link).unwrap();
        assert_eq!(FileTimes::of(&stat).written, time);
        assert_eq!(attributes(&link).unwrap(), Vec::<OsString>::new());
        let after = fs::metadata(at("file")).unwrap();
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        for name in ["..", ".", "", "a/b", "file/"] {
            assert!(handle_at(&directory, OsStr::new(name)).is_err(), "{name}");
        }
        let file = handle_at(&directory, OsStr::new("file")).unwrap();
        set_mode(&file, 0o4711).unwrap();
        assert_eq!(fs::metadata(at("file")).unwrap().mode() & 0o7777, 0o4711);
    }

    #[test]
    fn attributes_of_any_length_come_back() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        let directory = File::open(folder.path()).unwrap();
        let file = handle_at(&directory, OsStr::new("file")).unwrap();
        for (name, length) in [("trusted.empty", 0), ("trusted.some", 300)] {
            let name = OsStr::new(name);
            match set_attribute(&file, name, &vec![7; length]) {
                // Only root may, and not everywhere.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return,
                other => other.unwrap(),
            }
            assert_eq!(attribute(&file, name).unwrap(), vec![7; length]);
        }
        let mut names = attributes(&file).unwrap();
        names.sort();
        assert_eq!(names, ["trusted.empty", "trusted.some"]);
        assert!(attribute(&file, OsStr::new("trusted.none")).is_err());
    }

    #[test]
    fn a_nameless_file_gets_a_name_and_replaces_nothing() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let directory = File::open(folder.path()).unwrap();
        let file = nameless_file(&directory).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        link_handle(&file, &directory, OsStr::new("a")).unwrap();
        let again = link_handle(&file, &directory, OsStr::new("a")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
