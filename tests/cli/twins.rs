//! Disks that are not the only way to what they hold, and parents that could be another disk's:
//! copies beside the original, manifests of a newer version.

use super::lab::{Disk, Lab};
use super::table::two_sentences;
use crate::support::host::attach;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use stillpoint::model::SnapshotId;

/// Another loop device on a file.
/// The image once more; beside the device it has, or after one that was detached.
fn again(image: &Path, options: &[&str]) -> Disk {
    let device = attach(image, options);
    Disk {
        device: device.to_str().unwrap().to_owned(),
        image: image.to_owned(),
        mounted: None,
    }
}

/// Whoever looks at a loop device keeps it from going at once.
fn wait_until_detached(image: &Path) {
    let shown = || {
        let asked = Command::new("losetup")
            .arg("--associated")
            .arg(image)
            .output();
        !asked.unwrap().stdout.is_empty()
    };
    for _ in 0..1000 {
        if !shown() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} is still attached", image.display());
}

#[test]
fn two_loop_devices_on_one_file_are_refused() {
    let Some(lab) = Lab::with_vault("twins: two loops on one file") else {
        return;
    };
    let one = lab.disk("file", 8 << 20);
    let before = lab.vault_files();
    // Under another name: what counts is the file.
    fs::hard_link(&one.image, lab.path("other name")).unwrap();
    let two = again(&lab.path("other name"), &[]);
    for (disk, other) in [(&one, &two), (&two, &one)] {
        let run = lab.run(&["snapshot", &disk.device]).expect(5);
        let (message, hint) = two_sentences("two loops", &run.stderr);
        assert!(
            message.contains(disk.name()) && message.contains(other.name()),
            "{message}"
        );
        assert!(
            hint.contains(&format!("--detach {}", other.device)),
            "{hint}"
        );
    }
    let good = lab.disk("good", 1 << 20);
    let args = ["snapshot", &one.device, &good.device, "--partial", "--json"];
    let rest = lab.run(&args).expect(3).json();
    assert_eq!(rest["disks"][0]["disk"], good.name());
    assert_eq!(rest["left_out"][0]["disk"], one.name());
    assert_ne!(lab.vault_files(), before);
    drop(two);
    lab.run(&["snapshot", &one.device]).expect(0);
}

#[test]
fn two_loop_devices_on_parts_of_one_file_are_refused_where_they_meet() {
    let Some(lab) = Lab::with_vault("twins: parts of one file") else {
        return;
    };
    let image = lab.path("file");
    File::create_new(&image).unwrap().set_len(8 << 20).unwrap();
    let first = again(&image, &["--sizelimit", "4194304"]);
    let second = again(&image, &["--offset", "4194304"]);
    lab.run(&["snapshot", &first.device, &second.device])
        .expect(0);
    let across = again(&image, &["--offset", "4128768", "--sizelimit", "131072"]);
    for disk in [&first, &second, &across] {
        lab.run(&["snapshot", &disk.device]).expect(5);
    }
}

/// A partition table with this name; the kernel is not told.
fn name_table(disk: &Disk, id: u32) {
    let mut entry = [0; 72];
    entry[..4].copy_from_slice(&id.to_le_bytes());
    entry[10] = 0x83;
    entry[14..18].copy_from_slice(&2048u32.to_le_bytes());
    entry[18..22].copy_from_slice(&2048u32.to_le_bytes());
    entry[70..].copy_from_slice(&[0x55, 0xaa]);
    let device = File::options().write(true).open(&disk.device).unwrap();
    device.write_all_at(&entry, 440).unwrap();
    device.sync_all().unwrap();
}

#[test]
fn a_copy_beside_the_original_does_not_take_its_parent() {
    let Some(lab) = Lab::with_vault("twins: a copy") else {
        return;
    };
    let (original, copy) = (lab.disk("original", 4 << 20), lab.disk("copy", 4 << 20));
    let id = std::process::id();
    name_table(&original, id);
    let taken = |disk: &Disk| lab.json(&["snapshot", &disk.device]);
    let first = taken(&original);
    name_table(&copy, id);
    let of_copy = taken(&copy);
    assert_eq!(of_copy["disks"][0]["mode"], "full", "{of_copy}");
    let second = taken(&original);
    assert_eq!(second["disks"][0]["parent"], first["snapshot"]);
    assert_eq!(second["disks"][0]["mode"], "incremental");
    assert_eq!(taken(&copy)["disks"][0]["parent"], of_copy["snapshot"]);

    let both = ["snapshot", &original.device, &copy.device];
    let run = lab.run(&both).expect(5);
    let (message, _) = two_sentences("a copy", &run.stderr);
    assert!(message.contains("apart"), "{message}");
    let partial = lab.run(&[&both[..], &["--partial", "--json"]].concat());
    let partial = partial.expect(3).json();
    assert_eq!(partial["left_out"][0]["disk"], copy.name());
    assert_eq!(partial["disks"][0]["disk"], original.name());

    // Found again under another name: nothing else here has that table.
    drop(copy);
    let image = original.image.clone();
    let held = lab.disk("held", 1 << 20);
    drop(original);
    wait_until_detached(&image);
    let renamed = again(&image, &["--direct-io=on"]);
    let third = taken(&renamed);
    assert_ne!(third["disks"][0]["mode"], "full", "{third}");
    drop(held);
}

#[test]
fn a_manifest_of_a_newer_version_is_no_parent_and_no_obstacle() {
    let Some(lab) = Lab::with_vault("twins: a newer manifest") else {
        return;
    };
    let disk = lab.disk("disk", 2 << 20);
    let first = lab.json(&["snapshot", &disk.device]);
    let first = first["snapshot"].as_str().unwrap();
    let manifests = lab.vault_files().into_iter().map(|(path, _)| path);
    let mut manifests = manifests.filter(|path| path.ends_with(first));
    let manifest = manifests.next().unwrap();
    // After magic, the version; at the end, the checksum of all before.
    let mut bytes = fs::read(&manifest).unwrap();
    let newer = stillpoint::format::VERSION + 1;
    bytes[8..10].copy_from_slice(&newer.to_le_bytes());
    let end = bytes.len() - 32;
    let hash = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(hash.as_bytes());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let later = SnapshotId::generate(u64::try_from(now).unwrap()).to_string();
    fs::write(manifest.with_file_name(&later), bytes).unwrap();
    let run = lab.run(&["snapshot", &disk.device, "--json"]).expect(3);
    let second = run.json();
    assert_eq!(second["disks"][0]["parent"], first, "{second}");
    let warnings = second["warnings"].to_string();
    assert!(warnings.contains("parent"), "{warnings}");
}

/// A switch below `/sys` that is off, until it is dropped: the next disk with that number is
/// another test's.
struct SwitchedOff<'a>(&'a str);

impl<'a> SwitchedOff<'a> {
    fn new(switch: &'a str) -> Self {
        fs::write(switch, "0").unwrap();
        Self(switch)
    }
}

impl Drop for SwitchedOff<'_> {
    fn drop(&mut self) {
        fs::write(self.0, "1").unwrap();
    }
}

#[test]
fn a_disk_that_is_not_counted_is_refused_at_once() {
    let Some(lab) = Lab::with_vault("twins: not counted") else {
        return;
    };
    let disk = lab.disk("disk", 1 << 20);
    let switch = format!("/sys/block/{}/queue/iostats", disk.name());
    for tracked in [false, true] {
        let counting = SwitchedOff::new(&switch);
        let run = lab.run(&["snapshot", &disk.device]).expect(5);
        let (message, hint) = two_sentences("not counted", &run.stderr);
        assert!(message.contains("not count"), "{message}");
        assert!(
            hint.contains("echo 1 >") && hint.contains("iostats"),
            "{hint}"
        );
        let doctor = lab.run(&["doctor"]).expect(3);
        assert!(doctor.stdout.contains(&switch), "{doctor:?}");
        drop(counting);
        if !tracked {
            lab.run(&["snapshot", &disk.device]).expect(0);
        }
    }
}
