//! A vault whose disk is really full, or really read-only.

use super::disks;
use crate::support::host::{LoopDisk, Mount, available, run};
use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, Taken, check_all, take, vault_options};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::Vault;
use stillpoint::{ErrorKind, Result};

fn failed(result: Result<Taken>) -> stillpoint::Error {
    match result {
        Ok(_) => panic!("a snapshot was made"),
        Err(error) => error,
    }
}

/// A snapshot that does not fit fails with words, leaves nothing, and a smaller one works.
fn fills(folder: &Path) {
    let path = folder.join("vault");
    let vault = Arc::new(Vault::create_local(&path, vault_options()).unwrap());
    let small = disks(0);
    let first = take(&vault, &small, Take::default()).unwrap();
    let files = || {
        let output = Command::new("find")
            .arg(&path)
            .args(["-type", "f"])
            .output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let mut files: Vec<String> = text.lines().map(str::to_owned).collect();
        files.sort();
        files
    };
    let before = files();
    let big = ModelDisk::new(2, 400 * BLOCK_SIZE, 3);
    let mut chance = Chance(4);
    let noise: Vec<u8> = (0..400 * BLOCK_SIZE).map(|_| chance.next() as u8).collect();
    big.write(0, &noise);
    let error = failed(take(&vault, &[big], Take::default()));
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.hint().unwrap().contains("room"), "{:?}", error.hint());
    assert_eq!(files(), before, "something was left behind");
    small[0].write(0, &[9; 512]);
    let next = take(&vault, &small, Take::default()).unwrap();
    check_all(&vault, &[first, next]);
}

#[test]
fn a_full_tmpfs_costs_only_the_run_that_filled_it() {
    if !available("a_full_tmpfs_costs_only_the_run_that_filled_it") {
        return;
    }
    let mounted = Mount::tmpfs("8m");
    fills(&mounted.place);
}

#[test]
fn a_full_ext4_costs_only_the_run_that_filled_it() {
    if !available("a_full_ext4_costs_only_the_run_that_filled_it") {
        return;
    }
    let disk = LoopDisk::new(24 << 20);
    run("mkfs.ext4", &["-q", "-m", "0", &disk.device]);
    let mounted = Mount::somewhere(disk.path(), "rw");
    fills(&mounted.place);
}

#[test]
fn a_read_only_vault_can_be_read_and_refuses_the_rest_in_words() {
    if !available("a_read_only_vault_can_be_read_and_refuses_the_rest_in_words") {
        return;
    }
    let mounted = Mount::tmpfs("8m");
    let path = mounted.place.join("vault");
    let vault = Arc::new(Vault::create_local(&path, vault_options()).unwrap());
    let small = disks(0);
    let first = take(&vault, &small, Take::default()).unwrap();
    run("mount", &["-o", "remount,ro", mounted.path()]);
    small[0].write(0, &[9; 512]);
    let error = failed(take(&vault, &small, Take::default()));
    assert!(error.to_string().contains("Read-only"), "{error}");
    let found = vault.snapshots().unwrap().pop().unwrap();
    assert!(vault.delete(&found).is_err());
    let taken = [first];
    check_all(&Vault::open_local(&path).unwrap(), &taken);
}
