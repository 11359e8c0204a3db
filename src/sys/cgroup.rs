//! A control group of one's own, so that what ends or pauses the starter's group leaves this
//! process alone. It must never touch another process.

use super::mountinfo::{self, TABLE_LIMIT};
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is mounted where.
const MOUNTS: &str = "/proc/self/mountinfo";
/// Another process may remove the group between our making it and entering it.
const TRIES: u32 = 5;

/// The groups that this process has moved to, one in each hierarchy.
#[derive(Debug, Default)]
pub struct OwnGroup {
    folders: Vec<PathBuf>,
}

impl OwnGroup {
    /// Moves this process to the group `name` right below the top of every hierarchy that takes it
    /// in.
    ///
    /// The second of the pair is an error when there is none, or when one refuses: whoever ends or
    /// pauses the group that this process is in there does so to this process too.
    pub fn join(name: &str) -> (Self, io::Result<()>) {
        let mut own = Self::default();
        let mut refused = None;
        for top in hierarchies() {
            let folder = top.join(name);
            match enter(&folder) {
                Ok(()) => own.folders.push(folder),
                Err(error) => {
                    let _ = fs::remove_dir(&folder);
                    // Processors, or a share of real time, that nobody has given the new group:
                    // such a hierarchy is for bounds, and there is no life outside the one there.
                    if error.raw_os_error() != Some(Errno::ENOSPC as i32) {
                        refused.get_or_insert(error);
                    }
                }
            }
        }
        if own.folders.is_empty() {
            refused.get_or_insert(Errno::ENOENT.into());
        }
        (own, refused.map_or(Ok(()), Err))
    }

    /// Leaves the groups and removes them, unless others are in them.
    pub fn leave(&self) {
        for folder in &self.folders {
            // What cannot be removed is empty, harmless, and used again by the next.
            if let Some(top) = folder.parent() {
                let _ = fs::write(top.join("cgroup.procs"), "0");
            }
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Removes the groups whose names begin so and that nobody is in: what was killed could not remove
/// its own.
pub fn sweep(prefix: &str) {
    for top in hierarchies() {
        for entry in fs::read_dir(top).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
                // The kernel refuses while a process is in it.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }
}

/// The tops of all hierarchies, of v2 and of v1: by any of them a service manager may kill.
pub(super) fn hierarchies() -> Vec<PathBuf> {
    let table = mountinfo::read(Path::new(MOUNTS), TABLE_LIMIT).unwrap_or_default();
    let mut tops = mounted(&table);
    // Something else may be mounted over it.
    tops.retain(|top| is_hierarchy(top));
    tops
}

/// Where control groups are mounted, each hierarchy once.
fn mounted(table: &[u8]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let groups = mountinfo::lines(table)
        .filter(|line| line.fstype == b"cgroup" || line.fstype == b"cgroup2")
        .filter(|line| seen.insert(line.dev));
    groups.map(|line| mountinfo::path(line.target)).collect()
}

fn is_hierarchy(top: &Path) -> bool {
    statfs(top).is_ok_and(|stat| {
        let kind = stat.filesystem_type();
        kind == CGROUP2_SUPER_MAGIC || kind == CGROUP_SUPER_MAGIC
    })
}

fn enter(folder: &Path) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..TRIES {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        last = fs::write(folder.join("cgroup.procs"), "0");
        if last.is_ok() {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_is_known_and_known_once() {
        let table = b"\
            24 23 0:20 / /mnt/\xff rw - tmpfs none rw\n\
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            39 31 0:36 /here /sys/fs/cgroup/a\\040b ro shared:9 - cgroup cgroup rw,pids\n\
            44 31 0:36 / /elsewhere rw - cgroup cgroup rw,pids\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            odd\n";
        let found = mounted(table);
        let names = ["memory", "a b", "unified"];
        let expected = names.map(|name| Path::new("/sys/fs/cgroup").join(name));
        assert_eq!(found, expected);
    }
}
