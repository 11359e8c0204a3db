//! The files of a cache: one a value, each with its own hash. Whatever is wrong with one, or with
//! all of them, costs time only: it is taken for absent, and no error leaves this file.

use crate::error::Result;
use crate::store::private_dir::make_private;
use crate::sys::locked::LockExt;
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
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
    directory: PathBuf,
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
    pub(super) fn open(directory: PathBuf, most: u64) -> Result<Self> {
        make_private(&directory)?;
        Ok(Self {
            directory,
            most,
            used: Mutex::default(),
            drafts: AtomicU64::new(0),
            failures: AtomicU32::new(0),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        // A name of an object has no plus in it.
        self.directory.join(name.replace('/', "+"))
    }

    /// A value of `limit` bytes at most. One that is not what was kept is removed.
    pub(super) fn get(&self, name: &str, limit: u64) -> Option<Value> {
        let path = self.path(name);
        let file = plain::open(&path, OFlag::O_RDONLY).ok()?;
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
        let _ = fs::remove_file(self.path(name));
    }

    fn write(&self, name: &str, number: u64, bytes: &[u8]) -> std::io::Result<()> {
        let draft = self.drafts.fetch_add(1, Ordering::Relaxed);
        let draft = format!("{DRAFT}{}-{draft}", std::process::id());
        let draft = self.directory.join(draft);
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(MAGIC);
        head[8..].copy_from_slice(&number.to_le_bytes());
        let hash = hash_of(name, &head, bytes);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            // No fsync: a file that a power cut leaves in part has not its hash.
            file.write_all(&head)?;
            file.write_all(bytes)?;
            file.write_all(hash.as_bytes())?;
            fs::rename(&draft, self.path(name))
        };
        write().inspect_err(|_| drop(fs::remove_file(&draft)))
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
            if fs::remove_file(&entry.path).is_ok() {
                left = left.saturating_sub(entry.size);
            }
        }
        left
    }

    /// All values. Drafts of killed processes are removed.
    fn entries(&self) -> Vec<Entry> {
        let Ok(found) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        let entries = found.filter_map(|entry| {
            let entry = entry.ok()?;
            let stat = entry.metadata().ok()?;
            let (path, used) = (entry.path(), stat.modified().ok()?);
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                if age(used) > STALE {
                    let _ = fs::remove_file(&path);
                }
                return None;
            }
            let size = stat.len();
            Some(Entry { path, used, size })
        });
        entries.collect()
    }
}

struct Entry {
    path: PathBuf,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files(most: u64) -> (tempfile::TempDir, CacheFiles) {
        let directory = tempfile::tempdir().unwrap();
        let files = CacheFiles::open(directory.path().join("vault"), most).unwrap();
        (directory, files)
    }

    #[test]
    fn a_value_comes_back_and_every_flip_is_a_miss() {
        let (_directory, files) = files(1 << 20);
        files.keep("index/a", 7, b"bytes");
        let value = files.get("index/a", 5).unwrap();
        assert_eq!((value.number, &value.bytes[..]), (7, &b"bytes"[..]));
        assert_eq!(files.get("index/b", 100), None);
        let path = files.path("index/a");
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(files.get("index/a", 100), None, "byte {at}");
            assert!(!path.exists(), "it would be read again and again");
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(files.get("index/a", 100), None, "cut at {at}");
        }
        // Under another name, or longer than is asked for.
        fs::write(files.path("index/b"), &whole).unwrap();
        assert_eq!(files.get("index/b", 100), None);
        fs::write(&path, &whole).unwrap();
        assert_eq!(files.get("index/a", 4), None);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let (_directory, files) = files(10_000);
        let name = |n: u32| format!("index/{n}");
        for n in 0..10 {
            files.keep(&name(n), 0, &[1; 900]);
            let age = Duration::from_secs(3600 * u64::from(20 - n));
            let file = File::open(files.path(&name(n))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        // The oldest is used.
        assert!(files.get(&name(0), 900).is_some());
        files.keep(&name(10), 0, &[1; 900]);
        let used: u64 = files.entries().iter().map(|entry| entry.size).sum();
        assert!(used <= 7500, "{used}");
        let left = |n| files.path(&name(n)).exists();
        assert!(left(0) && left(10) && left(9) && !left(1) && !left(2));
        // One that is larger than all is not kept.
        files.keep("index/large", 0, &[1; 10_000]);
        assert!(!files.path("index/large").exists());
    }

    #[test]
    fn what_cannot_be_kept_does_not_matter() {
        let (_directory, files) = files(1 << 20);
        // As a full disk does, or one that is read-only, for root as well.
        fs::remove_dir(&files.directory).unwrap();
        for n in 0..20 {
            files.keep("index/a", n, b"bytes");
        }
        assert_eq!(files.get("index/a", 100), None);
        assert_eq!(files.failures.load(Ordering::Relaxed), PATIENCE);
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(CacheFiles::open(open, 1).is_err());
        let (private, link) = (directory.path().join("private"), directory.path().join("x"));
        CacheFiles::open(private.clone(), 1).unwrap();
        symlink(&private, &link).unwrap();
        assert!(CacheFiles::open(link, 1).is_err());
    }

    #[test]
    fn drafts_of_killed_processes_are_cleared() {
        let (_directory, files) = files(1 << 20);
        let (old, new) = (
            files.directory.join(".draft-1-1"),
            files.directory.join(".draft-1-2"),
        );
        for path in [&old, &new] {
            fs::write(path, "x").unwrap();
        }
        let long_ago = SystemTime::now() - 2 * STALE;
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        files.keep("index/a", 0, b"bytes");
        assert!(!old.exists() && new.exists());
    }
}
