//! Which filesystem of which disk was seen at each place of the host, in the words of a snapshot's
//! record. Pure: it opens nothing. What the record cannot know must never be guessed in silence.

use crate::format::{DiskRecord, FilesystemRecord, Manifest};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

/// A filesystem of a snapshot; disks and their filesystems are counted as the manifest has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilesystemName {
    /// One that was mounted, by its record.
    Recorded {
        /// The number of the disk, from 0.
        disk: usize,
        /// The number of the record on it, from 0.
        record: usize,
    },
    /// What lies in a partition.
    Partition {
        /// The number of the disk, from 0.
        disk: usize,
        /// The number of the partition, from 1.
        number: u32,
    },
    /// What lies on a whole disk without partitions.
    WholeDisk {
        /// The number of the disk, from 0.
        disk: usize,
    },
}

impl FilesystemName {
    /// The disk, and the record, of one that was mounted.
    pub fn in_record(self, manifest: &Manifest) -> Option<RecordedFilesystem<'_>> {
        let Self::Recorded { disk, record } = self else {
            return None;
        };
        let disk = manifest.disks.get(disk)?;
        let record = disk.filesystems.get(record)?;
        Some(RecordedFilesystem { disk, record })
    }
}

/// What was to be seen at a place where something was mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMount {
    /// A folder, or a file, of a filesystem of the snapshot.
    Here {
        /// The filesystem.
        filesystem: FilesystemName,
        /// Which folder of it.
        root: PathBuf,
    },
    /// Something that the snapshot does not have.
    Elsewhere {
        /// Its type, as in tmpfs.
        fstype: String,
    },
}

/// A filesystem that was mounted, and its disk.
#[derive(Clone, Copy, Debug)]
pub struct RecordedFilesystem<'m> {
    /// The disk; the first one of several.
    pub disk: &'m DiskRecord,
    /// What the record says.
    pub record: &'m FilesystemRecord,
}

/// The places of a host at which something was mounted, as far as it concerns a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPlaces {
    places: BTreeMap<PathBuf, HostMount>,
    doubts: Vec<String>,
}

impl HostPlaces {
    /// As a snapshot's record has it.
    pub fn recorded(manifest: &Manifest) -> Self {
        let mut tree = Self::default();
        for other in &manifest.other_mounts {
            if let Some(target) = plain(&other.target.path()) {
                let fstype = other.fstype.clone();
                tree.places.insert(target, HostMount::Elsewhere { fstype });
            }
        }
        for (filesystem, record) in each_once(&manifest.disks) {
            match &record.mounts {
                Some(mounts) => {
                    for mount in mounts {
                        tree.add(&mount.target.path(), &mount.root.path(), filesystem);
                    }
                }
                // The first one was mounted last, and lies over the others.
                None => tree.add_old(Path::new(&record.target), filesystem),
            }
        }
        if manifest.disks.iter().any(is_old) {
            let doubt = "an early version took this snapshot: it noted one place of each \
                filesystem, and neither subvolumes nor what else was mounted";
            tree.doubts.push(doubt.into());
        }
        if manifest.mounts_left_out > 0 {
            let doubt = format!(
                "{} mounts were too many to be recorded: a path may have led elsewhere",
                manifest.mounts_left_out
            );
            tree.doubts.push(doubt);
        }
        tree
    }

    /// Of one filesystem, by itself: its paths are those inside it.
    pub fn of_one(filesystem: FilesystemName) -> Self {
        let mut tree = Self::default();
        tree.add(Path::new("/"), Path::new("/"), filesystem);
        tree
    }

    fn add(&mut self, target: &Path, root: &Path, filesystem: FilesystemName) {
        let Some(target) = plain(target) else {
            return;
        };
        let mount = match plain(root) {
            Some(root) => HostMount::Here { filesystem, root },
            // The kernel writes `//deleted` behind the folder.
            None => HostMount::Elsewhere {
                fstype: "folder that was deleted".into(),
            },
        };
        self.places.insert(target, mount);
    }

    fn add_old(&mut self, target: &Path, filesystem: FilesystemName) {
        if let Some(target) = plain(target) {
            let root = PathBuf::from("/");
            let place = HostMount::Here { filesystem, root };
            self.places.entry(target).or_insert(place);
        }
    }

    /// What the record does not know, in words.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// What was mounted right there.
    pub fn at(&self, place: &Path) -> Option<&HostMount> {
        self.places.get(place)
    }

    /// What is seen at a path without symlinks: the mount that it lies in, and where that is.
    pub fn holding(&self, path: &Path) -> Option<(&Path, &HostMount)> {
        let mut above = path.ancestors();
        above.find_map(|place| {
            let (place, mount) = self.places.get_key_value(place)?;
            Some((place.as_path(), mount))
        })
    }

    /// Whether something was mounted below that place.
    pub fn leads_on(&self, place: &Path) -> bool {
        self.below(place).next().is_some()
    }

    /// The names right below that place that are mounts or lead to one.
    pub fn names_below(&self, place: &Path) -> BTreeSet<OsString> {
        let next = |path: &Path| {
            path.strip_prefix(place)
                .ok()?
                .iter()
                .next()
                .map(OsString::from)
        };
        self.below(place)
            .filter_map(|(path, _)| next(path))
            .collect()
    }

    /// All places, in the order of their paths.
    pub fn places(&self) -> impl Iterator<Item = (&Path, &HostMount)> {
        self.places
            .iter()
            .map(|(path, place)| (path.as_path(), place))
    }

    /// The places below one. Paths are sorted by components: what is below a path follows it.
    fn below<'a>(&'a self, place: &'a Path) -> impl Iterator<Item = (&'a Path, &'a HostMount)> {
        let after = (Bound::Excluded(place), Bound::Unbounded);
        let after = self.places.range::<Path, _>(after);
        after
            .take_while(move |(path, _)| path.starts_with(place))
            .map(|(path, place)| (path.as_path(), place))
    }
}

/// Whether a disk's record is of an early writer.
fn is_old(disk: &DiskRecord) -> bool {
    let mut all = disk.filesystems.iter();
    all.any(|record| record.mounts.is_none())
}

/// Each filesystem once, the record of its first disk: one on several disks has a record on each.
fn each_once(disks: &[DiskRecord]) -> Vec<(FilesystemName, &FilesystemRecord)> {
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    let mut found = Vec::new();
    for (disk, one) in disks.iter().enumerate() {
        for (record, filesystem) in one.filesystems.iter().enumerate() {
            let key = (filesystem.source.as_str(), filesystem.target.as_str());
            if *known.entry(key).or_insert(disk) == disk {
                found.push((FilesystemName::Recorded { disk, record }, filesystem));
            }
        }
    }
    found
}

/// An absolute path without `.`, `..` and slashes that mean nothing; `None` where it is none. What
/// a vault says is not believed.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components();
    let rooted = parts.next() == Some(Component::RootDir);
    let down = parts.all(|part| matches!(part, Component::Normal(_)));
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_one = !bytes.contains(&0) && !bytes.windows(2).any(|two| two == b"//");
    (rooted && down && is_one).then(|| path.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn manifest(disks: &[Vec<Value>], others: &[Value]) -> Manifest {
        let id = "07070707070707070707070707070707";
        let disk = |filesystems: &Vec<Value>| {
            json!({
                "identity": {"name": "vda", "dev": {"major": 1, "minor": 2}, "size": 1 << 20,
                    "logical_block": 512},
                "level": "filesystem", "mode": "full", "reason": "r", "all_blocks": false,
                "passes": 1, "read_bytes": 1, "changed_bytes": 1, "stored_bytes": 1,
                "frozen_bytes": 1, "free_skipped_bytes": 1, "filesystems": filesystems,
                "index": [],
            })
        };
        let whole = json!({
            "format": 1, "snapshot": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "vault": id,
            "time": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z", "host": "h",
            "kernel": "k", "writer": "w", "level": "filesystem", "requested_level": "filesystem",
            "freeze_us": 1000, "tags": {}, "warnings": [], "other_mounts": others,
            "disks": disks.iter().map(disk).collect::<Vec<_>>(),
        });
        serde_json::from_value(whole).unwrap()
    }

    fn filesystem(source: &str, mounts: &[(&str, &str)]) -> Value {
        let each = mounts
            .iter()
            .map(|(target, root)| json!({"target": target, "root": root}));
        json!({"source": source, "target": mounts.first().map_or("", |one| one.0),
            "type": "ext4", "frozen": true, "read_only": false,
            "mounts": each.collect::<Vec<_>>()})
    }

    fn here(disk: usize, record: usize, root: &str) -> HostMount {
        HostMount::Here {
            filesystem: FilesystemName::Recorded { disk, record },
            root: root.into(),
        }
    }

    #[test]
    fn a_path_belongs_to_the_innermost_mount() {
        let vda = vec![
            filesystem(
                "/dev/vda1",
                &[("/", "/@"), ("/home", "/@home"), ("/b", "/@/srv")],
            ),
            filesystem("/dev/vda2", &[("/boot", "/")]),
        ];
        let vdb = vec![filesystem(
            "/dev/vdb",
            &[("/srv/data", "/"), ("/b/c\\377", "/x")],
        )];
        let tmpfs = json!({"target": "/srv/data/tmp", "type": "tmpfs"});
        let tree = HostPlaces::recorded(&manifest(&[vda, vdb], &[tmpfs]));
        let odd = Path::new(OsStr::from_bytes(b"/b/c\xff"));
        let elsewhere = HostMount::Elsewhere {
            fstype: "tmpfs".into(),
        };
        for (path, place, expected) in [
            (Path::new("/etc/fstab"), "/", here(0, 0, "/@")),
            (Path::new("/home"), "/home", here(0, 0, "/@home")),
            (Path::new("/homes/a"), "/", here(0, 0, "/@")),
            (Path::new("/srv"), "/", here(0, 0, "/@")),
            (Path::new("/srv/data/a/b"), "/srv/data", here(1, 0, "/")),
            (Path::new("/srv/data/tmp/x"), "/srv/data/tmp", elsewhere),
            (Path::new("/b/x"), "/b", here(0, 0, "/@/srv")),
            (Path::new("/boot/grub"), "/boot", here(0, 1, "/")),
        ] {
            assert_eq!(
                tree.holding(path),
                Some((Path::new(place), &expected)),
                "{path:?}"
            );
        }
        assert_eq!(tree.at(odd), Some(&here(1, 0, "/x")));
        assert!(tree.leads_on(Path::new("/srv")) && !tree.leads_on(Path::new("/sr")));
        assert!(!tree.leads_on(Path::new("/boot")), "only what is below");
        let below: Vec<OsString> = tree.names_below(Path::new("/")).into_iter().collect();
        assert_eq!(below, ["b", "boot", "home", "srv"]);
        assert!(tree.doubts().is_empty());
    }

    #[test]
    fn a_filesystem_on_two_disks_is_one() {
        let both = filesystem("/dev/vda", &[("/srv", "/")]);
        let tree = HostPlaces::recorded(&manifest(&[vec![both.clone()], vec![both]], &[]));
        assert_eq!(tree.at(Path::new("/srv")), Some(&here(0, 0, "/")));
        // Two of one disk that were mounted from devices of one name are two.
        let two = vec![
            filesystem("x", &[("/a", "/")]),
            filesystem("x", &[("/b", "/")]),
        ];
        let tree = HostPlaces::recorded(&manifest(&[two], &[]));
        assert_eq!(tree.at(Path::new("/b")), Some(&here(0, 1, "/")));
    }

    #[test]
    fn what_an_early_writer_noted_is_used_and_doubted() {
        let mut old = [
            filesystem("/dev/vda2", &[("/", "/")]),
            filesystem("/dev/vda1", &[("/", "/")]),
        ];
        for one in &mut old {
            one.as_object_mut().unwrap().remove("mounts");
        }
        let tree = HostPlaces::recorded(&manifest(&[old.to_vec()], &[]));
        assert_eq!(tree.at(Path::new("/")), Some(&here(0, 0, "/")));
        assert_eq!(tree.doubts().len(), 1);
        // Seen by nobody on the host: in a container, say.
        let hidden = filesystem("/dev/vda3", &[]);
        let tree = HostPlaces::recorded(&manifest(&[vec![hidden]], &[]));
        assert_eq!(tree, HostPlaces::default());
    }

    #[test]
    fn a_hostile_record_names_no_place_that_is_none() {
        let mounts = [
            ("relative", "/"),
            ("/a/../b", "/"),
            ("/c", "/.."),
            ("", ""),
            ("/ok//x", "/"),
            ("/ok/x", "/"),
            ("/gone", "/x//deleted"),
        ];
        let hostile = filesystem("/dev/vda1", &mounts);
        let tree = HostPlaces::recorded(&manifest(&[vec![hostile]], &[]));
        let places: Vec<&Path> = tree.places().map(|(path, _)| path).collect();
        assert_eq!(places, ["/c", "/gone", "/ok/x"].map(Path::new));
        assert!(matches!(
            tree.at(Path::new("/gone")),
            Some(HostMount::Elsewhere { .. })
        ));
    }

    proptest! {
        /// The mount that holds a path is the longest that is a prefix of it.
        #[test]
        fn it_is_as_the_slow_way_says(
            places in vec("(/(a|a-|b)){0,3}", 0..8), path in "(/(a|a-|b)){0,4}"
        ) {
            let rooted = |path: &str| if path.is_empty() { "/".into() } else { path.to_owned() };
            let places: Vec<String> = places.iter().map(|path| rooted(path)).collect();
            let all = places.iter().enumerate();
            let all = all.map(|(at, path)| filesystem(&at.to_string(), &[(path, "/")]));
            let tree = HostPlaces::recorded(&manifest(&[all.collect()], &[]));
            let path = PathBuf::from(rooted(&path));
            let above = places.iter().filter(|place| path.starts_with(place));
            let longest = above.max_by_key(|place| Path::new(place).iter().count());
            let found = tree.holding(&path).map(|(place, _)| place);
            prop_assert_eq!(found, longest.map(Path::new));
            let below = places.iter().any(|place| {
                Path::new(place).starts_with(&path) && Path::new(place) != path
            });
            prop_assert_eq!(tree.leads_on(&path), below);
        }
    }
}
