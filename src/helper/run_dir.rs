//! The run directory: notes of what a run has frozen, held or slowed down, so that a later run
//! finds what a dead run left. It belongs to this user alone: another user that could write to it
//! could have any filesystem thawed, and any script run.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::plain;
use nix::fcntl::OFlag;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};
use serde::Serialize;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// More notes of one kind than this are refused.
const MAX_NOTES: usize = 4096;
/// The magic number of ramfs, `include/uapi/linux/magic.h`.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Whether a file's filesystem is memory and nothing else: writing to it cannot block.
pub fn in_memory(file: &File) -> bool {
    fstatfs(file).is_ok_and(|stat| {
        stat.filesystem_type() == TMPFS_MAGIC || stat.filesystem_type() == RAMFS_MAGIC
    })
}

/// Makes the run directory, or checks that no other user could have put a note there.
///
/// # Errors
/// `Failed` when it is another user's, or others can write to it.
pub fn open_run_dir(run_dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(run_dir)
        .io_context("create", run_dir)?;
    check_run_dir(run_dir)
}

/// Checks that no other user could have put a note there.
///
/// # Errors
/// As [`open_run_dir`]; `NotFound` when it does not exist.
pub fn check_run_dir(run_dir: &Path) -> Result<()> {
    check_as(run_dir, nix::unistd::geteuid().as_raw())
}

/// The same for a user of that number.
fn check_as(run_dir: &Path, user: u32) -> Result<()> {
    let found = fs::symlink_metadata(run_dir).io_context("look at", run_dir)?;
    let ours = found.uid() == user;
    if found.is_dir() && ours && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    // Who is not root is told so, and not to remove what root needs.
    if found.is_dir() && found.uid() == 0 && !ours {
        let what = format!("{} is root's: only root can look at it", run_dir.display());
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let message = format!(
        "{} must be a directory of our own that no one else can write to",
        run_dir.display()
    );
    Err(Error::new(ErrorKind::Failed, message).with_hint(format!(
        "look who made it; then: rm -r {0} (it is made anew)",
        run_dir.display()
    )))
}

/// A path for a note of this process that nobody else uses.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn new_note(run_dir: &Path, kind: &str) -> Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
    let (pid, random) = (std::process::id(), hex::encode(random));
    Ok(run_dir.join(format!("{kind}{pid}-{random}.json")))
}

/// All notes in `run_dir` whose names begin with `kind`; none when it does not exist.
///
/// # Errors
/// As [`check_run_dir`], or when there are more than are looked at.
pub fn list_notes(run_dir: &Path, kind: &str) -> Result<Vec<PathBuf>> {
    if fs::symlink_metadata(run_dir).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    check_run_dir(run_dir)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(run_dir).io_context("list", run_dir)? {
        let path = entry.io_context("list", run_dir)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(kind) && name.ends_with(".json")) {
            found.push(path);
        }
        if found.len() > MAX_NOTES {
            let message = format!("more than {MAX_NOTES} records in {}", run_dir.display());
            return Err(Error::new(ErrorKind::Failed, message));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes a note to `path`, in place of what may be there, wholly or not at all.
///
/// # Errors
/// The directory cannot be written to.
pub fn write_note(path: &Path, note: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(note)
        .map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
    let draft = path.with_extension("draft");
    // Left by a process that was killed at this very point.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .io_context("create", &draft)?;
    let written = file.write_all(&text).io_context("write", &draft);
    let put = written.and_then(|()| fs::rename(&draft, path).io_context("put down", path));
    put.inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

/// Reads the first `most` bytes of a note that this user alone can have written.
///
/// # Errors
/// `NotFound` when it is gone, `Damaged` when others can have written it.
pub fn read_note(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = plain::open(path, OFlag::O_RDONLY).io_context("open", path)?;
    let found = file.metadata().io_context("look at", path)?;
    let owner = nix::unistd::geteuid().as_raw();
    if found.uid() != owner || found.mode() & 0o077 != 0 || found.nlink() != 1 {
        let path = path.display();
        let message = format!("{path} is no note: others than root can have written it");
        let hint = format!("look at it; then: rm {path}");
        return Err(Error::new(ErrorKind::Damaged, message).with_hint(hint));
    }
    let mut text = Vec::new();
    file.take(most)
        .read_to_end(&mut text)
        .io_context("read", path)?;
    Ok(text)
}

/// A path as text, whatever bytes are in it: backslash and what is not printable ASCII become
/// `\ooo`, as in `/proc/self/mountinfo`.
pub fn escape(path: &Path) -> String {
    let mut out = String::new();
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_graphic() && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("\\{byte:03o}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(open_run_dir(dir.path()).is_err());
        assert!(list_notes(dir.path(), "freeze-").is_err());
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(open_run_dir(dir.path()).is_ok());
    }

    /// What root needs is not called a thing to be removed.
    #[test]
    fn who_is_not_root_is_told_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let refused = check_as(dir.path(), 1000).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert_eq!(refused.hint(), None);
    }
}
