//! The whole cycle against a model: whatever is written, and whenever, every snapshot that is made
//! restores to exactly what its disks held at its cut.

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, Taken, check, check_all, restore, rounds, take, vault_options};
use proptest::prelude::*;
use std::sync::Arc;
use stillpoint::engine::{Silent, diff};
use stillpoint::model::{BLOCK_SIZE, BlockIndex, BlockSet, Bytes, Extent, Level, Mode};
use stillpoint::store::{MemoryStore, Vault};
use stillpoint::{Error, ErrorKind};

/// What happens between two snapshots, and how the next one is taken.
#[derive(Clone, Debug)]
struct Step {
    scribbles: u64,
    reused: u64,
    restless: u64,
    rude: u32,
    full: bool,
    all_blocks: bool,
    reboot: bool,
    resize: Option<u64>,
    delete: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    (
        (0..30_u64, 0..3_u64),
        prop_oneof![Just(0_u64), 1..40_u64],
        prop::bool::weighted(0.1).prop_map(u32::from),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.25),
        prop::option::weighted(0.1, 1..5000_u64),
        prop::option::weighted(0.3, 0..8_usize),
    )
        .prop_map(
            |((scribbles, reused), restless, rude, full, all_blocks, reboot, resize, delete)| {
                Step {
                    scribbles,
                    reused,
                    restless,
                    rude,
                    full,
                    all_blocks,
                    reboot,
                    resize,
                    delete,
                }
            },
        )
}

#[derive(Clone, Debug)]
struct Case {
    sectors: Vec<u64>,
    seed: u64,
    grain: u64,
    disorder: u64,
    on_disk: bool,
    steps: Vec<Step>,
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec(1..5000_u64, 1..3),
        any::<u64>(),
        prop_oneof![3 => Just(1_u64), 1 => Just(4)],
        prop_oneof![Just(0_u64), any::<u64>()],
        prop::bool::weighted(0.25),
        prop::collection::vec(step(), 1..8),
    )
        .prop_map(|(sectors, seed, grain, disorder, on_disk, steps)| Case {
            sectors,
            seed,
            grain,
            disorder,
            on_disk,
            steps,
        })
}

fn play(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    let vault = Arc::new(if case.on_disk {
        Vault::create_local(&folder.path().join("vault"), vault_options()).unwrap()
    } else {
        Vault::create(Arc::new(MemoryStore::new()), vault_options()).unwrap()
    });
    let disks: Vec<ModelDisk> = (0..)
        .zip(&case.sectors)
        .map(|(number, sectors)| {
            let seed = case.seed ^ (u64::from(number) << 32);
            let disk = ModelDisk::new(number, 512 * sectors, seed);
            disk.grain(case.grain);
            disk.disorder(case.disorder);
            disk
        })
        .collect();
    let mut taken: Vec<Taken> = Vec::new();
    for step in &case.steps {
        one_step(&vault, &disks, &mut taken, step);
    }
    check_all(&vault, &taken);
    for pair in taken.windows(2) {
        check_diff(&vault, &pair[0], &pair[1]);
    }
}

fn one_step(vault: &Arc<Vault>, disks: &[ModelDisk], taken: &mut Vec<Taken>, step: &Step) {
    for disk in disks {
        if step.reboot {
            disk.reboot();
        }
        if let (Some(sectors), 0) = (step.resize, disk.identity().dev.minor) {
            disk.resize(512 * sectors);
        }
        disk.scribble(step.scribbles);
        disk.put_to_use(step.reused);
        disk.restless(step.restless);
    }
    disks[0].rude(step.rude);
    let options = Take {
        full: step.full,
        all_blocks: step.all_blocks,
        ..Take::default()
    };
    let made = take(vault, disks, options).unwrap();
    for disk in disks {
        disk.restless(0);
    }
    disks[0].rude(0);
    check(vault, &made);
    for record in made.manifest.disks.iter().filter(|_| step.reboot) {
        assert_ne!(record.mode, Mode::Incremental, "nothing is proven");
    }
    taken.push(made);
    if let Some(which) = step.delete {
        let gone = taken.remove(which % taken.len());
        let found = vault.find(&gone.manifest.snapshot.to_string()).unwrap();
        vault.delete(&found).unwrap();
    }
}

/// `diff` names just the blocks in which two restores differ.
fn check_diff(vault: &Vault, one: &Taken, two: &Taken) {
    for (old, new) in one.manifest.disks.iter().zip(&two.manifest.disks) {
        let (was, _) = restore(vault, old, false).unwrap();
        let (is, _) = restore(vault, new, false).unwrap();
        let found = diff(vault, old, new, &Silent).unwrap();
        let block = |bytes: &'_ [u8], n: usize| {
            let chunk = bytes.chunks(BLOCK_SIZE as usize).nth(n);
            chunk.map(<[u8]>::to_vec)
        };
        if was.len() != is.len() {
            continue;
        }
        for n in 0..was.len().div_ceil(BLOCK_SIZE as usize) {
            let place = Extent::of_blocks(n as u64..n as u64 + 1, Bytes(u64::MAX));
            let told = found
                .iter()
                .any(|extent| extent.offset <= place.offset && place.offset < extent.end());
            assert_eq!(
                told,
                block(&was, n) != block(&is, n),
                "block {n}: {found:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64 * rounds(),
        max_shrink_iters: 400,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_snapshot_restores_to_its_instant(case in case()) {
        play(&case);
    }
}

fn one_disk(sectors: u64) -> (Arc<Vault>, Vec<ModelDisk>) {
    let store = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(store, vault_options()).unwrap());
    let disk = ModelDisk::new(0, 512 * sectors, 7);
    disk.scribble(40);
    (vault, vec![disk])
}

fn refused(result: stillpoint::Result<Taken>) -> Error {
    match result {
        Ok(_) => panic!("a snapshot was made"),
        Err(error) => error,
    }
}

#[test]
fn a_disk_that_is_never_quiet_gives_no_snapshot_or_one_that_says_fuzzy() {
    let (vault, disks) = one_disk(2000);
    disks[0].rude(u32::MAX);
    std::thread::scope(|scope| {
        let refusing = scope.spawn(|| {
            let (vault, disks) = one_disk(2000);
            disks[0].rude(u32::MAX);
            let error = refused(take(&vault, &disks, Take::default()));
            assert_eq!(error.kind(), ErrorKind::Inconsistent);
            assert!(vault.snapshots().unwrap().is_empty());
        });
        let options = Take {
            allow_fuzzy: true,
            ..Take::default()
        };
        let fuzzy = take(&vault, &disks, options).unwrap();
        assert_eq!(fuzzy.manifest.level, Level::Fuzzy);
        assert_eq!(fuzzy.manifest.disks[0].cut, None, "nothing to build on");
        refusing.join().unwrap();
    });
}

#[test]
fn more_than_the_window_takes_is_never_cut_short() {
    let (vault, disks) = one_disk(40_000);
    let mut bursts = 2;
    let options = Take {
        before: Box::new(move |disks| {
            // Far more than the 8 MiB that there is room for at first.
            if bursts > 0 {
                bursts -= 1;
                disks[0].write(512 * 3, &vec![bursts + 1; 12 << 20]);
            }
        }),
        ..Take::default()
    };
    let made = take(&vault, &disks, options).unwrap();
    check_all(&vault, &[made]);
}

#[test]
fn tracking_that_lies_is_found_out_by_the_sample_and_costs_no_bytes() {
    let (vault, disks) = one_disk(4000);
    let first = take(&vault, &disks, Take::default()).unwrap();
    disks[0].deaf(true);
    // So much is changed unseen that the sample cannot miss it.
    disks[0].write(0, &vec![0x5a; 4000 * 512]);
    disks[0].deaf(false);
    let second = take(&vault, &disks, Take::default()).unwrap();
    assert_eq!(second.manifest.disks[0].mode, Mode::Compare);
    assert!(
        second
            .manifest
            .warnings
            .iter()
            .any(|line| line.contains("tracking called"))
    );
    check_all(&vault, &[first, second]);
}

/// A disk full of bytes, of which a snapshot says that a part is free.
fn partly_free() -> (Arc<Vault>, Vec<ModelDisk>, Taken) {
    let (vault, disks) = one_disk(4000);
    disks[0].write(0, &vec![0x5a; 4000 * 512]);
    (5..9).for_each(|block| disks[0].free(block));
    let first = take(&vault, &disks, Take::default()).unwrap();
    assert_eq!(first.manifest.disks[0].free_skipped_bytes.0, 4 * BLOCK_SIZE);
    (vault, disks, first)
}

fn used(byte: u8, taken: &Taken, vault: &Vault) {
    let (bytes, _) = restore(vault, &taken.manifest.disks[0], false).unwrap();
    assert!(bytes.iter().all(|found| *found == byte), "all is in use");
}

/// A partition table that is put back, a filesystem that is undone: no write tells of it.
#[test]
fn what_was_free_and_is_used_now_is_read_though_it_was_not_written() {
    let (vault, disks, first) = partly_free();
    disks[0].put_to_use(2);
    let second = take(&vault, &disks, Take::default()).unwrap();
    assert_eq!(second.manifest.disks[0].mode, Mode::Incremental);
    assert_eq!(second.manifest.disks[0].changed_bytes.0, 2 * BLOCK_SIZE);
    disks[0].put_to_use(2);
    let third = take(&vault, &disks, Take::default()).unwrap();
    used(0x5a, &third, &vault);
    check_all(&vault, &[first, second, third]);
}

#[test]
fn what_comes_into_use_during_the_run_is_read_though_it_was_not_written() {
    let (vault, disks, first) = partly_free();
    let mut settled = 0;
    let second = take(
        &vault,
        &disks,
        Take {
            settling: Box::new(move |disks| {
                settled += 1;
                if settled == 1 {
                    disks[0].put_to_use(4);
                }
            }),
            ..Take::default()
        },
    );
    let second = second.unwrap();
    assert_eq!(second.manifest.disks[0].mode, Mode::Incremental);
    used(0x5a, &second, &vault);
    check_all(&vault, &[first, second]);
}

#[test]
fn free_space_in_which_a_file_lies_is_not_believed() {
    let files = || {
        let mut files = BlockSet::new();
        files.insert(BlockIndex(6));
        files
    };
    let (vault, disks, first) = partly_free();
    let mut taken = vec![first];
    for wish_full in [false, true] {
        let options = Take {
            full: wish_full,
            files: files(),
            ..Take::default()
        };
        let next = take(&vault, &disks, options).unwrap();
        let record = &next.manifest.disks[0];
        assert!(
            record.all_blocks && record.mode != Mode::Incremental,
            "{record:?}"
        );
        let said = next.manifest.warnings.join("; ");
        assert!(said.contains("393216"), "{said}");
        used(0x5a, &next, &vault);
        taken.push(next);
    }
    check_all(&vault, &taken);
    // What reads as zeros anyway is no loss: a file whose bytes are zeros, or not there yet.
    let (vault, disks) = one_disk(4000);
    disks[0].write(0, &vec![0; 4000 * 512]);
    disks[0].free(6);
    let options = Take {
        files: files(),
        ..Take::default()
    };
    let made = take(&vault, &disks, options).unwrap();
    assert!(!made.manifest.disks[0].all_blocks);
}

#[test]
fn an_incremental_reads_and_stores_only_what_changed() {
    let (vault, disks) = one_disk(40_000);
    disks[0].write(0, &vec![0x5a; 40_000 * 512]);
    let first = take(&vault, &disks, Take::default()).unwrap();
    disks[0].write(5 * BLOCK_SIZE + 512, &[1; 512]);
    disks[0].write(200 * BLOCK_SIZE - 1, &[2; 2]);
    let second = take(&vault, &disks, Take::default()).unwrap();
    let record = &second.manifest.disks[0];
    assert_eq!(record.mode, Mode::Incremental);
    assert_eq!(record.changed_bytes.0, 3 * BLOCK_SIZE);
    // The sample is read beside them: at most 32 blocks with bytes and 8 of zeros.
    assert!(record.read_bytes.0 <= (3 + 40) * BLOCK_SIZE, "{record:?}");
    assert!(record.stored_bytes.0 < 3 * BLOCK_SIZE);
    check_all(&vault, &[first, second]);
}

/// A block is read ahead, written again, and copied because there is no room for the rest: the
/// newest bytes are stored.
#[test]
fn what_was_read_ahead_never_replaces_what_was_copied_later() {
    let (vault, disks) = one_disk(40_000);
    let block = |n: u64| n * BLOCK_SIZE;
    let filled = |from: u64, to: u64, byte: u8| {
        let bytes = vec![byte; (block(to) - block(from)) as usize];
        (block(from), bytes)
    };
    // More than little, so that there is a second pass; and then more than the window takes.
    disks[0].once_held(vec![
        vec![filled(0, 70, 1)],
        vec![filled(3, 4, 2), filled(100, 160, 2)],
    ]);
    let options = Take {
        holds: true,
        window: Bytes(block(100)),
        ..Take::default()
    };
    let made = take(&vault, &disks, options).unwrap();
    let truth = &made.truth[0][0].contents;
    assert_eq!(truth[block(3) as usize], 2, "the model did as it was told");
    check_all(&vault, &[made]);
}
