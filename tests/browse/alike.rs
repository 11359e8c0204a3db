//! Compares two trees in all that a tree can hold, and shows that it sees each difference.

use nix::unistd::{Whence, lseek};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use stillpoint::sys::handle::{
    attribute, attributes, open_handle, set_attribute, target_handle_at,
};

/// In what two trees differ, a line for each.
pub fn differences(one: &Path, other: &Path) -> Vec<String> {
    let (one, other) = (listing(one), listing(other));
    let mut found = Vec::new();
    for (path, here) in &one {
        match other.get(path) {
            None => found.push(format!("{}: missing", path.display())),
            Some(there) => {
                let all: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
                for what in all {
                    let (here, there) = (here.get(what), there.get(what));
                    if here != there {
                        let path = path.display();
                        found.push(format!("{path}: {what}: {here:?} and {there:?}"));
                    }
                }
            }
        }
    }
    for path in other.keys().filter(|path| !one.contains_key(*path)) {
        found.push(format!("{}: one more", path.display()));
    }
    found
}

/// What is known of a file, by what it is.
type Facts = BTreeMap<String, String>;

fn listing(top: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut names: BTreeMap<(u64, u64), BTreeSet<PathBuf>> = BTreeMap::new();
    let mut next = vec![top.to_owned()];
    while let Some(path) = next.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            let inner = fs::read_dir(&path).unwrap();
            next.extend(inner.map(|entry| entry.unwrap().path()));
        }
        let short = path.strip_prefix(top).unwrap().to_owned();
        let all = names.entry((about.dev(), about.ino())).or_default();
        all.insert(short.clone());
        found.insert(short, facts(&path, &about));
    }
    for all in names.values().filter(|all| all.len() > 1) {
        for name in all {
            let facts = found.get_mut(name).unwrap();
            facts.insert("names".into(), format!("{all:?}"));
        }
    }
    found
}

fn facts(path: &Path, about: &Metadata) -> Facts {
    let mut facts = Facts::new();
    let mut add = |what: &str, value: String| drop(facts.insert(what.to_owned(), value));
    add("mode", format!("{:o}", about.mode()));
    add("owner", format!("{}:{}", about.uid(), about.gid()));
    add(
        "written",
        format!("{}.{:09}", about.mtime(), about.mtime_nsec()),
    );
    let kind = about.file_type();
    if kind.is_block_device() || kind.is_char_device() {
        add("device", about.rdev().to_string());
    }
    if kind.is_symlink() {
        add("leads to", format!("{:?}", fs::read_link(path).unwrap()));
    }
    if kind.is_file() {
        add("length", about.len().to_string());
        let (data, hash) = contents(path, about.len());
        add("data", data);
        add("contents", hash);
    }
    let folder = File::open(path.parent().unwrap()).unwrap();
    let handle = match path.file_name() {
        Some(name) => target_handle_at(&folder, name).unwrap(),
        None => File::open(path).unwrap().into(),
    };
    for name in attributes(&handle).unwrap() {
        let value = attribute(&handle, &name).unwrap();
        add(&format!("{name:?}"), format!("{value:?}"));
    }
    facts
}

/// Where a file has data, and a hash of it. Filesystems know of holes by blocks of their own size:
/// what is no whole page counts as data.
fn contents(path: &Path, length: u64) -> (String, String) {
    const PAGE: u64 = 4096;
    let file = File::open(path).unwrap();
    let (mut stretches, mut hash) = (String::new(), blake3::Hasher::new());
    let mut at = 0;
    while let Ok(from) = lseek(&file, at, Whence::SeekData) {
        let to = lseek(&file, from, Whence::SeekHole).unwrap() as u64;
        let from = from as u64 / PAGE * PAGE;
        let to = to.next_multiple_of(PAGE).min(length);
        stretches.push_str(&format!("{from}..{to} "));
        let mut bytes = vec![0; (to - from) as usize];
        file.read_exact_at(&mut bytes, from).unwrap();
        hash.update(&from.to_le_bytes()).update(&bytes);
        at = to as i64;
        if to >= length {
            break;
        }
    }
    (stretches, hash.finalize().to_string())
}

/// What is done to a tree, and what it is called.
type NamedChange<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn each_kind_of_difference_is_found() {
    if !nix::unistd::geteuid().is_root() {
        return crate::support::host::skipped("alike", "not root");
    }
    let make = |top: &Path| {
        fs::create_dir(top).unwrap();
        fs::write(top.join("a"), vec![7; 9000]).unwrap();
        fs::write(top.join("b"), "b").unwrap();
        fs::hard_link(top.join("b"), top.join("c")).unwrap();
        symlink("b", top.join("link")).unwrap();
        for path in ["a", "b", "."] {
            let file = File::open(top.join(path)).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let folder = File::open(top).unwrap();
        let link = target_handle_at(&folder, OsStr::new("link")).unwrap();
        let times =
            stillpoint::sys::handle::FileTimes::of(&nix::sys::stat::stat(&top.join("a")).unwrap());
        stillpoint::sys::handle::set_times(&link, times).unwrap();
        File::open(top)
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
    };
    let changes: [NamedChange<'_>; 10] = [
        ("a: contents", &|top| {
            let file = File::options().write(true).open(top.join("a")).unwrap();
            file.write_all_at(b"x", 5).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("a: mode", &|top| {
            fs::set_permissions(top.join("a"), fs::Permissions::from_mode(0o4755)).unwrap();
        }),
        ("a: owner", &|top| {
            std::os::unix::fs::chown(top.join("a"), Some(5), None).unwrap()
        }),
        ("a: written", &|top| {
            let late = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1);
            File::open(top.join("a"))
                .unwrap()
                .set_modified(late)
                .unwrap();
        }),
        ("a: \"trusted.x\"", &|top| {
            let file = File::open(top.join("a")).unwrap();
            set_attribute(file, OsStr::new("trusted.x"), b"1").unwrap();
        }),
        ("a: data", &|top| {
            let file = File::options().write(true).open(top.join("a")).unwrap();
            file.set_len(0).unwrap();
            file.write_all_at(&[7], 8999).unwrap();
        }),
        ("b: names", &|top| {
            fs::remove_file(top.join("c")).unwrap();
            fs::write(top.join("c"), "b").unwrap();
        }),
        ("link: leads to", &|top| {
            fs::remove_file(top.join("link")).unwrap();
            symlink("c", top.join("link")).unwrap();
        }),
        ("a: missing", &|top| fs::remove_file(top.join("a")).unwrap()),
        ("d: one more", &|top| fs::write(top.join("d"), "").unwrap()),
    ];
    for (expected, change) in changes {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        make(&one);
        make(&other);
        assert_eq!(differences(&one, &other), Vec::<String>::new(), "before");
        change(&other);
        let found = differences(&one, &other);
        assert!(
            found.iter().any(|line| line.starts_with(expected)),
            "{expected}: {found:?}"
        );
        let handle = File::open(&other).unwrap();
        drop(open_handle(handle, nix::fcntl::OFlag::O_RDONLY).unwrap());
    }
}
