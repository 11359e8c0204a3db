//! What a drill must not call proven, nor wrong what it could not try: damage where nothing is
//! mounted, one bad filesystem among good ones, old programs, results that are put elsewhere.

use super::drill::{drilled, drills, is_running, marked_sleep, outcome, script, snapshot_of, told};
use super::lab::{Disk, Lab, PROGRAM, code_of, noise, tool, try_tool, wait};
use crate::mount::attached::assert_nothing_attached;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stillpoint::format::{Manifest, Sealer};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 64 * MIB;
const EACH: u64 = 12 * MIB;

/// A disk with partitions of an MBR that nothing is mounted from, nor known to the kernel: from
/// each 12 MiB on, 12 MiB each.
fn parted(lab: &Lab, kinds: &[&str]) -> Disk {
    let disk = lab.disk("parted", SIZE);
    let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap();
    let mut table = vec![0; 66];
    for (at, kind) in kinds.iter().enumerate() {
        let start = EACH * (at as u64 + 1);
        let entry = &mut table[16 * at..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&sectors(start).to_le_bytes());
        entry[12..16].copy_from_slice(&sectors(EACH).to_le_bytes());
        let image = lab.path(&format!("part{at}"));
        File::create(&image).unwrap().set_len(EACH).unwrap();
        let path = image.to_str().unwrap();
        match *kind {
            "vfat" => drop(tool("mkfs.fat", &["-F", "12", path])),
            "ext4" => drop(tool("mkfs.ext4", &["-q", path])),
            // Its blocks' tables lead nowhere: the kernel opens none such.
            "broken" => {
                tool("mkfs.ext4", &["-q", "-b", "1024", path]);
                let image = File::options().write(true).open(&image).unwrap();
                image.write_all_at(&[0xff; 1024], 2048).unwrap();
            }
            // Made by a later version than any that is here.
            "later" => {
                tool("mkfs.ext4", &["-q", path]);
                tool("debugfs", &["-w", "-R", "feature FEATURE_C13", path]);
            }
            // The same of the kernel.
            "newer" => {
                tool("mkfs.ext4", &["-q", path]);
                tool("debugfs", &["-w", "-R", "feature FEATURE_I20", path]);
            }
            "nothing" => fs::write(&image, noise(EACH as usize, 5)).unwrap(),
            _ => panic!("{kind}"),
        }
        let device = File::options().write(true).open(&disk.device).unwrap();
        device
            .write_all_at(&fs::read(&image).unwrap(), start)
            .unwrap();
    }
    table[64..].copy_from_slice(&[0x55, 0xaa]);
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(&table, 446).unwrap();
    device.sync_all().unwrap();
    disk
}

fn segments(lab: &Lab) -> Vec<PathBuf> {
    let files = lab.vault_files().into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.to_str().unwrap().contains("/segments/"))
        .collect()
}

/// The slots of a segment whose chunks have such a length.
fn slots_of(path: &Path, fits: fn(usize) -> bool) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let trailer = bytes.len() - 192;
    let count = number(trailer + 8);
    let length = |slot: &usize| number(trailer - 48 * count + 48 * slot + 4);
    (0..count).filter(|slot| fits(length(slot))).collect()
}

/// Spoils one chunk of a segment.
fn spoil_slot(path: &Path, slot: usize) {
    let mut bytes = fs::read(path).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let trailer = bytes.len() - 192;
    let entry = trailer - 48 * number(trailer + 8) + 48 * slot;
    let (start, length) = (number(entry), number(entry + 4));
    bytes[start + 24..start + length]
        .iter_mut()
        .for_each(|byte| *byte ^= 0xff);
    fs::write(path, bytes).unwrap();
}

/// A script that does not look at what it reads proves nothing of it: the read that failed tells.
#[test]
fn a_script_that_passes_over_damage_proves_nothing() {
    let Some(lab) = Lab::with_vault("cli: a drill whose script is blind") else {
        return;
    };
    let _disk = snapshot_of(&lab);
    let [segment] = segments(&lab).try_into().unwrap();
    // Noise packs into nothing smaller, and only the file holds any: so no other step reads it.
    let noise = slots_of(&segment, |length| length > 60_000);
    spoil_slot(&segment, noise[noise.len() / 2]);
    let place = lab.path("disk.mnt");
    let text = format!(
        "cat \"$STILLPOINT_TREE{}/file\" >/dev/null 2>&1\nexit 0",
        place.display()
    );
    let check = script(&lab, "blind.sh", &text);
    let (_, document) = drilled(&lab, &["--check", &check], 1);
    assert_eq!(outcome(&document, "blind.sh"), "passed", "{document:#}");
    let step = "all that was asked of its disks could be read";
    assert_eq!(document["failed_step"], step, "{document:#}");
    assert_told(&lab, "failed", 1);
}

#[test]
fn partitions_that_were_not_mounted_are_proven_and_missed() {
    let Some(lab) = Lab::with_vault("cli: a drill of partitions") else {
        return;
    };
    let disk = parted(&lab, &["ext4", "ext4"]);
    let snapshot = ["snapshot", disk.name(), "--full", "--all-blocks"];
    lab.run(&snapshot).expect(0);
    // The host had no tree, so none is missed.
    let (_, document) = drilled(&lab, &[], 0);
    assert_eq!(document["result"], "passed", "{document:#}");
    let [segment] = segments(&lab).try_into().unwrap();
    let whole = fs::read(&segment).unwrap();
    // Chunks stand in the order in which they were packed, so each is spoiled in turn.
    let mut failed = BTreeMap::new();
    for slot in slots_of(&segment, |_| true) {
        fs::write(&segment, &whole).unwrap();
        spoil_slot(&segment, slot);
        let document = lab.run(&["drill", "latest", "--json"]).json();
        let step = document["failed_step"].as_str().unwrap_or_default();
        failed.insert(step.to_owned(), document);
    }
    // The table, and the beginning of the first partition.
    for words in [disk.name().to_owned(), format!("{}p1", disk.name())] {
        let step = format!("{words}: what stands there");
        let document = failed
            .get(&step)
            .unwrap_or_else(|| panic!("{step}: {failed:#?}"));
        assert_eq!(outcome(document, &step), "failed", "{document:#}");
        assert_eq!(document["result"], "failed", "{document:#}");
    }
    let first = &failed[&format!("{}p1: what stands there", disk.name())];
    assert_eq!(outcome(first, "p2 (ext4): it is checked"), "passed");
}

#[test]
fn one_bad_filesystem_harms_no_other_one() {
    let Some(lab) = Lab::with_vault("cli: a drill of one bad filesystem among good ones") else {
        return;
    };
    let disk = parted(&lab, &["ext4", "broken", "vfat", "ext4"]);
    lab.run(&["snapshot", disk.name(), "--full", "--all-blocks"])
        .expect(0);
    let (_, document) = drilled(&lab, &[], 1);
    for (words, wanted) in [
        ("p1 (ext4): it is checked", "passed"),
        ("p2 (ext4): the kernel opens it", "failed"),
        ("p4 (ext4): the kernel opens it", "passed"),
        ("p4 (ext4): it is checked", "passed"),
    ] {
        assert_eq!(outcome(&document, words), wanted, "{words}: {document:#}");
    }
    let fat = outcome(&document, "p3 (vfat): the kernel opens it");
    // As this kernel has a driver for it or not.
    let has_driver = fs::read_to_string("/proc/filesystems")
        .unwrap()
        .contains("vfat");
    assert!(
        fat == "passed" || (!has_driver && fat == "not_done"),
        "{fat}"
    );
}

#[test]
fn what_is_not_known_is_neither_proven_nor_wrong() {
    let Some(lab) = Lab::with_vault("cli: a drill of what is not known") else {
        return;
    };
    let disk = parted(&lab, &["ext4", "nothing", "later", "newer"]);
    lab.run(&["snapshot", disk.name(), "--full", "--all-blocks"])
        .expect(0);
    let (_, document) = drilled(&lab, &[], 3);
    assert_eq!(document["result"], "incomplete", "{document:#}");
    assert_eq!(outcome(&document, "p2: what stands there"), "not_done");
    assert_eq!(outcome(&document, "p3 (ext4): it is checked"), "not_done");
    assert_eq!(
        outcome(&document, "p4 (ext4): the kernel opens it"),
        "not_done"
    );
    let steps = document["steps"].to_string();
    assert!(steps.contains("newer version of e2fsck"), "{steps}");
    for drilled in told(&lab) {
        assert_eq!(drilled["result"], "incomplete", "{drilled}");
    }
}

#[test]
fn a_filesystem_without_a_log_is_not_called_broken_for_having_been_in_use() {
    let Some(lab) = Lab::with_vault("cli: a drill of a filesystem without a log") else {
        return;
    };
    let mut disk = lab.disk("disk", 24 << 20);
    tool("mkfs.ext4", &["-q", "-O", "^has_journal", &disk.device]);
    let place = disk.mount_again("ext4");
    fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
    let open = File::open(place.join("file")).unwrap();
    fs::remove_file(place.join("file")).unwrap();
    lab.run(&["snapshot", disk.name(), "--full"]).expect(0);
    drop(open);
    let (_, document) = drilled(&lab, &[], 3);
    assert_eq!(
        outcome(&document, "it is checked"),
        "not_done",
        "{document:#}"
    );
    let steps = document["steps"].to_string();
    assert!(steps.contains("it has no log and was in use"), "{steps}");
}

#[test]
fn other_filesystems_pass_while_they_are_in_use() {
    let Some(lab) = Lab::with_vault("cli: drills of xfs and btrfs") else {
        return;
    };
    for (kind, size) in [("xfs", 320 * MIB), ("btrfs", 128 * MIB)] {
        if !try_tool("which", &[&format!("mkfs.{kind}")]) {
            crate::support::host::skipped("cli: drills of xfs and btrfs", kind);
            continue;
        }
        let mut disk = lab.disk(kind, size);
        let place = disk.mount(kind);
        fs::write(place.join("file"), noise(1 << 20, 1)).unwrap();
        let open = File::create(place.join("gone")).unwrap();
        open.write_all_at(&noise(1 << 20, 2), 0).unwrap();
        fs::remove_file(place.join("gone")).unwrap();
        for level in ["crash", "filesystem"] {
            lab.run(&["snapshot", disk.name(), "--full", "--level", level])
                .expect(0);
            let (_, document) = drilled(&lab, &[], 0);
            assert_eq!(
                outcome(&document, "it is checked"),
                "passed",
                "{document:#}"
            );
        }
        drop(open);
    }
}

/// The one drill that is there and was not there before.
fn added(lab: &Lab, before: &[PathBuf]) -> PathBuf {
    let mut new = drills(lab);
    new.retain(|path| !before.contains(path));
    let [one] = new.try_into().unwrap();
    one
}

#[track_caller]
fn assert_told(lab: &Lab, result: &str, count: u64) {
    for drilled in told(lab) {
        let told = (&drilled["result"], &drilled["count"]);
        assert_eq!(told, (&result.into(), &count.into()), "{drilled}");
    }
}

#[test]
fn no_older_result_stands_for_a_newer_one() {
    let Some(lab) = Lab::with_vault("cli: results of drills in another order") else {
        return;
    };
    let _disk = snapshot_of(&lab);
    drilled(&lab, &[], 0);
    let passed = added(&lab, &[]);
    assert_told(&lab, "passed", 1);
    let check = script(&lab, "check.sh", "exit 7");
    drilled(&lab, &["--check", &check], 1);
    let failed = added(&lab, std::slice::from_ref(&passed));
    assert_told(&lab, "failed", 2);
    // The good one put again, which gives it a new time.
    let bytes = fs::read(&passed).unwrap();
    fs::remove_file(&passed).unwrap();
    fs::write(&passed, &bytes).unwrap();
    assert_told(&lab, "failed", 2);
    // Under a name that sorts after all others. A vault's times may be whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    let ahead = passed.with_file_name("7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    fs::write(&ahead, &bytes).unwrap();
    assert_told(&lab, "unknown", 3);
    let list = lab.run(&["list"]).expect(0).stdout;
    assert!(
        list.contains(": unknown; of the newest drill: it cannot be read"),
        "{list}"
    );
    // Nor does that hide the next one for ever.
    drilled(&lab, &[], 0);
    let mut before = vec![passed.clone(), failed.clone(), ahead.clone()];
    let newest = added(&lab, &before);
    assert_told(&lab, "passed", 4);
    // A newer one that nobody can read is no reason to tell of an older one.
    fs::write(&newest, "rubbish").unwrap();
    assert_told(&lab, "unknown", 4);
    fs::remove_file(&newest).unwrap();
    fs::remove_file(&ahead).unwrap();
    before.retain(|path| *path != ahead);
    assert_told(&lab, "failed", 2);
    // It is of the very manifest that was tried.
    fs::remove_file(&failed).unwrap();
    assert_told(&lab, "passed", 1);
    change_manifest(&lab);
    assert_told(&lab, "unknown", 1);
    drilled(&lab, &[], 0);
    assert_told(&lab, "passed", 2);
    lab.run(&["delete", "latest"]).expect(0);
    assert!(drills(&lab).is_empty());
}

/// Puts another manifest of the same name in the place of the only one, as who can write may.
fn change_manifest(lab: &Lab) {
    let files = lab.vault_files().into_iter().map(|(path, _)| path);
    let mut files = files.filter(|path| path.to_str().unwrap().contains("/snapshots/"));
    let path = files.next().unwrap();
    let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let info: Value =
        serde_json::from_slice(&fs::read(lab.path("vault/vault.json")).unwrap()).unwrap();
    let vault = info["vault"]["id"].as_str().unwrap().parse().unwrap();
    let sealer = Sealer::without_keys();
    let mut manifest = Manifest::decode(&fs::read(&path).unwrap(), &sealer, id, vault).unwrap();
    manifest.tags.insert("other".into(), "bytes".into());
    fs::remove_file(&path).unwrap();
    fs::write(&path, manifest.encode(&sealer).unwrap()).unwrap();
    let _ = fs::remove_dir_all(lab.path("cache"));
}

#[test]
fn a_drill_that_is_ended_in_its_middle_is_kept() {
    let Some(lab) = Lab::with_vault("cli: a drill without time") else {
        return;
    };
    let _disk = snapshot_of(&lab);
    drilled(&lab, &[], 0);
    // Before anything of it is seen.
    lab.run(&["drill", "latest", "--timeout", "18446744073709551615s"])
        .expect(0);
    fs::remove_file(drills(&lab).pop().unwrap()).unwrap();
    let (_, document) = drilled(&lab, &["--timeout", "0s"], 3);
    let steps = document["steps"].to_string();
    assert!(steps.contains("time was over"), "{steps}");
    assert_eq!(drills(&lab).len(), 2);
    assert_told(&lab, "incomplete", 2);
}

#[test]
fn a_script_judges_no_tree_that_is_there_in_part() {
    let Some(lab) = Lab::with_vault("cli: a check of a part of a tree") else {
        return;
    };
    let mut top = lab.disk("top", 24 << 20);
    let place = top.mount("ext4");
    let mut below = lab.disk("below", 128 << 20);
    // Not opened here: its superblock bears another sum than crc32c.
    tool("mkfs.btrfs", &["-q", "--csum", "xxhash", &below.device]);
    let data = place.join("data");
    fs::create_dir(&data).unwrap();
    tool(
        "mount",
        &["-t", "btrfs", &below.device, data.to_str().unwrap()],
    );
    below.mounted = Some(data.clone());
    fs::write(data.join("file"), "here").unwrap();
    lab.run(&["snapshot", top.name(), below.name(), "--full"])
        .expect(0);
    let text = format!("test -s $STILLPOINT_TREE{}/file", data.display());
    let check = script(&lab, "check.sh", &text);
    let (_, document) = drilled(&lab, &["--check", &check], 3);
    assert_eq!(outcome(&document, "check.sh"), "not_done", "{document:#}");
    assert!(
        document["steps"].to_string().contains("there in part"),
        "{document:#}"
    );
    below.unmount();
    top.unmount();
}

#[test]
fn nothing_of_a_check_outlives_it_nor_a_killed_drill() {
    let Some(lab) = Lab::with_vault("cli: what a check leaves behind") else {
        return;
    };
    let _disk = snapshot_of(&lab);
    let sleep = marked_sleep(&lab);
    let check = script(
        &lab,
        "leaves.sh",
        &format!("setsid {sleep} >/dev/null 2>&1 &\nexit 0"),
    );
    let (_, document) = drilled(&lab, &["--check", &check], 0);
    assert_eq!(outcome(&document, "leaves.sh"), "passed");
    assert!(!is_running(&sleep), "it sleeps on");
    assert_nothing_attached(&lab.path("run"));

    let text = format!("cd $STILLPOINT_TREE\nsetsid {sleep} &\n{sleep}");
    let check = script(&lab, "hangs.sh", &text);
    let mut killed = lab
        .command(&["drill", "latest", "--check", &check])
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !is_running(&sleep) {
        assert!(Instant::now() < until, "{PROGRAM} runs no check");
        std::thread::sleep(Duration::from_millis(10));
    }
    killed.kill().unwrap();
    assert_eq!(code_of(wait(&mut killed, "drill")), -9);
    while is_running(&sleep) {
        assert!(Instant::now() < until, "it sleeps on");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_nothing_attached(&lab.path("run"));
}
