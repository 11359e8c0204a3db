//! Killed at every operation on its store: the next run is right, and puts again what was under way
//! at most.

use super::{disk, segments, vault_options};
use crate::support::vaults::{Notes, Take, check, take, verify_all};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{FaultStore, LocalStore, Vault};

const FOLDER: &str = "STILLPOINT_RESUME_FOLDER";
const MOMENT: &str = "STILLPOINT_RESUME_MOMENT";
/// Two segments, and a little of a third.
const BLOCKS: u64 = 1020;
const SEGMENTS: usize = 3;

fn options(folder: &Path) -> Take {
    Take {
        notes: Some(Notes {
            directory: folder.join("sent"),
            machine: None,
        }),
        ..Take::default()
    }
}

/// The child of the test below: does nothing when it is run as a test of its own.
#[test]
fn killed_child() {
    let (Ok(folder), Ok(moment)) = (std::env::var(FOLDER), std::env::var(MOMENT)) else {
        return;
    };
    let folder = Path::new(&folder);
    let store = Arc::new(LocalStore::open(&folder.join("vault")).unwrap());
    let moment: u64 = moment.parse().unwrap();
    let store = FaultStore::new(store, move |operation| {
        if operation.moment == moment {
            let this = nix::unistd::getpid();
            nix::sys::signal::kill(this, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    take(&vault, &[disk(0, BLOCKS)], options(folder)).unwrap();
}

/// Whether the child was killed.
fn run_child(folder: &Path, moment: u64) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["resume::moments::killed_child", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(MOMENT, moment.to_string())
        .output()
        .unwrap();
    if output.status.signal() == Some(9) {
        return true;
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    false
}

#[test]
fn killed_at_any_moment_it_is_gone_on_from() {
    let mut resumed_from = 0;
    for moment in 0.. {
        let folder = tempfile::Builder::new()
            .prefix("stillpoint-resume-")
            .tempdir_in("/dev/shm")
            .unwrap();
        let path = folder.path().join("vault");
        let vault = Arc::new(Vault::create_local(&path, vault_options()).unwrap());
        let store = LocalStore::open(&path).unwrap();
        let killed = run_child(folder.path(), moment);
        let there = segments(&store);
        let made = vault.snapshots().unwrap().len();
        let taken = take(&vault, &[disk(0, BLOCKS)], options(folder.path())).unwrap();
        check(&vault, &taken);
        assert!(verify_all(&vault).unwrap().broken.is_empty(), "{moment}");
        if made == 0 {
            // One may have been put and not noted yet.
            let put = segments(&store) - there;
            let most = SEGMENTS - there.saturating_sub(1);
            assert!(put <= most, "{moment}: {there} were there, {put} put");
            let resumed = taken.manifest.disks[0].resumed_bytes.0 / BLOCK_SIZE;
            resumed_from = resumed.max(resumed_from);
        }
        let notes = std::fs::read_dir(folder.path().join("sent")).unwrap();
        assert_eq!(notes.count(), 0, "{moment}");
        if !killed {
            assert!(moment > 12, "only {moment} moments");
            break;
        }
        assert!(moment < 100, "it is always killed");
    }
    assert_eq!(resumed_from, BLOCKS, "the last was killed when all was put");
}
