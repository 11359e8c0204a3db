//! `mount`, `mount list` and `unmount`, as users run them.

use super::place::{Part, Place};
use super::scene::{assert_same_tree, listing};
use crate::support::host::available;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The lines of a listing that are not below these folders.
fn without(tree: &str, folders: &[&str]) -> String {
    let kept = tree.lines().filter(|line| {
        let name = line.split(' ').next().unwrap();
        !folders
            .iter()
            .any(|folder| name.starts_with(&format!("b'{folder}")))
    });
    kept.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_snapshot_is_mounted_as_the_host_had_it() {
    if !available("mount command") {
        return;
    }
    let parts = [
        Part::new("ext4", 24, &[("/", "/"), ("/home", "/etc/deep")]),
        Part::new("xfs", 40, &[("/srv", "/")]),
    ];
    let place = Place::new(&parts);
    let begun = Instant::now();
    let run = place
        .cli
        .run(&["mount", &place.id, place.dir(), "--json"])
        .expect(0);
    println!("mounted within {:?}", begun.elapsed());
    let document = run.json();
    assert_eq!(
        document["filesystems"].as_array().unwrap().len(),
        3,
        "{document:#}"
    );
    assert_eq!(document["raw"][0]["size_bytes"], place.disk.len() as u64);
    let roots = ["srv", "home"];
    let root = without(&listing(&place.fs("")), &roots);
    assert_same_tree(&root, &without(&parts[0].made.tree, &roots));
    assert_same_tree(&listing(&place.fs("srv")), &parts[1].made.tree);
    assert!(place.fs("home/file7").is_file(), "a folder that was bound");
    // Nobody else may look, and nobody may write.
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&place.dir) & 0o7777, 0o700);
    assert_eq!(mode(&place.dir.join("raw/vda.img")) & 0o7777, 0o400);
    for path in [place.dir.join("x"), place.fs("x"), place.dir.join("raw/x")] {
        assert!(std::fs::write(path, "").is_err());
    }
    let raw = place.dir.join("raw/vda.img");
    assert!(std::fs::File::options().write(true).open(&raw).is_err());
    assert!(
        std::fs::read(&raw).unwrap() == place.disk,
        "the disk's bytes"
    );
    // Twice on one folder is refused, and once more elsewhere is fine.
    let again = place.cli.run(&["mount", &place.id, place.dir()]).expect(6);
    assert!(again.stderr.contains("mounted on"), "{again:?}");
    let other = place.cli.folder().join("other");
    std::fs::create_dir(&other).unwrap();
    let other = other.to_str().unwrap();
    place.cli.run(&["mount", &place.id, other]).expect(0);
    assert_eq!(place.mounts().len(), 2);
    place.cli.run(&["unmount", other]).expect(0);
    // In use: it is said by whom, and nothing is taken away.
    let mut user = Command::new("sleep")
        .arg("600")
        .current_dir(place.fs("srv/etc"))
        .spawn()
        .unwrap();
    let busy = place.cli.run(&["unmount", place.dir()]).expect(6);
    assert!(
        busy.stderr
            .contains(&format!("sleep (process {}", user.id())),
        "{busy:?}"
    );
    assert!(place.fs("srv/etc/hostname").is_file());
    user.kill().unwrap();
    user.wait().unwrap();
    place.cli.run(&["unmount", place.dir()]).expect(0);
    place.assert_nothing_left();
    let none = place.cli.run(&["unmount", place.dir()]).expect(1);
    assert!(none.stderr.contains("no snapshot is mounted"), "{none:?}");
}

#[test]
fn any_bytes_of_a_disk_are_read_right_by_many_at_once() {
    if !available("mount reads") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    place.cli.run(&["mount", &place.id, place.dir()]).expect(0);
    let raw = place.dir.join("raw/vda.img");
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (raw, disk) = (&raw, &place.disk);
            scope.spawn(move || {
                let file = std::fs::File::open(raw).unwrap();
                let mut chance = crate::support::model::Chance(seed);
                for _ in 0..200 {
                    let at = chance.below(disk.len() as u64) as usize;
                    let most = [1, 4096, 70_000, 3 << 20][chance.below(4) as usize];
                    let length = (disk.len() - at).min(most);
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, at as u64).unwrap();
                    assert!(bytes == disk[at..at + length], "{at}, {length} bytes");
                }
            });
        }
    });
    // As many open files as a process may have here.
    let many: Vec<_> = (0..900)
        .map(|_| std::fs::File::open(&raw).unwrap())
        .collect();
    for (at, mut file) in many.iter().enumerate() {
        file.seek(SeekFrom::Start(at as u64 * 512)).unwrap();
        let mut bytes = [0; 512];
        file.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, place.disk[at * 512..][..512]);
    }
    drop(many);
    // What is open is served on when it is out of sight.
    let open = std::fs::File::open(place.fs("etc/deep/er/one")).unwrap();
    let lazily = place.cli.run(&["unmount", "--lazy", place.dir()]).expect(3);
    assert!(lazily.stdout.contains("served on until"), "{lazily:?}");
    let mut bytes = vec![0; 300_000];
    open.read_exact_at(&mut bytes, 0).unwrap();
    drop(open);
    place.assert_nothing_left();
}

#[test]
fn damage_is_an_error_where_it_is_and_the_log_says_where() {
    if !available("mount damaged") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    let mut segments = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(place.cli.vault()).join("segments")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => segments.push(entry.path()),
            }
        }
    }
    for path in &segments {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let middle = file.metadata().unwrap().len() / 2;
        file.write_all_at(&[0xff; 8], middle).unwrap();
    }
    place.cli.run(&["mount", &place.id, place.dir()]);
    let file = std::fs::File::open(place.dir.join("raw/vda.img")).unwrap();
    let mut wrong = Vec::new();
    for (block, truth) in place.disk.chunks(65_536).enumerate() {
        let mut bytes = vec![0; truth.len()];
        match file.read_exact_at(&mut bytes, block as u64 * 65_536) {
            Ok(()) => assert!(bytes == truth, "block {block}"),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EIO));
                wrong.push(block as u64 * 65_536);
            }
        }
    }
    assert!((1..=2 * segments.len()).contains(&wrong.len()), "{wrong:?}");
    drop(file);
    place.cli.run(&["unmount", place.dir()]);
    let said = place.cli.run(&["job", "logs", "latest"]).expect(0).stdout;
    for start in wrong {
        let place = format!("bytes {start}..{} of vda", start + 65_536);
        assert!(said.contains(&place), "{place}: {said}");
    }
    place.assert_nothing_left();
}

#[test]
fn bad_folders_are_refused_in_words() {
    if !available("mount folders") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    let folder = place.cli.folder();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(folder.join("file"), "").unwrap();
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/x"), "").unwrap();
    symlink(&place.dir, folder.join("link")).unwrap();
    for (name, code, words) in [
        ("nosuch", 1, "mkdir -p"),
        ("file", 2, "no directory"),
        ("full", 1, "not empty"),
        ("link", 2, "symlink"),
    ] {
        let refused = place
            .cli
            .run(&["mount", &place.id, &path(name)])
            .expect(code);
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    let refused = place.cli.run(&["mount", "01NOSUCH", place.dir()]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(place.mounts().is_empty());
    place.assert_nothing_left();
}

#[test]
fn a_symlink_of_the_snapshot_leads_nothing_out_of_the_tree() {
    if !available("mount hostile") {
        return;
    }
    // `etc/link` is a symlink, `pipe` no folder, `nosuch` is not there, and `..` leads nowhere.
    let outside = tempfile::tempdir().unwrap();
    let up = format!("/../../../../../../..{}", outside.path().display());
    let targets = [
        ("/", "/"),
        ("/etc/link", "/"),
        ("/pipe", "/"),
        ("/nosuch/there", "/"),
        ("/srv", "/etc/link"),
        ("/boot", "/../.."),
        (up.as_str(), "/"),
    ];
    let place = Place::new(&[Part::new("ext4", 24, &targets)]);
    let run = place
        .cli
        .run(&["mount", &place.id, place.dir(), "--json"])
        .expect(3);
    let document = run.json();
    assert_eq!(
        document["filesystems"].as_array().unwrap().len(),
        1,
        "{document:#}"
    );
    assert_eq!(
        document["warnings"].as_array().unwrap().len(),
        6,
        "{document:#}"
    );
    assert!(outside.path().read_dir().unwrap().next().is_none());
    place.cli.run(&["unmount", place.dir()]).expect(0);
    place.assert_nothing_left();
}

pub fn kill_hard(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_mount_whose_process_is_killed_goes_by_itself() {
    if !available("mount killed") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    place.cli.run(&["mount", &place.id, place.dir()]).expect(0);
    kill_hard(place.server());
    place.assert_nothing_left();
    // With something of it open that is read meanwhile.
    place.cli.run(&["mount", &place.id, place.dir()]).expect(0);
    let open = std::fs::File::open(place.fs("etc/deep/er/one")).unwrap();
    kill_hard(place.server());
    let read = open.read_exact_at(&mut vec![0; 300_000], 0);
    assert!(read.is_err());
    drop(open);
    place.assert_nothing_left();
}

#[test]
fn what_is_left_when_the_watcher_is_killed_too_is_taken_down_by_the_next() {
    if !available("mount both killed") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    for next in ["unmount", "mount"] {
        place.cli.run(&["mount", &place.id, place.dir()]).expect(0);
        let server = place.server();
        let pid = nix::unistd::Pid::from_raw(server);
        // It would start another one.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        kill_hard(place.watcher());
        kill_hard(server);
        let until = Instant::now() + Duration::from_secs(20);
        while place.state() != "dead" {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        match next {
            "unmount" => drop(place.cli.run(&["unmount", place.dir()]).expect(0)),
            _ => {
                place.cli.run(&["mount", &place.id, place.dir()]).expect(0);
                assert!(place.fs("etc/hostname").is_file());
                place.cli.run(&["unmount", place.dir()]).expect(0);
            }
        }
        place.assert_nothing_left();
    }
}

#[test]
fn nothing_stays_whenever_it_is_killed() {
    if !available("mount killed anywhere") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    // At moments that are counted from when its note appears, and from when it is mounted.
    for (stage, milliseconds) in [
        ("", 2),
        ("", 10),
        ("", 25),
        ("", 50),
        ("", 100),
        ("preparing", 0),
        ("preparing", 3),
        ("preparing", 8),
        ("preparing", 15),
        ("preparing", 25),
        ("preparing", 40),
        ("mounted", 0),
        ("mounted", 20),
    ] {
        let args = ["mount", &place.id, place.dir(), "--foreground"];
        let mut command = place.cli.command(&args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !stage.is_empty() && !place.note().contains(&format!("\"state\":\"{stage}\"")) {
            assert!(Instant::now() < until, "it does not come to be {stage}");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        place.assert_nothing_left();
    }
}

#[test]
fn a_signal_ends_it_as_it_should() {
    if !available("mount signal") {
        return;
    }
    let place = Place::new(&[Part::new("ext4", 24, &[("/", "/")])]);
    let args = ["mount", &place.id, place.dir(), "--foreground"];
    let mut child = place
        .cli
        .command(&args)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while !place.fs("etc/hostname").exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{said}");
    assert!(said.contains("is unmounted"), "{said}");
    place.assert_nothing_left();
}
