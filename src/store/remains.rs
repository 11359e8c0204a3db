//! What a check has at a place while it is at work, and leaves when it is killed. No vault has a
//! part in it, so that a place with nothing else is as good as empty.

use super::object_name::ObjectName;
use crate::model::SnapshotId;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// What a temporary file is named, where files must have a name before they are whole.
const TEMPORARY: &str = ".tmp-";

/// Whether an object's name is one that `check` makes up: `check/<ULID>-<8 digits>`.
pub(super) fn is_of_check(name: &str) -> bool {
    let below = name.strip_prefix(ObjectName::checks().as_str());
    let below = below.and_then(|rest| rest.strip_prefix('/'));
    let parts = below.and_then(|below| below.rsplit_once('-'));
    parts.is_some_and(|(run, number)| {
        let is_number = number.len() == 8 && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number && run.len() == 26 && run.parse::<SnapshotId>().is_ok()
    })
}

/// Whether the entry `check` of a directory is a folder, and nothing is in it but what checks put.
pub(super) fn is_only_of_checks(root: &OwnedFd) -> io::Result<bool> {
    let name = ObjectName::checks();
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = match openat(root, name.as_str(), flags, Mode::empty()) {
        // A check that has ended takes it away.
        Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(false),
        other => other?,
    };
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))? {
        let entry = entry?.file_name();
        let Some(entry) = entry.to_str() else {
            return Ok(false);
        };
        if !is_of_check(&format!("{name}/{entry}")) && !entry.starts_with(TEMPORARY) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::LocalStore;
    use crate::store::object_store::ObjectStore;

    #[test]
    fn only_names_that_a_check_makes_up_are_its() {
        let run = SnapshotId::generate(1);
        let made = ObjectName::check(run, 7);
        assert!(is_of_check(made.as_str()), "{made}");
        for other in [
            "check".to_owned(),
            "check/thesis.txt".to_owned(),
            format!("check/{run}"),
            format!("check/{run}-1"),
            format!("check/{run}-0000000x"),
            format!("check/x/{run}-00000001"),
            format!("checks/{run}-00000001"),
            format!("sessions/{run}-00000001"),
        ] {
            assert!(!is_of_check(&other), "{other}");
        }
    }

    #[test]
    fn a_directory_with_only_what_checks_put_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path()).unwrap();
        let below = folder.path().join("check");
        std::fs::create_dir(&below).unwrap();
        assert!(store.is_empty().unwrap());
        let run = SnapshotId::generate(1);
        store
            .put(&ObjectName::check(run, 1), vec![1].into())
            .unwrap();
        std::fs::write(below.join(".tmp-x"), "x").unwrap();
        assert!(store.is_empty().unwrap());
        std::fs::write(below.join("thesis.txt"), "x").unwrap();
        assert!(!store.is_empty().unwrap());
        std::fs::remove_dir_all(&below).unwrap();
        std::fs::write(&below, "x").unwrap();
        assert!(!store.is_empty().unwrap());
        std::fs::remove_file(&below).unwrap();
        std::os::unix::fs::symlink("/", &below).unwrap();
        assert!(!store.is_empty().unwrap());
    }
}
