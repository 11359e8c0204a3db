//! Mounts of snapshots among what others do: mounts of theirs, hidden users, notes that are gone.

use super::command::kill_hard;
use super::place::{Part, Place};
use crate::support::host::{LoopDisk, attempt, available, run};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn place(test: &str) -> Option<Place> {
    let parts = || [Part::new("ext4", 24, &[("/", "/")])];
    available(test).then(|| Place::new(&parts()))
}

/// A filesystem of somebody else's, with a file in it.
fn put_foreign(at: &Path) {
    run("mount", &["-t", "tmpfs", "somebody", at.to_str().unwrap()]);
    std::fs::write(at.join("precious"), "data").unwrap();
}

fn terminate(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
}

fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[track_caller]
fn await_end_of(pid: i32) {
    let until = Instant::now() + Duration::from_secs(30);
    while is_running(pid) {
        assert!(Instant::now() < until, "{pid} does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_others_have_mounted_on_it_is_never_unmounted() {
    let Some(place) = place("mount foreign") else {
        return;
    };
    place.mount();
    for at in [place.fs("etc/deep"), place.dir.clone()] {
        put_foreign(&at);
        for args in [
            &["unmount", place.dir()][..],
            &["unmount", "--lazy", place.dir()],
        ] {
            let refused = place.cli.run(args).expect(6);
            assert!(refused.stderr.contains(at.to_str().unwrap()), "{refused:?}");
            assert!(at.join("precious").is_file());
        }
        run("umount", &[at.to_str().unwrap()]);
    }
    assert!(place.fs("etc/hostname").is_file() && place.dir.join("raw/vda.img").is_file());
    place.cli.run(&["unmount", place.dir()]).expect(0);
    place.assert_nothing_left();
}

#[test]
fn where_it_cannot_be_unmounted_the_watcher_stays_until_it_can() {
    let Some(place) = place("mount pinned") else {
        return;
    };
    for is_killed in [false, true] {
        place.mount();
        let server = place.server();
        put_foreign(&place.dir);
        match is_killed {
            true => kill_hard(server),
            false => terminate(server),
        }
        await_end_of(server);
        std::thread::sleep(Duration::from_millis(300));
        assert!(place.dir.join("precious").is_file());
        assert_eq!(place.state(), "dead");
        let refused = place.cli.run(&["unmount", place.dir()]).expect(6);
        assert!(
            refused.stderr.contains("not of this snapshot"),
            "{refused:?}"
        );
        run("umount", &[place.dir()]);
        place.assert_nothing_left();
    }
}

#[test]
fn a_connection_that_is_cut_off_leaves_nothing_and_is_no_success() {
    let Some(place) = place("mount cut off") else {
        return;
    };
    let args = ["mount", &place.id, place.dir(), "--foreground"];
    let mut child = place
        .cli
        .command(&args)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !place.note().contains("\"state\":\"mounted\"") {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    attempt("umount", &["-f", place.dir.join("raw").to_str().unwrap()]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    place.assert_nothing_left();
}

/// A use of a file that no process has.
fn hidden_use(path: &Path) -> LoopDisk {
    LoopDisk::of_file(path, &["-r"])
}

#[test]
fn a_tree_is_unmounted_as_a_whole_or_not_at_all() {
    if !available("mount whole") {
        return;
    }
    let parts = [
        Part::new("ext4", 24, &[("/", "/")]),
        Part::new("ext4", 24, &[("/srv", "/")]),
    ];
    let place = Place::new(&parts);
    place.mount();
    // In one that nothing is mounted on: it is refused, and all is there.
    let user = hidden_use(&place.fs("srv/etc/deep/er/one"));
    place.cli.run(&["unmount", place.dir()]).expect(6);
    let whole = || {
        place.fs("etc/hostname").is_file()
            && place.fs("srv/etc/hostname").is_file()
            && place.dir.join("raw/vda.img").is_file()
    };
    assert!(whole());
    place.cli.run(&["unmount", place.dir()]).expect(6);
    assert!(whole(), "at the second time");
    drop(user);
    // In one below another: that is found out too late, so all of it goes, and that is said.
    let user = hidden_use(&place.fs("etc/deep/er/one"));
    let gone = place.cli.run(&["unmount", place.dir()]).expect(3);
    assert!(gone.stdout.contains("out of sight"), "{gone:?}");
    assert!(
        place.dir.read_dir().unwrap().next().is_none(),
        "no part of it is left"
    );
    assert_eq!(place.state(), "detached");
    // The folder is free again.
    place.cli.run(&["mount", &place.id, place.dir()]).expect(0);
    place.cli.run(&["unmount", place.dir()]).expect(0);
    drop(user);
    place.assert_nothing_left();
}

fn remove_note(place: &Place) {
    for entry in std::fs::read_dir(place.run_dir()).unwrap().flatten() {
        if entry.file_name().to_str().unwrap().starts_with("mount-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn a_mount_whose_note_is_gone_is_found_and_taken_down() {
    let Some(place) = place("mount unnoted") else {
        return;
    };
    place.mount();
    remove_note(&place);
    let list = place.cli.run(&["mount", "list"]).expect(3);
    assert!(list.stdout.contains(place.dir()), "{list:?}");
    place.cli.run(&["unmount", place.dir()]).expect(0);
    place.assert_nothing_left();
    place.mount();
    let server = place.server();
    remove_note(&place);
    kill_hard(server);
    place.assert_nothing_left();
}

#[test]
fn a_watcher_that_is_ended_is_started_again() {
    let Some(place) = place("mount watcher") else {
        return;
    };
    place.mount();
    let first = place.watcher();
    kill_hard(first);
    let until = Instant::now() + Duration::from_secs(20);
    while place.watcher() == first {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_hard(place.server());
    place.assert_nothing_left();
}
