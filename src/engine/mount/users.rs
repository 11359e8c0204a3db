//! Who uses what is mounted: for words, when it cannot be unmounted. It only asks, and touches no
//! mount: one whose server is gone would not answer.

use crate::model::printable::one_line;
use crate::sys::mountinfo::mount_id;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::collections::HashSet;
use std::fs;

/// Most users that are named.
const MOST: usize = 16;

/// A process that uses a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountUser {
    /// Its number.
    pub pid: u32,
    /// Its name, as it says itself.
    pub name: String,
    /// How: `its working directory`.
    pub how: &'static str,
}

/// The processes that have files open on these mounts, or stand in their folders. This one is not
/// among them. A file that is only mapped is not seen.
pub fn users_of(mounts: &HashSet<u64>) -> Vec<MountUser> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let others = numbers.filter(|pid| *pid != std::process::id());
    let used = others.filter_map(|pid: u32| {
        let how = how(pid, mounts)?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(MountUser {
            pid,
            name: name.trim().to_owned(),
            how,
        })
    });
    used.take(MOST).collect()
}

fn how(pid: u32, mounts: &HashSet<u64>) -> Option<&'static str> {
    for (link, how) in [
        ("cwd", "its working directory"),
        ("root", "its root directory"),
    ] {
        // A handle of the folder itself: nothing is asked of its filesystem.
        let path = format!("/proc/{pid}/{link}");
        let handle = open(
            path.as_str(),
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        );
        let id = handle.ok().and_then(|handle| mount_id(&handle).ok()?);
        if id.is_some_and(|id| mounts.contains(&id)) {
            return Some(how);
        }
    }
    let open = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    for file in open.into_iter().flatten().flatten() {
        let info = fs::read_to_string(file.path()).unwrap_or_default();
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let id = id.and_then(|id| id.trim().parse().ok());
        if id.is_some_and(|id: u64| mounts.contains(&id)) {
            return Some("an open file");
        }
    }
    None
}

/// In words.
pub fn in_words(users: &[MountUser]) -> String {
    let each = users.iter().map(|user| {
        format!(
            "{} (process {}, {})",
            one_line(&user.name),
            user.pid,
            user.how
        )
    });
    let each: Vec<String> = each.collect();
    match each.is_empty() {
        false => each.join(", "),
        true => "something that cannot be named here: a mapped file, a loop device, a mount above \
                 it, another mount namespace"
            .to_owned(),
    }
}
