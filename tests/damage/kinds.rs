//! Things in a vault's directory that are no files, or not of the vault. Nothing may hang.

use super::{Truth, Verdict, judge, sample_disks, sample_step, truth_of};
use crate::support::vaults::{Taken, check_all, vault_options, verify_all};
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stillpoint::store::{LocalStore, Vault};
use tempfile::TempDir;

struct OnDisk {
    folder: TempDir,
    truth: Vec<Truth>,
    taken: Vec<Taken>,
}

fn on_disk() -> OnDisk {
    let folder = tempfile::tempdir().unwrap();
    let vault =
        Arc::new(Vault::create_local(&folder.path().join("vault"), vault_options()).unwrap());
    let disks = sample_disks();
    let taken: Vec<Taken> = (0..3)
        .map(|step| sample_step(&vault, &disks, step))
        .collect();
    OnDisk {
        truth: truth_of(&vault, &taken),
        taken,
        folder,
    }
}

impl OnDisk {
    fn root(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path),
                }
            }
        }
        found.sort();
        found
    }

    fn judge(&self, what: &str) -> Verdict {
        let store = LocalStore::open(&self.root()).unwrap();
        judge(Arc::new(store), &self.truth, what)
    }
}

type Replace = fn(&Path, &Path);

const KINDS: [(&str, Replace); 6] = [
    ("symlink to itself moved away", |path, aside| {
        fs::rename(path, aside).unwrap();
        std::os::unix::fs::symlink(aside, path).unwrap();
        // Its content is right, but nobody says for how long.
    }),
    ("dangling symlink", |path, _| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("nowhere", path).unwrap();
    }),
    ("directory", |path, _| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("fifo", |path, _| {
        fs::remove_file(path).unwrap();
        nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)).unwrap();
    }),
    ("socket", |path, _| {
        fs::remove_file(path).unwrap();
        // A path longer than a socket's may be is bound through a shorter one.
        let folder = File::open(path.parent().unwrap()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let name = path.file_name().unwrap().to_str().unwrap();
        std::os::unix::net::UnixListener::bind(format!("/proc/self/fd/{fd}/{name}")).unwrap();
    }),
    ("huge sparse file", |path, _| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(1 << 43).unwrap();
    }),
];

#[test]
fn what_is_no_file_is_damage_and_never_hangs() {
    let vault = on_disk();
    let aside = vault.folder.path().join("aside");
    for path in vault.files() {
        let bytes = fs::read(&path).unwrap();
        for (kind, replace) in KINDS {
            replace(&path, &aside);
            let what = format!("{} is a {kind}", path.display());
            assert_eq!(vault.judge(&what), Verdict::Found, "{what}");
            match path.symlink_metadata().unwrap().is_dir() {
                true => fs::remove_dir(&path).unwrap(),
                false => fs::remove_file(&path).unwrap(),
            }
            fs::write(&path, &bytes).unwrap();
        }
    }
    assert_eq!(vault.judge("all put back"), Verdict::Harmless);
}

#[test]
fn what_is_not_of_the_vault_is_ignored() {
    let vault = on_disk();
    let at = |name: &str| vault.root().join(name);
    let host = at("snapshots/host");
    for folder in [
        "lost+found",
        "segments/lost+found",
        "snapshots/lost+found",
        ".snapshot",
    ] {
        fs::create_dir(at(folder)).unwrap();
        fs::write(at(folder).join("#1234"), "x").unwrap();
    }
    for file in [
        ".DS_Store",
        "README",
        "index/.tmp-0123",
        "index/x.bak",
        "segments/README",
        "snapshots/README",
        "snapshots/host/.nfs0001",
        "snapshots/host/notes.txt",
        "snapshots/host/01ABC",
    ] {
        fs::write(at(file), "not of the vault").unwrap();
    }
    fs::create_dir(host.join("folder")).unwrap();
    let open = Vault::open_local(&vault.root()).unwrap();
    check_all(&open, &vault.taken);
    assert_eq!(vault.judge("strays"), Verdict::Harmless);
}

#[test]
fn a_copy_of_a_manifest_beside_it_is_found_and_hides_nothing() {
    let vault = on_disk();
    let id = vault.taken[0].manifest.snapshot.to_string();
    let path = vault.root().join("snapshots/host").join(&id);
    fs::copy(&path, path.with_file_name(id.to_lowercase())).unwrap();
    let open = Vault::open_local(&vault.root()).unwrap();
    let report = verify_all(&open).unwrap();
    assert_eq!(report.broken.len(), 1, "{:?}", report.broken);
    assert_eq!(report.snapshots, 4);
}
