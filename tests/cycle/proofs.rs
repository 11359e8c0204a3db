//! Whatever breaks the proof that tracking saw every change, the next snapshot says so, compares
//! everything, and is right; the one after is incremental again.

use super::RAW_PARENT;
use super::load::Raw;
use crate::support::host::{LoopDisk, attempt, losetup, run};
use crate::support::rig::{Rig, assert_mode, hashes, new_vault, was_hidden};
use crate::support::tracked::forget_pins;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use stillpoint::format::{DiskRecord, Manifest, Sealer};
use stillpoint::model::{BLOCK_SIZE, CutName, Epoch, Mode, Witness};
use stillpoint::store::{LocalStore, ObjectName, ObjectStore, Vault};
use stillpoint::track::Tracker;

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

pub(super) const SIZE: u64 = 12 << 20;

/// A disk without a filesystem, half of which is full.
pub(super) struct Bench {
    pub rig: Rig,
    pub disk: LoopDisk,
    random: SmallRng,
}

impl Bench {
    pub fn new(test: &str) -> Option<Self> {
        let rig = Rig::new(test)?;
        let disk = LoopDisk::within(RAW_PARENT, SIZE + 3 * 512, &["--direct-io=on"]);
        let mut bench = Self {
            rig,
            disk,
            random: SmallRng::seed_from_u64(7),
        };
        let mut bytes = vec![0; (SIZE / 2) as usize];
        bench.random.fill_bytes(&mut bytes);
        Raw::open(&bench.disk.device, SIZE).write(0, &bytes);
        Some(bench)
    }

    pub fn change(&mut self) {
        let size = self.disk.described().size.0;
        let mut raw = Raw::open(&self.disk.device, size);
        for _ in 0..5 {
            raw.one(&mut self.random);
        }
    }

    /// A snapshot into `vault` that is right.
    pub fn taken_to(&mut self, vault: &Arc<Vault>, full: bool) -> (Manifest, DiskRecord) {
        self.disk.flush();
        let manifest = self
            .rig
            .snapshot_to(vault, &[&self.disk], |o| o.full = full, |quiesce| quiesce)
            .unwrap();
        let image = self.rig.restore(vault, &manifest, &self.disk);
        assert!(
            hashes(&image) == hashes(&self.disk.file),
            "restored, it is not the disk: {:?}",
            manifest.disks
        );
        let record = manifest.disks[0].clone();
        (manifest, record)
    }

    /// The same into the usual vault, in this mode, for a reason in which these words are.
    pub fn taken(&mut self, mode: Mode, words: &str) -> Manifest {
        let vault = Arc::clone(&self.rig.vault);
        self.change();
        let (mut manifest, mut record) = self.taken_to(&vault, false);
        // The kernel hid a write: not what this test is of. The next one tells.
        for _ in 0..3 {
            if mode == Mode::Incremental && was_hidden(&record) {
                self.change();
                (manifest, record) = self.taken_to(&vault, false);
            }
        }
        assert_eq!(record.mode, mode, "{}", record.reason);
        assert!(record.reason.contains(words), "{}", record.reason);
        manifest
    }

    /// A proof is broken: compared once, then incremental again.
    pub fn broken(&mut self, words: &str) {
        self.taken(Mode::Compare, words);
        self.taken(Mode::Incremental, "tracked since");
    }

    /// Puts the newest snapshot's manifest into the vault with a change.
    fn rewritten(&self, manifest: &Manifest, change: impl FnOnce(&mut DiskRecord)) {
        let mut changed = manifest.clone();
        change(&mut changed.disks[0]);
        let reference = self.rig.vault.find(&manifest.snapshot.to_string()).unwrap();
        self.rig.vault.delete(&reference).unwrap();
        let store = LocalStore::open(self.rig.vault.local_path().unwrap()).unwrap();
        let name = ObjectName::manifest(&changed.host, changed.snapshot);
        store
            .put(&name, changed.encode(&SEALER).unwrap().into())
            .unwrap();
    }
}

#[test]
fn tracking_that_was_stopped_proves_nothing() {
    let Some(mut bench) = Bench::new("tracking_that_was_stopped_proves_nothing") else {
        return;
    };
    bench.taken(Mode::Full, "first snapshot");
    bench.taken(Mode::Incremental, "tracked since");
    let pins = bench.rig.places.pins.clone();
    Tracker::open(&pins).unwrap().unwrap().stop().unwrap();
    bench.broken("restarted");
    // By hand: rm -r /sys/fs/bpf/…
    forget_pins(&pins);
    bench.broken("restarted");
    // This disk alone, while the programs run on.
    let mut tracker = Tracker::open(&pins).unwrap().unwrap();
    tracker.detach(bench.disk.dev()).unwrap();
    bench.broken("begun anew");
    bench.change();
    let vault = Arc::clone(&bench.rig.vault);
    let (_, record) = bench.taken_to(&vault, true);
    assert_eq!((record.mode, record.parent), (Mode::Full, None));
    bench.taken(Mode::Incremental, "tracked since");
}

#[test]
fn a_resized_disk_is_compared() {
    let Some(mut bench) = Bench::new("a_resized_disk_is_compared") else {
        return;
    };
    bench.taken(Mode::Full, "first snapshot");
    // Grown within the last block, then by many blocks; shrunk within a block, then by many.
    for size in [
        SIZE + 9 * 512,
        SIZE * 2,
        SIZE * 2 - 512,
        SIZE - 70_656,
        SIZE,
    ] {
        let file = File::options().write(true).open(&bench.disk.file).unwrap();
        file.set_len(size).unwrap();
        losetup(&["--set-capacity", &bench.disk.device]);
        bench.broken("its size went");
    }
}

#[test]
fn another_disk_under_the_same_name_is_compared() {
    let Some(mut bench) = Bench::new("another_disk_under_the_same_name_is_compared") else {
        return;
    };
    // A name that nobody is given by chance while it is free for a moment.
    attempt("losetup", &["--detach", &bench.disk.device]);
    let device = format!("/dev/loop{}", 500 + std::process::id() % 400);
    let attach = |file: &str| losetup(&["--direct-io=on", &device, file]);
    attach(bench.disk.file.to_str().unwrap());
    bench.disk.device.clone_from(&device);
    bench.taken(Mode::Full, "first snapshot");
    bench.taken(Mode::Incremental, "tracked since");
    let other = bench.disk.file.with_extension("other");
    let mut bytes = std::fs::read(&bench.disk.file).unwrap();
    bytes[1 << 20..2 << 20].fill(3);
    std::fs::write(&other, bytes).unwrap();
    run("losetup", &["--detach", &device]);
    attach(other.to_str().unwrap());
    bench.disk.file = other;
    bench.broken("not the disk");
    // The very same file, but nobody saw what happened to it meanwhile.
    run("losetup", &["--detach", &device]);
    let file = File::options().write(true).open(&bench.disk.file).unwrap();
    file.write_all_at(&[9; 5000], 3 << 20).unwrap();
    attach(bench.disk.file.to_str().unwrap());
    bench.broken("not the disk");
}

#[test]
fn a_parent_whose_witness_differs_proves_nothing() {
    let Some(mut bench) = Bench::new("a_parent_whose_witness_differs_proves_nothing") else {
        return;
    };
    let mut newest = bench.taken(Mode::Full, "first snapshot");
    type Change = fn(&mut Witness);
    let cases: [(&str, Change); 13] = [
        ("machine was restarted", |cut| {
            cut.boot_id = "another".into()
        }),
        ("restarted", |cut| cut.programs[0] += 1),
        ("begun anew", |cut| cut.map += 1),
        ("does not know of", |cut| {
            cut.epoch = Epoch(cut.epoch.0 + 1000);
        }),
        ("does not know of", |cut| cut.epoch = Epoch(0)),
        ("suspended or hibernated", |cut| cut.asleep_ms += 9000),
        ("restarted", |cut| cut.capacity = Some([1, 2])),
        ("capacity was set", |cut| cut.resizes += 1),
        ("gave its cut no name", |cut| cut.name = None),
        ("does not know of the parent's cut", |cut| {
            cut.name = Some(CutName([3; 16]));
        }),
        ("cannot be tracked", |cut| cut.voids += 1),
        ("could not be compared", |cut| cut.unaccounted = None),
        ("did not see", |cut| {
            cut.unaccounted = cut.unaccounted.map(|sectors| sectors - 8);
        }),
    ];
    for (words, change) in cases {
        bench.rewritten(&newest, |disk| change(disk.cut.as_mut().unwrap()));
        bench.taken(Mode::Compare, words);
        newest = bench.taken(Mode::Incremental, "tracked since");
    }
    bench.rewritten(&newest, |disk| disk.cut = None);
    bench.taken(Mode::Compare, "not tracked then");
    newest = bench.taken(Mode::Incremental, "tracked since");
    bench.rewritten(&newest, |disk| {
        disk.identity.diskseq = disk.identity.diskseq.map(|number| number - 1);
    });
    bench.broken("not the disk");
}

#[test]
fn a_deleted_parent_leaves_the_one_before() {
    let Some(mut bench) = Bench::new("a_deleted_parent_leaves_the_one_before") else {
        return;
    };
    let first = bench.taken(Mode::Full, "first snapshot");
    for _ in 0..2 {
        let newest = bench.taken(Mode::Incremental, &first.snapshot.to_string());
        let vault = &bench.rig.vault;
        let reference = vault.find(&newest.snapshot.to_string()).unwrap();
        vault.delete(&reference).unwrap();
    }
    bench.taken(Mode::Incremental, &first.snapshot.to_string());
    for reference in bench.rig.vault.snapshots().unwrap() {
        bench.rig.vault.delete(&reference).unwrap();
    }
    bench.taken(Mode::Full, "first snapshot");
}

#[test]
fn each_vault_has_a_chain_of_its_own() {
    let Some(mut bench) = Bench::new("each_vault_has_a_chain_of_its_own") else {
        return;
    };
    let hourly = Arc::clone(&bench.rig.vault);
    let daily = new_vault(&bench.rig.dir.path().join("daily"));
    let mut parents = [None, None];
    for round in 0..12 {
        bench.change();
        let which = usize::from(round % 4 == 3);
        let vault = if which == 1 { &daily } else { &hourly };
        let (manifest, record) = bench.taken_to(vault, false);
        assert_eq!(record.parent, parents[which]);
        let mode = parents[which].map_or(Mode::Full, |_| Mode::Incremental);
        assert_mode(&record, mode);
        parents[which] = Some(manifest.snapshot);
    }
    assert!(parents.iter().all(Option::is_some));
}

#[test]
fn tracking_that_lies_is_found_out() {
    let Some(mut bench) = Bench::new("tracking_that_lies_is_found_out") else {
        return;
    };
    bench.taken(Mode::Full, "first snapshot");
    bench.taken(Mode::Incremental, "tracked since");
    assert!(bench.rig.ear.0.lock().unwrap().is_empty());
    // Behind the device's back, in half of the blocks that hold anything.
    let file = File::options().write(true).open(&bench.disk.file).unwrap();
    for block in (0..SIZE / 2 / BLOCK_SIZE).step_by(2) {
        let at = block * BLOCK_SIZE + bench.random.random_range(0..BLOCK_SIZE - 8);
        file.write_all_at(b"unnoted!", at).unwrap();
    }
    let manifest = bench.taken(Mode::Compare, "tracking called byte");
    let said = manifest.warnings.join("; ");
    assert!(said.contains("differs"), "{said}");
    assert_eq!(bench.rig.ear.0.lock().unwrap().join("; "), said);
    let manifest = bench.taken(Mode::Incremental, "tracked since");
    assert!(manifest.warnings.is_empty());
}
