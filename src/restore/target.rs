//! What a disk can be restored onto. A target is opened so that nobody else uses it, and a file
//! appears under its name only when it is whole.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{Bytes, Extent, ObjectId, SECTOR_SIZE};
use crate::sys::block::{logical_block_size, size_of, zero_out};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{LinkatFlags, linkat};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Something that takes a disk's bytes.
pub trait Target: Sync {
    /// Writes bytes at an offset.
    fn write(&self, offset: Bytes, bytes: &[u8]) -> Result<()>;

    /// Makes the extent read as zeros.
    fn hole(&self, extent: Extent) -> Result<()>;

    /// Everything is written: make it last, and visible.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A raw image in a file, sparse.
pub struct RawFile {
    file: File,
    path: PathBuf,
    /// Has a name already, under which it is not whole yet.
    partial: Option<PathBuf>,
    force: bool,
}

impl RawFile {
    /// Starts an image of `size` bytes; it gets its name when it is finished. `force`: what is
    /// there may be replaced, if it is a file.
    pub fn create(path: &Path, size: Bytes, force: bool) -> Result<Self> {
        refuse_what_is_there(path, force)?;
        let folder = folder_of(path);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let unnamed = options.clone().custom_flags(libc::O_TMPFILE).open(folder);
        let (file, partial) = match unnamed {
            Ok(file) => (file, None),
            Err(error) if no_unnamed_files(&error) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".partial");
                let partial = PathBuf::from(name);
                let file = options.create_new(true).open(&partial);
                let file = file.io_context("make", &partial).map_err(|error| {
                    error.with_hint("it may be left over from a restore that was killed: remove it")
                })?;
                (file, Some(partial))
            }
            Err(error) => return Err(Error::io("make a file in", folder, error)),
        };
        let target = Self {
            file,
            path: path.into(),
            partial,
            force,
        };
        target
            .file
            .set_len(size.0)
            .io_context("set the length of", path)?;
        Ok(target)
    }
}

fn refuse_what_is_there(path: &Path, force: bool) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.io_context("look at", path)?.file_type(),
    };
    let refused = |what: &str, hint: &str| {
        Err(Error::new(
            ErrorKind::Exists,
            format!("{} {what}; nothing was written", path.display()),
        )
        .with_hint(hint))
    };
    if kind.is_dir() {
        return refused("is a directory", "name a file in it, or a block device");
    }
    if !kind.is_file() {
        return refused(
            "is neither a file nor a block device",
            "name another target",
        );
    }
    if !force {
        return refused("exists", "name another file, or add --force to replace it");
    }
    Ok(())
}

fn no_unnamed_files(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
    )
}

impl Target for RawFile {
    fn write(&self, offset: Bytes, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset.0)
            .map_err(|error| write_error(&self.path, offset, error))
    }

    fn hole(&self, _: Extent) -> Result<()> {
        // The file was made empty: what is not written is a hole.
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.file.sync_all().io_context("write", &self.path)?;
        if self.partial.is_none() && !self.force {
            self.link(&self.path)
                .io_context("give its name to", &self.path)?;
        } else {
            if self.partial.is_none() {
                let mut name = self.path.as_os_str().to_owned();
                name.push(format!(".{}", ObjectId::generate()));
                let aside = PathBuf::from(name);
                self.link(&aside).io_context("make", &aside)?;
                // Removed with the target if it does not get its true name.
                self.partial = Some(aside);
            }
            self.rename()?;
        }
        let folder = folder_of(&self.path);
        let opened = File::open(folder).io_context("open", folder)?;
        opened.sync_all().io_context("write the folder", folder)
    }
}

impl RawFile {
    fn link(&self, to: &Path) -> nix::Result<()> {
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(
            AT_FDCWD,
            unnamed.as_str(),
            AT_FDCWD,
            to,
            LinkatFlags::AT_SYMLINK_FOLLOW,
        )
    }

    fn rename(&mut self) -> Result<()> {
        let Some(partial) = &self.partial else {
            return Ok(());
        };
        let flags = if self.force {
            RenameFlags::empty()
        } else {
            RenameFlags::RENAME_NOREPLACE
        };
        renameat2(AT_FDCWD, partial, AT_FDCWD, &self.path, flags)
            .io_context("give its name to", &self.path)?;
        self.partial = None;
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

impl Drop for RawFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // It was not finished.
            let _ = fs::remove_file(partial);
        }
    }
}

/// A whole block device, which nobody else may use meanwhile.
pub struct TargetDisk {
    file: File,
    path: PathBuf,
}

/// What must fit onto the target.
impl TargetDisk {
    /// Opens a device for a disk of `size` with sectors of `logical_block` bytes.
    pub fn open(path: &Path, size: Bytes, logical_block: u32) -> Result<Self> {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path);
        let file = opened.map_err(|source| {
            let busy = source.raw_os_error() == Some(libc::EBUSY);
            let error = Error::io("open for this restore alone", path, source);
            if !busy {
                return error;
            }
            error
                .with_hint("it is mounted or in use: unmount it and what is on it, or name another")
        })?;
        let kind = file.metadata().io_context("look at", path)?.file_type();
        if !kind.is_block_device() {
            let what = format!("{} is not a block device", path.display());
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let has = size_of(&file).io_context("ask the size of", path)?;
        let refused = |what: String, hint: &str| {
            let what = format!("{}: {what}; nothing was written", path.display());
            Err(Error::new(ErrorKind::Unsupported, what).with_hint(hint))
        };
        if has < size {
            return refused(
                format!("the target has {} bytes, the disk had {}", has.0, size.0),
                "name a target at least as large",
            );
        }
        let sectors =
            logical_block_size(file.as_fd()).io_context("ask the sector size of", path)?;
        if sectors != logical_block {
            return refused(
                format!("its sectors have {sectors} bytes, those of the disk had {logical_block}"),
                "partition tables count in sectors: restore to a file, or to a disk of that sort",
            );
        }
        Ok(Self {
            file,
            path: path.into(),
        })
    }
}

impl Target for TargetDisk {
    fn write(&self, offset: Bytes, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, offset.0)
            .map_err(|error| write_error(&self.path, offset, error))
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        // In pieces, so that a stop is heard; the kernel discards where that gives zeros.
        const PIECE: u64 = 1 << 30;
        debug_assert!((extent.offset.0 | extent.length.0).is_multiple_of(SECTOR_SIZE));
        let mut at = extent.offset.0;
        while at < extent.end().0 {
            let length = (extent.end().0 - at).min(PIECE);
            zero_out(&self.file, Extent::new(Bytes(at), Bytes(length)))
                .map_err(|error| write_error(&self.path, Bytes(at), error))?;
            at += length;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.file.sync_all().io_context("write", &self.path)
    }
}

fn write_error(path: &Path, offset: Bytes, source: std::io::Error) -> Error {
    Error::io(&format!("write at byte {} of", offset.0), path, source)
        .with_hint("the target is not whole: restore it again, to another one if it is broken")
}
