//! The files of a machine, below a root that need not be `/`. Links are followed as the machine
//! itself would, and never out of the root. Only plain files are opened, what is read is bounded,
//! and what cannot be read is told. It changes nothing.

use super::verdict::Restorability;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::plain;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Longest text read. A `grub.cfg` of many kernels has 64 KiB, a `modules.dep` less than 2 MiB.
const TEXT: u64 = 8 << 20;

/// Most names of a folder looked at.
const NAMES: usize = 4096;

/// A machine's files.
pub(super) struct MachineFiles {
    root: OwnedFd,
}

/// A line of a text, and where it stands.
pub(super) struct PlacedLine<'a> {
    /// `/etc/fstab:3`.
    pub place: String,
    /// Without the white space around it.
    pub text: &'a str,
}

/// The lines of a file that say anything: neither empty nor a comment.
pub(super) fn said<'a>(path: &str, text: &'a str) -> impl Iterator<Item = PlacedLine<'a>> {
    let numbered = (1..).zip(text.lines());
    let trimmed = numbered.map(|(number, line)| (number, line.trim()));
    let said = trimmed.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(move |(number, text)| PlacedLine {
        place: format!("{path}:{number}"),
        text,
    })
}

impl MachineFiles {
    /// # Errors
    /// The root cannot be opened; `Unsupported` on a kernel that is too old.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty())
            .map_err(|errno| Error::io("open", path, errno.into()))?;
        let tree = Self { root };
        match tree.handle("/", OFlag::O_PATH) {
            Ok(_) => Ok(tree),
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                let what = "files of a machine are looked up by openat2(2), which Linux has from \
                            5.6 on";
                Err(Error::new(ErrorKind::Unsupported, what)
                    .with_hint("nothing was looked at, and nothing is known"))
            }
            Err(error) => Err(Error::io("open", path, error)),
        }
    }

    fn handle(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(resolve);
        Ok(openat2(&self.root, path, how)?)
    }

    /// A plain file; `None` where there is none of that name.
    ///
    /// # Errors
    /// It is there and cannot be opened, or is something else.
    pub(super) fn file(&self, path: &str) -> io::Result<Option<File>> {
        let handle = self.handle(path, OFlag::O_PATH);
        match handle.and_then(|handle| plain::reopen(handle, OFlag::O_RDONLY)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(&self, path: &str) -> io::Result<Option<String>> {
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(TEXT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > TEXT {
            return Err(io::Error::other("it is longer than 8 MiB"));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What a file says; `None` where there is none. Where it cannot be read, `found` is told.
    pub(super) fn text(&self, path: &str, found: &mut Restorability) -> Option<String> {
        self.read(path).unwrap_or_else(|error| {
            found.could_not(path, error.to_string());
            None
        })
    }

    /// The same, where it does not matter why there is nothing.
    pub(super) fn text_if_any(&self, path: &str) -> Option<String> {
        self.read(path).ok().flatten()
    }

    /// The names in a folder, sorted; none where it is not there. Where it cannot be read, or has
    /// more than can be looked at, `found` is told.
    pub(super) fn names(&self, folder: &str, found: &mut Restorability) -> Vec<String> {
        match self.list(folder) {
            Ok(names) if names.len() > NAMES => {
                found.could_not(folder, format!("it has more than {NAMES} entries"));
                Vec::new()
            }
            Ok(names) => names,
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => {
                found.could_not(folder, error.to_string());
                Vec::new()
            }
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut names = Vec::new();
        for entry in Dir::from_fd(self.handle(folder, flags)?)?.iter() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
            if names.len() > NAMES {
                break;
            }
        }
        names.sort();
        Ok(names)
    }

    /// The files of a folder whose names end so, in the order of their names: their paths.
    pub(super) fn files_in(
        &self,
        folder: &str,
        ending: &str,
        found: &mut Restorability,
    ) -> Vec<String> {
        let names = self.names(folder, found).into_iter();
        let wanted = names.filter(|name| name.ends_with(ending) && !name.starts_with('.'));
        wanted.map(|name| format!("{folder}/{name}")).collect()
    }

    /// The same of several folders.
    pub(super) fn files_of(
        &self,
        folders: &[&str],
        ending: &str,
        found: &mut Restorability,
    ) -> Vec<String> {
        let each = folders
            .iter()
            .map(|folder| self.files_in(folder, ending, found));
        each.collect::<Vec<_>>().concat()
    }

    /// Whether anything is there; also where that may not be known.
    pub(super) fn has(&self, path: &str) -> bool {
        let handle = self.handle(path, OFlag::O_PATH);
        handle.map_or_else(|error| !is_absent(&error), |_| true)
    }

    /// Where a link leads, as it is written.
    pub(super) fn link(&self, path: &str) -> Option<PathBuf> {
        let handle = self.handle(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).ok()?;
        readlinkat(&handle, "").ok().map(PathBuf::from)
    }
}

fn is_absent(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ENOTDIR))
}
