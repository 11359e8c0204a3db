//! Where this host's facts are read from: four folders, so that a test can hand in its own. Reads
//! are bounded and never fail for what has vanished meanwhile.

use crate::error::{Error, ErrorKind, IoContext, Result};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest attribute read: sysfs never gives more than a page.
const ATTRIBUTE_LIMIT: u64 = 64 * 1024;

/// Longest table of `/proc` read, but for those of mounts, which have a bound of their own.
const TABLE_LIMIT: u64 = 64 * 1024 * 1024;

/// Most names in a folder: a quarter of the processes that a kernel can have.
const NAMES_LIMIT: usize = 1 << 20;

/// The directories in which the kernel and udev describe this host.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
    /// `/run`.
    pub run: PathBuf,
}

impl Host {
    /// The host this runs on.
    pub fn here() -> Self {
        Self::at(Path::new("/"))
    }

    /// A host whose folders are all below `root`.
    pub fn at(root: &Path) -> Self {
        Self {
            sys: root.join("sys"),
            proc: root.join("proc"),
            dev: root.join("dev"),
            run: root.join("run"),
        }
    }

    /// Where a path that starts with `/dev/` is found; `None` for any other path.
    pub fn device_node(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix("/dev")
            .ok()
            .map(|rest| self.dev.join(rest))
    }

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// When it cannot be listed; `Unsupported` when it has more than can be looked at.
    pub(super) fn names(folder: &Path) -> Result<Vec<OsString>> {
        let entries = fs::read_dir(folder).io_context("list", folder)?;
        let mut names = entries
            .take(NAMES_LIMIT + 1)
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<std::io::Result<Vec<_>>>()
            .io_context("list", folder)?;
        if names.len() > NAMES_LIMIT {
            let message = format!(
                "{} has more than {NAMES_LIMIT} entries, more than is looked at; nothing was done",
                folder.display()
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        names.sort();
        Ok(names)
    }

    /// The names in a folder that may not be there, as text; those that are not text are left out.
    pub(super) fn names_if_any(folder: &Path) -> Vec<String> {
        let names = Self::names(folder).unwrap_or_default();
        names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect()
    }

    /// An attribute's bytes; `None` when it is not there or cannot be read.
    pub(super) fn bytes(path: &Path) -> Option<Vec<u8>> {
        read_bounded(path, ATTRIBUTE_LIMIT).ok()
    }

    /// An attribute's text without the white space around it; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn attribute(path: &Path) -> Result<Option<String>> {
        match read_bounded(path, ATTRIBUTE_LIMIT) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path, error)),
        }
    }

    /// An attribute's text without the white space around it; `None` when it is not there, cannot
    /// be read, is not text, or is empty.
    pub(super) fn text(path: &Path) -> Option<String> {
        let text = String::from_utf8(Self::bytes(path)?).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// An attribute's number; `None` as for `text`, or when it is not a number.
    pub(super) fn number(path: &Path) -> Option<u64> {
        Self::text(path)?.parse().ok()
    }

    /// Whether an attribute is `1`.
    pub(super) fn flag(path: &Path) -> bool {
        Self::number(path) == Some(1)
    }

    /// A table of `/proc`, whole.
    pub(super) fn table(path: &Path) -> std::io::Result<Vec<u8>> {
        read_bounded(path, TABLE_LIMIT)
    }
}

fn read_bounded(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other("longer than it can be"));
    }
    Ok(bytes)
}
