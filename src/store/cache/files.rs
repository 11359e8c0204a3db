//! The files of a cache: one a value, each with its own hash. Whatever is wrong with one, or with
//! all of them, costs time only: it is taken for absent, and no error leaves this file.
//!
//! The directory is opened once, looked at through its descriptor, and used by that alone: whatever
//! becomes of its path, nothing is read, written or removed in another.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::locked::LockExt;
use crate::sys::plain;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::{self, DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

const MAGIC: &[u8; 8] = b"SPCACHE1";
/// Magic and the number that goes with a value.
const HEAD: usize = 16;
const HASH: usize = 32;
/// What a file in the making begins with; no value's name does.
const DRAFT: &str = ".draft-";
/// A draft that is older was left by a killed process.
const STALE: Duration = Duration::from_secs(3600);
/// A value that was used is as good as new; that is noted no more often than this.
const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// After so many failures in a row nothing is kept any more: the disk is full, or read-only.
const PATIENCE: u32 = 8;

/// A value in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    /// A number that goes with it.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A directory of values.
pub(super) struct CacheFiles {
    directory: File,
    /// Most bytes that they may have together.
    most: u64,
    /// Bytes that they have, as far as this process knows; `None`: nobody has looked.
    used: Mutex<Option<u64>>,
    drafts: AtomicU64,
    failures: AtomicU32,
}

impl CacheFiles {
    /// The values in a directory, which is made if it is not there; `most`: bytes in all.
    ///
    /// # Errors
    /// The directory cannot be had, or others can write to it.
    pub(super) fn open(directory: &Path, most: u64) -> Result<Self> {
        Ok(Self {
            directory: open_private(directory)?,
            most,
            used: Mutex::default(),
            drafts: AtomicU64::new(0),
            failures: AtomicU32::new(0),
        })
    }

    /// A value of `limit` bytes at most. One that is not what was kept is removed.
    pub(super) fn get(&self, name: &str, limit: u64) -> Option<Value> {
        let file = plain::open_at(&self.directory, &file_of(name), OFlag::O_RDONLY).ok()?;
        let value = read(&file, name, limit);
        match &value {
            None => self.remove(name),
            Some(_) => touch(&file),
        }
        value
    }

    /// Keeps a value, in place of one of the same name.
    pub(super) fn keep(&self, name: &str, number: u64, bytes: &[u8]) {
        if self.failures.load(Ordering::Relaxed) >= PATIENCE {
            return;
        }
        let size = (HEAD + bytes.len() + HASH) as u64;
        if size > self.most {
            return;
        }
        let kept = self.write(name, number, bytes);
        match kept {
            Err(_) => drop(self.failures.fetch_add(1, Ordering::Relaxed)),
            Ok(()) => {
                self.failures.store(0, Ordering::Relaxed);
                self.count(size);
            }
        }
    }

    /// Forgets a value.
    pub(super) fn remove(&self, name: &str) {
        // One that stays is found wrong again.
        let _ = self.unlink(&file_of(name));
    }

    fn unlink(&self, file: &str) -> nix::Result<()> {
        unlinkat(&self.directory, file, UnlinkatFlags::NoRemoveDir)
    }

    fn write(&self, name: &str, number: u64, bytes: &[u8]) -> std::io::Result<()> {
        let draft = self.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = format!("{DRAFT}{}-{draft}", std::process::id());
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(MAGIC);
        head[8..].copy_from_slice(&number.to_le_bytes());
        let hash = hash_of(name, &head, bytes);
        let write = || {
            let made = openat(&self.directory, draft.as_str(), NEW, PRIVATE)?;
            let mut file = File::from(made);
            // No fsync: a file that a power cut leaves in part has not its hash.
            file.write_all(&head)?;
            file.write_all(bytes)?;
            file.write_all(hash.as_bytes())?;
            let to = file_of(name);
            Ok(renameat(
                &self.directory,
                draft.as_str(),
                &self.directory,
                to.as_str(),
            )?)
        };
        write().inspect_err(|_| {
            let _ = self.unlink(&draft);
        })
    }

    /// Notes that so many bytes were added, and makes room once there are too many.
    fn count(&self, added: u64) {
        let mut used = self.used.locked();
        let now = match *used {
            Some(before) => before + added,
            None => self.entries().iter().map(|entry| entry.size).sum(),
        };
        *used = Some(if now > self.most {
            self.make_room()
        } else {
            now
        });
    }

    /// Removes what was not used for longest, until a quarter is free; returns what is left.
    fn make_room(&self) -> u64 {
        let mut entries = self.entries();
        entries.sort_by_key(|entry| entry.used);
        let mut left: u64 = entries.iter().map(|entry| entry.size).sum();
        for entry in entries {
            if left <= self.most / 4 * 3 {
                break;
            }
            if self.unlink(&entry.file).is_ok() {
                left = left.saturating_sub(entry.size);
            }
        }
        left
    }

    /// All values. Drafts of killed processes are removed, and what is none of a cache's is left
    /// alone.
    fn entries(&self) -> Vec<Entry> {
        let by_number = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        let Ok(found) = fs::read_dir(by_number) else {
            return Vec::new();
        };
        let entries = found.filter_map(|entry| {
            let entry = entry.ok()?;
            let file = entry.file_name().into_string().ok()?;
            let is_draft = file.starts_with(DRAFT);
            if !is_draft && !file.contains(SLASH) {
                return None;
            }
            let stat = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let used = stat.modified().ok()?;
            if is_draft {
                if age(used) > STALE {
                    let _ = self.unlink(&file);
                }
                return None;
            }
            let size = stat.len();
            Some(Entry { file, used, size })
        });
        entries.collect()
    }
}

/// What stands for the slashes of an object's name, which has none of these.
const SLASH: char = '+';

/// The file of a value.
fn file_of(name: &str) -> String {
    name.replace('/', "+")
}

struct Entry {
    file: String,
    used: SystemTime,
    size: u64,
}

fn age(time: SystemTime) -> Duration {
    time.elapsed().unwrap_or_default()
}

/// Notes that the value was used.
fn touch(file: &File) {
    let noted = file.metadata().and_then(|stat| stat.modified());
    if noted.is_ok_and(|noted| age(noted) > NOTED_EVERY) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// The name is part of it: a file that was renamed is no other value.
fn hash_of(name: &str, head: &[u8], bytes: &[u8]) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(&(name.len() as u64).to_le_bytes());
    hash.update(name.as_bytes()).update(head).update(bytes);
    hash.finalize()
}

fn read(mut file: &File, name: &str, limit: u64) -> Option<Value> {
    let length = file.metadata().ok()?.len();
    let least = (HEAD + HASH) as u64;
    let body = length.checked_sub(least).filter(|body| *body <= limit)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).ok()?);
    (&mut file).take(length).read_to_end(&mut bytes).ok()?;
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (plain, hash) = rest.split_at_checked(usize::try_from(body).ok()?)?;
    let number = head.strip_prefix(MAGIC)?.try_into().ok()?;
    let good = hash == hash_of(name, head, plain).as_bytes().as_slice();
    good.then(|| Value {
        number: u64::from_le_bytes(number),
        bytes: plain.to_vec(),
    })
}

/// How a file is made: never over another, nor through a link.
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const PRIVATE: Mode = Mode::from_bits_truncate(0o600);

/// Opens a directory that is this user's alone; it is made if it is not there.
fn open_private(directory: &Path) -> Result<File> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.io_context("make", directory)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let opened = File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(directory)
        .io_context("open", directory)?;
    let stat = opened.metadata().io_context("look at", directory)?;
    let owner = nix::unistd::geteuid().as_raw();
    if stat.uid() == owner && stat.mode() & 0o077 == 0 {
        return Ok(opened);
    }
    let what = format!("{}: others can read or change it", directory.display());
    Err(Error::new(ErrorKind::Failed, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    fn files(most: u64) -> (tempfile::TempDir, CacheFiles) {
        let directory = tempfile::tempdir().unwrap();
        let files = CacheFiles::open(&directory.path().join("vault"), most).unwrap();
        (directory, files)
    }

    /// Where a value is kept.
    fn path(directory: &tempfile::TempDir, name: &str) -> PathBuf {
        directory.path().join("vault").join(file_of(name))
    }

    #[test]
    fn a_value_comes_back_and_every_flip_is_a_miss() {
        let (directory, files) = files(1 << 20);
        files.keep("index/a", 7, b"bytes");
        let value = files.get("index/a", 5).unwrap();
        assert_eq!((value.number, &value.bytes[..]), (7, &b"bytes"[..]));
        assert_eq!(files.get("index/b", 100), None);
        let path_a = path(&directory, "index/a");
        let whole = fs::read(&path_a).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path_a, &bytes).unwrap();
            assert_eq!(files.get("index/a", 100), None, "byte {at}");
            assert!(!path_a.exists(), "it would be read again and again");
            fs::write(&path_a, &whole[..at]).unwrap();
            assert_eq!(files.get("index/a", 100), None, "cut at {at}");
        }
        // Under another name, or longer than is asked for.
        fs::write(path(&directory, "index/b"), &whole).unwrap();
        assert_eq!(files.get("index/b", 100), None);
        fs::write(&path_a, &whole).unwrap();
        assert_eq!(files.get("index/a", 4), None);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let (directory, files) = files(10_000);
        let name = |n: u32| format!("index/{n}");
        for n in 0..10 {
            files.keep(&name(n), 0, &[1; 900]);
            let age = Duration::from_secs(3600 * u64::from(20 - n));
            let file = File::open(path(&directory, &name(n))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        // The oldest is used.
        assert!(files.get(&name(0), 900).is_some());
        files.keep(&name(10), 0, &[1; 900]);
        let used: u64 = files.entries().iter().map(|entry| entry.size).sum();
        assert!(used <= 7500, "{used}");
        let left = |n| path(&directory, &name(n)).exists();
        assert!(left(0) && left(10) && left(9) && !left(1) && !left(2));
        // One that is larger than all is not kept.
        files.keep("index/large", 0, &[1; 10_000]);
        assert!(!path(&directory, "index/large").exists());
    }

    #[test]
    fn what_cannot_be_kept_does_not_matter() {
        let (directory, files) = files(1 << 20);
        // As a full disk does, or one that is read-only, for root as well.
        fs::remove_dir(directory.path().join("vault")).unwrap();
        for n in 0..20 {
            files.keep("index/a", n, b"bytes");
        }
        assert_eq!(files.get("index/a", 100), None);
        assert_eq!(files.failures.load(Ordering::Relaxed), PATIENCE);
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(CacheFiles::open(&open, 1).is_err());
        let (private, link) = (directory.path().join("private"), directory.path().join("x"));
        CacheFiles::open(&private, 1).unwrap();
        symlink(&private, &link).unwrap();
        assert!(CacheFiles::open(&link, 1).is_err());
    }

    /// Who can rename a folder above it cannot have anything read, written or removed elsewhere.
    #[test]
    fn another_directory_under_its_path_is_none_of_its() {
        let (directory, files) = files(2000);
        files.keep("index/a", 7, b"bytes");
        let (at, moved) = (
            directory.path().join("vault"),
            directory.path().join("moved"),
        );
        fs::rename(&at, &moved).unwrap();
        // All of another's values, and a file of nobody's cache.
        fs::create_dir(&at).unwrap();
        fs::copy(moved.join("index+a"), at.join("index+b")).unwrap();
        fs::write(at.join("index+a"), "x").unwrap();
        assert_eq!(files.get("index/a", 100).unwrap().number, 7);
        assert_eq!(files.get("index/b", 100), None);
        files.remove("index/b");
        for n in 0..5 {
            files.keep(&format!("index/{n}"), 0, &[1; 900]);
        }
        assert_eq!(fs::read_dir(&at).unwrap().count(), 2);
        assert_eq!(fs::read(at.join("index+a")).unwrap(), b"x");
        assert!(fs::read_dir(&moved).unwrap().count() > 0);
    }

    #[test]
    fn only_values_make_room() {
        let (directory, files) = files(2000);
        let at = |name: &str| directory.path().join("vault").join(name);
        fs::write(at("letter"), [1; 5000]).unwrap();
        fs::create_dir(at("folder+")).unwrap();
        symlink(at("letter"), at("index+link")).unwrap();
        for n in 0..5 {
            files.keep(&format!("index/{n}"), 0, &[1; 900]);
        }
        let all = ["letter", "folder+", "index+link"];
        assert!(all.iter().all(|name| at(name).symlink_metadata().is_ok()));
        assert_eq!(files.get("index/link", 5000), None);
        let used: u64 = files.entries().iter().map(|entry| entry.size).sum();
        assert!((1..=2000).contains(&used), "{used}");
    }

    #[test]
    fn drafts_of_killed_processes_are_cleared() {
        let (directory, files) = files(1 << 20);
        let at = |name: &str| directory.path().join("vault").join(name);
        let (old, new) = (at(".draft-1-1"), at(".draft-1-2"));
        for path in [&old, &new] {
            fs::write(path, "x").unwrap();
        }
        let long_ago = SystemTime::now() - 2 * STALE;
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        files.keep("index/a", 0, b"bytes");
        assert!(!old.exists() && new.exists());
    }
}
