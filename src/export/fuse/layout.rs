//! The folders and files of the FUSE filesystem, and their numbers: `raw/NAME.img` are a snapshot's
//! disks; `stillpoint-overlay/NAME.img` are the same for the kernel's drivers, which may write to
//! them, into memory. The second name shows in `losetup`, and tells udev whose devices these are.

use crate::model::Bytes;
use fuser::{FileAttr, FileType, INodeNo};
use std::ffi::OsStr;
use std::time::SystemTime;

/// The folder of the disks as they are in the vault.
pub const RAW: &str = "raw";
/// The folder of the disks that can be written to.
pub const OVERLAY: &str = "stillpoint-overlay";
const RAW_NUMBER: u64 = 2;
const OVERLAY_NUMBER: u64 = 3;
/// Files have numbers from here on: two a disk.
const FIRST_FILE: u64 = 16;

/// What a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Root,
    Raw,
    Overlay,
    /// A disk, as it is in the vault.
    RawFile(usize),
    /// A disk that can be written to.
    OverlayFile(usize),
}

impl Node {
    pub(super) fn number(self) -> INodeNo {
        INodeNo(match self {
            Self::Root => INodeNo::ROOT.0,
            Self::Raw => RAW_NUMBER,
            Self::Overlay => OVERLAY_NUMBER,
            Self::RawFile(disk) => FIRST_FILE + 2 * disk as u64,
            Self::OverlayFile(disk) => FIRST_FILE + 2 * disk as u64 + 1,
        })
    }

    fn of(number: INodeNo) -> Option<Self> {
        match number.0 {
            1 => Some(Self::Root),
            RAW_NUMBER => Some(Self::Raw),
            OVERLAY_NUMBER => Some(Self::Overlay),
            number => {
                let file = number.checked_sub(FIRST_FILE)?;
                let disk = usize::try_from(file / 2).ok()?;
                Some(match file.is_multiple_of(2) {
                    true => Self::RawFile(disk),
                    false => Self::OverlayFile(disk),
                })
            }
        }
    }

    pub(super) fn kind(self) -> FileType {
        match self {
            Self::Root | Self::Raw | Self::Overlay => FileType::Directory,
            Self::RawFile(_) | Self::OverlayFile(_) => FileType::RegularFile,
        }
    }
}

/// A disk's file.
#[derive(Clone, Debug)]
pub(super) struct ImageFile {
    pub(super) name: String,
    pub(super) size: Bytes,
}

/// All files.
#[derive(Debug)]
pub(super) struct Layout {
    disks: Vec<ImageFile>,
    time: SystemTime,
}

impl Layout {
    /// All have this time.
    pub(super) fn new(disks: Vec<ImageFile>, time: SystemTime) -> Self {
        Self { disks, time }
    }

    /// What a number is of, if there is such a thing.
    pub(super) fn node(&self, number: INodeNo) -> Option<Node> {
        Node::of(number).filter(|node| match node {
            Node::RawFile(disk) | Node::OverlayFile(disk) => *disk < self.disks.len(),
            _ => true,
        })
    }

    /// A disk's size; zero where there is none.
    pub(super) fn size(&self, disk: usize) -> Bytes {
        self.disks.get(disk).map_or(Bytes(0), |disk| disk.size)
    }

    /// What is in a folder.
    pub(super) fn entries(&self, folder: Node) -> Vec<(Node, &str)> {
        let files = self.disks.iter().map(|disk| disk.name.as_str()).enumerate();
        match folder {
            Node::Root => vec![(Node::Raw, RAW), (Node::Overlay, OVERLAY)],
            Node::Raw => files.map(|(at, name)| (Node::RawFile(at), name)).collect(),
            Node::Overlay => files
                .map(|(at, name)| (Node::OverlayFile(at), name))
                .collect(),
            Node::RawFile(_) | Node::OverlayFile(_) => Vec::new(),
        }
    }

    /// What has that name in a folder.
    pub(super) fn find(&self, folder: Node, name: &OsStr) -> Option<Node> {
        let entries = self.entries(folder);
        let found = entries.iter().find(|(_, entry)| OsStr::new(entry) == name);
        found.map(|(node, _)| *node)
    }

    /// What stat(2) says of it. Only root can read it: it is other people's data.
    pub(super) fn attributes(&self, node: Node) -> FileAttr {
        let (size, perm) = match node {
            Node::Root | Node::Raw | Node::Overlay => (Bytes(0), 0o500),
            Node::RawFile(disk) => (self.size(disk), 0o400),
            Node::OverlayFile(disk) => (self.size(disk), 0o600),
        };
        FileAttr {
            ino: node.number(),
            size: size.0,
            blocks: size.0.div_ceil(512),
            atime: self.time,
            mtime: self.time,
            ctime: self.time,
            crtime: self.time,
            kind: node.kind(),
            perm,
            nlink: 1 + u32::from(node.kind() == FileType::Directory),
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_of_one_thing_that_is_found_by_its_name() {
        let disk = |name: &str| ImageFile {
            name: name.into(),
            size: Bytes(512),
        };
        let layout = Layout::new(
            vec![disk("vda.img"), disk("vdb.img")],
            SystemTime::UNIX_EPOCH,
        );
        let mut seen = vec![Node::Root];
        let mut at = 0;
        while let Some(&folder) = seen.get(at) {
            for (node, name) in layout.entries(folder) {
                assert_eq!(layout.find(folder, OsStr::new(name)), Some(node));
                assert_eq!(layout.node(node.number()), Some(node));
                assert!(!seen.contains(&node));
                seen.push(node);
            }
            at += 1;
        }
        assert_eq!(seen.len(), 7);
        for number in [0, 4, 15, 20, u64::MAX] {
            assert_eq!(layout.node(INodeNo(number)), None, "{number}");
        }
        assert_eq!(layout.find(Node::Raw, OsStr::new("vdc.img")), None);
    }
}
