//! What went wrong: a sentence that a user can act on, and the same as values for callers. It must
//! never hold a secret, nor text twice, nor print what a terminal would obey.

use crate::model::Bytes;
use crate::model::printable::one_line;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it was: what callers match on, and what exit codes are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The command line or a value in it is wrong.
    Usage,
    /// It does not exist.
    NotFound,
    /// It exists already and may not be replaced.
    Exists,
    /// The store or target is full.
    NoSpace,
    /// A device or file could not be read or written.
    Io,
    /// The vault's data is damaged or missing.
    Damaged,
    /// It lies in an archive and must be thawed before it can be read.
    Archived,
    /// The vault is of a newer format, or not a vault.
    Format,
    /// This host cannot do it (not root, no such kernel feature, unsupported disk).
    Unsupported,
    /// Someone else holds it: another run, a foreign freeze, a disk in use.
    Busy,
    /// The point in time could not be had (the disk never went quiet, a deadline passed).
    Inconsistent,
    /// Stopped by a signal, whose number this is.
    Interrupted(i32),
    /// Anything else; a broken invariant among them.
    Failed,
}

impl ErrorKind {
    /// All but [`Self::Interrupted`], which has a number besides.
    pub const PLAIN: [Self; 12] = [
        Self::Usage,
        Self::NotFound,
        Self::Exists,
        Self::NoSpace,
        Self::Io,
        Self::Damaged,
        Self::Archived,
        Self::Format,
        Self::Unsupported,
        Self::Busy,
        Self::Inconsistent,
        Self::Failed,
    ];

    /// The name used in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Exists => "exists",
            Self::NoSpace => "no_space",
            Self::Io => "io",
            Self::Damaged => "damaged",
            Self::Archived => "archived",
            Self::Format => "format",
            Self::Unsupported => "unsupported",
            Self::Busy => "busy",
            Self::Inconsistent => "inconsistent",
            Self::Interrupted(_) => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// A failure: what happened, what to do next, and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    disk: Option<String>,
    attempt: Option<Box<FailedOperation>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What was tried when it failed.
#[derive(Clone, Debug)]
struct FailedOperation {
    operation: String,
    path: PathBuf,
    offset: Option<Bytes>,
}

impl Error {
    /// One sentence that says what happened, with the disk or path, offset and operation in it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: None,
            disk: None,
            attempt: None,
            source: None,
        }
    }

    /// An operating system error: `action` says what was tried ("open", "write at 4096 of").
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let kind = kind_of(&source);
        let mut error = Self::new(kind, format!("cannot {action} {}", path.display()));
        error.hint = hint_of(&source).map(str::to_owned);
        error.at(action, path).with_source(source)
    }

    /// Says what was tried on which file, device or disk, for callers; the text stays as it is.
    /// It replaces what was said before.
    #[must_use]
    pub fn at(mut self, operation: &str, path: impl Into<PathBuf>) -> Self {
        self.attempt = Some(Box::new(FailedOperation {
            operation: operation.to_owned(),
            path: path.into(),
            offset: None,
        }));
        self
    }

    /// Says at which byte of it.
    #[must_use]
    pub fn at_offset(mut self, offset: Bytes) -> Self {
        if let Some(attempt) = &mut self.attempt {
            attempt.offset = Some(offset);
        }
        self
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, whose text is shown after a colon.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts what was being done in front: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// Adds what else is to be said: `message; words`.
    #[must_use]
    pub fn and_said(mut self, words: impl fmt::Display) -> Self {
        self.message = format!("{}; {words}", self.message);
        self
    }

    /// Gives it another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Lays it at the door of one disk of several, unless somebody has done so before.
    #[must_use]
    pub fn on_disk(mut self, disk: &str) -> Self {
        self.disk.get_or_insert_with(|| disk.to_owned());
        self
    }

    /// The same failure for another caller that waited for the same thing: its causes are in the
    /// text.
    #[must_use]
    pub fn retold(&self) -> Self {
        Self {
            kind: self.kind,
            message: self.to_string(),
            hint: self.hint.clone(),
            disk: self.disk.clone(),
            attempt: self.attempt.clone(),
            source: None,
        }
    }

    /// The disk without which it would not have happened, as far as is known.
    pub fn disk(&self) -> Option<&str> {
        self.disk.as_deref()
    }

    /// What was tried, as far as it is known: `open`, `read`.
    pub fn operation(&self) -> Option<&str> {
        Some(self.attempt.as_deref()?.operation.as_str())
    }

    /// On which file, device or disk it was tried, as far as it is known.
    pub fn path(&self) -> Option<&Path> {
        Some(self.attempt.as_deref()?.path.as_path())
    }

    /// At which byte of it, as far as it is known.
    pub fn offset(&self) -> Option<Bytes> {
        self.attempt.as_deref()?.offset
    }

    /// What sort of failure it was.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the user can do next.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

fn kind_of(source: &io::Error) -> ErrorKind {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => ErrorKind::NoSpace,
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => ErrorKind::NotFound,
        Some(libc::EEXIST) => ErrorKind::Exists,
        Some(libc::EBUSY) => ErrorKind::Busy,
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EOPNOTSUPP) => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Io,
    }
}

/// What to do where the number alone tells it: no device is at fault.
fn hint_of(source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error()? {
        libc::EMFILE | libc::ENFILE => Some(
            "allow more open files (`ulimit -n 1024`, LimitNOFILE= of a unit), and run it again",
        ),
        libc::ENAMETOOLONG => Some("give it a shorter name"),
        libc::EROFS => {
            Some("that filesystem is read-only: name another place, or mount it writable")
        }
        libc::EFBIG => Some(
            "allow larger files (`ulimit -f unlimited`, LimitFSIZE= of a unit), or name a place \
             whose filesystem holds them",
        ),
        libc::ENOMEM => {
            Some("free memory, or allow more (`ulimit -v`, MemoryMax= of a unit), and run it again")
        }
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of files and devices, and what a vault says, are text from elsewhere.
        f.write_str(&one_line(&self.message))?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, ": {}", one_line(&error.to_string()))?;
            // Our own errors print their causes themselves.
            cause = if error.is::<Error>() {
                None
            } else {
                error.source()
            };
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// Says what was being done when a system call failed.
pub trait IoContext<T> {
    /// `action` says what was tried, `path` on what.
    fn io_context(self, action: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn io_context(self, action: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(action, path, source))
    }
}

impl<T> IoContext<T> for nix::Result<T> {
    fn io_context(self, action: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(action, path, source.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_carries_each_cause_once() {
        let inner = Error::io(
            "read",
            Path::new("/x"),
            io::Error::from_raw_os_error(libc::EIO),
        );
        let outer = Error::new(ErrorKind::Failed, "snapshot failed").with_source(inner);
        assert_eq!(
            outer.to_string(),
            "snapshot failed: cannot read /x: Input/output error (os error 5)"
        );
    }

    #[test]
    fn what_was_tried_is_known_as_values() {
        let failed = io::Error::from_raw_os_error(libc::EIO);
        let error = Error::io("read", Path::new("/x"), failed);
        let text = error.to_string();
        let error = error.at_offset(Bytes(4096));
        assert_eq!(error.to_string(), text);
        for error in [error.retold(), error.context("more")] {
            assert_eq!(error.operation(), Some("read"));
            assert_eq!(error.path(), Some(Path::new("/x")));
            assert_eq!(error.offset(), Some(Bytes(4096)));
        }
        assert_eq!(Error::new(ErrorKind::Failed, "x").path(), None);
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let of = |errno| kind_of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::ENOSPC), ErrorKind::NoSpace);
        assert_eq!(of(libc::EIO), ErrorKind::Io);
        assert_eq!(of(libc::EBUSY), ErrorKind::Busy);
    }
}
