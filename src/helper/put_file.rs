//! Putting a small file in place as a whole, so that it outlasts a power cut: whoever reads it sees
//! the one before or this one. It must never follow a link at a path's end, nor leave a draft
//! behind, unless the process is killed.

use crate::error::{IoContext, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Puts a file of that mode in place, whatever stands there. Nobody else puts one at this path
/// meanwhile: what a killed process has left of its draft is written over.
///
/// # Errors
/// It cannot be written; what stood there is untouched.
pub fn put_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put_by(&draft(path, None), path, bytes, mode)
}

/// The same where nothing is there yet.
///
/// # Errors
/// `Exists` where something is; it cannot be written.
pub fn put_new_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put_new_by(&draft(path, None), path, bytes, mode)
}

/// As [`put_file`], where other processes may put one there at the same time: each has a draft of
/// its own, and the last one stands.
///
/// # Errors
/// As [`put_file`].
pub fn put_file_beside_others(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put_by(&draft(path, Some(std::process::id())), path, bytes, mode)
}

/// As [`put_new_file`], where other processes may put one there at the same time: one of them does.
///
/// # Errors
/// As [`put_new_file`].
pub fn put_new_file_beside_others(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    put_new_by(&draft(path, Some(std::process::id())), path, bytes, mode)
}

/// The draft of a file: one name for all, or one of a process.
fn draft(path: &Path, process: Option<u32>) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder_of(path).join(match process {
        None => format!(".{name}.new"),
        Some(process) => format!(".{name}.{process}.new"),
    })
}

fn put_by(draft: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_draft(draft, path, bytes, mode)?;
    let put = fs::rename(draft, path).io_context("put down", path);
    if put.is_err() {
        let _ = fs::remove_file(draft);
    }
    put.and_then(|()| sync_folder(folder_of(path)).io_context("write out", path))
}

fn put_new_by(draft: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_draft(draft, path, bytes, mode)?;
    // Unlike a rename, a link replaces nothing.
    let linked = fs::hard_link(draft, path).io_context("put down", path);
    let _ = fs::remove_file(draft);
    linked.and_then(|()| sync_folder(folder_of(path)).io_context("write out", path))
}

/// Removes a file for good.
///
/// # Errors
/// As unlink(2) and fsync(2).
pub fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder(folder_of(path))
}

/// Has what was done in a folder outlast a power cut.
///
/// # Errors
/// As open(2) and fsync(2).
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn write_draft(draft: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    // Left by a process that was killed at this very point.
    let _ = fs::remove_file(draft);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let done = (|| {
        let mut file = options.open(draft).io_context("write", path)?;
        file.write_all(bytes).io_context("write", path)?;
        file.sync_all().io_context("write out", path)
    })();
    if done.is_err() {
        let _ = fs::remove_file(draft);
    }
    done
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        // A bare name is one of the working directory.
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => Path::new("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_is_put_as_a_whole_and_none_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        put_new_file(&at("file"), b"one", 0o600).unwrap();
        let there = put_new_file(&at("file"), b"two", 0o600).unwrap_err();
        assert_eq!(there.kind(), ErrorKind::Exists);
        assert_eq!(fs::read(at("file")).unwrap(), b"one");
        // What was left by one that was killed is no obstacle.
        fs::write(at(".file.new"), "left").unwrap();
        put_file(&at("file"), b"two", 0o640).unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"two");
        let mode = at("file").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        symlink(at("file"), at("link")).unwrap();
        put_file(&at("link"), b"three", 0o600).unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"two");
        assert!(!at("link").is_symlink());
        assert!(put_file(&at("nowhere/file"), b"", 0o600).is_err());
        // Another process is at its draft: this one has another.
        fs::write(at(".file.new"), "of another").unwrap();
        put_file_beside_others(&at("file"), b"four", 0o600).unwrap();
        let there = put_new_file_beside_others(&at("file"), b"five", 0o600).unwrap_err();
        assert_eq!(there.kind(), ErrorKind::Exists);
        assert_eq!(fs::read(at("file")).unwrap(), b"four");
        assert_eq!(fs::read(at(".file.new")).unwrap(), b"of another");
        fs::remove_file(at(".file.new")).unwrap();
        assert_eq!(folder_of(Path::new("name")), Path::new("."));
        assert_eq!(folder_of(Path::new("/name")), Path::new("/"));
        remove_file(&at("link")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
