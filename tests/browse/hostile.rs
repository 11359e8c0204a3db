//! Trees that nobody in his right mind has.

use super::stage::Stage;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use stillpoint::export::{
    FilesystemName, FilesystemRoots, HostPlaces, MOST_DEEP, NodeKind, TreeSource, TreeStep,
    TreeWalk, WalkOrder,
};

/// Directories of that name in one another; the innermost has a file of two names.
fn nested(top: &Path, name: &str, depth: usize) {
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, mkdirat};
    let mut at = open(top, OFlag::O_RDONLY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, name, Mode::S_IRWXU).unwrap();
        at = openat(&at, name, OFlag::O_RDONLY, Mode::empty()).unwrap();
    }
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
    let file = openat(&at, "f", flags, Mode::S_IRWXU).unwrap();
    File::from(file).write_all_at(b"deep", 0).unwrap();
    nix::unistd::linkat(&at, "f", &at, "g", nix::fcntl::AtFlags::empty()).unwrap();
}

/// Somebody who may write to the target's directory exchanges what is being made.
#[test]
fn what_was_put_in_its_place_is_neither_removed_nor_taken_for_the_copy() {
    for stops in [true, false] {
        let stage = Stage::of_one();
        fs::create_dir(stage.at(0, "d")).unwrap();
        for number in 0..5 {
            fs::write(stage.at(0, "d").join(number.to_string()), "x").unwrap();
        }
        fs::create_dir(stage.to("theirs")).unwrap();
        fs::write(stage.to("theirs/precious"), "precious").unwrap();
        let swapped = std::sync::Mutex::new(None);
        let swap = || {
            let mut swapped = swapped.lock().unwrap();
            let there = stage.there();
            let made = there
                .iter()
                .find(|name| name.starts_with(".stillpoint-cp-"));
            if let (Some(made), None) = (made, swapped.as_ref()) {
                fs::rename(stage.to(made), stage.to("hold")).unwrap();
                fs::rename(stage.to("theirs"), stage.to(made)).unwrap();
                *swapped = Some(made.clone());
                if stops {
                    let kind = stillpoint::ErrorKind::Interrupted(2);
                    return Err(stillpoint::Error::new(kind, "stopped"));
                }
            }
            Ok(())
        };
        let copied = stage.copy_watched("/d", "copy", false, &swap);
        let error = copied.unwrap_err().to_string();
        assert!(error.contains("stays in the target"), "{error}");
        let name = swapped.into_inner().unwrap().unwrap();
        let theirs = stage.to(&name).join("precious");
        assert_eq!(fs::read_to_string(theirs).unwrap(), "precious");
        assert!(!stage.to("copy").exists());
        assert_eq!(
            fs::read_dir(stage.to("hold")).unwrap().count(),
            0,
            "what was made"
        );
    }
}

#[test]
fn hard_links_are_kept_however_long_the_way_is() {
    let stage = Stage::of_one();
    nested(&stage.at(0, ""), &"n".repeat(200), 25);
    let outcome = stage.copy("/", "copy").unwrap();
    assert_eq!(
        (outcome.files, outcome.hard_links, outcome.unlinked),
        (1, 1, 0)
    );
    let removed = std::process::Command::new("rm")
        .arg("-rf")
        .arg(stage.folder.path())
        .status();
    assert!(removed.unwrap().success());
}

fn open_files() -> usize {
    fs::read_dir("/proc/thread-self/fd").unwrap().count()
}

#[test]
fn a_deep_tree_takes_few_descriptors_and_no_recursion() {
    let stage = Stage::of_one();
    nested(&stage.at(0, ""), "d", 700);
    // Others run beside this one, and have files of their own.
    let before = open_files();
    let most = std::sync::atomic::AtomicUsize::new(0);
    let watch = || {
        most.fetch_max(open_files(), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    };
    let outcome = stage.copy_watched("/", "copy", false, &watch).unwrap();
    assert_eq!((outcome.directories, outcome.files), (701, 1));
    assert!(!outcome.is_below(), "{outcome:?}");
    let most = most.into_inner();
    assert!(most < before + 400, "{most} descriptors, {before} before");
    // What is deeper than is gone into is named, and it is not the whole that fails.
    let stage = Stage::of_one();
    nested(&stage.at(0, ""), "d", MOST_DEEP + 5);
    let outcome = stage.copy("/", "copy").unwrap();
    assert_eq!((outcome.unopened, outcome.files), (1, 0));
    assert!(outcome.failures[0].what.contains("deeper"), "{outcome:?}");
    let removed = std::process::Command::new("rm")
        .arg("-rf")
        .arg(stage.folder.path())
        .status();
    assert!(removed.unwrap().success());
}

#[test]
fn a_huge_hole_takes_no_time_and_no_room() {
    let stage = Stage::of_one();
    let file = File::create(stage.at(0, "huge")).unwrap();
    file.set_len(1 << 42).unwrap();
    file.write_all_at(b"x", 1 << 41).unwrap();
    let begun = std::time::Instant::now();
    stage.copy("/huge", "huge").unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    let about = fs::metadata(stage.to("huge")).unwrap();
    assert_eq!(about.len(), 1 << 42);
    assert!(about.blocks() < 5000, "{}", about.blocks());
}

#[test]
fn many_entries_come_once_and_sorted_as_long_as_that_is_possible() {
    let stage = Stage::of_one();
    for number in 0..20_000 {
        File::create(stage.at(0, &format!("{number:05}"))).unwrap();
    }
    for order in [WalkOrder::ByName, WalkOrder::AsTheyAre] {
        let mut walk = TreeWalk::new(stage.source(), order);
        walk.enter(stage.resolve("/").unwrap()).unwrap();
        let mut names: Vec<PathBuf> = Vec::new();
        while let Some(step) = walk.step().unwrap() {
            if let TreeStep::Found(node) = step {
                names.push(node.place);
            }
        }
        if order == WalkOrder::ByName {
            assert!(names.is_sorted());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 20_000);
    }
}

/// The same filesystem is mounted within itself, as its record claims.
#[test]
fn a_directory_within_itself_is_not_gone_into() {
    let stage = Stage::new(&[&[("/", "/"), ("/a/b", "/")]], &[]);
    fs::create_dir_all(stage.at(0, "a/b")).unwrap();
    fs::write(stage.at(0, "f"), "x").unwrap();
    let outcome = stage.copy("/", "copy").unwrap();
    assert_eq!(outcome.files, 1, "{outcome:?}");
    assert!(
        outcome.failures[0].what.contains("leads back"),
        "{outcome:?}"
    );
    assert!(!stage.to("copy/a/b").exists());
}

/// A filesystem that this host cannot open is told from one that is damaged.
#[test]
fn what_cannot_be_opened_here_is_told_from_damage() {
    struct Closed<'a>(&'a Stage, stillpoint::ErrorKind);
    impl FilesystemRoots for Closed<'_> {
        fn root(
            &self,
            name: FilesystemName,
        ) -> stillpoint::Result<std::sync::Arc<std::os::fd::OwnedFd>> {
            match name {
                FilesystemName::Recorded { record: 0, .. } => self.0.root(name),
                _ => Err(stillpoint::Error::new(self.1, "it is closed")),
            }
        }
    }
    for (kind, unopened) in [
        (stillpoint::ErrorKind::Unsupported, 1),
        (stillpoint::ErrorKind::Damaged, 0),
    ] {
        let stage = Stage::new(&[&[("/", "/")], &[("/data", "/")]], &[]);
        fs::create_dir(stage.at(0, "data")).unwrap();
        fs::write(stage.at(0, "file"), "x").unwrap();
        let outcome = stage.copy_from(&Closed(&stage, kind), "/", "copy").unwrap();
        assert_eq!((outcome.unopened, outcome.unread), (unopened, 1 - unopened));
        assert_eq!(outcome.failures[0].place, Path::new("/data"));
        assert!(stage.to("copy/file").exists() && outcome.is_below());
    }
}

/// What cannot be attached is named where it lies, and is no reason to give up.
#[test]
fn a_filesystem_that_is_lost_does_not_end_the_rest() {
    struct Lost<'a>(&'a Stage);
    impl FilesystemRoots for Lost<'_> {
        fn root(
            &self,
            name: FilesystemName,
        ) -> stillpoint::Result<std::sync::Arc<std::os::fd::OwnedFd>> {
            match name {
                FilesystemName::Recorded { record: 0, .. } => self.0.root(name),
                _ => Err(stillpoint::Error::new(
                    stillpoint::ErrorKind::Damaged,
                    "it is lost",
                )),
            }
        }
    }
    let stage = Stage::new(&[&[("/", "/")], &[("/data", "/")]], &[]);
    fs::create_dir(stage.at(0, "data")).unwrap();
    fs::write(stage.at(0, "zz"), "x").unwrap();
    let source = TreeSource {
        tree: &stage.places,
        roots: &Lost(&stage),
    };
    let mut walk = TreeWalk::new(source, WalkOrder::ByName);
    walk.enter(source.root().unwrap()).unwrap();
    let mut said = Vec::new();
    while let Some(step) = walk.step().unwrap() {
        match step {
            TreeStep::Unseen { place, error } => said.push(format!("{}: {error}", place.display())),
            TreeStep::Found(node) => {
                assert_eq!(node.seen.kind(), Some(NodeKind::File));
                said.push(node.place.display().to_string());
            }
            _ => {}
        }
    }
    assert_eq!(said, ["/data: it is lost", "/zz"]);
    assert_eq!(
        HostPlaces::of_one(FilesystemName::WholeDisk { disk: 0 })
            .places()
            .count(),
        1
    );
}
