//! Copies of trees: all of it, exactly, or named.

use super::alike::differences;
use super::stage::{ACL, Stage, fill, possible};
use crate::support::host::{Filesystem, Mount, available};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use stillpoint::export::FailureCause;
use stillpoint::sys::handle::{attributes, set_attribute, set_mode};
use stillpoint::{Error, ErrorKind};

#[track_caller]
fn assert_alike(one: &Path, other: &Path) {
    assert_eq!(differences(one, other), Vec::<String>::new());
}

#[test]
fn a_tree_is_copied_with_all_that_it_has() {
    if !possible("copies") {
        return;
    }
    let stage = Stage::of_one();
    fill(&stage.at(0, ""));
    fs::create_dir(stage.at(0, "top")).unwrap();
    let outcome = stage.copy("/", "copy").unwrap();
    assert_alike(&stage.at(0, ""), &stage.to("copy"));
    assert!(!outcome.is_below(), "{outcome:?}");
    let counts = (
        outcome.files,
        outcome.hard_links,
        outcome.symlinks,
        outcome.specials,
    );
    assert_eq!(counts, (10, 2, 1, 4));
    assert_eq!(stage.there(), ["copy"]);
    // One file, and one symlink, by themselves.
    for name in ["etc/hostname", "etc/link", "disk", "holes"] {
        let short = Path::new(name).file_name().unwrap().to_str().unwrap();
        stage.copy(&format!("/{name}"), short).unwrap();
        let of = |path: &Path| {
            let about = fs::symlink_metadata(path).unwrap();
            (
                about.mode(),
                about.uid(),
                about.mtime_nsec(),
                about.len(),
                about.rdev(),
            )
        };
        assert_eq!(of(&stage.to(short)), of(&stage.at(0, name)), "{name}");
    }
    assert!(fs::metadata(stage.to("holes")).unwrap().blocks() < 100);
}

/// A group and access lists that a directory gives to what is made in it.
#[test]
fn what_the_target_would_give_by_itself_is_not_in_the_copy() {
    if !possible("copies: inherited") {
        return;
    }
    let stage = Stage::of_one();
    fill(&stage.at(0, ""));
    let folder = fs::File::open(stage.to("")).unwrap();
    std::os::unix::fs::chown(stage.to(""), None, Some(4242)).unwrap();
    set_mode(&folder, 0o2777).unwrap();
    let name = OsStr::new("system.posix_acl_default");
    set_attribute(&folder, name, &ACL).unwrap();
    stage.copy("/", "copy").unwrap();
    assert_alike(&stage.at(0, ""), &stage.to("copy"));
    stage.copy("/etc/link", "link").unwrap();
    stage.copy("/capable", "capable").unwrap();
    let file = fs::File::open(stage.to("capable")).unwrap();
    assert_eq!(attributes(&file).unwrap(), ["security.capability"]);
}

#[test]
fn it_is_so_on_real_filesystems() {
    if !available("copies: filesystems") {
        return;
    }
    for fstype in ["ext4", "xfs", "btrfs"] {
        let filesystem = Filesystem::new(fstype);
        fs::create_dir(filesystem.place.join("from")).unwrap();
        fs::create_dir(filesystem.place.join("to")).unwrap();
        fill(&filesystem.place.join("from"));
        let mut stage = Stage::on(&filesystem.place);
        stage.go_to(&filesystem.place.join("to"));
        let outcome = stage.copy("/from", "copy").unwrap();
        assert!(!outcome.is_below(), "{fstype}: {outcome:?}");
        assert_alike(&stage.at(0, "from"), &stage.to("copy"));
    }
}

#[test]
fn what_is_there_stays_unless_it_may_be_replaced() {
    let stage = Stage::of_one();
    fs::create_dir_all(stage.at(0, "d/in")).unwrap();
    fs::write(stage.at(0, "d/in/a"), "new").unwrap();
    fs::write(stage.at(0, "d/file"), "new").unwrap();
    fs::write(stage.at(0, "f"), "new").unwrap();
    fs::create_dir_all(stage.to("d/in")).unwrap();
    fs::write(stage.to("d/in/a"), "old").unwrap();
    fs::write(stage.to("d/in/mine"), "mine").unwrap();
    fs::create_dir(stage.to("d/file")).unwrap();
    fs::write(stage.to("f"), "old").unwrap();
    for name in ["d", "f"] {
        let error = stage.copy(&format!("/{name}"), name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists, "{name}: {error}");
        assert!(error.to_string().contains("there already"), "{error}");
    }
    let read = |name: &str| fs::read_to_string(stage.to(name)).unwrap();
    assert_eq!((read("d/in/a"), read("f")), ("old".into(), "old".into()));
    assert_eq!(stage.there(), ["d", "f"]);

    stage.copy_over("/f", "f").unwrap();
    let outcome = stage.copy_over("/d", "d").unwrap();
    assert_eq!((read("d/in/a"), read("f")), ("new".into(), "new".into()));
    assert_eq!(read("d/in/mine"), "mine");
    // A directory is not replaced by a file.
    let [failure] = &outcome.failures[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!(failure.place, Path::new("/d/file"));
    assert_eq!(failure.cause, FailureCause::Target);
    assert!(stage.to("d/file").is_dir());
    assert_eq!(stage.there(), ["d", "f"]);
    // Names of one file are replaced by names of one file.
    fs::hard_link(stage.at(0, "d/in/a"), stage.at(0, "d/in/b")).unwrap();
    for _ in 0..2 {
        stage.copy_over("/d/in", "d/in").unwrap();
        let inode = |name: &str| fs::metadata(stage.to(name)).unwrap().ino();
        assert_eq!(inode("d/in/a"), inode("d/in/b"));
        assert_eq!(fs::read_dir(stage.to("d/in")).unwrap().count(), 3);
    }
}

/// Of files with several names, also where the names cannot be linked in the target.
#[test]
fn within_what_is_there_hard_links_are_kept_or_counted() {
    if !possible("copies: hard links") {
        return;
    }
    let stage = Stage::of_one();
    fs::create_dir_all(stage.at(0, "d/new")).unwrap();
    fs::create_dir_all(stage.at(0, "d/sub")).unwrap();
    fs::write(stage.at(0, "d/new/x"), "x").unwrap();
    fs::hard_link(stage.at(0, "d/new/x"), stage.at(0, "d/new/y")).unwrap();
    fs::create_dir_all(stage.to("d/sub")).unwrap();
    let outcome = stage.copy_over("/d", "d").unwrap();
    assert_eq!(
        (outcome.files, outcome.hard_links, outcome.unlinked),
        (1, 1, 0)
    );
    let inode = |name: &str| fs::metadata(stage.to(name)).unwrap().ino();
    assert_eq!(inode("d/new/x"), inode("d/new/y"));
    // Another mount: linkat(2) says EXDEV.
    fs::hard_link(stage.at(0, "d/new/x"), stage.at(0, "d/sub/z")).unwrap();
    let elsewhere = stage.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let bound = Mount::new(elsewhere.to_str().unwrap(), &stage.to("d/sub"), "bind");
    let outcome = stage.copy_over("/d", "d").unwrap();
    assert_eq!(outcome.unlinked, 1, "{outcome:?}");
    assert_eq!(outcome.files + outcome.hard_links, 3);
    for name in ["d/new/x", "d/new/y", "d/sub/z"] {
        assert_eq!(fs::read_to_string(stage.to(name)).unwrap(), "x", "{name}");
    }
    drop(bound);
}

#[test]
fn a_link_that_was_planted_leads_nowhere() {
    let stage = Stage::of_one();
    fs::create_dir_all(stage.at(0, "d/in")).unwrap();
    fs::write(stage.at(0, "d/in/a"), "new").unwrap();
    fs::write(stage.at(0, "f"), "new").unwrap();
    let victim = stage.folder.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("a"), "untouched").unwrap();
    symlink(victim.join("a"), stage.to("f")).unwrap();
    fs::create_dir(stage.to("d")).unwrap();
    symlink(&victim, stage.to("d/in")).unwrap();
    assert_eq!(stage.copy("/f", "f").unwrap_err().kind(), ErrorKind::Exists);
    stage.copy_over("/f", "f").unwrap();
    let outcome = stage.copy_over("/d", "d").unwrap();
    assert_eq!(outcome.unmade, 1, "{outcome:?}");
    assert_eq!(fs::read_to_string(victim.join("a")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert!(!fs::symlink_metadata(stage.to("f")).unwrap().is_symlink());
}

#[test]
fn mounts_within_a_tree_are_in_the_copy_and_what_is_not_there_is_named() {
    let stage = Stage::new(
        &[&[("/", "/")], &[("/data", "/"), ("/run/m", "/m")]],
        &[("/run", "tmpfs")],
    );
    for path in ["data/old", "run/hidden"] {
        fs::create_dir_all(stage.at(0, path)).unwrap();
    }
    fs::create_dir(stage.at(1, "m")).unwrap();
    fs::write(stage.at(1, "m/a"), "a").unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(stage.at(0, "run"), fs::Permissions::from_mode(0o711)).unwrap();
    let outcome = stage.copy("/", "copy").unwrap();
    let copied = |path: &str| stage.to("copy").join(path);
    assert!(copied("data/m/a").exists() && copied("run/m/a").exists());
    assert!(!copied("data/old").exists() && !copied("run/hidden").exists());
    assert_eq!(fs::metadata(copied("run")).unwrap().mode() & 0o777, 0o711);
    assert_eq!(outcome.left_out_count, 1);
    assert_eq!(outcome.left_out[0].place, Path::new("/run"));
    assert_eq!(outcome.left_out[0].fstype, "tmpfs");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_copied() {
    // Files that say that they are longer than they are.
    let stage = Stage::on(Path::new("/sys/kernel/mm/transparent_hugepage"));
    let outcome = stage.copy("/", "copy").unwrap();
    assert!(outcome.unread > 2 && outcome.files == 0, "{outcome:?}");
    let failure = &outcome.failures[0];
    assert_eq!(failure.cause, FailureCause::Source);
    assert!(failure.what.contains("cannot read it"), "{failure:?}");
    let mut left = fs::read_dir(stage.to("copy")).unwrap();
    let is_file = |entry: &fs::DirEntry| entry.file_type().unwrap().is_file();
    assert!(
        !left.any(|entry| is_file(&entry.unwrap())),
        "nothing half-read stays"
    );
    let outcome = stage.copy("/enabled", "enabled").unwrap();
    assert_eq!((outcome.unread, outcome.files), (1, 0));
    assert_eq!(stage.there(), ["copy"]);
}

#[test]
fn a_full_target_ends_it_and_keeps_nothing() {
    if !available("copies: full") {
        return;
    }
    let mount = Mount::tmpfs("2m");
    let mut stage = Stage::of_one();
    fs::create_dir_all(stage.at(0, "d/e")).unwrap();
    for number in 0..8 {
        fs::write(
            stage.at(0, "d/e").join(number.to_string()),
            vec![1; 500_000],
        )
        .unwrap();
    }
    stage.go_to(&mount.place);
    let error = stage.copy("/d", "d").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(stage.there(), Vec::<String>::new());
    assert!(
        error.to_string().contains("nothing of it stays there"),
        "{error}"
    );
    // In place of what is there.
    fs::create_dir_all(stage.to("d/e")).unwrap();
    let error = stage.copy_over("/d", "d").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    let said = error.to_string();
    assert!(
        said.contains("before stays") && !said.contains("nothing"),
        "{said}"
    );
    fs::remove_dir_all(stage.to("d")).unwrap();
    fs::write(stage.at(0, "large"), vec![1; 3 << 20]).unwrap();
    let error = stage.copy("/large", "large").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert_eq!(stage.there(), Vec::<String>::new());
}

#[test]
fn stopped_anywhere_it_leaves_nothing_under_its_name() {
    if !possible("copies: stopped") {
        return;
    }
    let stage = Stage::of_one();
    fill(&stage.at(0, ""));
    let mut most = 0;
    for stop in 0.. {
        let asked = AtomicU32::new(0);
        let cancel = || match asked.fetch_add(1, Ordering::Relaxed) {
            now if now == stop => Err(Error::new(ErrorKind::Interrupted(2), "stopped")),
            _ => {
                let there = stage.there();
                assert!(!there.contains(&"copy".to_owned()), "{there:?}");
                Ok(())
            }
        };
        match stage.copy_watched("/", "copy", false, &cancel) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted(2)),
            Ok(_) => break,
        }
        assert_eq!(stage.there(), Vec::<String>::new(), "at {stop}");
        most = stop;
    }
    assert!(most > 20, "{most}");
    assert_alike(&stage.at(0, ""), &stage.to("copy"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any names, in any depth.
    #[test]
    fn names_are_what_they_were(
        paths in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(1_u8.., 1..12), 1..5), 1..12)
    ) {
        let stage = Stage::of_one();
        let mut made = BTreeSet::new();
        for path in paths {
            let mut at = stage.at(0, "");
            for name in path {
                let plain = |byte| if byte == b'/' { b'_' } else { byte };
                let name: Vec<u8> = name.into_iter().map(plain).collect();
                let name = if name == b"." || name == b".." { b"dots".to_vec() } else { name };
                at.push(OsString::from_vec(name));
            }
            if fs::create_dir_all(at.parent().unwrap()).is_ok() && fs::write(&at, "x").is_ok() {
                made.insert(at);
            }
        }
        let outcome = stage.copy("/", "copy").unwrap();
        prop_assert!(!outcome.is_below());
        prop_assert_eq!(outcome.files, made.len() as u64);
        prop_assert_eq!(differences(&stage.at(0, ""), &stage.to("copy")), Vec::<String>::new());
    }
}
