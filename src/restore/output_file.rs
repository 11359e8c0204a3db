//! A file that appears under its name only when it is whole. What is interrupted leaves nothing
//! under that name.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::ObjectId;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{LinkatFlags, linkat};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file on its way to a name.
pub struct OutputFile {
    file: File,
    path: PathBuf,
    /// Has a name already, under which it is not whole yet.
    partial: Option<PathBuf>,
    force: bool,
}

impl OutputFile {
    /// Starts an empty file; it gets its name when it is finished. `force`: what is there may be
    /// replaced, if it is a file.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        refuse_what_is_there(path, force)?;
        let directory = directory_of(path);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        let unnamed = options
            .clone()
            .custom_flags(libc::O_TMPFILE)
            .open(directory);
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
            Err(error) => return Err(not_made(directory, error)),
        };
        Ok(Self {
            file,
            path: path.into(),
            partial,
            force,
        })
    }

    /// The file, to be written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The name that it will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it last, and gives it its name.
    pub fn finish(mut self) -> Result<()> {
        self.file.sync_all().io_context("write", &self.path)?;
        if self.partial.is_none() && !self.force {
            self.link(&self.path)
                .io_context("give its name to", &self.path)?;
        } else {
            if self.partial.is_none() {
                // Not made of the file's own name, which may be as long as names can be.
                let name = format!(".stillpoint-{}.partial", ObjectId::generate());
                let aside = directory_of(&self.path).join(name);
                self.link(&aside).io_context("make", &aside)?;
                // Removed with the target if it does not get its true name.
                self.partial = Some(aside);
            }
            self.rename()?;
        }
        let directory = directory_of(&self.path);
        let opened = File::open(directory).io_context("open", directory)?;
        opened
            .sync_all()
            .io_context("write the directory", directory)
    }

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

/// Refuses a name that is taken.
pub fn refuse_what_is_there(path: &Path, force: bool) -> Result<()> {
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
    refuse_to_replace(path)
}

fn not_made(directory: &Path, source: std::io::Error) -> Error {
    let read_only = source.raw_os_error() == Some(libc::EROFS);
    let error = Error::io("make a file in", directory, source);
    if read_only {
        return error
            .with_kind(ErrorKind::Unsupported)
            .with_hint("its filesystem is read-only: mount it anew with -o rw, or name another");
    }
    error
}

/// Refuses to replace a file that nobody may replace (`chattr +i` or `+a`): that would be found out
/// when all is written.
fn refuse_to_replace(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    let options = options
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    match options.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let what = format!(
                "{} may not be replaced; nothing was written",
                path.display()
            );
            Err(Error::new(ErrorKind::Unsupported, what)
                .with_source(error)
                .with_hint("lsattr shows whether it is immutable: chattr -i -a, or name another"))
        }
        _ => Ok(()),
    }
}

fn no_unnamed_files(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
    )
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // It was not finished.
            let _ = fs::remove_file(partial);
        }
    }
}
