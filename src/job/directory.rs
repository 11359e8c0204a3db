//! The directory of the records. It belongs to its user alone. A reader sees whole records at any
//! moment, also while one is written.

use super::record::MAX_RECORD;
use super::{JobId, JobRecord, JobState};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::plain;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Most names in the directory that are read.
const MAX_ENTRIES: usize = 20_000;
/// Most bytes that are read of a log, from its end.
pub const MAX_LOG_TAIL: u64 = 4 << 20;
/// The block size by which filesystems allocate.
const ROOM: usize = 4096;
/// The hint for a directory of another user.
const AS_ROOT: &str = "run it as root, with sudo for example, or name your own with --job-dir";
const FILE_MODE: Mode = Mode::from_bits_truncate(0o600);

/// A directory of records.
#[derive(Debug)]
pub struct JobDirectory {
    fd: OwnedFd,
    path: PathBuf,
}

/// What the directory holds.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The jobs that have a record, oldest first.
    pub(super) jobs: Vec<JobId>,
    /// Logs without a record, and records that were never finished.
    pub(super) leftovers: Vec<String>,
}

/// The end of a job's log.
#[derive(Debug)]
pub struct JobLog {
    /// Its last bytes.
    pub tail: Vec<u8>,
    /// How many bytes come before them.
    pub skipped: u64,
}

impl JobDirectory {
    /// Opens the directory at `path`, and makes it where it is missing.
    ///
    /// # Errors
    /// It cannot be made, or does not belong to this user alone.
    pub fn make(path: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        match made {
            // `open` checks it.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other
                .io_context("make the job directory", path)
                .map_err(|error| {
                    error.with_hint("name a directory that can be made with --job-dir")
                })?,
        }
        Self::open(path)
    }

    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Unsupported` when it is a symlink, another user's, or others
    /// can write to it.
    pub fn open(path: &Path) -> Result<Self> {
        let refused = |what: &str| {
            let what = format!("the job directory {} {what}", path.display());
            Error::new(ErrorKind::Unsupported, what).with_hint(
                "remove it, make it this user's with mode 0700, or name another with --job-dir",
            )
        };
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR => refused("is a symlink, or no directory"),
            Errno::EACCES => {
                Error::io("open the job directory", path, errno.into()).with_hint(AS_ROOT)
            }
            _ => elsewhere(Error::io("open the job directory", path, errno.into())),
        })?;
        let file = File::from(fd);
        let metadata = file.metadata().io_context("look at", path)?;
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(match metadata.uid() {
                0 => refused("belongs to root").with_hint(AS_ROOT),
                _ => refused("belongs to another user"),
            });
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(refused("can be written to by others"));
        }
        Ok(Self {
            fd: file.into(),
            path: path.into(),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record; readers see the one before or this one. A job has one writer at a time.
    ///
    /// # Errors
    /// Those of the filesystem; the record before is untouched.
    pub fn write(&self, record: &JobRecord) -> Result<()> {
        self.replace(record, false)
    }

    /// Writes a record that outlasts a power cut.
    ///
    /// # Errors
    /// As [`JobDirectory::write`].
    pub fn write_durably(&self, record: &JobRecord) -> Result<()> {
        self.replace(record, true)
    }

    fn replace(&self, record: &JobRecord, durable: bool) -> Result<()> {
        let bytes = record.encode()?;
        let (name, aside) = (file_name(record.job), format!(".{}.tmp", record.job));
        let done = self.write_aside(&aside, &bytes, durable).and_then(|()| {
            renameat(&self.fd, aside.as_str(), &self.fd, name.as_str())?;
            if durable {
                nix::unistd::fsync(&self.fd)?;
            }
            Ok(())
        });
        if done.is_err() {
            self.remove_file(&aside);
        }
        done.io_context("write a job's record in", &self.path)
            .map_err(elsewhere)
    }

    fn write_aside(&self, aside: &str, bytes: &[u8], durable: bool) -> std::io::Result<()> {
        // A writer that was killed may have left it.
        self.remove_file(aside);
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, aside, flags | OFlag::O_NOFOLLOW, FILE_MODE)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        Ok(())
    }

    /// Writes how a job ended over its old record, where there is no room for a new file: the short
    /// form, into blocks that the file has already.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub fn write_in_place(&self, record: &JobRecord) -> Result<()> {
        let opened = plain::open_at(&self.fd, &file_name(record.job), OFlag::O_WRONLY);
        let done = opened.and_then(|file| {
            let length = usize::try_from(file.metadata()?.len()).unwrap_or_default();
            let room = length.next_multiple_of(ROOM).min(MAX_RECORD);
            let bytes = record.encode_short(room);
            let bytes = bytes.ok_or(std::io::ErrorKind::StorageFull)?;
            file.write_all_at(&bytes, 0)?;
            file.sync_data()
        });
        done.io_context("write over a job's record in", &self.path)
    }

    /// Reads the record of a job.
    ///
    /// # Errors
    /// `NotFound`; or it is too long, no file, or cannot be understood.
    pub fn read(&self, id: JobId) -> Result<JobRecord> {
        let file = self.open_file(&file_name(id))?;
        let mut bytes = Vec::new();
        file.take(MAX_RECORD as u64 + 1)
            .read_to_end(&mut bytes)
            .io_context("read a job's record in", &self.path)?;
        if bytes.len() > MAX_RECORD {
            let what = format!("the record of job {id} is too long to be one");
            return Err(Error::new(ErrorKind::Failed, what).with_hint("its file can be removed"));
        }
        JobRecord::decode(&bytes, id)
    }

    /// Reads the record of a job. Its state is [`JobState::Died`] when its process is gone and has
    /// not recorded how it ended.
    ///
    /// # Errors
    /// As [`JobDirectory::read`].
    pub fn look(&self, id: JobId) -> Result<JobRecord> {
        let record = self.read(id)?;
        if record.state.is_end() || record.process.is_alive() {
            return Ok(record);
        }
        // The job may have ended between the two: read once more.
        let mut record = self.read(id)?;
        if !record.state.is_end() {
            record.state = JobState::Died;
        }
        Ok(record)
    }

    /// The jobs that have a record, oldest first.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn jobs(&self) -> Result<Vec<JobId>> {
        Ok(self.entries()?.jobs)
    }

    /// Finds the job that `text` means: its name, the start of just one name, or `latest`.
    ///
    /// # Errors
    /// `NotFound` for none, `Usage` for several.
    pub fn find(&self, text: &str) -> Result<JobId> {
        let jobs = self.jobs()?;
        let hint = "see what there is with: stillpoint job list";
        let none = |what: String| Error::new(ErrorKind::NotFound, what).with_hint(hint);
        if text == "latest" {
            let newest = jobs.last().copied();
            return newest.ok_or_else(|| none(format!("no job in {}", self.path.display())));
        }
        let wanted = text.to_ascii_uppercase();
        let mut matching = jobs.iter().filter(|id| id.to_string().starts_with(&wanted));
        match (matching.next(), matching.next()) {
            _ if text.is_empty() => {
                Err(Error::new(ErrorKind::Usage, "an empty ID names no job").with_hint(hint))
            }
            (Some(only), None) => Ok(*only),
            (None, _) => Err(none(format!("no job {text:?} in {}", self.path.display()))),
            (Some(one), Some(two)) => {
                let what = format!("{text:?} could be {one} or {two}, and maybe others");
                Err(Error::new(ErrorKind::Usage, what).with_hint("give more of the ID"))
            }
        }
    }

    /// Makes the log of a job, for its owner alone.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub fn create_log(&self, id: JobId) -> Result<File> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_APPEND;
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.fd, log_name(id).as_str(), flags, FILE_MODE)
            .map(File::from)
            .io_context("make a job's log in", &self.path)
            .map_err(elsewhere)
    }

    /// The last bytes of a job's log, [`MAX_LOG_TAIL`] at most.
    ///
    /// # Errors
    /// `NotFound` when it has none: only detached jobs have one.
    pub fn log(&self, id: JobId, most: u64) -> Result<JobLog> {
        let file = self.open_file(&log_name(id))?;
        let length = file
            .metadata()
            .io_context("look at a log in", &self.path)?
            .len();
        let skipped = length.saturating_sub(most.min(MAX_LOG_TAIL));
        let mut tail = vec![0; usize::try_from(length - skipped).unwrap_or_default()];
        file.read_exact_at(&mut tail, skipped)
            .io_context("read a log in", &self.path)?;
        Ok(JobLog { tail, skipped })
    }

    /// Removes the log and the record of a job. Returns whether the record was removed.
    pub fn remove(&self, id: JobId) -> bool {
        self.remove_file(&log_name(id));
        self.remove_file(&file_name(id))
    }

    fn open_file(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        match plain::open_at(&self.fd, name, OFlag::O_RDONLY) {
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                let what = format!("{} is not a file", path.display());
                Err(Error::new(ErrorKind::Failed, what).with_hint("it can be removed"))
            }
            opened => opened.io_context("open", &path),
        }
    }

    pub(super) fn entries(&self) -> Result<Entries> {
        let mut found = Entries::default();
        let mut logs = Vec::new();
        let here = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let entries = std::fs::read_dir(here).io_context("list", &self.path)?;
        for entry in entries.take(MAX_ENTRIES) {
            let name = entry.io_context("list", &self.path)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
            let id = stem.strip_prefix('.').unwrap_or(stem).parse::<JobId>();
            match (id, ending) {
                (Ok(id), "json") if !stem.starts_with('.') => found.jobs.push(id),
                (Ok(id), "log") if !stem.starts_with('.') => logs.push(id),
                (Ok(_), "tmp") => found.leftovers.push(name.into()),
                _ => {}
            }
        }
        found.jobs.sort_unstable();
        let alone = logs
            .iter()
            .filter(|id| found.jobs.binary_search(id).is_err());
        found.leftovers.extend(alone.map(|id| log_name(*id)));
        Ok(found)
    }

    /// When a file was last written to.
    pub(super) fn changed(&self, stem: &str, ending: &str) -> Option<SystemTime> {
        let dot = if ending.is_empty() { "" } else { "." };
        let here = format!("/proc/self/fd/{}/{stem}{dot}{ending}", self.fd.as_raw_fd());
        std::fs::symlink_metadata(here).ok()?.modified().ok()
    }

    pub(super) fn remove_file(&self, name: &str) -> bool {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir).is_ok()
    }
}

fn file_name(id: JobId) -> String {
    format!("{id}.json")
}

fn log_name(id: JobId) -> String {
    format!("{id}.log")
}

fn elsewhere(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => error,
        ErrorKind::NoSpace => error.with_hint("make room there, or name another with --job-dir"),
        _ => error.with_hint("name a directory that can be written to with --job-dir"),
    }
}
