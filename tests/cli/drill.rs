//! Drills: good snapshots pass, others fail at the step that is wrong, and what came of it is kept.

use super::lab::{Lab, Run, noise, tool};
use crate::mount::attached::assert_nothing_attached;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A script of root's in a folder of root's.
pub fn script(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

pub fn drills(lab: &Lab) -> Vec<PathBuf> {
    let files = lab.vault_files().into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.to_str().unwrap().contains("/drills/"))
        .collect()
}

/// What `show` and `list` tell of the drills of the only snapshot.
pub fn told(lab: &Lab) -> [Value; 2] {
    let show = lab.json(&["show", "latest"]);
    let list = lab.json(&["list"]);
    [&show, &list["snapshots"][0]].map(|one| one["drilled"].clone())
}

/// The outcome of the step whose name holds these words.
pub fn outcome(document: &Value, words: &str) -> String {
    let mut steps = document["steps"].as_array().unwrap().iter();
    let step = steps.find(|step| step["what"].as_str().unwrap().contains(words));
    let step = step.unwrap_or_else(|| panic!("{words}: {document:#}"));
    step["outcome"].as_str().unwrap().to_owned()
}

/// A command that sleeps, and is known by its arguments.
pub fn marked_sleep(lab: &Lab) -> String {
    let place = lab.dir.path().file_name().unwrap().to_str().unwrap();
    let number = place
        .bytes()
        .fold(7, |sum, byte| sum * 31 % 9973 + u64::from(byte));
    format!("sleep 600.{number}{}", std::process::id())
}

/// Whether a process with these arguments is there.
pub fn is_running(command: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let wanted = format!("{}\0", command.replace(' ', "\0"));
    lines.any(|line| line == wanted.as_bytes())
}

pub fn drilled(lab: &Lab, args: &[&str], code: i32) -> (Run, Value) {
    let run = lab
        .run(&[&["drill", "latest", "--json"], args].concat())
        .expect(code);
    let document = run.json();
    (run, document)
}

/// A mounted filesystem with a file, and a snapshot of it.
pub fn snapshot_of(lab: &Lab) -> super::lab::Disk {
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    // It is there on this host, whatever the snapshot has.
    symlink("/etc/hostname", place.join("link")).unwrap();
    lab.run(&["snapshot", disk.name(), "--full"]).expect(0);
    disk
}

#[test]
fn a_good_snapshot_passes_and_the_vault_keeps_it() {
    let Some(lab) = Lab::with_vault("cli: a drill that passes") else {
        return;
    };
    let disk = snapshot_of(&lab);
    let place = lab.path("disk.mnt");
    let text = format!(
        "set -e\ncmp \"$STILLPOINT_TREE{0}/file\" {0}/file\n\
         test \"$(grep -c : /proc/net/dev)\" = 1\ntest -z \"$SECRET\"\n\
         ! cat \"$STILLPOINT_TREE{0}/link\" 2>/dev/null\n\
         test \"$(readlink \"$STILLPOINT_TREE{0}/link\")\" = /etc/hostname\n\
         test \"$(ls -d /proc/[0-9]* | wc -l)\" -lt 9\n\
         ! touch \"$STILLPOINT_TREE{0}/new\" 2>/dev/null\necho all there",
        place.display()
    );
    let check = script(&lab, "check.sh", &text);
    let mut command = lab.command(&["drill", "latest", "--json", "--check", &check]);
    let run = super::lab::finish(command.env("SECRET", "x")).expect(0);
    let document = run.json();
    assert_eq!(document["result"], "passed", "{document:#}");
    for words in [
        "the kernel opens it",
        "it is checked",
        "tree is put together",
        "check.sh",
    ] {
        assert_eq!(outcome(&document, words), "passed", "{words}");
    }
    assert!(
        document["steps"].to_string().contains("all there"),
        "{document:#}"
    );
    assert_nothing_attached(&lab.path("run"));

    for drilled in told(&lab) {
        assert_eq!(drilled["result"], "passed", "{drilled}");
        assert_eq!(drilled["check"], check.as_str(), "{drilled}");
    }
    let list = lab.run(&["list"]).expect(0).stdout;
    let told = list.contains("drilled: ") && list.contains(": passed on ");
    assert!(told && list.contains(" says\n"), "{list}");
    lab.run(&["delete", "latest"]).expect(0);
    assert!(drills(&lab).is_empty());
    drop(disk);
}

#[test]
fn a_check_that_fails_fails_the_drill_with_its_last_words() {
    let Some(lab) = Lab::with_vault("cli: a drill whose check fails") else {
        return;
    };
    let _disk = snapshot_of(&lab);
    let check = script(&lab, "check.sh", "echo the ledger is gone\nexit 7");
    let (_, document) = drilled(&lab, &["--check", &check], 1);
    assert_eq!(document["result"], "failed");
    assert_eq!(document["failed_step"], format!("the check {check}"));
    let steps = document["steps"].to_string();
    assert!(
        steps.contains("it exited with 7: the ledger is gone"),
        "{steps}"
    );
    // What came before passed all the same.
    assert_eq!(outcome(&document, "it is checked"), "passed");
    let show = lab.run(&["show", "latest"]).expect(0).stdout;
    assert!(show.contains("failed at: the check"), "{show}");

    // One that does not end proves nothing, and nothing of it stays.
    let sleep = marked_sleep(&lab);
    let check = script(&lab, "slow.sh", &format!("setsid {sleep} & {sleep}"));
    let (_, document) = drilled(&lab, &["--check", &check, "--timeout", "5s"], 3);
    assert_eq!(outcome(&document, "slow.sh"), "not_done");
    let steps = document["steps"].to_string();
    assert!(steps.contains("took longer than"), "{steps}");
    assert!(!is_running(&sleep), "it sleeps on");
    assert_nothing_attached(&lab.path("run"));

    // One that anybody could have written is not run, and nothing is kept of it.
    let count = drills(&lab).len();
    fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
    let run = lab.run(&["drill", "latest", "--check", &check]).expect(2);
    assert!(run.stderr.contains("must be 0700"), "{run:?}");
    assert_eq!(drills(&lab).len(), count);
}

#[test]
fn a_broken_filesystem_fails_at_its_check() {
    let Some(lab) = Lab::with_vault("cli: a drill of a broken filesystem") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    let place = disk.mount("ext4");
    fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    disk.unmount();
    let device = format!("/dev/{}", disk.name());
    // The kernel opens it; only a look at all of it tells.
    tool(
        "debugfs",
        &["-w", "-R", "set_inode_field file links_count 9", &device],
    );
    lab.run(&["snapshot", disk.name(), "--full", "--all-blocks"])
        .expect(0);
    let (_, document) = drilled(&lab, &[], 1);
    assert_eq!(outcome(&document, "the kernel opens it"), "passed");
    assert_eq!(outcome(&document, "it is checked"), "failed");
    assert!(
        document["failed_step"]
            .as_str()
            .unwrap()
            .contains("it is checked")
    );
    assert!(
        document["steps"]
            .to_string()
            .contains("e2fsck: it exited with 4"),
        "{document:#}"
    );
}

/// Spoils chunks, from the first one on or from the middle.
pub fn spoil(path: &Path, from: usize) {
    let mut bytes = fs::read(path).unwrap();
    // The footer at the end stays whole: 48 bytes a chunk, and 192, of which some say how many.
    let trailer = bytes.len() - 192;
    let slots = u32::from_le_bytes(bytes[trailer + 8..trailer + 12].try_into().unwrap());
    let end = trailer - 48 * slots as usize;
    bytes[from..end].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_vault_fails_wherever_the_damage_is() {
    let Some(lab) = Lab::with_vault("cli: a drill of a damaged vault") else {
        return;
    };
    let _disk = snapshot_of(&lab);
    let files = lab.vault_files().into_iter();
    let segments: Vec<(PathBuf, u64)> = files
        .filter(|(path, _)| path.to_str().unwrap().contains("/segments/"))
        .collect();
    let whole: Vec<Vec<u8>> = segments
        .iter()
        .map(|(path, _)| fs::read(path).unwrap())
        .collect();
    for part in [8, 2] {
        for ((path, length), whole) in segments.iter().zip(&whole) {
            fs::write(path, whole).unwrap();
            let from = usize::try_from(*length).unwrap() / part;
            spoil(path, from);
        }
        let document = lab.run(&["drill", "latest", "--json"]).expect(1).json();
        assert_eq!(document["result"], "failed", "{document:#}");
        assert_nothing_attached(&lab.path("run"));
    }
    // From the first chunk on: nothing is found, and that is no excuse.
    for ((path, _), whole) in segments.iter().zip(&whole) {
        fs::write(path, whole).unwrap();
        spoil(path, 128);
    }
    let document = lab.run(&["drill", "latest", "--json"]).expect(1).json();
    assert_eq!(outcome(&document, "what stands there"), "failed");
}
