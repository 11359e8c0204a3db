//! How fast control groups may write to a disk: `io.max` of cgroup v2
//! (`Documentation/admin-guide/cgroup-v2.rst`). It must never touch a limit that it was not told
//! to, nor one on reading.

use super::cgroup::hierarchies;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most groups right below the top that are looked at; hosts have some.
const MAX_GROUPS: usize = 4096;
/// What the top lets its groups have.
const ENABLED: &str = "cgroup.subtree_control";

/// What a group may write to a disk in a second; `None`: as much as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteLimit {
    /// Bytes.
    pub bytes: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
}

impl WriteLimit {
    /// The stricter of two, each in its own.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let least = |one: Option<u64>, two: Option<u64>| match (one, two) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self {
            bytes: least(self.bytes, other.bytes),
            requests: least(self.requests, other.requests),
        }
    }
}

impl fmt::Display for WriteLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |limit: Option<u64>| limit.map_or("max".into(), |limit| limit.to_string());
        let (bytes, requests) = (text(self.bytes), text(self.requests));
        write!(f, "wbps={bytes} wiops={requests}")
    }
}

/// The top of cgroup v2, where groups can be given limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoGroups(PathBuf);

impl IoGroups {
    /// Finds it.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn find() -> Result<Self, &'static str> {
        let is_v2 = |top: &PathBuf| {
            statfs(top).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
        };
        let top = hierarchies().into_iter().find(is_v2);
        let top = top.ok_or("control groups of version 2 are not mounted here")?;
        let names = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
        match names.split_whitespace().any(|name| name == "io") {
            true => Ok(Self(top)),
            false => Err(
                "the io controller is not among those of cgroup v2 here (cgroup v1 has it, or the \
                 kernel does not)",
            ),
        }
    }

    /// Takes this folder for it.
    pub fn at(top: &Path) -> Self {
        Self(top.to_owned())
    }

    /// The folder.
    pub fn top(&self) -> &Path {
        &self.0
    }

    /// Whether the groups have the io controller.
    pub fn has_controller(&self) -> io::Result<bool> {
        let given = fs::read_to_string(self.0.join(ENABLED))?;
        Ok(given.split_whitespace().any(|name| name == "io"))
    }

    /// Gives it to them.
    pub fn enable(&self) -> io::Result<()> {
        fs::write(self.0.join(ENABLED), "+io")
    }

    /// Takes it from them again. The kernel refuses where one has passed it on to groups of its
    /// own.
    pub fn disable(&self) -> io::Result<()> {
        fs::write(self.0.join(ENABLED), "-io")
    }

    /// The groups right below the top that can be given a limit: what holds for one holds for all
    /// below it.
    pub fn groups(&self) -> io::Result<Vec<OsString>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)?.take(MAX_GROUPS) {
            let entry = entry?;
            if entry.path().join("io.max").is_file() {
                found.push(entry.file_name());
            }
        }
        found.sort();
        Ok(found)
    }

    /// What a group may write to the disk `MAJOR:MINOR` now.
    pub fn limit(&self, group: &OsString, disk: &str) -> io::Result<WriteLimit> {
        let text = fs::read_to_string(self.0.join(group).join("io.max"))?;
        Ok(parse_limit(&text, disk))
    }

    /// Sets that.
    pub fn set(&self, group: &OsString, disk: &str, limit: WriteLimit) -> io::Result<()> {
        let path = self.0.join(group).join("io.max");
        fs::write(path, format!("{disk} {limit}"))
    }

    /// How many bytes the group, with all below it, has written to the disk; 0 where nobody counts.
    pub fn written(&self, group: &OsString, disk: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(group).join("io.stat")).unwrap_or_default();
        field(&text, disk, "wbytes=").unwrap_or(0)
    }
}

/// A number of the disk's line; `None` where it is `max` or missing.
fn field(text: &str, disk: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let line = lines.find_map(|mut words| (words.next() == Some(disk)).then_some(words))?;
    let mut values = line.filter_map(|word| word.strip_prefix(name));
    values.next()?.parse().ok()
}

fn parse_limit(text: &str, disk: &str) -> WriteLimit {
    WriteLimit {
        bytes: field(text, disk, "wbps="),
        requests: field(text, disk, "wiops="),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_of_the_disk_alone_and_written_as_they_were() {
        let text = "8:16 rbps=2097152 wbps=max riops=max wiops=120\n8:1 wbps=7\n";
        let limit = parse_limit(text, "8:16");
        let expected = WriteLimit {
            bytes: None,
            requests: Some(120),
        };
        assert_eq!(limit, expected);
        assert_eq!(limit.to_string(), "wbps=max wiops=120");
        assert_eq!(parse_limit(text, "8:1").bytes, Some(7));
        assert_eq!(parse_limit(text, "8:161"), WriteLimit::default());
        assert_eq!(WriteLimit::default().to_string(), "wbps=max wiops=max");
    }

    #[test]
    fn a_stricter_limit_stays() {
        let ours = WriteLimit {
            bytes: Some(100),
            requests: Some(100),
        };
        let theirs = WriteLimit {
            bytes: Some(50),
            requests: None,
        };
        let both = WriteLimit {
            bytes: Some(50),
            requests: Some(100),
        };
        assert_eq!(ours.and(theirs), both);
    }
}
