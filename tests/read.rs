//! Reading real loop disks and files, through both engines, against the bytes that were put there.

mod gentle;

use crate::support::host::{LoopDisk, available, skipped};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use std::path::Path;
use std::time::{Duration, Instant};
use stillpoint::device::read::{
    BufferPool, DiskReader, EngineChoice, Limits, ReadStats, ReaderOptions, Unreadable,
    io_uring_available, open_reader,
};
use stillpoint::model::{Bytes, Extent};
use stillpoint::{Error, ErrorKind, Result};

const BUFFER: u64 = 64 << 10;

/// The engines that this host has.
fn engines() -> Vec<EngineChoice> {
    match io_uring_available() {
        Ok(()) => vec![EngineChoice::Uring, EngineChoice::Threads],
        Err(error) => {
            skipped("reading with io_uring", &format!("{error}"));
            vec![EngineChoice::Threads]
        }
    }
}

/// A disk with these contents and this sector size, read past the page cache.
fn disk_of(contents: &[u8], sector: u32) -> LoopDisk {
    let sector = sector.to_string();
    let options = ["--direct-io=on", "--sector-size", &sector];
    LoopDisk::holding(contents, &options)
}

#[test]
fn io_uring_is_chosen_where_it_works() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = |engine| {
        let mut options = options(engine);
        options.regular_file = Some(512);
        open_reader(file.path(), &options).map(|reader| reader.engine_name())
    };
    assert_eq!(name(EngineChoice::Threads).unwrap(), "pread, 8 threads");
    let auto = name(EngineChoice::Auto).unwrap();
    if io_uring_available().is_ok() {
        assert!(auto.starts_with("io_uring, "), "{auto}");
        assert_eq!(name(EngineChoice::Uring).unwrap(), auto);
    } else {
        assert_eq!(auto, "pread, 8 threads");
        let error = name(EngineChoice::Uring).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

fn options(engine: EngineChoice) -> ReaderOptions {
    ReaderOptions {
        engine,
        depth: 8,
        ..ReaderOptions::new(BufferPool::new(12, Bytes(BUFFER)).unwrap())
    }
}

fn random_bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

fn extent(offset: u64, length: u64) -> Extent {
    Extent::new(Bytes(offset), Bytes(length))
}

fn whole(size: u64) -> Vec<Extent> {
    (0..size)
        .step_by(BUFFER as usize)
        .map(|at| extent(at, BUFFER.min(size - at)))
        .collect()
}

/// Reads all and compares with the truth.
fn check(reader: &mut dyn DiskReader, extents: &[Extent], truth: &[u8]) -> Result<ReadStats> {
    let mut given = Vec::new();
    let limits = Limits::default();
    let stats = reader.read(
        &mut extents.iter().copied(),
        &limits,
        &mut |extent, buffer| {
            let range = extent.offset.0 as usize..extent.end().0 as usize;
            assert!(buffer[..] == truth[range], "wrong bytes at {extent}");
            given.push(extent);
            Ok(())
        },
    )?;
    assert_eq!(given, extents);
    Ok(stats)
}

#[test]
fn whole_disks_of_odd_sizes_and_sectors() {
    if !available("whole_disks_of_odd_sizes_and_sectors") {
        return;
    }
    // Multiples of the sector, not of 64 KiB; the first not even of 4 KiB.
    for (sector, sectors) in [(512_u32, 8191_u64), (4096, 1023)] {
        let size = u64::from(sector) * sectors;
        let truth = random_bytes(size as usize, size);
        let disk = disk_of(&truth, sector);
        for engine in engines() {
            let options = options(engine);
            let mut reader = open_reader(disk.path(), &options).unwrap();
            assert_eq!(
                (reader.size(), reader.logical_block()),
                (Bytes(size), sector)
            );
            let extents = whole(size);
            let stats = check(&mut *reader, &extents, &truth).unwrap();
            assert_eq!(
                stats.reads,
                extents.len() as u64,
                "{}",
                reader.engine_name()
            );
            assert_eq!(stats.bytes, Bytes(size));
            assert_eq!(options.counter.total(), stats);
            drop(reader);
            assert_eq!(options.pool.available(), options.pool.count());
        }
    }
}

#[test]
fn random_extents_in_any_order() {
    if !available("random_extents_in_any_order") {
        return;
    }
    for (sector, seed) in [(512_u32, 1_u64), (4096, 2)] {
        let (block, blocks) = (u64::from(sector), 1501);
        let truth = random_bytes((block * blocks) as usize, seed);
        let disk = disk_of(&truth, sector);
        let mut chance = SmallRng::seed_from_u64(seed);
        for engine in engines() {
            let mut reader = open_reader(disk.path(), &options(engine)).unwrap();
            for _ in 0..20 {
                let mut extents: Vec<_> = (0..chance.random_range(0..100))
                    .map(|_| {
                        let first = chance.random_range(0..blocks);
                        let most = (blocks - first).min(BUFFER / block);
                        extent(first * block, chance.random_range(1..=most) * block)
                    })
                    .collect();
                extents.push(extent((blocks - 1) * block, block));
                extents.shuffle(&mut chance);
                check(&mut *reader, &extents, &truth).unwrap();
            }
        }
    }
}

#[test]
fn what_was_written_before_is_read_not_what_was_cached() {
    if !available("what_was_written_before_is_read_not_what_was_cached") {
        return;
    }
    let mut truth = random_bytes(1 << 20, 3);
    let disk = disk_of(&truth, 512);
    for engine in engines() {
        let mut reader = open_reader(disk.path(), &options(engine)).unwrap();
        for round in 0..5 {
            check(&mut *reader, &whole(1 << 20), &truth).unwrap();
            let new = random_bytes(3000, 10 + round);
            let at = 70_001 * (round as usize + 1);
            disk.write_at(at as u64, &new);
            truth[at..at + 3000].copy_from_slice(&new);
        }
    }
}

#[test]
fn a_regular_file_only_when_allowed() {
    // The last block of this one is not whole, which no disk has, but a file may.
    let truth = random_bytes(1_000_001, 4);
    // One filesystem with direct I/O, one where that came late.
    for directory in ["/tmp", "/dev/shm"] {
        let file = tempfile::NamedTempFile::new_in(directory).unwrap();
        std::fs::write(&file, &truth).unwrap();
        for engine in engines() {
            let mut options = options(engine);
            let refused = open_reader(file.path(), &options).map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Usage);
            assert!(refused.to_string().ends_with(" is not a disk"), "{refused}");
            options.regular_file = Some(4096);
            let mut reader = open_reader(file.path(), &options).unwrap();
            check(&mut *reader, &whole(1_000_001), &truth).unwrap();
            // Nothing but the end may be unaligned.
            assert!(check(&mut *reader, &[extent(0, 1_000)], &truth).is_err());
        }
    }
    for (path, kind) in [
        ("/dev/null", ErrorKind::Usage),
        ("/tmp", ErrorKind::Usage),
        ("/dev/no-such-disk", ErrorKind::NotFound),
    ] {
        let error = open_reader(Path::new(path), &options(EngineChoice::Auto))
            .map(drop)
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn a_failing_sink_with_reads_in_flight() {
    if !available("a_failing_sink_with_reads_in_flight") {
        return;
    }
    let truth = random_bytes(8 << 20, 5);
    let disk = disk_of(&truth, 512);
    for engine in engines() {
        let options = options(engine);
        let mut reader = open_reader(disk.path(), &options).unwrap();
        let mut calls = 0;
        let mut extents = whole(8 << 20).into_iter();
        let error = reader
            .read(&mut extents, &Limits::default(), &mut |_, _| {
                calls += 1;
                match calls {
                    7 => Err(Error::new(ErrorKind::NoSpace, "full")),
                    _ => Ok(()),
                }
            })
            .unwrap_err();
        assert_eq!((error.kind(), calls), (ErrorKind::NoSpace, 7));
        assert_eq!(options.pool.available(), options.pool.count());
        check(&mut *reader, &whole(8 << 20), &truth).unwrap();

        let stop = || Err(Error::new(ErrorKind::Interrupted(2), "stopped"));
        let limits = Limits {
            cancel: Some(&stop),
            ..Limits::default()
        };
        let mut extents = whole(8 << 20).into_iter();
        let error = reader
            .read(&mut extents, &limits, &mut |_, _| Ok(()))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
    }
}

#[test]
fn a_deadline_in_the_middle() {
    if !available("a_deadline_in_the_middle") {
        return;
    }
    let truth = random_bytes(8 << 20, 6);
    let disk = disk_of(&truth, 512);
    for engine in engines() {
        let options = options(engine);
        let mut reader = open_reader(disk.path(), &options).unwrap();
        let limits = Limits {
            deadline: Some(Instant::now() + Duration::from_millis(300)),
            ..Limits::default()
        };
        let mut calls = 0;
        let mut extents = whole(8 << 20).into_iter().cycle();
        let error = reader
            .read(&mut extents, &limits, &mut |_, _| {
                calls += 1;
                std::thread::sleep(Duration::from_millis(10));
                Ok(())
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
        assert!(calls > 0, "it must have read until then");
    }
}

/// A loop device answers EIO to reads past the end of the file behind it.
#[test]
fn sectors_that_cannot_be_read_are_named() {
    if !available("sectors_that_cannot_be_read_are_named") {
        return;
    }
    for sector in [512_u32, 4096] {
        let truth = random_bytes(1 << 20, 7);
        let disk = disk_of(&truth, sector);
        // In the middle of an extent.
        let end = 9 * BUFFER + 5 * 4096;
        disk.set_file_len(end);
        for engine in engines() {
            let mut reader = open_reader(disk.path(), &options(engine)).unwrap();
            let good: Vec<_> = whole(9 * BUFFER);
            check(&mut *reader, &good, &truth).unwrap();
            let extents = [extent(8 * BUFFER, BUFFER), extent(9 * BUFFER, BUFFER)];
            let error = check(&mut *reader, &extents, &truth).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            let bad = extent(end, 10 * BUFFER - end);
            let sectors = format!("(sectors {}..{})", end / 512, 10 * BUFFER / 512);
            let name = disk.path().display();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot read {name} at bytes {bad} {sectors}: Input/output error (os error 5)"
                )
            );
            assert_eq!(Unreadable::of(&error).unwrap().ranges(), [bad]);
            // It can still be used for what is good.
            check(&mut *reader, &good, &truth).unwrap();
        }
    }
}

#[test]
fn a_disk_that_changes_its_size_fails() {
    if !available("a_disk_that_changes_its_size_fails") {
        return;
    }
    let truth = random_bytes(1 << 20, 8);
    for engine in engines() {
        let disk = disk_of(&truth, 512);
        let mut reader = open_reader(disk.path(), &options(engine)).unwrap();
        let mut extents = whole(1 << 20).into_iter();
        let error = reader
            .read(&mut extents, &Limits::default(), &mut |extent, _| {
                if extent.offset == Bytes(0) {
                    disk.set_file_len(512 << 10);
                    disk.rescan();
                }
                Ok(())
            })
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inconsistent, "{error}");
        let name = disk.path().display();
        assert!(
            error.to_string().ends_with(&format!(
                "{name} changed its size from 1048576 to 524288 bytes"
            )),
            "{error}"
        );
        let error = check(&mut *reader, &[], &truth).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Inconsistent);
    }
}

#[test]
fn buffers_that_are_not_registered_work_too() {
    if !available("buffers_that_are_not_registered_work_too") {
        return;
    }
    let truth = random_bytes(1 << 20, 9);
    let disk = disk_of(&truth, 512);
    for engine in engines() {
        let mut reader = open_reader(disk.path(), &options(engine)).unwrap();
        check(&mut *reader, &whole(1 << 20), &truth).unwrap();
        let locked = BufferPool::new(3, Bytes(BUFFER)).unwrap();
        locked.lock().unwrap();
        reader.set_pool(&locked).unwrap();
        check(&mut *reader, &whole(1 << 20), &truth).unwrap();
        assert_eq!(locked.available(), 3);
    }
}
