//! Writing where a filesystem has no files without a name: an object has a temporary name until it
//! is whole. A killed run leaves such a file, which the next run of its host removes. It must never
//! remove another host's, nor one that is still being written.

use crate::sys::plain;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, RenameFlags, openat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Who may read and write an object's file.
pub(super) const FILE_MODE: Mode = Mode::from_bits_truncate(0o600);
/// The host's name comes next, hashed, and then something random.
const TEMPORARY: &str = ".tmp-";
/// A file that was not written to for this long is abandoned: an object takes minutes at most.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// Folders of a vault are not deeper.
const MAX_DEPTH: u32 = 4;

/// How this host's temporary names begin.
fn prefix() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let hash = blake3::hash(host.as_encoded_bytes()).to_hex();
    format!("{TEMPORARY}{}-", &hash[..16])
}

/// A file without a name in a folder.
pub(super) fn open_unnamed(folder: &OwnedFd, mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(folder, ".", flags, mode)
}

/// Whether the filesystem has none.
pub(super) fn no_unnamed_files(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL
    )
}

/// A temporary name first, then `last`, as `how` says. Where `RENAME_NOREPLACE` is not to be had,
/// names that are random by 128 bits have to do.
pub(super) fn put_by_rename(
    folder: &OwnedFd,
    last: &str,
    bytes: &[u8],
    how: RenameFlags,
) -> io::Result<()> {
    let temporary = format!("{}{}", prefix(), crate::model::ObjectId::generate());
    let flags =
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = File::from(openat(folder, temporary.as_str(), flags, FILE_MODE)?);
    // Says that a process is writing it. Where there are no locks, nothing is removed either.
    let lock = Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock);
    let written = (&file)
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| {
            let to = |flags| renameat2(folder, temporary.as_str(), folder, last, flags);
            match to(how) {
                Err(Errno::EINVAL | Errno::ENOSYS) => Ok(to(RenameFlags::empty())?),
                other => Ok(other?),
            }
        });
    drop(lock);
    if written.is_err() {
        // Best effort: the error that matters is the one above.
        let _ = unlinkat(folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    written
}

/// Removes what killed runs of this host have left in a folder and below. Best effort: what it
/// cannot look at stays.
pub(super) fn clear(folder: &OwnedFd) {
    clear_below(folder, &prefix(), MAX_DEPTH);
}

fn clear_below(folder: &OwnedFd, prefix: &str, depth: u32) {
    let entries = std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth > 0 && !name.starts_with('.') {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            if let Ok(below) = openat(folder, name, flags, Mode::empty()) {
                clear_below(&below, prefix, depth - 1);
            }
        } else if name.starts_with(prefix) && is_abandoned(folder, name) {
            let _ = unlinkat(folder, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}

fn is_abandoned(folder: &OwnedFd, name: &str) -> bool {
    let Ok(file) = plain::open_at(folder, name, OFlag::O_RDWR) else {
        return false;
    };
    let written = file.metadata().and_then(|metadata| metadata.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    age.is_some_and(|age| age > STALE) && Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn the_way_by_rename_keeps_the_same_promises() {
        let folder = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(folder.path()).unwrap());
        put_by_rename(&root, "x", b"1", RenameFlags::RENAME_NOREPLACE).unwrap();
        assert!(put_by_rename(&root, "x", b"2", RenameFlags::RENAME_NOREPLACE).is_err());
        assert_eq!(std::fs::read(folder.path().join("x")).unwrap(), b"1");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
    }

    #[test]
    fn only_what_this_host_has_abandoned_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(folder.path()).unwrap());
        std::fs::create_dir_all(folder.path().join("segments/ab")).unwrap();
        let own = prefix();
        let make = |name: &str, age: u64| {
            let file = File::create_new(folder.path().join(name)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(then).unwrap();
            file
        };
        let (old, young) = (STALE.as_secs() + 60, STALE.as_secs() - 60);
        make(&format!("{own}old"), old);
        make(&format!("segments/ab/{own}old"), old);
        let stays = [
            format!("{own}young"),
            format!("{own}locked"),
            ".tmp-0123456789abcdef-other-host".into(),
            "segments/ab/object".into(),
            format!("{own}link"),
        ];
        make(&stays[0], young);
        let locked = make(&stays[1], old);
        let _locked = Flock::lock(locked, FlockArg::LockExclusiveNonblock).unwrap();
        make(&stays[2], old);
        make(&stays[3], old);
        std::os::unix::fs::symlink("segments/ab/object", folder.path().join(&stays[4])).unwrap();
        clear(&root);
        for name in &stays {
            assert!(
                folder.path().join(name).symlink_metadata().is_ok(),
                "{name}"
            );
        }
        let left = |at: &str| std::fs::read_dir(folder.path().join(at)).unwrap().count();
        assert_eq!((left(""), left("segments/ab")), (5, 1));
    }
}
