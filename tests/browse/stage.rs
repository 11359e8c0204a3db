//! A snapshot's record, and folders that stand for its filesystems. What the kernel attaches is
//! shown elsewhere.

use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stillpoint::export::{
    FilesystemName, FilesystemRoots, HostPlaces, TreeCopyOptions, TreeCopyOutcome, TreeNode,
    TreeSource, TreeTarget, copy_tree,
};
use stillpoint::format::Manifest;
use stillpoint::model::Cancel;
use stillpoint::sys::handle::set_attribute;
use stillpoint::{Error, ErrorKind, Result};
use tempfile::TempDir;

/// Filesystems of one disk, each a folder.
pub struct Stage {
    pub folder: TempDir,
    pub places: HostPlaces,
    roots: Vec<PathBuf>,
    to: PathBuf,
}

impl Stage {
    /// The folders `0`, `1` ... with where they were mounted: place and folder.
    pub fn new(mounts: &[&[(&str, &str)]], others: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("stillpoint-tree-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let filesystem = |(at, mounts): (usize, &&[(&str, &str)])| {
            let mounts: Vec<Value> = mounts
                .iter()
                .map(|(target, root)| json!({"target": target, "root": root}))
                .collect();
            json!({"source": format!("/dev/vda{at}"), "target": "", "type": "ext4",
                "frozen": true, "read_only": false, "mounts": mounts})
        };
        let others: Vec<Value> = others
            .iter()
            .map(|(target, fstype)| json!({"target": target, "type": fstype}))
            .collect();
        let manifest: Manifest = serde_json::from_value(json!({
            "format": 1, "snapshot": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "vault": "07070707070707070707070707070707", "time": "2026-01-01T00:00:00Z",
            "started": "2026-01-01T00:00:00Z", "host": "h", "kernel": "k", "writer": "w",
            "level": "filesystem", "requested_level": "filesystem", "freeze_us": 1000, "tags": {},
            "warnings": [], "other_mounts": others,
            "disks": [{
                "identity": {"name": "vda", "dev": {"major": 1, "minor": 2}, "size": 1 << 20,
                    "logical_block": 512},
                "level": "filesystem", "mode": "full", "reason": "r", "all_blocks": false,
                "passes": 1, "read_bytes": 1, "changed_bytes": 1, "stored_bytes": 1,
                "frozen_bytes": 1, "free_skipped_bytes": 1, "index": [],
                "filesystems": mounts.iter().enumerate().map(filesystem).collect::<Vec<_>>(),
            }],
        }))
        .unwrap();
        let roots: Vec<PathBuf> = (0..mounts.len())
            .map(|at| folder.path().join(at.to_string()))
            .collect();
        roots.iter().for_each(|root| fs::create_dir(root).unwrap());
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        Self {
            folder,
            to,
            places: HostPlaces::recorded(&manifest),
            roots,
        }
    }

    /// One that was mounted at the root.
    pub fn of_one() -> Self {
        Self::new(&[&[("/", "/")]], &[])
    }

    /// One whose only filesystem is a folder that is there.
    pub fn on(folder: &Path) -> Self {
        let mut stage = Self::of_one();
        stage.roots = vec![folder.to_owned()];
        stage
    }

    /// A place in a filesystem.
    pub fn at(&self, filesystem: usize, path: &str) -> PathBuf {
        self.roots[filesystem].join(path)
    }

    /// Has copies go to another folder.
    pub fn go_to(&mut self, folder: &Path) {
        self.to = folder.to_owned();
    }

    /// A place where copies go.
    pub fn to(&self, name: &str) -> PathBuf {
        self.to.join(name)
    }

    /// The names where copies go.
    pub fn there(&self) -> Vec<String> {
        let names = fs::read_dir(&self.to).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    pub fn source(&self) -> TreeSource<'_> {
        TreeSource {
            tree: &self.places,
            roots: self,
        }
    }

    pub fn resolve(&self, path: &str) -> Result<TreeNode> {
        self.source().resolve(Path::new(path), true)
    }

    /// Copies what a path leads to under that name.
    pub fn copy(&self, path: &str, name: &str) -> Result<TreeCopyOutcome> {
        self.copy_watched(path, name, false, &|| Ok(()))
    }

    pub fn copy_over(&self, path: &str, name: &str) -> Result<TreeCopyOutcome> {
        self.copy_watched(path, name, true, &|| Ok(()))
    }

    pub fn copy_watched(
        &self,
        path: &str,
        name: &str,
        replace: bool,
        cancel: &dyn Cancel,
    ) -> Result<TreeCopyOutcome> {
        self.copy_of(self.source(), path, name, replace, cancel)
    }

    /// Copies with filesystems that come from elsewhere.
    pub fn copy_from(
        &self,
        roots: &dyn FilesystemRoots,
        path: &str,
        name: &str,
    ) -> Result<TreeCopyOutcome> {
        let tree = &self.places;
        self.copy_of(TreeSource { tree, roots }, path, name, false, &|| Ok(()))
    }

    fn copy_of(
        &self,
        source: TreeSource<'_>,
        path: &str,
        name: &str,
        replace: bool,
        cancel: &dyn Cancel,
    ) -> Result<TreeCopyOutcome> {
        let node = source.resolve(Path::new(path), false)?;
        let target = self.to(name);
        let directory = File::open(target.parent().unwrap()).unwrap();
        let to = TreeTarget {
            directory: Arc::new(directory.into()),
            name: target.file_name().unwrap().to_owned(),
            replace,
            shown: target,
        };
        let options = TreeCopyOptions {
            source,
            cancel,
            progress: &|_| {},
        };
        copy_tree(node, &to, options)
    }
}

impl FilesystemRoots for Stage {
    fn root(&self, filesystem: FilesystemName) -> Result<Arc<OwnedFd>> {
        let FilesystemName::Recorded { record, .. } = filesystem else {
            return Err(Error::new(ErrorKind::Failed, "no such filesystem"));
        };
        let mut options = File::options();
        let open = options.read(true).custom_flags(libc::O_PATH);
        Ok(Arc::new(open.open(&self.roots[record]).unwrap().into()))
    }
}

/// An access list that lets user 77 read and write.
pub const ACL: [u8; 44] = {
    let mut bytes = [0xff; 44];
    let entries: [[u8; 8]; 5] = [
        [1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff],
        [2, 0, 6, 0, 77, 0, 0, 0],
        [4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
        [16, 0, 6, 0, 0xff, 0xff, 0xff, 0xff],
        [32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ];
    bytes[0] = 2;
    (bytes[1], bytes[2], bytes[3]) = (0, 0, 0);
    let mut at = 0;
    while at < 40 {
        bytes[4 + at] = entries[at / 8][at % 8];
        at += 1;
    }
    bytes
};

/// `cap_net_raw`: `struct vfs_cap_data`, revision 2.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// All that a tree can hold.
pub fn fill(top: &Path) {
    let at = |path: &str| top.join(path);
    fs::create_dir_all(at("etc/deep/er")).unwrap();
    fs::write(at("etc/hostname"), "before").unwrap();
    fs::write(
        at("etc/deep/er/one"),
        crate::support::host::noise(3 << 20, 1),
    )
    .unwrap();
    chown(at("etc/deep/er/one"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(at("etc/deep/er/one"), fs::Permissions::from_mode(0o4751)).unwrap();
    let holes = File::create(at("holes")).unwrap();
    holes.set_len(1 << 30).unwrap();
    holes.write_all_at(b"middle", 1 << 29).unwrap();
    fs::write(at("capable"), "x").unwrap();
    fs::write(at("listed"), "x").unwrap();
    let attributes: [(&str, &str, &[u8]); 7] = [
        ("capable", "security.capability", &CAPABILITY),
        ("listed", "system.posix_acl_access", &ACL),
        ("etc", "system.posix_acl_default", &ACL),
        ("etc/hostname", "trusted.note", &[0, 1]),
        ("etc/hostname", "user.note", &[9; 300]),
        ("etc/deep", "user.folder", b""),
        ("etc/deep/er/one", "trusted.a\nb", b"odd"),
    ];
    for (path, name, value) in attributes {
        let file = File::open(at(path)).unwrap();
        set_attribute(file, OsStr::new(name), value).unwrap();
    }
    symlink("../../somewhere", at("etc/link")).unwrap();
    std::os::unix::fs::lchown(at("etc/link"), Some(7), Some(8)).unwrap();
    for name in ["again", "deep/again"] {
        fs::hard_link(at("etc/hostname"), at("etc").join(name)).unwrap();
    }
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let mode = Mode::from_bits_truncate(0o620);
    for (name, kind, device) in [
        ("pipe", SFlag::S_IFIFO, 0),
        ("socket", SFlag::S_IFSOCK, 0),
        ("null", SFlag::S_IFCHR, makedev(1, 3)),
        ("disk", SFlag::S_IFBLK, makedev(7, 200)),
    ] {
        mknod(&at(name), kind, mode, device).unwrap();
    }
    for name in [
        &b"name\xff\n"[..],
        b"-rf",
        b"a:b",
        b"\x1b[31m",
        &[b'x'; 255],
    ] {
        fs::write(top.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(at("shared")).unwrap();
    fs::set_permissions(at("shared"), fs::Permissions::from_mode(0o3777)).unwrap();
    fs::create_dir(at("shut")).unwrap();
    fs::set_permissions(at("shut"), fs::Permissions::from_mode(0o0)).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    for name in ["etc", "etc/hostname", "shared"] {
        File::open(at(name)).unwrap().set_modified(old).unwrap();
    }
}

/// Whether the tests here can run; said loudly where not.
pub fn possible(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        crate::support::host::skipped(test, "not root");
    }
    is_root
}
