//! What a file of a large disk costs: requests, and time where each takes 20 ms.

use crate::mount::attached::assert_nothing_attached;
use crate::support::host::{LoopDisk, Mount, noise, run};
use crate::support::rig::{Ear, Rig, told};
use crate::support::vaults::vault_options;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillpoint::device::{Host, free_space};
use stillpoint::engine::{BrowseOptions, BrowseScope, CopyRequest, CopyTarget, copy_from_snapshot};
use stillpoint::model::Bytes;
use stillpoint::store::{CountStore, FaultStore, MemoryStore, Vault};

const SIZE: u64 = 100 << 30;
/// Most requests of the whole command, on an empty cache.
const MOST_REQUESTS: u64 = 30;
/// What each takes.
const DELAY: Duration = Duration::from_millis(20);

/// Waits until the filesystem's free space is believed, but not for ever: else all of the disk is
/// read, which takes long.
fn wait_until_free_space_is_known(disk: &LoopDisk) {
    for _ in 0..30 {
        let found = free_space(&Host::here(), disk.described().dev).unwrap();
        if found.blocks.bytes() > Bytes(SIZE / 10 * 9) {
            return;
        }
        told(&format!("free space is not believed: {:?}", found.doubts));
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn a_file_costs_little(kind: &str, make: &[&str]) {
    let Some(rig) = Rig::new(&format!("browse: requests: {kind}")) else {
        return;
    };
    let disk = LoopDisk::within("/dev/shm", SIZE, &[]);
    run(&format!("mkfs.{kind}"), &[make, &[&disk.device]].concat());
    let options = if kind == "ext4" {
        "noinit_itable"
    } else {
        "rw"
    };
    let mount = Mount::somewhere(disk.path(), options);
    for number in 0..300 {
        let folder = mount.place.join(format!("folder{}/of/files", number % 20));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(number.to_string()), noise(100_000, number)).unwrap();
    }
    let wanted = mount.place.join("srv/data/deep/report.pdf");
    fs::create_dir_all(wanted.parent().unwrap()).unwrap();
    fs::write(&wanted, noise(1 << 20, 999)).unwrap();
    run("sync", &["-f", mount.path()]);
    wait_until_free_space_is_known(&disk);
    let counted = Arc::new(CountStore::new(Arc::new(MemoryStore::new())));
    let vault = Arc::new(Vault::create(counted.clone(), vault_options()).unwrap());
    let taken = rig.snapshot_to(&vault, &[&disk], |_| (), |quiesce| quiesce);
    let taken = taken.unwrap();
    drop(vault);
    let (free, said) = (
        taken.disks[0].free_skipped_bytes,
        rig.ear.0.lock().unwrap().join("; "),
    );
    told(&format!("{kind}: {free} of 100 GiB were free; {said}"));
    counted.take();

    let begun = Instant::now();
    let slow = FaultStore::new(counted.clone(), |_| {
        std::thread::sleep(DELAY);
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(slow)).unwrap());
    let found = vault.find(&taken.snapshot.to_string()).unwrap();
    let manifest = vault.manifest(&found).unwrap();
    let to = tempfile::tempdir_in("/dev/shm").unwrap();
    let run_dir = rig.dir.path().join("run");
    let options = BrowseOptions {
        vault: &vault,
        manifest: &manifest,
        scope: BrowseScope::Host,
        run_dir: &run_dir,
    };
    let request = CopyRequest {
        paths: &[PathBuf::from(&wanted)],
        target: &CopyTarget::Into(to.path().to_owned()),
        replace: false,
        follow: false,
    };
    let copied = copy_from_snapshot(&options, &request, &Ear::default()).unwrap();
    let took = begun.elapsed();
    assert!(!copied.outcome.is_below());
    assert!(fs::read(to.path().join("report.pdf")).unwrap() == noise(1 << 20, 999));
    let counts = counted.take();
    let requests: u64 = counts.values().map(|count| count.operations).sum();
    told(&format!(
        "cp of 1 MiB of 100 GiB, {kind}: {requests} requests, {took:.2?}: {counts:?}"
    ));
    assert!(
        requests <= MOST_REQUESTS,
        "{kind}: {requests} requests: {counts:?}"
    );
    assert_nothing_attached(&run_dir);
}

#[test]
fn one_file_of_a_large_ext4_costs_little() {
    let make = [
        "-q",
        "-N",
        "65536",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
    ];
    a_file_costs_little("ext4", &make);
}

#[test]
fn one_file_of_a_large_xfs_costs_little() {
    a_file_costs_little("xfs", &["-q", "-K"]);
}
