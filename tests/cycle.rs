//! Snapshot after snapshot: each, when it is restored, is the disk as it was, byte by byte,
//! whatever was done to the disk meanwhile and whatever became of the tracking.

mod anew;
mod chains;
mod histories;
mod load;
mod proofs;
mod stress;

use crate::support::host::{LoopDisk, Mount, format, partition};
use crate::support::rig::{
    Hashes, Rig, Sight, Watched, Watching, assert_mode, differing, hashes, parent, rounds, told,
    was_hidden,
};
use load::{Gate, Load};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stillpoint::engine::{SnapshotOptions, compare_with_disks};
use stillpoint::format::{DiskRecord, Manifest};
use stillpoint::model::{BlockIndex, BlockSet, Content, Mode, block_count};

/// The disk with the filesystem.
struct Shape {
    fstype: &'static str,
    size: u64,
    sector: &'static str,
    /// It has a partition table, and the filesystem is in a partition.
    partitioned: bool,
    /// Beside its files, it holds images that are mounted, and loaded too.
    stacked: bool,
}

const MIB: u64 = 1 << 20;
/// Where the files behind raw disks are: in memory a loop device cannot do all that a disk can.
const RAW_PARENT: &str = "/tmp";

#[test]
fn ext4_on_an_odd_sized_disk() {
    let shape = Shape {
        fstype: "ext4",
        size: 160 * MIB + 3 * 512,
        sector: "512",
        partitioned: false,
        stacked: false,
    };
    under_load("ext4_on_an_odd_sized_disk", &shape);
}

#[test]
fn xfs_in_a_partition_with_large_sectors() {
    let shape = Shape {
        fstype: "xfs",
        size: 336 * MIB,
        sector: "4096",
        partitioned: true,
        stacked: false,
    };
    under_load("xfs_in_a_partition_with_large_sectors", &shape);
}

#[test]
fn btrfs_in_a_partition() {
    let shape = Shape {
        fstype: "btrfs",
        size: 224 * MIB + 512,
        sector: "512",
        partitioned: true,
        stacked: false,
    };
    under_load("btrfs_in_a_partition", &shape);
}

#[test]
fn filesystems_in_files_of_a_filesystem() {
    let shape = Shape {
        fstype: "ext4",
        size: 256 * MIB,
        sector: "512",
        partitioned: true,
        stacked: true,
    };
    under_load("filesystems_in_files_of_a_filesystem", &shape);
}

/// An image in a file below `place`, mounted.
struct Inner {
    mount: Mount,
    _attached: LoopDisk,
}

impl Inner {
    fn new(rig: &Rig, place: &Path, fstype: &str) -> Self {
        let image = place.join(format!("{fstype}.image"));
        let size = if fstype == "xfs" { 320 * MIB } else { 96 * MIB };
        std::fs::File::create(&image)
            .unwrap()
            .set_len(size)
            .unwrap();
        let attached = LoopDisk::of_file(&image, &[]);
        format(fstype, &attached.device);
        let mount = Mount::new(&attached.device, &rig.dir.path().join(fstype), "rw");
        Self {
            mount,
            _attached: attached,
        }
    }
}

/// What all snapshots of one disk have shown.
#[derive(Default)]
struct Sum {
    exact: usize,
    snapshots: usize,
    differed: u64,
    marked: u64,
    /// The disk at the last cut, or a moment later.
    last: Hashes,
}

fn under_load(test: &str, shape: &Shape) {
    let Some(rig) = Rig::new(test) else { return };
    let sector = ["--sector-size", shape.sector, "--direct-io=on"];
    let files = LoopDisk::within(parent(), shape.size, &sector);
    let device = if shape.partitioned {
        // From the first MiB to the last, in sectors of the disk.
        let sector: u64 = shape.sector.parse().unwrap();
        let whole = [(MIB / sector, (shape.size - 2 * MIB) / sector)];
        partition(Path::new(&files.device), &whole);
        format!("{}p1", files.device)
    } else {
        files.device.clone()
    };
    format(shape.fstype, &device);
    let place = rig.dir.path().join("live");
    let mount = Mount::new(&device, &place, "discard");
    let raw_size = 48 * MIB + 3 * 512;
    let raw = LoopDisk::within(RAW_PARENT, raw_size, &["--direct-io=on"]);
    let gate = Gate::default();
    let mut load = Load::default();
    load.files(&place, 1);
    load.files(&place, 2);
    load.mapped(&place);
    let inner: &[&str] = if shape.stacked { &["ext4", "xfs"] } else { &[] };
    let inner: Vec<Inner> = inner
        .iter()
        .map(|one| Inner::new(&rig, &place, one))
        .collect();
    for (n, inner) in (10..).zip(&inner) {
        load.files(&inner.mount.place, n);
    }
    load.raw(&raw.device, raw_size, &gate, 3);

    let disks = [&files, &raw];
    let mut sums = [Sum::default(), Sum::default()];
    let mut parent: Option<Manifest> = None;
    for round in 0..rounds(5) {
        std::thread::sleep(Duration::from_millis(300));
        // Once during the run: all free space counts as changed then.
        let trim = (round % 3 == 2).then(|| load::trim(&place));
        let all_blocks = round % 3 == 1;
        let wish = |options: &mut SnapshotOptions| options.all_blocks = all_blocks;
        let (manifest, sights) = watched(&rig, &disks, &gate, parent.as_ref(), wish);
        assert!(load.is_going());
        if let Some(trim) = trim {
            trim.join().unwrap();
        }
        assert_eq!(manifest.warnings, Vec::<String>::new());
        for (n, (sum, sight)) in sums.iter_mut().zip(sights).enumerate() {
            let record = record(&manifest, disks[n]);
            let expected = if round == 0 {
                Mode::Full
            } else {
                Mode::Incremental
            };
            assert_mode(record, expected);
            assert!(
                n == 1 || sight.before == sight.after,
                "frozen, but it changed"
            );
            let image = hashes(&rig.restore(&rig.vault, &manifest, disks[n]));
            let free = compare(&rig, record, &image, &sight)
                .unwrap_or_else(|why| panic!("round {round}, disk {n}: {why}"));
            assert!(!all_blocks || free == 0, "all blocks, but {free} are free");
            sum.snapshots += 1;
            sum.exact += usize::from(sight.before == sight.after);
            if round > 0 {
                let truth = differing(&sum.last, &sight.after);
                let mut missed = truth.clone();
                missed.remove(&sight.marked);
                // What the kernel hides is found out, and all is compared.
                assert!(
                    missed.is_empty() || was_hidden(record),
                    "disk {n}: changed, not marked: {missed:?}"
                );
                sum.differed += truth.len();
                sum.marked += sight.marked.len();
            }
            sum.last = sight.after;
        }
        beside_the_disks(&rig, &manifest);
        parent = Some(manifest);
    }
    drop(load);
    drop(inner);
    drop(mount);
    for (sum, name) in sums.iter().zip([shape.fstype, "raw"]) {
        assert!(
            sum.differed > 0 && sum.exact > 0,
            "{name}: nothing was shown"
        );
        told(&format!(
            "{test}, {name}: {} snapshots ({} against one state of the disk); {} blocks marked, \
             {} differed",
            sum.snapshots, sum.exact, sum.marked, sum.differed
        ));
    }
}

/// The disks are in use, and go on being: what differs was written since, or is free space.
fn beside_the_disks(rig: &Rig, manifest: &Manifest) {
    let all = compare_with_disks(&rig.vault, manifest, None, &rig.places, &rig.ear).unwrap();
    assert_eq!(all.len(), manifest.disks.len());
    for one in all {
        assert_eq!(one.wrong.bytes.0, 0, "{one:?}");
    }
}

fn record<'m>(manifest: &'m Manifest, disk: &LoopDisk) -> &'m DiskRecord {
    let name = disk.device.trim_start_matches("/dev/");
    let found = manifest
        .disks
        .iter()
        .find(|record| record.identity.name == name);
    found.expect("the disk is in the snapshot")
}

/// A snapshot, and what was seen of the disks while they stood still.
fn watched(
    rig: &Rig,
    disks: &[&LoopDisk],
    gate: &Gate,
    parent: Option<&Manifest>,
    change: impl FnOnce(&mut SnapshotOptions),
) -> (Manifest, Vec<Sight>) {
    let watched = disks.iter().map(|disk| Watched {
        file: disk.file.clone(),
        marks: parent.map(|parent| {
            let cut = record(parent, disk).cut.as_ref().unwrap();
            (rig.marks(disk), cut.epoch)
        }),
    });
    let sights: Arc<Mutex<Vec<Sight>>> = Arc::default();
    let (given, gate) = (Arc::clone(&sights), gate.clone());
    let watched: Vec<Watched> = watched.collect();
    let around = move |inner| {
        Box::new(Watching {
            inner,
            disks: watched,
            sights: given,
            also: Box::new(move |begins| gate.shut(begins)),
        }) as _
    };
    let manifest = rig.snapshot_to(&rig.vault, disks, change, around).unwrap();
    let sights = std::mem::take(&mut *sights.lock().unwrap());
    (manifest, sights)
}

/// Whether the restored disk is the one that was seen, but for what is free; how many blocks are.
fn compare(rig: &Rig, record: &DiskRecord, image: &Hashes, sight: &Sight) -> Result<u64, String> {
    let blocks = block_count(record.identity.size);
    let map = rig.vault.load_index(&record.index, blocks).unwrap();
    let mut free = BlockSet::new();
    for run in map.iter().filter(|run| run.content == Content::Free) {
        free.insert_range(run.start.0..run.end());
    }
    // A raw disk may have changed just before the cut or just after the check that nothing did.
    let mut wrong = differing(image, &sight.after);
    wrong.intersect(&differing(image, &sight.before));
    wrong.remove(&free);
    match wrong.nth(0) {
        None => Ok(free.len()),
        Some(BlockIndex(first)) => Err(format!(
            "{} of {blocks} blocks are not what was on the disk; the first is {first}, {:?}",
            wrong.len(),
            map.get(BlockIndex(first))
        )),
    }
}
