//! Disks that cannot be read, vaults that are full, lose an object or have a byte flipped: said
//! with the place, and nothing half-done stays.

use super::lab::{Disk, Lab, Run, is_full, noise, tool, try_tool};
use super::table::two_sentences;
use crate::support::host::losetup;
use std::path::PathBuf;

#[test]
fn a_disk_with_unreadable_sectors_is_named_by_the_byte() {
    let Some(lab) = Lab::with_vault("cli: unreadable sectors") else {
        return;
    };
    let disk = lab.disk("disk", 8 << 20);
    std::fs::write(&disk.device, noise(8 << 20, 1)).unwrap();
    tool("sync", &["-d", &disk.device]);
    let file = std::fs::File::options()
        .write(true)
        .open(&disk.image)
        .unwrap();
    file.set_len((5 << 20) + 4096).unwrap();
    let before = lab.vault_files();
    let run = lab.run(&["snapshot", &disk.device]).expect(1);
    let (message, _) = two_sentences("unreadable", &run.stderr);
    assert!(
        message.contains(&((5 << 20) + 4096).to_string()),
        "{message}"
    );
    assert!(message.contains(&disk.device), "{message}");
    assert_eq!(lab.vault_files(), before);
    // A size that shrinks is another disk, and told.
    losetup(&["--set-capacity", &disk.device]);
    lab.run(&["snapshot", &disk.device]).expect(0);
}

#[test]
fn a_full_vault_keeps_what_it_had_and_nothing_else() {
    let Some(lab) = Lab::with_vault("cli: full vault") else {
        return;
    };
    let disk = lab.disk("disk", 48 << 20);
    let at = lab.at("vault");
    std::fs::remove_dir_all(&at).unwrap();
    std::fs::create_dir(&at).unwrap();
    tool("mount", &["-t", "tmpfs", "-o", "size=40m", "tmpfs", &at]);
    let _mounted = Unmount(at.clone());
    lab.run(&["init", &at]).expect(0);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let files = || {
        let found = tool("find", &[&at, "-type", "f", "-size", "+0"]);
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    let before = files();
    std::fs::write(&disk.device, noise(48 << 20, 1)).unwrap();
    for json in [false, true] {
        let args = ["snapshot", &disk.device, "--json"];
        let run = lab.run(&args[..2 + usize::from(json)]).expect(1);
        if json {
            assert_eq!(run.json()["error"]["kind"], "no_space");
        } else {
            let (message, hint) = two_sentences("full", &run.stderr);
            assert!(is_full(&message), "{message}");
            assert!(hint.contains("make room"), "{hint}");
        }
        assert_eq!(files(), before, "objects of the run that failed");
    }
    lab.run(&["verify", "--all"]).expect(0);
    std::fs::write(&disk.device, vec![0; 48 << 20]).unwrap();
    lab.run(&["snapshot", &disk.device]).expect(0);
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = try_tool("umount", &[&self.0]) || try_tool("umount", &["--lazy", &self.0]);
    }
}

/// A vault with one snapshot of a disk of noise.
fn stored(test: &str) -> Option<Lab> {
    stored_of_disk(test).map(|(lab, _)| lab)
}

/// The same with the disk.
fn stored_of_disk(test: &str) -> Option<(Lab, Disk)> {
    let lab = Lab::with_vault(test)?;
    let disk = lab.disk("disk", 4 << 20);
    std::fs::write(&disk.device, noise(4 << 20, 1)).unwrap();
    tool("sync", &["-d", &disk.device]);
    lab.run(&["snapshot", &disk.device]).expect(0);
    Some((lab, disk))
}

fn object(lab: &Lab, folder: &str) -> PathBuf {
    let below = lab.path("vault").join(folder);
    let files = lab.vault_files().into_iter();
    let mut files = files.filter(|(path, _)| path.starts_with(&below));
    files.next().unwrap().0
}

fn whole_again(lab: &Lab) {
    lab.run(&["verify", "--all"]).expect(0);
}

/// Damage is found by verify and by restore, which leaves no file.
fn check_damage(lab: &Lab, what: &str) -> Run {
    let before = lab.files();
    let run = lab.run(&["restore", "latest", &lab.at("out")]).expect(4);
    two_sentences(what, &run.stderr);
    assert_eq!(lab.files(), before, "{what}: a file of a failed restore");
    lab.run(&["verify", "--all"]).expect(4)
}

#[test]
fn a_lost_segment_is_told_with_what_is_lost() {
    let Some(lab) = stored("cli: lost segment") else {
        return;
    };
    let path = object(&lab, "segments");
    let aside = lab.path("aside");
    std::fs::rename(&path, &aside).unwrap();
    let verified = check_damage(&lab, "lost segment");
    assert!(verified.stdout.contains("damaged: 01"), "{verified:?}");
    assert!(
        verified.stdout.contains("cannot be restored"),
        "{verified:?}"
    );
    let run = lab
        .run(&["restore", "latest", &lab.at("out"), "--keep-going"])
        .expect(4);
    assert!(run.stdout.contains("not be restored"), "{run:?}");
    assert!(
        std::fs::read(lab.path("out"))
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    std::fs::rename(&aside, &path).unwrap();
    whole_again(&lab);
}

#[test]
fn a_flipped_byte_is_found_wherever_it_is() {
    let Some(lab) = stored("cli: flipped byte") else {
        return;
    };
    for folder in ["segments", "index", "snapshots", "vault.json"] {
        let path = object(&lab, folder);
        let good = std::fs::read(&path).unwrap();
        for at in [good.len() / 3, good.len() / 2, good.len() - 2] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let verified = check_damage(&lab, folder);
            if folder == "segments" && at < good.len() / 2 {
                assert!(verified.stdout.contains("damaged: 01"), "{verified:?}");
                let run = lab.run(&["restore", "latest", &lab.at("out"), "--keep-going"]);
                let run = run.expect(4);
                assert!(run.stdout.contains("lost: bytes"), "{run:?}");
                let restored = std::fs::read(lab.path("out")).unwrap();
                let expected = noise(4 << 20, 1);
                let differ = restored
                    .iter()
                    .zip(&expected)
                    .filter(|(a, b)| a != b)
                    .count();
                assert!((1..=65536).contains(&differ), "{differ} bytes are lost");
                std::fs::remove_file(lab.path("out")).unwrap();
            }
        }
        std::fs::write(&path, &good).unwrap();
    }
    whole_again(&lab);
}

/// Flips a byte in the middle of the only segment.
fn rot(lab: &Lab, at: impl Fn(usize) -> usize) {
    let path = object(lab, "segments");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
}

#[test]
fn what_verify_found_damaged_is_stored_anew_by_the_next_snapshot() {
    let Some((lab, disk)) = stored_of_disk("cli: noted damage") else {
        return;
    };
    rot(&lab, |length| length / 2);
    let found = lab.run(&["verify", "--all", "--json"]).expect(4).json();
    assert_eq!(found["damage_noted"], "noted");
    let said = lab.run(&["verify", "--all"]).expect(4);
    assert!(said.stdout.contains("noted"), "{said:?}");
    let run = lab.run(&["snapshot", &disk.device]).expect(3);
    assert!(run.stderr.contains("damaged"), "{run:?}");
    // It needs other chunks of that segment, and has lost nothing.
    let newest = lab.run(&["verify", "latest", "--json"]).expect(3).json();
    assert_eq!(newest["damaged"].as_array().unwrap().len(), 0);
    lab.run(&["restore", "latest", &lab.at("out")]).expect(0);
    assert!(std::fs::read(lab.path("out")).unwrap() == noise(4 << 20, 1));
    lab.run(&["snapshot", &disk.device]).expect(0);
    let older = lab.run(&["verify", "--all"]).expect(4);
    assert!(older.stdout.contains("others are whole"), "{older:?}");
}

#[test]
fn damage_by_which_nothing_is_lost_is_a_warning() {
    let Some(lab) = stored("cli: harmless damage") else {
        return;
    };
    // The salt in the header.
    rot(&lab, |_| 20);
    let run = lab.run(&["verify", "--all"]).expect(3);
    assert!(run.stdout.contains("warning: segment"), "{run:?}");
    assert!(run.stdout.contains("nothing is lost"), "{run:?}");
    let json = lab.run(&["verify", "--all", "--json"]).expect(3).json();
    assert_eq!(json["damaged"].as_array().unwrap().len(), 0);
    assert_eq!(json["warnings"].as_array().unwrap().len(), 1);
    lab.run(&["restore", "latest", &lab.at("out")]).expect(0);
}

#[test]
fn a_read_only_vault_is_told_of_where_it_matters() {
    let Some(lab) = stored("cli: read-only vault") else {
        return;
    };
    rot(&lab, |length| length / 2);
    let at = lab.at("readonly");
    std::fs::create_dir(&at).unwrap();
    tool("mount", &["--bind", &lab.at("vault"), &at]);
    let _mounted = Unmount(at.clone());
    tool("mount", &["-o", "remount,bind,ro", &at]);
    let run = lab.run(&["verify", "--all", "--vault", &at]).expect(4);
    for words in ["could not be noted", "Read-only", "snapshot --full"] {
        assert!(run.stdout.contains(words), "{words}: {run:?}");
    }
    let run = lab.run(&["delete", "latest", "--vault", &at]).expect(1);
    let (message, hint) = two_sentences("delete", &run.stderr);
    assert!(message.contains("Read-only"), "{message}");
    assert!(hint.contains("writable"), "{hint}");
    lab.run(&["show", "latest"]).expect(0);
}

#[test]
fn a_vault_without_its_vault_json_is_told_from_no_vault_and_can_be_put_back() {
    let Some((lab, disk)) = stored_of_disk("cli: lost vault.json") else {
        return;
    };
    let info = lab.path("vault/vault.json");
    let good = std::fs::read(&info).unwrap();
    let at = lab.at("vault");
    let run = lab.run(&["init", &at]).expect(1);
    let (message, hint) = two_sentences("init", &run.stderr);
    assert!(message.contains("already"), "{message}");
    assert!(hint.contains("changed"), "{hint}");
    std::fs::remove_file(&info).unwrap();
    for args in [&["list"][..], &["init", &at], &["verify", "--all"]] {
        let run = lab.run(args).expect(4);
        let (message, hint) = two_sentences("lost", &run.stderr);
        assert!(message.contains("was a vault"), "{message}");
        assert!(hint.contains("put vault.json back"), "{hint}");
    }
    assert!(!info.exists(), "init made one");
    let damaged = [&good[..40], b"x", &good[41..]].concat();
    std::fs::write(&info, &damaged).unwrap();
    let run = lab.run(&["list"]).expect(4);
    let (message, hint) = two_sentences("damaged", &run.stderr);
    assert!(message.contains("checksum"), "{message}");
    let line = hint.split_once("this one line does: ").unwrap().1;
    std::fs::write(&info, line).unwrap();
    whole_again(&lab);
    lab.run(&["snapshot", &disk.device]).expect(0);
    whole_again(&lab);
    std::fs::write(&info, &good).unwrap();
    whole_again(&lab);
}
