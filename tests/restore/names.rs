//! What a target's name says, and names that say nothing, or two things.

use super::qcow2::{Unmount, has_qemu, same};
use crate::cli::lab::{Disk, Lab, Run, finish, noise, tool, try_tool};
use crate::support::host::skipped;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

const MIB: u64 = 1 << 20;

fn taken(test: &str) -> Option<(Lab, Disk)> {
    let lab = Lab::with_vault(test)?;
    let disk = lab.disk("disk", 8 * MIB);
    fs::write(&disk.device, noise(2 * MIB as usize, 1)).unwrap();
    tool("sync", &["-d", &disk.device]);
    lab.run(&["snapshot", &disk.device]).expect(0);
    Some((lab, disk))
}

/// Run in a folder of its own, which stays empty.
fn in_folder(lab: &Lab, args: &[&str]) -> Run {
    let folder = lab.path("here");
    fs::create_dir_all(&folder).unwrap();
    let run = finish(lab.command(args).current_dir(&folder));
    let names: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    fs::remove_dir_all(&folder).unwrap();
    assert!(run.code == 0 || names.is_empty(), "{names:?}: {run:?}");
    run
}

#[test]
fn a_disks_name_alone_has_two_meanings() {
    let Some((lab, disk)) = taken("names: bare") else {
        return;
    };
    let target = lab.disk("target", 8 * MIB);
    let map = format!("{}={}", disk.name(), target.name());
    for args in [
        &["restore", "latest", target.name(), "--yes", "--force"][..],
        &["restore", "latest", "--map", &map],
        &["restore", "latest", disk.name()],
    ] {
        let run = in_folder(&lab, args).expect(2);
        let name = args.iter().find(|arg| **arg == disk.name());
        let name = name.map_or(target.name(), |name| name);
        for words in [
            format!("/dev/{name} for the disk"),
            format!("./{name} for a file"),
        ] {
            assert!(run.stderr.contains(&words), "{words}: {run:?}");
        }
    }
    let file = format!("./{}", target.name());
    in_folder(&lab, &["restore", "latest", &file]).expect(0);
    // Of a disk that is not here any more.
    let gone = disk.name().to_owned();
    drop(disk);
    if !fs::metadata(format!("/dev/{gone}")).is_ok_and(|_| true) {
        let run = in_folder(&lab, &["restore", "latest", &gone]).expect(2);
        assert!(run.stderr.contains("a disk of the snapshot"), "{run:?}");
    }
    assert!(
        fs::read(&target.device)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn a_place_that_is_not_there_is_told_at_once() {
    let Some((lab, _disk)) = taken("names: no place") else {
        return;
    };
    fs::write(lab.path("file"), "x").unwrap();
    for (target, code, words) in [
        ("none/image", 1, "mkdir -p"),
        ("none/", 1, "names a directory, and there is none"),
        ("file/", 1, "names a directory, and there is none"),
        ("file/image", 1, "is no directory"),
        (&"n".repeat(256), 1, "File name too long"),
        ("image.vmdk", 2, "-O vmdk"),
        ("image.raw.zst", 2, "| zstd"),
    ] {
        let run = lab
            .run(&["restore", "latest", &lab.at(target)])
            .expect(code);
        assert!(run.stderr.contains(words), "{target}: {run:?}");
    }
    lab.run(&["restore", "latest", ""]).expect(2);
    // As long as names can be, and there already.
    let longest = lab.at(&"n".repeat(255));
    lab.run(&["restore", "latest", &longest]).expect(0);
    lab.run(&["restore", "latest", &longest, "--force"])
        .expect(0);
    lab.run(&[
        "restore",
        "latest",
        &lab.at("image.vmdk"),
        "--format",
        "raw",
    ])
    .expect(0);
}

#[test]
fn an_image_is_what_its_name_says() {
    let Some((lab, disk)) = taken("names: format") else {
        return;
    };
    if !has_qemu("names: format") {
        return;
    }
    let answer = lab.json(&["restore", "latest", &lab.at("x.qcow2")]);
    assert_eq!(answer["format"], "qcow2");
    let map = format!("{}={}", disk.name(), lab.at("y.img"));
    let answer = lab.json(&["restore", "latest", "--map", &map]);
    assert_eq!(answer["format"], "raw");
    same(&lab.at("x.qcow2"), &lab.at("y.img"));
    let args = ["restore", "latest", &lab.at("z.qcow2"), "--format", "raw"];
    lab.run(&args).expect(0);
    assert!(fs::read(lab.at("z.qcow2")).unwrap() == fs::read(lab.at("y.img")).unwrap());
}

#[test]
fn standard_output_takes_the_disk_and_nothing_else() {
    let Some((lab, disk)) = taken("names: stdout") else {
        return;
    };
    let expected = fs::read(&disk.device).unwrap();
    let file = File::create(lab.path("out")).unwrap();
    let mut command = lab.command(&["restore", "latest", "-"]);
    let output = command
        .stdout(file)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("restored"), "{said}");
    assert!(fs::read(lab.path("out")).unwrap() == expected);
    // A pipe.
    let mut command = lab.command(&["restore", "latest", "-", "-q"]);
    let output = command.stdout(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && output.stdout == expected);
    // One who does not read to the end is told.
    let mut command = lab.command(&["restore", "latest", "-"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("stopped"), "{said}");
    let map = format!("{}=-", disk.name());
    for args in [
        &["restore", "latest", "-", "--json"][..],
        &["restore", "latest", "-", "--detach"],
        &["restore", "latest", "-", "--format", "qcow2"],
        &["restore", "latest", "--map", &map],
    ] {
        lab.run(args).expect(2);
    }
    // Nor a way around what is asked of devices.
    let target = lab.disk("target", 8 * MIB);
    let device = File::options().write(true).open(&target.device).unwrap();
    let mut command = lab.command(&["restore", "latest", "-"]);
    let status = command.stdout(device).stderr(Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(2));
    assert!(
        fs::read(&target.device)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
}

/// Damage in the middle: what comes before it has been read, and the exit code tells.
#[test]
fn standard_output_of_a_damaged_snapshot_ends_badly() {
    let Some((lab, disk)) = taken("names: stdout, damaged") else {
        return;
    };
    let segment = lab
        .vault_files()
        .into_iter()
        .find(|(path, _)| path.to_str().unwrap().contains("/segments/"));
    let segment = segment.unwrap().0;
    let mut bytes = fs::read(&segment).unwrap();
    bytes[MIB as usize] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let run = |args: &[&str]| lab.command(args).stdin(Stdio::null()).output().unwrap();
    let output = run(&["restore", "latest", "-"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("not whole"), "{said}");
    let output = run(&["restore", "latest", "-", "--keep-going"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    let (expected, found) = (fs::read(&disk.device).unwrap(), output.stdout);
    assert_eq!(found.len(), expected.len());
    let differ = |n: &usize| found[n << 16..][..1 << 16] != expected[n << 16..][..1 << 16];
    let wrong: Vec<usize> = (0..found.len() >> 16).filter(differ).collect();
    let [block] = wrong[..] else {
        panic!("{wrong:?}");
    };
    assert!(
        found[block << 16..][..1 << 16]
            .iter()
            .all(|byte| *byte == 0)
    );
    // Each place once.
    let place = format!("lost: bytes {}..", block << 16);
    let line = said.lines().find(|line| line.starts_with(&place));
    let line = line.unwrap_or_else(|| panic!("{place}: {said}"));
    assert!(
        !line.contains("bytes of the disk") && !line.contains("of the disk: "),
        "{line}"
    );
    assert_eq!(
        line.matches(&format!("{}..", block << 16)).count(),
        1,
        "{line}"
    );
}

#[test]
fn too_little_room_is_told_before_anything_is_written() {
    let Some((lab, disk)) = taken("names: room") else {
        return;
    };
    let place = lab.path("small");
    fs::create_dir(&place).unwrap();
    let at = place.to_str().unwrap();
    if !try_tool("mount", &["-t", "tmpfs", "-o", "size=3m", "tmpfs", at]) {
        return skipped("names: room", "cannot mount a tmpfs");
    }
    let _unmount = Unmount(at.to_owned());
    let image = format!("{at}/image");
    // 8 MiB, of which 2 are data: holes take no room.
    lab.run(&["restore", "latest", &image]).expect(0);
    // What is replaced is there until all is written.
    let other = lab.disk("other", 8 * MIB);
    for format in ["raw", "qcow2"] {
        let args = ["restore", "latest", &image, "--force", "--format", format];
        let run = lab.run(&args).expect(1);
        for words in ["has room for", "nothing was written", "make room"] {
            assert!(run.stderr.contains(words), "{words}: {run:?}");
        }
    }
    fs::remove_file(&image).unwrap();
    lab.run(&["snapshot", disk.name(), other.name()]).expect(0);
    // Two of one filesystem, together; and nothing is written to the other target.
    fs::write(&other.device, noise(2 * MIB as usize, 2)).unwrap();
    tool("sync", &["-d", &other.device]);
    lab.run(&["snapshot", disk.name(), other.name()]).expect(0);
    let run = lab.run(&["restore", "latest", at]).expect(1);
    assert!(run.stderr.contains("has room for"), "{run:?}");
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    let target = lab.disk("target", 8 * MIB);
    fs::write(place.join("full"), noise(2 * MIB as usize, 3)).unwrap();
    let map = format!("{}={},{}={image}", disk.name(), target.device, other.name());
    lab.run(&["restore", "latest", "--map", &map]).expect(1);
    assert!(
        fs::read(&target.device)
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
}

/// What can be known at once is said before anything is said to have started.
#[test]
fn a_job_that_cannot_be_is_not_started() {
    let Some((lab, disk)) = taken("names: detach") else {
        return;
    };
    let target = lab.disk("target", 8 * MIB);
    fs::write(&target.device, noise(4096, 5)).unwrap();
    tool("sync", &["-d", &target.device]);
    let at = target.device.as_str();
    for (args, code, words) in [
        (
            &["restore", "latest", at, "--disk", "nosuch"][..],
            1,
            "nosuch",
        ),
        (&["restore", "01NOSUCH", at], 1, "snapshot"),
        (&["restore", "latest", at], 2, "add --yes"),
        (&["restore", "latest", &lab.at("none/x")], 1, "mkdir -p"),
        (&["verify", "01NOSUCH"], 1, "snapshot"),
    ] {
        let run = lab.run(&[args, &["--detach"]].concat()).expect(code);
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    let over = crate::support::host::attach(target.device.as_ref(), &[]);
    let run = lab.run(&["restore", "latest", at, "--yes", "--detach"]);
    crate::support::host::detach(&over);
    assert!(run.expect(6).stderr.contains("lies on it"));
    assert_eq!(
        lab.json(&["job", "list"])["jobs"].as_array().unwrap().len(),
        1
    );
    let job = lab.json(&["restore", "latest", at, "--yes", "--detach"]);
    lab.run(&["job", "wait", job["job"].as_str().unwrap()])
        .expect(0);
    assert!(fs::read(at).unwrap() == fs::read(&disk.device).unwrap());
}
