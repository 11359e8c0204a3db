//! Every kind of change is marked: the marks are compared with the file below the disk.

use crate::support::host::{LoopDisk, Mount, attempt, run, skipped};
use crate::support::tracked::{PrivateTracker, differing};
use stillpoint::model::{BLOCK_SIZE, BlockSet, block_count};
use stillpoint::track::{ChangeSource, DiskTracker, Witness};

const MIB: u64 = 1 << 20;

fn blocks(set: &BlockSet) -> Vec<u64> {
    set.iter().map(|block| block.0).collect()
}

/// What `change` does, as marks. Done again when the kernel hid events from its programs, which the
/// tracker knows.
fn marks_of(changes: &mut DiskTracker, change: impl Fn()) -> BlockSet {
    for _ in 0..4 {
        let parent = changes.cut().unwrap();
        change();
        changes.advance().unwrap();
        let seen = changes.changed_since(parent.epoch).unwrap();
        if changes.witness().unwrap().unaccounted == parent.unaccounted {
            return seen;
        }
        println!("the kernel hid events from its programs: once more");
    }
    panic!("the kernel's count of changed sectors is never that of the programs");
}

#[test]
fn single_sectors_mark_exactly_their_blocks() {
    let Some(mut tracker) = PrivateTracker::start("single_sectors") else {
        return;
    };
    // (sector size, bytes past the last whole block)
    for (sector, tail) in [(512, 0), (512, 3 * 512), (4096, 0), (4096, 5 * 4096)] {
        let size = 20 * MIB + tail;
        let option = format!("--sector-size={sector}");
        let disk = LoopDisk::within("/tmp", size, &[&option]);
        let mut changes = disk.track(&mut tracker);
        let last = block_count(stillpoint::model::Bytes(size)) - 1;
        let mut case = |offset: u64, length: u64, expected: &[u64]| {
            let seen = marks_of(&mut changes, || disk.write(offset, length as usize, 7));
            assert_eq!(blocks(&seen), expected, "{sector}: {length} at {offset}");
        };
        case(0, sector, &[0]);
        case(size - sector, sector, &[last]);
        case(BLOCK_SIZE - sector, sector, &[0]);
        case(BLOCK_SIZE, sector, &[1]);
        case(2 * BLOCK_SIZE - sector, 2 * sector, &[1, 2]);
        case(9 * BLOCK_SIZE + sector, sector, &[9]);
        let whole: Vec<u64> = (10..13).collect();
        case(10 * BLOCK_SIZE, 3 * BLOCK_SIZE, &whole);
        assert_eq!(changes.witness().unwrap().voids, 0);
    }
}

#[test]
fn reads_and_flushes_mark_nothing() {
    let Some(mut tracker) = PrivateTracker::start("reads_and_flushes") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", 16 * MIB, &[]);
    let mut changes = disk.track(&mut tracker);
    let seen = marks_of(&mut changes, || {
        run(
            "dd",
            &[
                &format!("if={}", disk.device),
                "of=/dev/null",
                "bs=1M",
                "iflag=direct",
            ],
        );
        run("sync", &["--data", &disk.device]);
        disk.flush();
    });
    assert_eq!(blocks(&seen), [] as [u64; 0]);
}

#[test]
fn discards_and_zeroes_mark_what_they_take() {
    let Some(mut tracker) = PrivateTracker::start("discards_and_zeroes") else {
        return;
    };
    for options in [&[][..], &["--direct-io=on"]] {
        let disk = LoopDisk::within("/tmp", 40 * MIB, options);
        let mut changes = disk.track(&mut tracker);
        for zero in [&[][..], &["--zeroout"]] {
            disk.write(0, 40 * MIB as usize, 3);
            let before = disk.contents();
            let seen = marks_of(&mut changes, || {
                let mut args = vec!["--offset=196608", "--length=20971520"];
                args.extend(zero);
                args.push(&disk.device);
                run("blkdiscard", &args);
            });
            assert_eq!(seen, BlockSet::from_range(3..323), "{zero:?}");
            disk.flush();
            assert_eq!(differing(&before, &disk.contents()), seen, "{zero:?}");
        }
        disk.write(0, 4 * MIB as usize, 3);
        let seen = marks_of(&mut changes, || {
            let args = [
                "--zero-range",
                "--offset=65024",
                "--length=1024",
                &disk.device,
            ];
            run("fallocate", &args);
            disk.flush();
        });
        // Zeroes that fill no whole page are written through the page cache.
        assert!(seen.contains(stillpoint::model::BlockIndex(0)));
        assert!(seen.contains(stillpoint::model::BlockIndex(1)));
        assert_eq!(seen.len(), 2);
        assert_eq!(changes.witness().unwrap().voids, 0);
    }
}

#[test]
fn a_discard_of_terabytes_is_marked_and_voids_nothing() {
    let Some(mut tracker) = PrivateTracker::start("a_discard_of_terabytes") else {
        return;
    };
    let size = 2 << 40;
    let disk = LoopDisk::within("/dev/shm", size, &[]);
    let mut changes = disk.track(&mut tracker);
    let total = size / BLOCK_SIZE;
    let whole = marks_of(&mut changes, || {
        run("blkdiscard", &[&disk.device]);
    });
    assert_eq!(whole, BlockSet::from_range(0..total));
    // On a machine with little memory a mark of so large a disk stands for several blocks.
    let grain = tracker.tracker.disks().unwrap()[0].grain.0 / BLOCK_SIZE;
    let grains = |first: u64, end: u64| {
        BlockSet::from_range(first / grain * grain..end.next_multiple_of(grain))
    };
    let (first, count) = (7_000_000, 3 * 2048 + 100);
    let part = marks_of(&mut changes, || {
        let offset = format!("--offset={}", first * BLOCK_SIZE);
        let length = format!("--length={}", count * BLOCK_SIZE);
        run("blkdiscard", &[&offset, &length, &disk.device]);
    });
    assert_eq!(part, grains(first, first + count));
    let one = marks_of(&mut changes, || {
        disk.write((first + 5) * BLOCK_SIZE, 4096, 1)
    });
    assert_eq!(one, grains(first + 5, first + 6));
    let none = marks_of(&mut changes, || {});
    assert!(none.is_empty());
    assert_eq!(changes.witness().unwrap().voids, 0);
}

/// A partition of a loop device, removed at the end.
struct Partition(String, &'static str);

impl Drop for Partition {
    fn drop(&mut self) {
        attempt("delpart", &[&self.0, self.1]);
    }
}

#[test]
fn partitions_are_marked_where_they_lie_on_the_disk() {
    let Some(mut tracker) = PrivateTracker::start("partitions") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", 64 * MIB, &[]);
    // No table, for sfdisk ends with a sync of all filesystems, and another test may have one
    // frozen. A loop device keeps partitions that its last user forgot.
    let _parts = ["1", "2"].map(|number| Partition(disk.device.clone(), number));
    for (number, start) in [("1", "2048"), ("2", "65536")] {
        attempt("delpart", &[&disk.device, number]);
        run("addpart", &[&disk.device, number, start, "32768"]);
    }
    let second = format!("{}p2", disk.device);
    if !std::path::Path::new(&second).exists() {
        skipped("partitions", &format!("no device node {second}"));
        return;
    }
    let mut changes = disk.track(&mut tracker);
    let seen = marks_of(&mut changes, || {
        let out = format!("of={second}");
        run(
            "dd",
            &[
                "if=/dev/urandom",
                &out,
                "bs=64k",
                "seek=3",
                "count=2",
                "oflag=direct",
            ],
        );
    });
    let start = 65536 * 512 / BLOCK_SIZE;
    assert_eq!(blocks(&seen), [start + 3, start + 4]);
    let partition = std::fs::read_to_string(format!(
        "/sys/class/block/{}/dev",
        second.trim_start_matches("/dev/")
    ));
    let numbers: Vec<u32> = partition
        .unwrap()
        .trim()
        .split(':')
        .map(|part| part.parse().unwrap())
        .collect();
    let described = stillpoint::track::TrackedDisk {
        dev: stillpoint::model::DevNumber {
            major: numbers[0],
            minor: numbers[1],
        },
        ..disk.described()
    };
    let refused = tracker.tracker.attach(&described).unwrap_err();
    assert_eq!(refused.kind(), stillpoint::ErrorKind::Unsupported);
    assert!(refused.to_string().contains("partition"));
}

/// A disk whose marks are compared with what really differs.
struct Watched {
    disk: LoopDisk,
    changes: DiskTracker,
    parent: Witness,
    contents: Vec<u8>,
}

impl Watched {
    /// Fails when something differs that is not marked since the step before.
    fn check(&mut self, what: &str) {
        self.disk.flush();
        let now = self.changes.cut().unwrap();
        let marked = self.changes.changed_since(self.parent.epoch).unwrap();
        let hidden = now.unaccounted != self.parent.unaccounted;
        self.parent = now;
        let now = self.disk.contents();
        let differ = differing(&self.contents, &now);
        self.contents = now;
        let mut unseen = differ.clone();
        unseen.remove(&marked);
        if hidden {
            println!("{what}: the kernel hid events from its programs, and the tracker knows");
            return;
        }
        assert!(unseen.is_empty(), "{what}: unseen {:?}", blocks(&unseen));
        println!(
            "{what}: {} blocks marked, {} differ: {:.0} % for nothing",
            marked.len(),
            differ.len(),
            100.0 * (marked.len() - differ.len()) as f64 / marked.len().max(1) as f64
        );
    }
}

#[test]
fn filesystems_change_nothing_unseen() {
    let Some(mut tracker) = PrivateTracker::start("filesystems") else {
        return;
    };
    for (fstype, keep, options) in [
        ("ext4", "-Enodiscard", &[][..]),
        ("xfs", "-K", &["--direct-io=on"]),
        ("btrfs", "-K", &["--sector-size=4096"]),
    ] {
        let disk = LoopDisk::within("/tmp", 320 * MIB, options);
        let mut changes = disk.track(&mut tracker);
        let mut watched = Watched {
            parent: changes.cut().unwrap(),
            contents: disk.contents(),
            changes,
            disk,
        };
        let device = watched.disk.device.clone();
        run(&format!("mkfs.{fstype}"), &["-q", keep, &device]);
        watched.check(&format!("{fstype}, mkfs"));
        let place = watched.disk.file.with_file_name("mnt");
        let at = place.display();
        let shell = |script: String| run("sh", &["-c", &script]);
        {
            let _mount = Mount::new(&device, &place, "rw");
            shell(format!("cp -r /usr/share/doc/[a-g]* {at}/; sync -f {at}"));
            watched.check(&format!("{fstype}, files"));
            shell(format!("rm -rf {at}/[a-d]*; sync -f {at}"));
            watched.check(&format!("{fstype}, rm"));
            shell(format!("fstrim {at}"));
            watched.check(&format!("{fstype}, trim"));
        }
        watched.check(&format!("{fstype}, unmount"));
        assert_eq!(watched.changes.witness().unwrap().voids, 0, "{fstype}");
    }
}

#[test]
fn each_reader_keeps_its_own_parent() {
    let Some(mut tracker) = PrivateTracker::start("each_reader") else {
        return;
    };
    let disk = LoopDisk::within("/tmp", 16 * MIB, &[]);
    let mut hourly = disk.track(&mut tracker);
    let mut daily = disk.track(&mut tracker);
    let mut cuts = Vec::new();
    for block in 0..12 {
        let reader = if block % 3 == 0 {
            &mut daily
        } else {
            &mut hourly
        };
        cuts.push(reader.advance().unwrap());
        disk.write(block * BLOCK_SIZE, 4096, block as u8);
    }
    daily.advance().unwrap();
    for reader in [&mut hourly, &mut daily] {
        for (first, cut) in cuts.iter().enumerate() {
            let expected: Vec<u64> = (first as u64..12).collect();
            assert_eq!(blocks(&reader.changed_since(*cut).unwrap()), expected);
        }
    }
    // Written again: the newest change counts, for every reader.
    let late = hourly.advance().unwrap();
    disk.write(0, 4096, 99);
    assert_eq!(blocks(&daily.changed_since(late).unwrap()), [0]);
    assert_eq!(daily.changed_since(cuts[0]).unwrap().len(), 12);
    assert_eq!(daily.changed_since(cuts[5]).unwrap().len(), 8);
}
