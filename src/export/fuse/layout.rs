//! The folders and files of the FUSE filesystem, and their numbers: `raw/NAME.img` are a snapshot's
//! disks; `stillpoint-overlay/NAME.img.7` are the same for the kernel's drivers, which may write to
//! them, into memory: each number is a layer of its own, and what is written to one is not in
//! another. The second name shows in `losetup`, and tells udev whose devices these are.

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
/// Disks have numbers from here on, in the lower half; the layer is in the upper half, from 1.
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
    OverlayFile {
        disk: usize,
        layer: u32,
    },
}

impl Node {
    pub(super) fn number(self) -> INodeNo {
        INodeNo(match self {
            Self::Root => INodeNo::ROOT.0,
            Self::Raw => RAW_NUMBER,
            Self::Overlay => OVERLAY_NUMBER,
            Self::RawFile(disk) => FIRST_FILE + disk as u64,
            Self::OverlayFile { disk, layer } => {
                (u64::from(layer) + 1) << 32 | (FIRST_FILE + disk as u64)
            }
        })
    }

    fn of(number: INodeNo) -> Option<Self> {
        match number.0 {
            1 => Some(Self::Root),
            RAW_NUMBER => Some(Self::Raw),
            OVERLAY_NUMBER => Some(Self::Overlay),
            number => {
                let disk = u64::from(number as u32).checked_sub(FIRST_FILE)?;
                let disk = usize::try_from(disk).ok()?;
                let layer = (number >> 32).checked_sub(1);
                Some(match layer {
                    None => Self::RawFile(disk),
                    Some(layer) => Self::OverlayFile {
                        disk,
                        layer: u32::try_from(layer).ok()?,
                    },
                })
            }
        }
    }

    pub(super) fn kind(self) -> FileType {
        match self {
            Self::Root | Self::Raw | Self::Overlay => FileType::Directory,
            Self::RawFile(_) | Self::OverlayFile { .. } => FileType::RegularFile,
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
    files: Vec<ImageFile>,
    /// How many of them are disks; what lies on those comes behind them.
    disks: usize,
    time: SystemTime,
}

impl Layout {
    /// All have this time.
    pub(super) fn new(files: Vec<ImageFile>, disks: usize, time: SystemTime) -> Self {
        Self { files, disks, time }
    }

    /// What a number is of, if there is such a thing.
    pub(super) fn node(&self, number: INodeNo) -> Option<Node> {
        Node::of(number).filter(|node| match node {
            Node::RawFile(disk) => *disk < self.disks,
            Node::OverlayFile { disk, .. } => *disk < self.files.len(),
            _ => true,
        })
    }

    /// A disk's size; zero where there is none.
    pub(super) fn size(&self, disk: usize) -> Bytes {
        self.files.get(disk).map_or(Bytes(0), |file| file.size)
    }

    /// What is in a folder.
    pub(super) fn entries(&self, folder: Node) -> Vec<(Node, &str)> {
        let disks = self.files.iter().take(self.disks);
        let files = disks.map(|file| file.name.as_str()).enumerate();
        match folder {
            Node::Root => vec![(Node::Raw, RAW), (Node::Overlay, OVERLAY)],
            Node::Raw => files.map(|(at, name)| (Node::RawFile(at), name)).collect(),
            // Found by their names alone: there are as many as are asked for.
            Node::Overlay | Node::RawFile(_) | Node::OverlayFile { .. } => Vec::new(),
        }
    }

    /// What has that name in a folder.
    pub(super) fn find(&self, folder: Node, name: &OsStr) -> Option<Node> {
        if folder == Node::Overlay {
            let (file, layer) = name.to_str()?.rsplit_once('.')?;
            let number: u32 = layer.parse().ok()?;
            let disk = self.files.iter().position(|one| one.name == file)?;
            let found = Node::OverlayFile {
                disk,
                layer: number,
            };
            return (number.to_string() == layer).then_some(found);
        }
        let entries = self.entries(folder);
        let found = entries.iter().find(|(_, entry)| OsStr::new(entry) == name);
        found.map(|(node, _)| *node)
    }

    /// What stat(2) says of it. Only root can read it: it is other people's data.
    pub(super) fn attributes(&self, node: Node) -> FileAttr {
        let (size, perm) = match node {
            Node::Root | Node::Raw | Node::Overlay => (Bytes(0), 0o500),
            Node::RawFile(disk) => (self.size(disk), 0o400),
            Node::OverlayFile { disk, .. } => (self.size(disk), 0o600),
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
            vec![disk("vda.img"), disk("vdb.img"), disk("group-volume")],
            2,
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
        assert_eq!(seen.len(), 5);
        for number in [
            0,
            4,
            15,
            18,
            1 << 32,
            (7 << 32) + 15,
            (7 << 32) + 19,
            u64::MAX,
        ] {
            assert_eq!(layout.node(INodeNo(number)), None, "{number}");
        }
        assert_eq!(layout.find(Node::Raw, OsStr::new("vdc.img")), None);
        // What lies on disks is for drivers alone.
        assert_eq!(layout.find(Node::Raw, OsStr::new("group-volume")), None);
        let all = ["vda.img", "vdb.img", "group-volume"];
        for (disk, name) in all.into_iter().enumerate() {
            for layer in [0, 1, 77, u32::MAX - 1] {
                let file = format!("{name}.{layer}");
                let node = layout.find(Node::Overlay, OsStr::new(&file)).unwrap();
                assert_eq!(node, Node::OverlayFile { disk, layer });
                assert_eq!(layout.node(node.number()), Some(node));
                assert!(!seen.contains(&node));
                seen.push(node);
            }
        }
        for name in [
            "vda.img",
            "vda.img.",
            "vda.img.+1",
            "vda.img.01",
            "vdc.img.1",
            ".1",
        ] {
            assert_eq!(layout.find(Node::Overlay, OsStr::new(name)), None, "{name}");
        }
    }
}
