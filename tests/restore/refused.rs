//! Targets that someone else has laid out, and ways into the vault that do not look so.

use crate::cli::lab::{Disk, Lab, noise, tool};
use crate::restore::qcow2::Unmount;
use crate::support::host::skipped;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

/// A snapshot of a small disk, and a blank one to restore to.
fn taken(test: &str) -> Option<(Lab, Disk)> {
    let lab = Lab::with_vault(test)?;
    let disk = lab.disk("disk", 4 << 20);
    fs::write(&disk.device, noise(1 << 20, 1)).unwrap();
    tool("sync", &["-d", &disk.device]);
    lab.run(&["snapshot", &disk.device]).expect(0);
    let target = lab.disk("target", 4 << 20);
    Some((lab, target))
}

/// `/dev/shm` is below `/dev`, and everyone makes links there.
#[test]
fn a_planted_link_leads_to_no_device() {
    let Some((lab, target)) = taken("restore: planted link") else {
        return;
    };
    assert!(lab.dir.path().starts_with("/dev/shm"), "made for the test");
    let blank = fs::read(&target.device).unwrap();
    let open = lab.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
    symlink(&target.device, open.join("roots-own")).unwrap();
    let theirs = lab.path("theirs");
    fs::create_dir(&theirs).unwrap();
    symlink(&target.device, theirs.join("link")).unwrap();
    chown(&theirs, Some(65534), None).unwrap();
    symlink(&target.device, lab.path("link")).unwrap();
    lchown(lab.path("link"), Some(65534), None).unwrap();
    // A link of root's to one that is not.
    symlink("open/roots-own", lab.path("over")).unwrap();
    // A folder, which leads to the device by its name alone.
    symlink("/dev", lab.path("folder")).unwrap();
    lchown(lab.path("folder"), Some(65534), None).unwrap();
    let over_folder = format!("folder/{}", target.name());
    for name in [
        "open/roots-own",
        "theirs/link",
        "link",
        "over",
        &over_folder,
    ] {
        let run = lab
            .run(&["restore", "latest", &lab.at(name), "--yes"])
            .expect(1);
        for words in ["a symbolic link", "nothing was written"] {
            assert!(run.stderr.contains(words), "{name}: {run:?}");
        }
        assert!(fs::read(&target.device).unwrap() == blank, "{name}");
    }
    // Also a folder for all disks.
    fs::create_dir(lab.path("empty")).unwrap();
    symlink("../empty", open.join("empty")).unwrap();
    let run = lab.run(&["restore", "latest", open.join("empty").to_str().unwrap()]);
    assert!(run.expect(1).stderr.contains("a symbolic link"));
    // Where root alone makes links they are what they always were.
    symlink(&target.device, lab.path("good")).unwrap();
    lab.run(&["restore", "latest", &lab.at("good")]).expect(0);
    assert!(fs::read(&target.device).unwrap()[..1 << 20] == noise(1 << 20, 1));
}

#[test]
fn the_vault_is_known_under_another_path() {
    let Some((lab, _target)) = taken("restore: vault by another path") else {
        return;
    };
    let other = lab.path("other");
    fs::create_dir(&other).unwrap();
    let at = other.to_str().unwrap();
    if !crate::cli::lab::try_tool("mount", &["--bind", &lab.at("vault"), at]) {
        return skipped("restore: vault by another path", "no bind mounts");
    }
    let unmount = Unmount(at.to_owned());
    let before = lab.vault_files();
    let info = fs::read(other.join("vault.json")).unwrap();
    fs::create_dir(other.join("empty")).unwrap();
    for target in ["vault.json", "image", "segments/image", "empty"] {
        let target = other.join(target);
        let args = ["restore", "latest", target.to_str().unwrap(), "--force"];
        let run = lab.run(&args).expect(2);
        assert!(run.stderr.contains("inside"), "{run:?}");
    }
    assert_eq!(lab.vault_files(), before);
    assert_eq!(fs::read(other.join("vault.json")).unwrap(), info);
    drop(unmount);
    // What stands beside it is not in it.
    lab.run(&["restore", "latest", &lab.at("image")]).expect(0);
}
