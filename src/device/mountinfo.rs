//! What is mounted, in every mount namespace, as `/proc/PID/mountinfo` tells it. It must never
//! touch a mount to learn about it: a dead NFS server would hang it.

use super::host::Host;
use super::topology::parse_number;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::DevNumber;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Most mount namespaces looked at. A host with more is refused, not half seen.
const NAMESPACE_LIMIT: usize = 8192;

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Unique while the mount lasts.
    pub id: u64,
    /// The mount it is mounted on.
    pub parent: u64,
    /// The superblock's device; its major is 0 when that is not one block device.
    pub dev: DevNumber,
    /// The folder of the filesystem that is mounted here.
    pub root: PathBuf,
    /// Where, as the namespace's processes see it.
    pub target: PathBuf,
    /// `ext4`, `fuse.sshfs`, ...
    pub fstype: String,
    /// What was mounted, as told by whoever mounted it.
    pub source: String,
    /// Options of the filesystem, wherever it is mounted.
    pub super_options: String,
    /// Whether a path lookup of `target` ends in this mount, not in one laid over it.
    pub visible: bool,
}

impl Entry {
    /// Whether the filesystem as a whole is read-only: a read-only bind mount of a writable one is
    /// not.
    pub(super) fn read_only(&self) -> bool {
        self.super_options.split(',').any(|option| option == "ro")
    }

    /// The value of `name=value` among the filesystem's options.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.super_options.split(',').find_map(|option| {
            let (key, value) = option.split_once('=')?;
            (key == name).then_some(value)
        })
    }
}

/// The mounts of one namespace, in mount order.
pub(super) struct Namespace {
    /// A process in it; `None` for our own.
    pub pid: Option<u32>,
    /// Its mounts.
    pub entries: Vec<Entry>,
}

/// Reads every namespace's mounts, our own first, then by process number.
pub(super) fn read(host: &Host) -> Result<Vec<Namespace>> {
    let entries = own(host)?;
    let mut namespaces = vec![Namespace { pid: None, entries }];
    for pid in foreign(host)? {
        // A process that is gone by now, and its namespace perhaps with it, is left out.
        if let Ok(table) = Host::table(&host.proc.join(format!("{pid}/mountinfo"))) {
            let entries = parse(&table);
            let pid = Some(pid);
            namespaces.push(Namespace { pid, entries });
        }
    }
    Ok(namespaces)
}

/// Reads our own namespace's mounts.
pub(super) fn own(host: &Host) -> Result<Vec<Entry>> {
    let path = host.proc.join("self/mountinfo");
    Ok(parse(&Host::table(&path).io_context("read", &path)?))
}

/// One process for each mount namespace that is not ours. A process that was given another root
/// sees a part of the mounts only, so one that was not is taken if there is one.
fn foreign(host: &Host) -> Result<Vec<u32>> {
    let namespace = |process: &str| std::fs::read_link(host.proc.join(process).join("ns/mnt"));
    let own = namespace("self").ok();
    let mut pids: Vec<u32> = Host::names(&host.proc)?
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let mut chosen: BTreeMap<PathBuf, (bool, u32)> = BTreeMap::new();
    for pid in pids {
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
        if chosen.len() > NAMESPACE_LIMIT {
            let message = format!("more than {NAMESPACE_LIMIT} mount namespaces on this host");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    }
    let mut pids: Vec<u32> = chosen.into_values().map(|(_, pid)| pid).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The lines that can be understood; the kernel writes no others.
fn parse(table: &[u8]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .split(|byte| *byte == b'\n')
        .filter_map(parse_line)
        .collect();
    mark_hidden(&mut entries);
    entries
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = 6 + fields.get(6..)?.iter().position(|field| *field == b"-")?;
    let text = |at: usize| Some(String::from_utf8_lossy(&unescape(fields.get(at)?)).into_owned());
    let path = |at: usize| Some(PathBuf::from(OsString::from_vec(unescape(fields.get(at)?))));
    Some(Entry {
        id: text(0)?.parse().ok()?,
        parent: text(1)?.parse().ok()?,
        dev: parse_number(&text(2)?)?,
        root: path(3)?,
        target: path(4)?,
        fstype: text(dash + 1)?,
        source: text(dash + 2)?,
        super_options: text(dash + 3)?,
        visible: true,
    })
}

/// The kernel writes space, tab, newline, `\` and `#` as a backslash and three octal digits.
pub(super) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'\\')
            .then(|| std::str::from_utf8(tail.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

/// A mount is hidden by one on its own root, and by one that its parent has on the way to it.
fn mark_hidden(entries: &mut [Entry]) {
    let places: HashSet<(u64, PathBuf)> = entries
        .iter()
        .map(|entry| (entry.parent, entry.target.clone()))
        .collect();
    let by_id: HashMap<u64, (u64, PathBuf)> = entries
        .iter()
        .map(|entry| (entry.id, (entry.parent, entry.target.clone())))
        .collect();
    // Whether something lies over the mount's root, or over the way from its parent's root to it.
    let blocked = |id: u64, parent: u64, target: &Path, ends_here: bool| {
        let covered = ends_here && id != parent && places.contains(&(id, target.to_path_buf()));
        let above = by_id.get(&parent).map(|(_, target)| target.as_path());
        covered
            || target
                .ancestors()
                .skip(1)
                .take_while(|place| above.is_some_and(|above| place.starts_with(above)))
                .any(|place| places.contains(&(parent, place.to_path_buf())))
    };
    for entry in entries {
        let (mut id, mut ends_here) = (entry.id, true);
        // A mount is never its own ancestor, but a table read while mounts move may say so.
        for _ in 0..by_id.len() {
            let Some((parent, target)) = by_id.get(&id) else {
                break;
            };
            if blocked(id, *parent, target, ends_here) {
                entry.visible = false;
                break;
            }
            if *parent == id {
                break;
            }
            (id, ends_here) = (*parent, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(table: &str) -> Vec<u64> {
        parse(table.as_bytes())
            .iter()
            .filter(|entry| entry.visible)
            .map(|entry| entry.id)
            .collect()
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = br"36 35 98:0 /mnt1 /mnt\040two\134 rw master:1 - ext3 /dev/r\040t rw,errors=x";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.target, Path::new("/mnt two\\"));
        assert_eq!((entry.dev.major, entry.source.as_str()), (98, "/dev/r t"));
        assert_eq!(entry.option("errors"), Some("x"));
        assert!(!entry.read_only());
        let bare = parse_line(b"1 0 0:5 / / ro - tmpfs  ro").unwrap();
        assert_eq!((bare.source.as_str(), bare.read_only()), ("", true));
        assert_eq!(parse_line(b"1 0 0:5 / / ro -"), None);
        assert_eq!(parse_line(b""), None);
        assert_eq!(unescape(br"a\0"), br"a\0");
    }

    #[test]
    fn a_mount_below_another_is_hidden() {
        let root = "1 0 8:1 / / rw - ext4 a rw\n";
        assert_eq!(visible(root), vec![1]);
        let stacked = format!("{root}2 1 8:2 / /m rw - ext4 b rw\n3 2 8:3 / /m rw - ext4 c rw\n");
        assert_eq!(visible(&stacked), vec![1, 3]);
        let shadowed =
            format!("{root}2 1 8:2 / /m/n rw - ext4 b rw\n3 1 8:3 / /m rw - ext4 c rw\n");
        assert_eq!(visible(&shadowed), vec![1, 3]);
        let nested = format!("{root}2 1 8:2 / /m rw - ext4 b rw\n3 2 8:3 / /m/n rw - ext4 c rw\n");
        assert_eq!(visible(&nested), vec![1, 2, 3]);
        let late = format!("{nested}4 2 8:4 / /m rw - ext4 d rw\n");
        assert_eq!(visible(&late), vec![1, 4]);
    }
}
