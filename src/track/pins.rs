//! Where the tracker's programs and maps are pinned, so that tracking goes on with no process at
//! all. It must never use a directory that someone other than root can write to, nor remove
//! anything outside its own.

use crate::error::{Error, ErrorKind, IoContext, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the BPF filesystem is mounted, on every distribution.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// The directory of what this version pins. Another number whenever the maps' layout or the meaning
/// of what the programs write into them changes.
const VERSION: &str = "v2";

/// Where a new set of pins is put together before it gets its name in one step.
const UNFINISHED: &str = "new";

/// How long we wait for another process that is starting or stopping tracking.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// Names of the pins.
pub(super) mod pin {
    pub const LINKS: [&str; 2] = ["link_a", "link_b"];
    pub const DISKS: &str = "disks";
    pub const FENCE: &str = "fence";
}

/// A directory on the BPF filesystem that belongs to one installation of the tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinDir(PathBuf);

impl Default for PinDir {
    /// `/sys/fs/bpf/stillpoint`.
    fn default() -> Self {
        Self(Path::new(BPFFS).join("stillpoint"))
    }
}

/// Held while tracking is started, stopped or a disk is added; let go of when dropped.
#[derive(Debug)]
pub(super) struct PinLock(#[expect(dead_code, reason = "held, never read")] Flock<File>);

impl PinDir {
    /// The directory `name` of the BPF filesystem: letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// The name has other characters (the BPF filesystem itself allows no dots).
    pub fn named(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{name:?} cannot be the name of a pin directory"),
            ));
        }
        Ok(Self(Path::new(BPFFS).join(name)))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of the pins of this version.
    pub(super) fn current(&self) -> PathBuf {
        self.0.join(VERSION)
    }

    /// Whether there are pins of this version, in a directory that can be trusted.
    pub(super) fn exists(&self) -> Result<bool> {
        if !is_bpffs(Path::new(BPFFS))? {
            return Ok(false);
        }
        for path in [self.0.clone(), self.current()] {
            if !is_private_directory(&path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the directory, and mounts the BPF filesystem if that is missing. Returns whether it
    /// was.
    pub(super) fn create(&self) -> Result<bool> {
        let root = Path::new(BPFFS);
        let mounted = !is_bpffs(root)?;
        if mounted {
            let nothing = None::<&str>;
            nix::mount::mount(Some("bpf"), root, Some("bpf"), MsFlags::empty(), nothing)
                .io_context("mount the BPF filesystem on", root)
                .map_err(|error| {
                    error
                        .with_kind(ErrorKind::Unsupported)
                        .with_hint("mount it (mount -t bpf bpf /sys/fs/bpf) and try again")
                })?;
            // Other programs expect it as systemd mounts it.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(root, mode).io_context("set permissions of", root)?;
        }
        make_private(&self.0)?;
        Ok(mounted)
    }

    /// Waits for other processes that change the pins. `None` when there is no directory.
    pub(super) fn lock(&self) -> Result<Option<PinLock>> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            if !is_private_directory(&self.0)? {
                return Ok(None);
            }
            let directory = match File::open(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                answer => answer.io_context("open", &self.0)?,
            };
            match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                Ok(lock) if self.is_still(&lock)? => return Ok(Some(PinLock(lock))),
                // Removed, or made again, while we waited.
                Ok(_) => {}
                Err((_, nix::Error::EWOULDBLOCK)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((_, nix::Error::EWOULDBLOCK)) => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        format!("another process is changing {}", self.0.display()),
                    ));
                }
                Err((_, error)) => return Err(Error::io("lock", &self.0, error.into())),
            }
        }
    }

    fn is_still(&self, lock: &File) -> Result<bool> {
        let held = lock.metadata().io_context("stat", &self.0)?;
        match std::fs::symlink_metadata(&self.0) {
            Ok(now) => Ok(now.ino() == held.ino() && now.dev() == held.dev()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("stat", &self.0, error)),
        }
    }

    /// Whether another version has left pins here. Needs the lock.
    pub(super) fn has_others(&self, _: &PinLock) -> Result<bool> {
        let ours = [self.current(), self.0.join(UNFINISHED)];
        Ok(entries(&self.0)?.iter().any(|entry| !ours.contains(entry)))
    }

    /// Makes an empty directory for pins that are not all there yet. Needs the lock.
    pub(super) fn begin(&self, _: &PinLock) -> Result<PathBuf> {
        let path = self.0.join(UNFINISHED);
        make_private(&path)?;
        Ok(path)
    }

    /// Gives the new pins their name, all at once. Needs the lock.
    pub(super) fn finish(&self, _: &PinLock) -> Result<()> {
        let from = self.0.join(UNFINISHED);
        std::fs::rename(&from, self.current()).io_context("rename", &from)
    }

    /// Unpins everything, of every version, finished or not. Needs the lock. The directory itself
    /// stays; see [`Self::remove`].
    pub(super) fn clear(&self, _: &PinLock) -> Result<()> {
        for version in entries(&self.0)? {
            for pin in entries(&version)? {
                std::fs::remove_file(&pin).io_context("remove", &pin)?;
            }
            std::fs::remove_dir(&version).io_context("remove", &version)?;
        }
        Ok(())
    }

    /// Removes the directory. Needs the lock and [`Self::clear`].
    pub(super) fn remove(&self, _: &PinLock) -> Result<()> {
        std::fs::remove_dir(&self.0).io_context("remove", &self.0)
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .io_context("list", directory)
}

/// Whether `path` is on a BPF filesystem. Where it does not exist, it is not.
pub(super) fn is_bpffs(path: &Path) -> Result<bool> {
    match statfs(path) {
        Ok(facts) => Ok(facts.filesystem_type() == BPF_FS_MAGIC),
        Err(nix::Error::ENOENT) => Ok(false),
        Err(error) => Err(Error::io("look at", path, error.into())),
    }
}

/// Whether the directory is there. One that others can write to is an error: the BPF filesystem's
/// root may be open to everybody.
fn is_private_directory(path: &Path) -> Result<bool> {
    let facts = match std::fs::symlink_metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("stat", path, error)),
    };
    if facts.is_dir() && facts.uid() == 0 && facts.mode() & 0o077 == 0 {
        return Ok(true);
    }
    let message = format!("{} is not root's own directory", path.display());
    Err(Error::new(ErrorKind::Unsupported, message)
        .with_hint("someone else made it: look at it, remove it, and try again"))
}

fn make_private(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create", path, error))
        }
        _ => is_private_directory(path).map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_lead_elsewhere() {
        for bad in ["", "..", "a/b", "a.b", "/"] {
            assert!(PinDir::named(bad).is_err(), "{bad:?}");
        }
        let good = PinDir::named("stillpoint-test_1").unwrap();
        assert_eq!(good.path(), Path::new("/sys/fs/bpf/stillpoint-test_1"));
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pins");
        assert!(!is_private_directory(&path).unwrap());
        std::fs::create_dir(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        let error = is_private_directory(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
