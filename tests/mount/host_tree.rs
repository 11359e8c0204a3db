//! The host's tree, made of several filesystems of one disk: each at its place, whatever becomes of
//! the others.

use super::scene::{Taken, assert_same_tree, listing, make};
use super::shot::{Shot, partitioned, recorded, recorded_at};
use crate::support::host::{LoopDisk, Mount, available, format, run};
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::engine::HostTree;
use stillpoint::model::{Bytes, Extent};

const MIB: u64 = 1 << 20;

fn place(at: u64, mib: u64) -> Extent {
    Extent::new(Bytes(at * MIB), Bytes(mib * MIB))
}

/// Why something is not in a tree.
fn why_not(tree: &HostTree, what: &str) -> String {
    let lacks = tree.not_shown.iter().find(|one| one.what == what);
    lacks.map_or_else(String::new, |one| one.why.clone())
}

fn read(tree: &Path, path: &str) -> String {
    std::fs::read_to_string(tree.join(path)).unwrap_or_else(|error| error.to_string())
}

#[test]
fn each_filesystem_is_at_its_place_beside_one_that_cannot_be_opened() {
    if !available("tree of a host") {
        return;
    }
    let made = make("ext4", 24, Taken::Clean);
    // The superblock of no xfs.
    let broken = [b"XFSB".as_slice(), &[1; (2 * MIB) as usize - 4]].concat();
    let parts = [
        (MIB, &broken[..]),
        (4 * MIB, &made.bytes),
        (32 * MIB, &made.bytes),
    ];
    let mut shot = Shot::of(&partitioned(64 * MIB, &parts));
    let root = [("/", "/")];
    let other = [
        ("/srv", "/"),
        ("/home", "/etc/deep"),
        ("/etc/link", "/"),
        ("/holes", "/"),
        ("/nowhere", "/"),
        ("/srv/boot", "/no folder"),
        ("/srv/etc", "/../.."),
        ("/srv/../../home", "/"),
    ];
    shot.manifest.disks[0].filesystems = vec![
        recorded_at(place(1, 2), recorded("xfs", "/dev/vda1", &[("/boot", "/")])),
        recorded_at(place(4, 24), recorded("ext4", "/dev/vda2", &root)),
        recorded_at(place(32, 24), recorded("ext4", "/dev/vda3", &other)),
    ];
    shot.look(|look| {
        let tree = look.tree()?;
        assert_eq!(read(&tree.path, "etc/hostname"), "before");
        assert_same_tree(&listing(&tree.path.join("srv")), &made.tree);
        assert_eq!(read(&tree.path, "home/file3"), "xxx");
        let shown: Vec<&str> = tree.shown.iter().map(|one| one.target.as_str()).collect();
        assert_eq!(shown, ["/", "/srv", "/home"]);
        for (what, why) in [
            ("/boot", "cannot mount vda1 (xfs)"),
            ("/etc/link", "a symlink stands in its place"),
            ("/holes", "its place cannot be opened"),
            ("/nowhere", "its place is not in this snapshot"),
            ("/srv/boot", "it has no folder"),
            ("/srv/etc", "it has no folder"),
            ("/srv/../../home", "its place cannot be opened"),
        ] {
            assert!(
                why_not(&tree, what).contains(why),
                "{what}: {:#?}",
                tree.not_shown
            );
        }
        assert_eq!(tree.not_shown.len(), 7, "{:#?}", tree.not_shown);
        // What failed is no trouble for what comes later.
        look.attach(1).map(drop)
    })
    .unwrap();
}

#[test]
fn a_root_that_is_not_opened_hides_nothing_else() {
    if !available("root that is not opened") {
        return;
    }
    let made = make("ext4", 24, Taken::Clean);
    // An xfs with its log elsewhere.
    let refused = [b"XFSB".as_slice(), &[0; (2 * MIB) as usize - 4]].concat();
    let parts = [(MIB, &refused[..]), (4 * MIB, &made.bytes)];
    let mut shot = Shot::of(&partitioned(64 * MIB, &parts));
    shot.manifest.disks[0].filesystems = vec![
        recorded_at(place(1, 2), recorded("xfs", "/dev/vda1", &[("/", "/")])),
        recorded_at(
            place(4, 24),
            recorded("ext4", "/dev/vda2", &[("/srv", "/")]),
        ),
    ];
    shot.look(|look| {
        let tree = look.tree()?;
        assert_same_tree(&listing(&tree.path.join("srv")), &made.tree);
        assert!(why_not(&tree, "/").contains("its log is on another device"));
        Ok(())
    })
    .unwrap();
    // Where nothing at all can be opened, there is no tree.
    shot.manifest.disks[0].filesystems.truncate(1);
    let none = shot.look(|look| look.tree().map(drop)).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported);
}

#[test]
fn subvolumes_are_found_where_the_host_had_them() {
    if !available("subvolumes") {
        return;
    }
    let disk = LoopDisk::within("/dev/shm", 128 * MIB, &[]);
    format("btrfs", &disk.device);
    let mount = Mount::somewhere(disk.path(), "rw");
    let subvolume = |name: &str| mount.place.join(name).to_str().unwrap().to_owned();
    for name in ["@", "@home", "home"] {
        run("btrfs", &["subvolume", "create", &subvolume(name)]);
        std::fs::write(mount.place.join(name).join("which"), name).unwrap();
    }
    // What the default subvolume has by a name that the whole has, too.
    for folder in ["@/home", "@/top", "@/srv"] {
        std::fs::create_dir(mount.place.join(folder)).unwrap();
    }
    std::fs::write(mount.place.join("@/home/which"), "a folder of @").unwrap();
    run("btrfs", &["subvolume", "set-default", &subvolume("@")]);
    mount.end();
    let mut shot = Shot::of(&std::fs::read(&disk.file).unwrap());
    drop(disk);
    let all = place(0, 128);
    let mounts = [
        ("/", "/@"),
        ("/home", "/@home"),
        ("/srv", "/home"),
        ("/top", "/"),
    ];
    let record = recorded_at(all, recorded("btrfs", "/dev/vda", &mounts));
    shot.manifest.disks[0].filesystems = vec![record.clone()];
    shot.look(|look| {
        let tree = look.tree()?;
        assert_eq!(tree.not_shown, []);
        assert_eq!(read(&tree.path, "which"), "@");
        assert_eq!(read(&tree.path, "home/which"), "@home");
        assert_eq!(read(&tree.path, "srv/which"), "home");
        assert_eq!(read(&tree.path, "top/@home/which"), "@home");
        Ok(())
    })
    .unwrap();
    // An early record does not say which it was.
    shot.manifest.disks[0].filesystems[0].mounts = None;
    shot.look(|look| {
        let tree = look.tree()?;
        assert_eq!(read(&tree.path, "which"), "@");
        assert!(tree.shown[0].note.as_ref().unwrap().contains("default"));
        Ok(())
    })
    .unwrap();
}
