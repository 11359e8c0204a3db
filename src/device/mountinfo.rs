//! What is mounted, in every mount namespace, read from `/proc/PID/mountinfo`. It must never
//! touch a mount to learn about it: a dead NFS server would hang it. Any user may have namespaces
//! of his own and mount in them as he likes, so what is read is bounded, and costs no more than
//! sorting it.

use super::filesystem::OtherMount;
use super::host::Host;
use super::overmount::overmounted;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::DevNumber;
use crate::sys::mountinfo::{self as table, MountLine, TABLE_LIMIT};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most mount namespaces looked at. A host with more is refused, not half seen.
const NAMESPACE_LIMIT: usize = 8192;

/// Most mounts looked at, those of all namespaces together.
const MOUNT_LIMIT: usize = 1 << 19;

/// Deepest stack of filesystems without block devices that is followed.
pub(super) const DEPTH_LIMIT: usize = 16;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MountEntry {
    /// The superblock's device; its major is 0 when that is not one block device.
    pub dev: DevNumber,
    /// The folder of the filesystem that is mounted here.
    pub root: PathBuf,
    /// Where, as the namespace's processes see it.
    pub target: PathBuf,
    /// `ext4`, `fuse.sshfs`, ...
    pub fstype: String,
    /// What was mounted, for people: whoever mounts may say what he likes, but for the types that
    /// [`super::filesystem`] names.
    pub source: String,
    /// Options of the filesystem, wherever it is mounted, as the kernel wrote them.
    pub super_options: Vec<u8>,
    /// Whether a path lookup of `target` ends in this mount, not in one laid over it.
    pub visible: bool,
}

impl MountEntry {
    fn new(line: &MountLine<'_>, visible: bool) -> Self {
        let text = |field: &[u8]| String::from_utf8_lossy(&table::unescape(field)).into_owned();
        Self {
            dev: line.dev,
            root: table::path(line.root),
            target: table::path(line.target),
            fstype: text(line.fstype),
            source: text(line.source),
            super_options: line.options.to_vec(),
            visible,
        }
    }

    fn options(&self) -> impl Iterator<Item = &[u8]> {
        self.super_options.split(|byte| *byte == b',')
    }

    /// Whether the filesystem as a whole is read-only: a read-only bind mount of a writable one is
    /// not.
    pub(super) fn read_only(&self) -> bool {
        self.options().any(|option| option == b"ro")
    }

    /// The value of `name=value` among the filesystem's options.
    pub(super) fn option(&self, name: &str) -> Option<OsString> {
        self.options().find_map(|option| {
            let value = option.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsString::from_vec(table::unescape(value)))
        })
    }
}

/// The mounts of one namespace, in mount order.
pub(super) struct Namespace {
    /// A process in it; `None` for our own.
    pub pid: Option<u32>,
    /// Its mounts.
    pub entries: Vec<MountEntry>,
}

/// Shows every namespace's mounts to `look`, our own first, then by process number.
///
/// # Errors
/// `Unsupported` when there is more than can be looked at.
pub(super) fn each(host: &Host, mut look: impl FnMut(Namespace)) -> Result<()> {
    let entries = own(host)?;
    let mut seen = Seen {
        mounts: entries.len(),
        ..Seen::default()
    };
    look(Namespace { pid: None, entries });
    let foreign = foreign_namespaces(host)?;
    if foreign.len() > NAMESPACE_LIMIT {
        let message = format!(
            "more than {NAMESPACE_LIMIT} mount namespaces on this host, more than is looked at; \
             nothing was done"
        );
        return Err(Error::new(ErrorKind::Unsupported, message)
            .with_hint("`lsns --type mnt` lists them, and whose they are"));
    }
    for pid in foreign {
        let path = host.proc.join(format!("{pid}/mountinfo"));
        let bytes = match table::read(&path, TABLE_LIMIT.saturating_sub(seen.bytes)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(seen.too_much(host, pid));
            }
            // A process that is gone by now, and its namespace perhaps with it, is left out.
            Err(_) => continue,
        };
        let lines: Vec<MountLine<'_>> = table::lines(&bytes).take(MOUNT_LIMIT + 1).collect();
        seen.add(pid, bytes.len() as u64, lines.len());
        if seen.mounts > MOUNT_LIMIT {
            return Err(seen.too_much(host, pid));
        }
        let (pid, entries) = (Some(pid), entries_of(&lines));
        look(Namespace { pid, entries });
    }
    Ok(())
}

/// Reads our own namespace's mounts.
///
/// # Errors
/// When `/proc` is not mounted; `Unsupported` when there is more than can be looked at.
pub(super) fn own(host: &Host) -> Result<Vec<MountEntry>> {
    let path = host.proc.join("self/mountinfo");
    let bytes = table::read(&path, TABLE_LIMIT).io_context("read", &path)?;
    let lines: Vec<MountLine<'_>> = table::lines(&bytes).take(MOUNT_LIMIT + 1).collect();
    if lines.len() > MOUNT_LIMIT {
        let message = format!("more than {MOUNT_LIMIT} filesystems are mounted on this host");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(entries_of(&lines))
}

fn entries_of(lines: &[MountLine<'_>]) -> Vec<MountEntry> {
    let overmounted = overmounted(lines);
    let entries = lines.iter().zip(overmounted);
    let entries = entries.map(|(line, overmounted)| MountEntry::new(line, !overmounted));
    entries.collect()
}

/// How much has been read.
#[derive(Default)]
struct Seen {
    bytes: u64,
    mounts: usize,
    /// The process with the longest table, and how long that is.
    longest: Option<(u64, u32)>,
}

impl Seen {
    fn add(&mut self, pid: u32, bytes: u64, mounts: usize) {
        self.bytes += bytes;
        self.mounts = self.mounts.saturating_add(mounts);
        self.longest = self.longest.max(Some((bytes, pid)));
    }

    /// The refusal, at the namespace of that process.
    fn too_much(&self, host: &Host, at: u32) -> Error {
        // What was left for the one that broke the bound may be little.
        let longest = self.longest.filter(|(bytes, _)| *bytes > TABLE_LIMIT / 2);
        let pid = longest.map_or(at, |(_, pid)| pid);
        let owner = std::fs::metadata(host.proc.join(pid.to_string()));
        let user = owner.map_or(String::new(), |owner| format!(" of user {}", owner.uid()));
        let message = format!(
            "the mount namespaces of this host have more than {MOUNT_LIMIT} mounts or {} MiB of \
             tables, more than is looked at; nothing was done",
            TABLE_LIMIT >> 20
        );
        Error::new(ErrorKind::Unsupported, message).with_hint(format!(
            "that of process {pid}{user} is among the largest: see /proc/{pid}/mountinfo; unmount \
             what it does not need, or end it"
        ))
    }
}

/// One process for each mount namespace that is not ours. A process that was given another root
/// sees a part of the mounts only, so one that was not is taken if there is one.
///
/// # Errors
/// When `/proc` cannot be listed.
pub fn foreign_namespaces(host: &Host) -> Result<Vec<u32>> {
    let namespace = |process: &str| std::fs::read_link(host.proc.join(process).join("ns/mnt"));
    let own = namespace("self").ok();
    let mut chosen: BTreeMap<PathBuf, (bool, u32)> = BTreeMap::new();
    for pid in processes(host)? {
        let Ok(id) = namespace(&pid.to_string()) else {
            continue;
        };
        if own.as_ref() == Some(&id) || chosen.get(&id).is_some_and(|(whole, _)| *whole) {
            continue;
        }
        let root = std::fs::read_link(host.proc.join(format!("{pid}/root")));
        let whole = root.is_ok_and(|root| root == Path::new("/"));
        if whole || !chosen.contains_key(&id) {
            chosen.insert(id, (whole, pid));
        }
    }
    let mut pids: Vec<u32> = chosen.into_values().map(|(_, pid)| pid).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// One process of our own mount namespace for each root directory that is not ours. Our table shows
/// what is mounted below our root only: a program in a `chroot`, or in a service with
/// `RootDirectory=`, does not see all.
///
/// # Errors
/// When `/proc` cannot be listed, or a root cannot be looked at.
pub fn other_roots(host: &Host) -> Result<Vec<u32>> {
    let namespace = |process: &str| std::fs::read_link(host.proc.join(process).join("ns/mnt"));
    let own = namespace("self").io_context("look at", &host.proc.join("self/ns/mnt"))?;
    let mut seen = BTreeSet::from([root_of(host, "self")?]);
    let mut found = Vec::new();
    for pid in processes(host)? {
        let process = pid.to_string();
        let is_ours = |process: &str| namespace(process).is_ok_and(|id| id == own);
        if !is_ours(&process) {
            continue;
        }
        match root_of(host, &process) {
            Ok(root) if seen.insert(root) => found.push(pid),
            Err(error) if is_ours(&process) => return Err(error),
            // Seen before, or the process is gone.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(found)
}

/// The root directory of a process: the number of its mount, and the inode there.
fn root_of(host: &Host, process: &str) -> Result<(Option<u64>, u64)> {
    let path = host.proc.join(process).join("root");
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY;
    let root = open(&path, flags, Mode::empty()).io_context("open", &path)?;
    let inode = fstat(&root).io_context("look at", &path)?.st_ino;
    Ok((table::mount_id(&root)?, inode))
}

/// All processes, in the order of their numbers.
fn processes(host: &Host) -> Result<Vec<u32>> {
    let names = Host::names(&host.proc)?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    let mut pids: Vec<u32> = numbers.collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The mounts of our own namespace, to be found by what lies on them.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnMounts {
    entries: Vec<MountEntry>,
    by_target: HashMap<PathBuf, usize>,
}

impl OwnMounts {
    pub(super) fn new(entries: Vec<MountEntry>) -> Self {
        let visible = entries.iter().enumerate().filter(|(_, one)| one.visible);
        let by_target = visible.map(|(at, entry)| (entry.target.clone(), at));
        Self {
            by_target: by_target.collect(),
            entries,
        }
    }

    /// A mount of the filesystem whose superblock has that device.
    pub(super) fn of(&self, dev: DevNumber) -> Option<&MountEntry> {
        self.entries.iter().find(|entry| entry.dev == dev)
    }

    /// The mount that holds a file: that with the longest path that leads to it.
    pub(super) fn holding(&self, file: &Path) -> Option<&MountEntry> {
        let at = file
            .ancestors()
            .find_map(|place| self.by_target.get(place))?;
        self.entries.get(*at)
    }

    /// What can be seen of the mounts of other filesystems than these. What is mounted within one
    /// of those is left out.
    pub(super) fn others(&self, these: &BTreeSet<DevNumber>) -> Vec<OtherMount> {
        let is_one = |entry: &&MountEntry| entry.visible && !these.contains(&entry.dev);
        let on_these = |entry: &&MountEntry| {
            let on = entry.target.parent().and_then(|place| self.holding(place));
            on.is_none_or(|on| these.contains(&on.dev))
        };
        let others = self.entries.iter().filter(is_one).filter(on_these);
        let others = others.map(|entry| OtherMount {
            target: entry.target.clone(),
            fstype: entry.fstype.clone(),
        });
        others.collect()
    }

    /// The filesystem that a file lies on, by names alone; for an overlay, that of its upper
    /// directory.
    pub(super) fn filesystem_of(&self, file: &Path) -> Option<DevNumber> {
        let mut entry = self.holding(file)?;
        for _ in 0..DEPTH_LIMIT {
            if entry.fstype != "overlay" {
                break;
            }
            entry = self.holding(Path::new(&entry.option("upperdir")?))?;
        }
        Some(entry.dev)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: &str) -> MountEntry {
        let line = table::lines(line.as_bytes()).next();
        MountEntry::new(&line.unwrap(), true)
    }

    #[test]
    fn options_are_bytes_and_may_have_commas_in_them() {
        let line = r"36 35 0:9 / /m rw - overlay none ro,lowerdir=/l,upperdir=/a\054b\134\040c,x";
        let entry = entry(line);
        assert!(entry.read_only());
        assert_eq!(entry.option("upperdir").unwrap(), "/a,b\\ c");
        assert_eq!(entry.option("upper"), None);
        assert_eq!(entry.option("x"), None);
    }

    #[test]
    fn a_file_lies_on_the_mount_with_the_longest_path() {
        let table = b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /m rw - ext4 b rw\n\
            3 2 8:3 / /m rw - ext4 c rw\n4 3 8:4 / /m/n rw - ext4 d rw\n";
        let lines: Vec<MountLine<'_>> = table::lines(table).collect();
        let own = OwnMounts::new(entries_of(&lines));
        let minor = |path: &str| own.holding(Path::new(path)).unwrap().dev.minor;
        assert_eq!(minor("/mm/file"), 1);
        assert_eq!(minor("/m/file"), 3, "the one on top");
        assert_eq!(minor("/m/n"), 4);
        assert_eq!(own.holding(Path::new("relative")), None);
    }

    #[test]
    fn what_else_is_mounted_is_named_where_it_is_seen() {
        let table = b"1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /run rw - tmpfs t rw\n\
            3 2 0:3 / /run/user/0 rw - tmpfs u rw\n4 2 8:1 /x /run/x rw - ext4 a rw\n\
            5 1 8:9 / /srv rw - xfs s rw\n6 5 8:1 / /srv rw - ext4 a rw\n\
            7 4 0:7 / /run/x/y rw - proc p rw\n";
        let lines: Vec<MountLine<'_>> = table::lines(table).collect();
        let own = OwnMounts::new(entries_of(&lines));
        let root = DevNumber { major: 8, minor: 1 };
        let others = own.others(&BTreeSet::from([root]));
        let named: Vec<(&str, &str)> = others
            .iter()
            .map(|one| (one.target.to_str().unwrap(), one.fstype.as_str()))
            .collect();
        assert_eq!(named, [("/run", "tmpfs"), ("/run/x/y", "proc")]);
        assert_eq!(own.others(&BTreeSet::new()).len(), 1, "the one at the root");
    }

    #[test]
    fn too_much_is_refused_in_words_and_names_the_largest() {
        let mut seen = Seen::default();
        seen.add(7, 200 << 20, 9);
        let error = seen.too_much(&Host::here(), 8);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("process 7"), "{error:?}");
        seen = Seen::default();
        seen.add(7, 2 << 20, 9);
        let error = seen.too_much(&Host::here(), 1);
        assert!(
            error.hint().unwrap().contains("process 1 of user 0"),
            "{error:?}"
        );
    }
}
