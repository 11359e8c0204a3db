//! The mount tables of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)), read as the bytes that they
//! are: a path need not be text. It must never touch a mount.

use crate::error::{IoContext, Result};
use crate::model::DevNumber;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Longest table read, in bytes. Whoever may mount in a namespace of his own can make it as long as
/// he likes: mounts within one another have long paths.
pub const TABLE_LIMIT: u64 = 256 << 20;

/// One line. Its fields are as the kernel wrote them: see [`unescape`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountLine<'a> {
    /// Unique while the mount lasts.
    pub id: u64,
    /// The mount it is mounted on.
    pub parent: u64,
    /// The superblock's device; its major is 0 when that is not one block device.
    pub dev: DevNumber,
    /// The folder of the filesystem that is mounted here.
    pub root: &'a [u8],
    /// Where, as the namespace's processes see it.
    pub target: &'a [u8],
    /// `ext4`, `fuse.sshfs`, ...
    pub fstype: &'a [u8],
    /// What was mounted. Of most types this is what whoever mounted it has said, and proves
    /// nothing.
    pub source: &'a [u8],
    /// Options of the filesystem, wherever it is mounted.
    pub options: &'a [u8],
}

impl<'a> MountLine<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let (id, parent) = (number(fields.next()?)?, number(fields.next()?)?);
        let dev = fields.next()?;
        let colon = dev.iter().position(|byte| *byte == b':')?;
        let (major, minor) = dev.split_at_checked(colon)?;
        let dev = DevNumber {
            major: number(major)?,
            minor: number(minor.strip_prefix(b":")?)?,
        };
        let (root, target) = (fields.next()?, fields.next()?);
        // The mount's options; then any number of words on how it propagates.
        fields.next()?;
        fields.find(|field| *field == b"-")?;
        Some(Self {
            id,
            parent,
            dev,
            root,
            target,
            fstype: fields.next()?,
            source: fields.next()?,
            options: fields.next()?,
        })
    }
}

fn number<T: std::str::FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Reads a table, whole.
///
/// # Errors
/// `FileTooLarge` when it has more than `limit` bytes; else the process is gone, or its table may
/// not be read.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut table = Vec::new();
    let more = limit.saturating_add(1);
    File::open(path)?.take(more).read_to_end(&mut table)?;
    match table.len() as u64 > limit {
        true => Err(ErrorKind::FileTooLarge.into()),
        false => Ok(table),
    }
}

/// The device number that the mount of `handle` has in `mountinfo`, in the namespace it is from.
///
/// # Errors
/// When the table cannot be read, or is longer than is looked at.
pub fn mounted_device(handle: &OwnedFd, namespace_pid: Option<u32>) -> Result<Option<DevNumber>> {
    let Some(id) = mount_id(handle)? else {
        return Ok(None);
    };
    let table = read_table(namespace_pid)?;
    let mount = lines(&table).find(|mount| mount.id == id);
    Ok(mount.map(|mount| mount.dev))
}

/// The number of the mount that `handle` was opened in, unique while that mount lasts.
///
/// # Errors
/// When `/proc/self/fdinfo` cannot be read.
pub fn mount_id(handle: &OwnedFd) -> Result<Option<u64>> {
    let path = PathBuf::from(format!("/proc/thread-self/fdinfo/{}", handle.as_raw_fd()));
    let info = fs::read_to_string(&path).io_context("read", &path)?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    Ok(id.and_then(|id| id.trim().parse().ok()))
}

/// The table of the mount namespace that a process is in; ours for `None`.
///
/// # Errors
/// As for [`mounted_device`].
pub fn read_table(namespace_pid: Option<u32>) -> Result<Vec<u8>> {
    let path = match namespace_pid {
        None => PathBuf::from("/proc/self/mountinfo"),
        Some(pid) => PathBuf::from(format!("/proc/{pid}/mountinfo")),
    };
    read(&path, TABLE_LIMIT).io_context("read", &path)
}

/// The lines of a table that can be understood; the kernel writes no others.
pub fn lines(table: &[u8]) -> impl Iterator<Item = MountLine<'_>> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(MountLine::parse)
}

/// The kernel writes space, tab, newline, `\` and `#` as a backslash and three octal digits.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'\\')
            .then(|| std::str::from_utf8(tail.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// The path that a field names.
pub fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 98:0 /mnt1 /mnt\040two\134 rw master:1 - ext3 /dev/r\040t rw,errors=x";
        let line = MountLine::parse(line).unwrap();
        assert_eq!((line.id, line.parent, line.dev.major), (36, 35, 98));
        assert_eq!(path(line.target), Path::new("/mnt two\\"));
        assert_eq!(unescape(line.source), b"/dev/r t");
        assert_eq!(line.options, b"rw,errors=x");
        let bare = MountLine::parse(b"1 0 0:5 / / ro - tmpfs  ro").unwrap();
        assert_eq!((bare.source, bare.options), (&b""[..], &b"ro"[..]));
        for bad in [&b"1 0 0:5 / / ro -"[..], b"1 0 8 / / rw - a b c", b""] {
            assert_eq!(MountLine::parse(bad), None);
        }
        assert_eq!(unescape(br"a\0"), br"a\0");
    }

    #[test]
    fn a_path_that_is_no_text_loses_no_line() {
        let table = b"1 0 0:5 / /a\xff rw - tmpfs x rw\n2 1 0:6 / /b rw - cgroup2 y rw\n";
        let places: Vec<PathBuf> = lines(table).map(|line| path(line.target)).collect();
        assert_eq!(places[0].as_os_str().as_encoded_bytes(), b"/a\xff");
        assert_eq!(places[1], Path::new("/b"));
    }

    #[test]
    fn a_table_that_is_too_long_is_told_from_one_that_is_gone() {
        let table = Path::new("/proc/self/mountinfo");
        let error = read(table, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(read(table, TABLE_LIMIT).unwrap().len() > 10);
        let gone = read(Path::new("/proc/0/mountinfo"), 10).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
}
