//! Files of snapshots of real filesystems, attached by the kernel.

use super::alike::differences;
use super::shot::{MadeDisk, Shot};
use super::stage::fill;
use crate::mount::attached::assert_nothing_attached;
use crate::support::host::{available, noise};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::engine::BrowseScope;
use stillpoint::export::FailureCause;
use stillpoint::format::{EscapedPath, OtherMountRecord};

fn is_copied_as_it_was(kind: &'static str) {
    if !available(&format!("browse: {kind}")) {
        return;
    }
    let disks = [MadeDisk::new(kind, "/srv/data", fill)];
    let shot = Shot::of(&disks);
    let result = shot.copy(BrowseScope::Host, &["/srv/data"]).unwrap();
    assert!(!result.outcome.is_below(), "{:?}", result.outcome);
    assert_nothing_attached(&shot.run_dir());
    assert_eq!(
        differences(&disks[0].truth().place, &shot.to("data")),
        Vec::<String>::new()
    );
    let names = shot.list(BrowseScope::Host, "/srv", false).unwrap();
    assert_eq!(names, ["data"]);
    let all = shot.list(BrowseScope::Host, "/srv/data", true).unwrap();
    assert!(all.contains(&"etc/deep/er/one".to_owned()), "{all:?}");
}

#[test]
fn a_tree_of_ext4_is_copied_as_it_was() {
    is_copied_as_it_was("ext4");
}

#[test]
fn a_tree_of_xfs_is_copied_as_it_was() {
    is_copied_as_it_was("xfs");
}

#[test]
fn a_tree_of_btrfs_is_copied_as_it_was() {
    is_copied_as_it_was("btrfs");
}

#[test]
fn a_symlink_into_another_disk_is_followed_there_and_no_disk_is_read_in_vain() {
    if !available("browse: two disks") {
        return;
    }
    let root = |top: &Path| {
        fs::create_dir_all(top.join("data/old")).unwrap();
        fs::create_dir(top.join("etc")).unwrap();
        fs::write(top.join("etc/fstab"), "fstab").unwrap();
        symlink("/data/x", top.join("link")).unwrap();
    };
    let data = |top: &Path| {
        fs::create_dir(top.join("x")).unwrap();
        fs::write(top.join("x/file"), noise(100_000, 4)).unwrap();
    };
    let disks = [
        MadeDisk::new("ext4", "/", root),
        MadeDisk::new("xfs", "/data", data),
    ];
    let mut shot = Shot::of(&disks);
    shot.copy(BrowseScope::Host, &["/etc/fstab"]).unwrap();
    let gets = shot.counted.take()["get"].operations;
    shot.copy(BrowseScope::Host, &["link/file"]).unwrap();
    assert_eq!(fs::read(shot.to("file")).unwrap(), noise(100_000, 4));
    assert!(gets < 12, "{gets} gets for a file of one disk");
    // A symlink to a directory on a disk that was not looked into yet.
    assert_eq!(
        shot.list(BrowseScope::Host, "/link", false).unwrap(),
        ["file"]
    );
    assert_eq!(shot.list(BrowseScope::Host, "/", false).unwrap().len(), 4);
    shot.copy_as("/", "all").unwrap();
    assert!(shot.to("all/data/x/file").exists() && !shot.to("all/data/old").exists());
    // The other one of them by itself, whatever was mounted.
    let scope = BrowseScope::Partition {
        disk: 0,
        number: None,
    };
    let names = shot.list(scope, "/data", false).unwrap();
    assert_eq!(names, ["old"]);
    let scope = BrowseScope::Partition {
        disk: 1,
        number: Some(3),
    };
    let error = shot.list(scope, "/", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("partition 3"), "{error}");
    // What the snapshot does not have is no empty directory.
    shot.manifest.other_mounts = vec![OtherMountRecord {
        target: EscapedPath::new(Path::new("/etc")),
        fstype: "nfs4".into(),
    }];
    for error in [
        shot.list(BrowseScope::Host, "/etc", false)
            .map(drop)
            .unwrap_err(),
        shot.copy(BrowseScope::Host, &["/etc"])
            .map(drop)
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/etc (nfs4)"), "{error}");
    }
    shot.manifest.other_mounts.clear();
    // What an early version did not note is told with what was copied.
    shot.manifest.disks[0].filesystems[0].mounts = None;
    let result = shot.copy_as("/etc/fstab", "early").unwrap();
    assert_eq!(result.warnings.len(), 1, "{:?}", result.warnings);
    let error = shot
        .copy(BrowseScope::Host, &["/etc/none", "/etc/fstab"])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_nothing_attached(&shot.run_dir());
}

#[test]
fn a_damaged_file_is_named_and_the_others_are_copied() {
    if !available("browse: damage") {
        return;
    }
    let fill = |top: &Path| {
        for number in 0..20 {
            fs::write(top.join(format!("file{number}")), noise(200_000, number)).unwrap();
        }
    };
    let disks = [MadeDisk::new("ext4", "/srv", fill)];
    let shot = Shot::of(&disks);
    let image = fs::read(&disks[0].disk.file).unwrap();
    shot.damage(0, &image, &noise(200_000, 7)[..64]);
    let result = shot.copy_as("/srv", "copy").unwrap();
    let outcome = &result.outcome;
    assert!(outcome.unread > 0 && outcome.unread < 3, "{outcome:?}");
    let named = |name: &str| {
        outcome
            .failures
            .iter()
            .any(|one| one.place == Path::new(name))
    };
    assert!(named("/srv/file7"), "{outcome:?}");
    assert!(
        outcome
            .failures
            .iter()
            .all(|one| one.cause == FailureCause::Source)
    );
    assert!(!shot.to("copy/file7").exists(), "no part of it stays");
    let whole = (0..20).filter(|number| {
        let copy = fs::read(shot.to(&format!("copy/file{number}")));
        copy.is_ok_and(|copy| copy == noise(200_000, *number))
    });
    assert_eq!(whole.count() as u64, 20 - outcome.unread);
    let error = shot.stream("/srv/file7").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(shot.stream("/srv/file3").unwrap() == noise(200_000, 3));
    // By itself nothing of it appears.
    let result = shot.copy(BrowseScope::Host, &["/srv/file7"]).unwrap();
    assert_eq!((result.outcome.unread, result.tops.len()), (1, 0));
    assert!(!shot.to("file7").exists());
    let told = shot.ear.0.lock().unwrap().join("; ");
    assert!(told.contains("vda") || told.contains("bytes"), "{told}");
    assert_nothing_attached(&shot.run_dir());
}
