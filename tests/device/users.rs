//! What any local user can do to the tables of mounts, on recorded hosts: mount much, mount deep,
//! and call what is mounted whatever he likes.

use super::dev;
use crate::support::recorded::Recorded;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use stillpoint::ErrorKind;
use stillpoint::device::{Backing, Mounts, Use, in_use};

/// Adds a process in a mount namespace of its own with that table.
fn add_process(recorded: &Recorded, pid: u32, table: &[u8]) {
    let folder = recorded.host.proc.join(pid.to_string());
    fs::create_dir_all(folder.join("ns")).unwrap();
    symlink(format!("mnt:[{pid}]"), folder.join("ns/mnt")).unwrap();
    symlink("/", folder.join("root")).unwrap();
    fs::write(folder.join("mountinfo"), table).unwrap();
}

/// Each on a folder of the one before, and the disk's filesystem among them. One more lies over the
/// way from the first to the second.
fn nested(count: usize) -> Vec<u8> {
    let (mut table, mut path) = (String::new(), String::from("/n"));
    for id in 0..count {
        let dev = if id == count / 2 { "254:16" } else { "0:99" };
        writeln!(table, "{} {id} {dev} / {path} rw - tmpfs a rw", id + 1).unwrap();
        path.push_str(if id == 0 { "/x/a" } else { "/a" });
    }
    writeln!(table, "{} 1 0:99 / /n/x rw - tmpfs a rw", count + 1).unwrap();
    table.into_bytes()
}

/// Where each look at them took time with the cube of their number, this was an hour.
#[test]
fn thousands_of_mounts_in_one_another_are_looked_through() {
    let recorded = Recorded::open("virtio");
    let topology = recorded.topology();
    add_process(&recorded, 900, &nested(5000));
    let mut wide = String::from("1 0 254:16 / /w rw - xfs /dev/vdb rw\n");
    for id in 2..60_000 {
        writeln!(wide, "{id} 1 0:99 / /w/{}/{id} rw - tmpfs a rw", id % 7).unwrap();
    }
    writeln!(wide, "70000 1 254:16 / /w/3 rw - xfs /dev/vdb rw").unwrap();
    add_process(&recorded, 901, wide.as_bytes());
    for pid in 1000..1500 {
        add_process(&recorded, pid, &nested(3));
    }
    let mounts = recorded.mounts(&topology);
    let data = mounts.filesystem(dev(&topology, "vdb")).unwrap();
    assert_eq!(data.mounts.len(), 1 + 1 + 2 + 500);
    let of = |pid: u32| {
        let mounts = data.mounts.iter().filter(move |one| one.pid == Some(pid));
        mounts.map(|one| one.visible).collect::<Vec<_>>()
    };
    assert_eq!(of(900), [false], "another lies over the way to it");
    assert_eq!(of(901), [true, true]);
    assert_eq!(mounts.filesystems().len(), 3);
}

#[test]
fn more_mounts_than_are_looked_at_are_refused_in_words() {
    let recorded = Recorded::open("virtio");
    let topology = recorded.topology();
    let mut table = String::new();
    for id in 1..=600_000 {
        writeln!(table, "{id} 0 0:9 / /m rw - tmpfs a rw").unwrap();
    }
    add_process(&recorded, 900, table.as_bytes());
    let refused = Mounts::read(&recorded.host, &topology).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(
        refused.to_string().contains("nothing was done"),
        "{refused}"
    );
    let hint = refused.hint().unwrap();
    assert!(hint.contains("process 900 of user 0"), "{hint}");
}

/// FUSE by fusermount, all else in a user namespace of his own.
#[test]
fn what_a_user_calls_the_source_of_a_mount_proves_nothing() {
    for (fstype, options) in [
        ("fuse", "rw,user_id=1000,group_id=1000"),
        ("fuse.vda3", "rw,user_id=0,group_id=0"),
        ("fuse.bcachefs", "rw"),
        ("tmpfs", "rw"),
        ("overlay", "rw,upperdir=/dev/vda3"),
        ("proc", "rw"),
        ("of-a-newer-kernel", "rw"),
    ] {
        for with_types in [true, false] {
            let recorded = Recorded::open("virtio");
            let topology = recorded.topology();
            let before = recorded.mounts(&topology);
            let own = recorded.host.proc.join("self/mountinfo");
            let line = format!("90 28 0:90 / /mine rw - {fstype} /dev/vda3 {options}\n");
            let table = fs::read_to_string(&own).unwrap() + &line;
            fs::write(&own, table).unwrap();
            add_process(&recorded, 900, line.replace("/mine", "/").as_bytes());
            if !with_types {
                fs::remove_file(recorded.host.proc.join("filesystems")).unwrap();
            }
            let after = recorded.mounts(&topology);
            assert_eq!(after.filesystems(), before.filesystems(), "{fstype}");
            let uses = in_use(&topology, &after, &[], dev(&topology, "vda"));
            assert!(!uses.contains(&Use::Mounted("/mine".into())), "{fstype}");
        }
    }
}

#[test]
fn a_vault_on_a_users_own_filesystem_lies_where_nobody_can_tell() {
    let recorded = Recorded::open("virtio");
    let topology = recorded.topology();
    let own = recorded.host.proc.join("self/mountinfo");
    let line = "90 28 0:90 / /mine rw - fuse.x far:/srv rw,user_id=1000,group_id=0\n";
    fs::write(&own, fs::read_to_string(&own).unwrap() + line).unwrap();
    let mounts = recorded.mounts(&topology);
    let mine = stillpoint::model::DevNumber {
        major: 0,
        minor: 90,
    };
    assert!(matches!(mounts.backing(mine), Backing::Unknown(_)));
}

#[test]
fn a_path_that_is_no_text_is_kept_as_it_is() {
    let recorded = Recorded::open("virtio");
    let topology = recorded.topology();
    let own = recorded.host.proc.join("self/mountinfo");
    let mut table = fs::read(&own).unwrap();
    let old = b"/srv/my\\040data\\134x";
    let at = table
        .windows(old.len())
        .position(|part| part == old)
        .unwrap();
    table.splice(at..at + old.len(), b"/srv/\xff\\040\xfe".iter().copied());
    fs::write(&own, table).unwrap();
    let mounts = recorded.mounts(&topology);
    let data = mounts.filesystem(dev(&topology, "vdb")).unwrap();
    let bytes = data.target().as_os_str().as_encoded_bytes();
    assert_eq!(bytes, b"/srv/\xff \xfe");
    assert_eq!(data.open_paths(&recorded.host), [data.target()]);
    assert_eq!(mounts.filesystems()[0].target(), Path::new("/"));
}
