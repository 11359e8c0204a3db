//! `verify --files`: the files that have lost bytes are those that cannot be read, and no others.

use crate::mount::attached::assert_nothing_attached;
use crate::support::cli::Cli;
use crate::support::host::{LoopDisk, Mount, format, noise, partition, run};
use crate::support::rig::Rig;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const LENGTH: usize = 150_000;
const FILES: u64 = 40;

/// An ext4 in a partition, which is mounted, and an xfs on a whole disk, which is not.
struct LossScene {
    cli: Cli,
    _disks: [LoopDisk; 2],
    mount: Mount,
}

impl LossScene {
    fn new(test: &str) -> Option<Self> {
        Rig::new(test)?;
        let cli = Cli::new();
        let disks = [64, 320].map(|mib| LoopDisk::new(mib << 20));
        partition(disks[0].path(), &[(2048, 100_000)]);
        let part = std::format!("{}p1", disks[0].device);
        format("ext4", &part);
        let mount = Mount::somewhere(Path::new(&part), "rw");
        fill(&mount.place, 0);
        format("xfs", &disks[1].device);
        let other = Mount::somewhere(disks[1].path(), "rw");
        fill(&other.place, FILES);
        drop(other);
        run("sync", &["-f", mount.path()]);
        cli.run(&["init", cli.vault()]).expect(0);
        let names = disks.each_ref().map(|disk| disk.device.as_str());
        let taken = cli.run(&["snapshot", names[0], names[1], "--json"]);
        assert!(matches!(taken.code, Some(0 | 3)), "{taken:?}");
        Some(Self {
            cli,
            _disks: disks,
            mount,
        })
    }

    /// Damages what the vault has of a file, at some place in it: also what was stored before the
    /// instant of the snapshot, and stored again.
    fn damage(&self, file: u64, at: usize) {
        let wanted = &noise(LENGTH, file)[at..at + 32];
        let mut damaged = 0;
        for segment in segments(&Path::new(self.cli.vault()).join("segments")) {
            let bytes = fs::read(&segment).unwrap();
            let places = bytes.windows(32).enumerate();
            for (at, _) in places.filter(|(_, window)| *window == wanted) {
                let file = File::options().write(true).open(&segment).unwrap();
                file.write_all_at(&[!bytes[at]], at as u64).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "file {file} is nowhere in the vault");
    }

    fn verify(&self, code: i32) -> Value {
        let verified = self.cli.run(&["verify", "latest", "--files", "--json"]);
        verified.expect(code).json()
    }

    /// What cannot be read of it.
    fn unread(&self, args: &[&str]) -> BTreeSet<PathBuf> {
        let to = self.cli.folder().join("copy");
        let args = [&["cp", "--json"], args, &[to.to_str().unwrap()]].concat();
        let document = self.cli.run(&args).json();
        fs::remove_dir_all(&to).unwrap();
        let failed = document["failed"].as_array().unwrap();
        failed.iter().map(path).collect()
    }
}

/// Some of them deep, some with a hole, and some of which the beginning alone is ever written.
fn fill(top: &Path, first: u64) {
    fs::create_dir_all(top.join("tree/deep/er")).unwrap();
    for number in first..first + FILES {
        let place = match number % 4 {
            0 => std::format!("tree/deep/er/file{number}"),
            _ => std::format!("tree/file{number}"),
        };
        let file = File::create(top.join(place)).unwrap();
        let bytes = noise(LENGTH, number);
        file.write_all_at(&bytes, (number % 3) << 20).unwrap();
    }
    fs::write(top.join("tree/tiny"), "tiny").unwrap();
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(segments(&path)),
            false => all.push(path),
        }
    }
    all
}

fn path(document: &Value) -> PathBuf {
    document["path"].as_str().unwrap().into()
}

#[test]
fn the_files_that_have_lost_bytes_are_those_that_cannot_be_read() {
    let Some(scene) = LossScene::new("browse: lost files") else {
        return;
    };
    let whole = scene.verify(0);
    assert!(whole.get("lost_files").is_none(), "{whole}");
    for (file, at) in [
        (3, 0),
        (8, 70_000),
        (8, 140_000),
        (21, 149_000),
        (46, 60_000),
    ] {
        scene.damage(file, at);
    }
    let document = scene.verify(4);
    let [found] = document["lost_files"].as_array().unwrap().as_slice() else {
        panic!("{document}");
    };
    assert_eq!(found["not_asked"], serde_json::json!([]), "{document}");
    assert_eq!(found["more_files"], 0);
    let files = found["files"].as_array().unwrap();
    let named = |mounted: bool| -> BTreeSet<PathBuf> {
        let files = files.iter().filter(|file| file["mounted"] == mounted);
        files.map(path).collect()
    };
    let mounted = scene.mount.place.join("tree");
    let tree = std::format!("latest:{}", mounted.display());
    assert_eq!(named(true), scene.unread(&[&tree]));
    assert!(
        named(true).contains(&mounted.join("deep/er/file8")),
        "{document}"
    );
    let disk = document["damaged"].as_array().unwrap();
    let disk = disk
        .iter()
        .find(|one| one["partitions"][0]["partition"].is_null());
    let disk = disk.unwrap()["disk"].as_str().unwrap().to_owned();
    assert_eq!(
        named(false),
        scene.unread(&["--disk", &disk, "latest:/tree"])
    );
    assert!(!named(false).is_empty());
    let lost: u64 = files
        .iter()
        .map(|file| file["lost_bytes"].as_u64().unwrap())
        .sum();
    let damaged = document["damaged"].as_array().unwrap();
    let all: u64 = damaged
        .iter()
        .map(|one| one["lost_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(
        lost + found["in_no_file_bytes"].as_u64().unwrap(),
        all,
        "{document}"
    );
    let said = scene.cli.run(&["verify", "latest", "--files"]).expect(4);
    let line = std::format!("  {}/deep/er/file8: ", mounted.display());
    assert!(said.stdout.contains(&line), "{said:?}");
    assert_nothing_attached(&scene.cli.folder().join("run"));
}
