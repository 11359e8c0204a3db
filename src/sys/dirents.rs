//! The names in a directory, read through its descriptor in pieces: however many there are, a
//! buffer is all that they take, and reading goes on from any of them. It must never touch what
//! they name.
#![expect(unsafe_code, reason = "getdents64(2) is not known to the compiler")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

/// Bytes asked for at once.
const BUFFER: usize = 32 << 10;
/// Where the name begins in `struct linux_dirent64`.
const NAME: usize = 19;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryName {
    /// It.
    pub name: OsString,
    /// Where reading goes on after it.
    pub next: i64,
}

/// Reads the names in a directory, but for `.` and `..`.
pub struct NameReader {
    directory: OwnedFd,
    buffer: Vec<u8>,
    at: usize,
}

impl NameReader {
    /// From the first one on. The descriptor must be open for reading.
    pub fn new(directory: OwnedFd) -> Self {
        Self {
            directory,
            buffer: Vec::new(),
            at: 0,
        }
    }

    /// From the one after that which told `next`.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn from(directory: OwnedFd, next: i64) -> io::Result<Self> {
        nix::unistd::lseek(&directory, next, nix::unistd::Whence::SeekSet)?;
        Ok(Self::new(directory))
    }

    /// The directory.
    pub fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// The next name; `None` after the last one.
    ///
    /// # Errors
    /// As getdents64(2); `InvalidData` when the kernel's answer makes no sense.
    pub fn next_name(&mut self) -> io::Result<Option<DirectoryName>> {
        loop {
            if self.at >= self.buffer.len() && !self.fill()? {
                return Ok(None);
            }
            let name = self.take()?;
            if !matches!(name.name.as_encoded_bytes(), b"." | b"..") {
                return Ok(Some(name));
            }
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        self.at = 0;
        self.buffer.resize(BUFFER, 0);
        // SAFETY: the kernel writes at most `BUFFER` bytes to the buffer, which has them.
        let got = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                self.directory.as_raw_fd(),
                self.buffer.as_mut_ptr(),
                BUFFER,
            )
        };
        let got = usize::try_from(got);
        self.buffer.truncate(*got.as_ref().unwrap_or(&0));
        // Negative: it has failed.
        got.map(|got| got > 0)
            .map_err(|_| io::Error::last_os_error())
    }

    /// The record at `at`. `include/linux/dirent.h`:
    /// ```c
    /// struct linux_dirent64 {
    ///     u64 d_ino; s64 d_off; unsigned short d_reclen; unsigned char d_type; char d_name[];
    /// };
    /// ```
    fn take(&mut self) -> io::Result<DirectoryName> {
        let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "a directory makes no sense");
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let next = rest.get(8..16).and_then(|field| field.try_into().ok());
        let length = rest.get(16..18).and_then(|field| field.try_into().ok());
        let length = usize::from(u16::from_ne_bytes(length.ok_or_else(nonsense)?));
        let name = rest.get(NAME..length).ok_or_else(nonsense)?;
        let end = name.iter().position(|byte| *byte == 0);
        let name = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
        if name.is_empty() || name.contains(&b'/') {
            return Err(nonsense());
        }
        let found = DirectoryName {
            name: OsString::from_vec(name.to_vec()),
            next: i64::from_ne_bytes(next.ok_or_else(nonsense)?),
        };
        self.at += length;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs::{self, File};

    fn open(path: &std::path::Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    #[test]
    fn all_names_come_once_also_when_reading_is_taken_up_again() {
        let folder = tempfile::tempdir().unwrap();
        let wanted: BTreeSet<OsString> = (0..3000).map(|n| format!("name {n}").into()).collect();
        for name in &wanted {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let mut reader = NameReader::new(open(folder.path()));
        let mut found = Vec::new();
        while let Some(name) = reader.next_name().unwrap() {
            found.push(name.name);
            if found.len() % 700 == 0 {
                reader = NameReader::from(open(folder.path()), name.next).unwrap();
            }
        }
        assert_eq!(found.len(), 3000);
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), wanted);
    }

    #[test]
    fn what_is_no_directory_has_no_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = NameReader::new(open(file.path())).next_name().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    }
}
