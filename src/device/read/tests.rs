//! The reading loop against a disk in memory that keeps the kernel's rules and fails on demand.

use super::*;
use crate::error::{Error, ErrorKind};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Bytes that tell their place.
fn contents(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at / 512 * 31 + at % 251) as u8)
        .collect()
}

fn options(buffers: usize, size: u64, depth: usize) -> ReaderOptions {
    let pool = BufferPool::new(buffers, Bytes(size)).unwrap();
    ReaderOptions {
        depth,
        ..ReaderOptions::new(pool)
    }
}

/// Reads all, checks order and bytes, and returns what was asked of the device.
fn read_all(reader: &mut dyn DiskReader, extents: &[Extent], truth: &[u8]) -> Result<ReadStats> {
    let mut given = Vec::new();
    let stats = reader.read(
        &mut extents.iter().copied(),
        &Limits::default(),
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

fn extent(offset: u64, length: u64) -> Extent {
    Extent::new(Bytes(offset), Bytes(length))
}

/// Extents of one size from the disk's start to its end.
fn whole(size: u64, step: u64) -> Vec<Extent> {
    (0..size)
        .step_by(step as usize)
        .map(|at| extent(at, step.min(size - at)))
        .collect()
}

fn unwanted(_: Extent, _: Buffer) -> Result<()> {
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_is_delivered_in_order_whatever_the_device_does(
        block in prop_oneof![Just(512_u32), Just(4096)],
        blocks in 1_u64..200,
        picks in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..60),
        seed in any::<u64>(),
        (buffers, depth) in (1_usize..8, 1_usize..8),
    ) {
        let size = blocks * u64::from(block);
        let truth = contents(size as usize);
        let disk = FakeDisk::new(truth.clone(), block);
        disk.disorder(seed);
        let extents: Vec<_> = picks.iter().map(|(at, length)| {
            let first = at % blocks;
            let most = (16384 / u64::from(block)).min(blocks - first);
            extent(first * u64::from(block), (1 + length % most) * u64::from(block))
        }).collect();
        let options = options(buffers, 16384, depth);
        let mut reader = disk.reader(&options).unwrap();
        let stats = read_all(&mut *reader, &extents, &truth).unwrap();
        prop_assert_eq!(stats, options.counter.total());
        prop_assert_eq!(stats.reads, disk.reads().len() as u64);
        prop_assert!(stats.reads >= extents.len() as u64);
        prop_assert_eq!(options.pool.available(), buffers);
    }

    #[test]
    fn a_bad_block_is_never_delivered(
        bad in 0_u64..64,
        seed in any::<u64>(),
    ) {
        let truth = contents(64 * 512);
        let disk = FakeDisk::new(truth, 512);
        disk.disorder(seed);
        disk.fail_blocks([bad]);
        let mut reader = disk.reader(&options(4, 4096, 4)).unwrap();
        let at = Bytes(bad * 512);
        let read = reader.read(
            &mut whole(64 * 512, 4096).into_iter(),
            &Limits::default(),
            &mut |extent, _| {
                assert!(extent.end() <= at, "{extent} was delivered");
                Ok(())
            },
        );
        let error = read.unwrap_err();
        let unreadable = Unreadable::of(&error).unwrap();
        let named = unreadable.ranges().iter().any(|range| {
            range.offset <= at && at < range.end()
        });
        prop_assert!(named, "{}", error);
    }
}

#[test]
fn each_extent_costs_one_read() {
    let truth = contents(100 * 4096);
    let disk = FakeDisk::new(truth.clone(), 4096);
    let options = options(8, 65536, 4);
    let mut reader = disk.reader(&options).unwrap();
    let extents = whole(100 * 4096, 65536);
    let stats = read_all(&mut *reader, &extents, &truth).unwrap();
    assert_eq!(disk.reads(), extents);
    assert_eq!((stats.reads, stats.bytes), (7, Bytes(100 * 4096)));
    read_all(&mut *reader, &extents, &truth).unwrap();
    assert_eq!(options.counter.total().reads, 14);
}

#[test]
fn the_sinks_error_ends_the_read_and_the_reader_goes_on() {
    let truth = contents(1 << 20);
    let disk = FakeDisk::new(truth.clone(), 512);
    let options = options(8, 4096, 8);
    let mut reader = disk.reader(&options).unwrap();
    let mut calls = 0;
    let error = reader
        .read(
            &mut whole(1 << 20, 4096).into_iter(),
            &Limits::default(),
            &mut |_, _| {
                calls += 1;
                if calls == 5 {
                    return Err(Error::new(ErrorKind::NoSpace, "full"));
                }
                Ok(())
            },
        )
        .unwrap_err();
    assert_eq!((error.kind(), calls), (ErrorKind::NoSpace, 5));
    assert!(disk.reads().len() < 32, "it must not read on");
    assert_eq!(options.pool.available(), 8);
    read_all(&mut *reader, &whole(1 << 20, 4096), &truth).unwrap();
}

#[test]
fn stopping_waits_for_what_is_in_flight() {
    let truth = contents(1 << 20);
    let disk = FakeDisk::new(truth.clone(), 512);
    let options = options(8, 4096, 8);
    let mut reader = disk.reader(&options).unwrap();
    disk.hang(true);
    let asked = AtomicU64::new(0);
    let stop = || {
        // Not before reads are in flight.
        if asked.fetch_add(1, Ordering::Relaxed) < 3 {
            return Ok(());
        }
        disk.hang(false);
        Err(Error::new(ErrorKind::Interrupted(15), "stopped"))
    };
    let limits = Limits {
        cancel: Some(&stop),
        ..Limits::default()
    };
    let mut extents = whole(1 << 20, 4096).into_iter();
    let error = reader
        .read(&mut extents, &limits, &mut unwanted)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted(15));
    assert_eq!(disk.reads().len(), 8);
    assert_eq!(options.pool.available(), 8);
    read_all(&mut *reader, &whole(1 << 20, 4096), &truth).unwrap();
}

#[test]
fn past_the_deadline_nothing_is_waited_for_and_no_buffer_is_reused() {
    let disk = FakeDisk::new(contents(1 << 20), 512);
    let options = options(8, 4096, 3);
    let mut reader = disk.reader(&options).unwrap();
    disk.hang(true);
    let limits = Limits {
        deadline: Some(Instant::now() + Duration::from_millis(50)),
        ..Limits::default()
    };
    let mut extents = whole(1 << 20, 4096).into_iter();
    let error = reader
        .read(&mut extents, &limits, &mut unwanted)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent);
    assert_eq!(
        error.to_string(),
        "/dev/fake was not read from 0 on before the deadline"
    );
    assert_eq!(options.pool.available(), 5, "three are the kernel's");
    disk.hang(false);
    let again = reader.read(&mut std::iter::empty(), &Limits::default(), &mut unwanted);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Failed);
}

#[test]
fn a_sink_that_panics_leaves_no_usable_reader() {
    let disk = FakeDisk::new(contents(1 << 16), 512);
    let mut reader = disk.reader(&options(4, 4096, 4)).unwrap();
    let extents = whole(1 << 16, 4096);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = reader.read(
            &mut extents.iter().copied(),
            &Limits::default(),
            &mut |_, _| std::panic::resume_unwind(Box::new("sink")),
        );
    }));
    assert!(panicked.is_err());
    let again = reader.read(&mut std::iter::empty(), &Limits::default(), &mut unwanted);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Failed);
}

#[test]
fn bad_blocks_are_named_exactly() {
    let disk = FakeDisk::new(contents(1 << 20), 512);
    disk.fail_blocks([3, 100, 101, 102]);
    let mut reader = disk.reader(&options(8, 65536, 8)).unwrap();
    let error = read_all(&mut *reader, &whole(1 << 20, 65536), &contents(1 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        error.to_string(),
        "cannot read /dev/fake at bytes 1536..2048 (sectors 3..4), bytes 51200..52736 (sectors \
         100..103): Input/output error (os error 5)"
    );
    assert!(error.hint().is_some());

    let one = [extent(512 * 96, 512 * 32)];
    let error = read_all(&mut *reader, &one, &contents(1 << 20)).unwrap_err();
    let unreadable = Unreadable::of(&error).unwrap();
    assert_eq!(unreadable.ranges(), [extent(512 * 100, 512 * 3)]);
    assert!(!unreadable.rough() && !unreadable.more());
}

#[test]
fn a_disk_that_is_bad_everywhere_is_not_searched_for_ever() {
    let disk = FakeDisk::new(contents(16 << 20), 512);
    disk.fail_blocks(0..32768);
    disk.fail_with(libc::ENODATA);
    let mut reader = disk.reader(&options(16, 1 << 20, 16)).unwrap();
    let error = read_all(&mut *reader, &whole(16 << 20, 1 << 20), &[]).unwrap_err();
    assert!(disk.reads().len() <= 16 + 1024, "{}", disk.reads().len());
    let unreadable = Unreadable::of(&error).unwrap();
    assert_eq!(unreadable.ranges(), [extent(0, 16 << 20)]);
    assert!(error.to_string().contains("parts of it"), "{error}");
}

#[test]
fn with_a_deadline_bad_blocks_are_not_searched() {
    let disk = FakeDisk::new(contents(1 << 20), 512);
    disk.fail_blocks([3]);
    let mut reader = disk.reader(&options(1, 65536, 1)).unwrap();
    let limits = Limits {
        deadline: Some(Instant::now() + Duration::from_secs(600)),
        ..Limits::default()
    };
    let mut extents = whole(1 << 20, 65536).into_iter();
    let error = reader
        .read(&mut extents, &limits, &mut unwanted)
        .unwrap_err();
    assert_eq!(disk.reads().len(), 1);
    let unreadable = Unreadable::of(&error).unwrap();
    assert_eq!(unreadable.ranges(), [extent(0, 65536)]);
    assert!(unreadable.rough());
}

#[test]
fn a_disk_that_vanishes_is_not_called_bad() {
    let disk = FakeDisk::new(contents(1 << 20), 512);
    disk.fail_blocks([8]);
    disk.fail_with(libc::ENXIO);
    let mut reader = disk.reader(&options(2, 4096, 1)).unwrap();
    let error = read_all(&mut *reader, &whole(1 << 20, 4096), &contents(1 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(
        error.to_string(),
        "cannot read at bytes 4096..8192 (sectors 8..16): /dev/fake is gone"
    );
    assert!(Unreadable::of(&error).is_none());
}

#[test]
fn another_size_is_noticed_before_and_while_reading() {
    let truth = contents(1 << 20);
    let disk = FakeDisk::new(truth.clone(), 512);
    let mut reader = disk.reader(&options(2, 4096, 1)).unwrap();
    let error = reader
        .read(
            &mut whole(1 << 20, 4096).into_iter(),
            &Limits::default(),
            &mut |_, _| {
                disk.replace(contents(65536));
                Ok(())
            },
        )
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent);
    assert!(
        error
            .to_string()
            .ends_with("/dev/fake changed its size from 1048576 to 65536 bytes"),
        "{error}"
    );
    disk.replace(contents(2 << 20));
    let error = read_all(&mut *reader, &[], &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inconsistent);
    disk.replace(Vec::new());
    let error = read_all(&mut *reader, &[], &[]).unwrap_err();
    assert_eq!(error.to_string(), "/dev/fake is gone");
    disk.replace(truth.clone());
    read_all(&mut *reader, &whole(1 << 20, 4096), &truth).unwrap();
}

#[test]
fn extents_that_break_the_rules_are_refused_unread() {
    let disk = FakeDisk::new(contents(10 * 4096), 4096);
    let mut reader = disk.reader(&options(2, 8192, 2)).unwrap();
    for bad in [
        extent(0, 0),
        extent(512, 4096),
        extent(0, 512),
        extent(0, 12288),
        extent(9 * 4096, 8192),
        extent(10 * 4096, 4096),
        extent(u64::MAX - 4095, 4096),
        extent(0, u64::MAX),
    ] {
        let error = read_all(&mut *reader, &[bad], &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed, "{bad:?}");
    }
    assert_eq!(disk.reads(), []);
    let small = BufferPool::new(4, Bytes(4096)).unwrap();
    reader.set_pool(&small).unwrap();
    assert!(read_all(&mut *reader, &[extent(0, 8192)], &[]).is_err());
}

#[test]
fn a_sink_that_keeps_every_buffer_holds_the_read_up_until_it_gives_one_back() {
    let truth = contents(64 * 4096);
    let disk = FakeDisk::new(truth.clone(), 4096);
    let options = options(4, 4096, 4);
    let mut reader = disk.reader(&options).unwrap();
    let (give, take) = crossbeam_channel::unbounded::<(Extent, Buffer)>();
    let starved = AtomicBool::new(false);
    let pool = options.pool.clone();
    // Starts to give back only when nothing is left.
    let stop = || {
        if pool.available() == 0 {
            starved.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    let consumer = std::thread::scope(|scope| {
        let consumer = scope.spawn(|| {
            let mut bytes = Vec::new();
            while !starved.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            for (_, buffer) in take {
                bytes.extend_from_slice(&buffer);
            }
            bytes
        });
        let limits = Limits {
            cancel: Some(&stop),
            ..Limits::default()
        };
        let mut extents = whole(64 * 4096, 4096).into_iter();
        let read = reader.read(&mut extents, &limits, &mut |extent, buffer| {
            give.send((extent, buffer)).unwrap();
            Ok(())
        });
        drop(give);
        read.unwrap();
        consumer.join().unwrap()
    });
    assert!(consumer == truth);
}

#[test]
fn readers_share_a_counter_and_a_pool() {
    let truth = contents(1 << 20);
    let disk = FakeDisk::new(truth.clone(), 512);
    let shared = ReaderOptions {
        counter: Arc::default(),
        ..options(3, 4096, 8)
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut reader = disk.reader(&shared).unwrap();
                read_all(&mut *reader, &whole(1 << 20, 4096), &truth).unwrap();
            });
        }
    });
    assert_eq!(shared.counter.total().reads, 3 * 256);
    assert_eq!(shared.pool.available(), 3);
}

#[test]
fn a_pace_holds_reads_back_and_loses_none() {
    let truth = contents(1 << 20);
    let disk = FakeDisk::new(truth.clone(), 512);
    let options = options(8, 4096, 3);
    let mut reader = disk.reader(&options).unwrap();
    // A second for the whole disk, of which some is waited for.
    let pace = Pace::new(Bytes(4 << 20));
    let limits = Limits {
        pace: Some(&pace),
        ..Limits::cancelled_by(&|| Ok(()))
    };
    let mut got = Vec::new();
    let mut extents = whole(1 << 20, 4096).into_iter();
    let begun = Instant::now();
    let read = reader.read(&mut extents, &limits, &mut |extent, buffer| {
        assert_eq!(extent.offset.0, got.len() as u64);
        got.extend_from_slice(&buffer);
        Ok(())
    });
    assert_eq!(read.unwrap().bytes, Bytes(1 << 20));
    assert!(got == truth);
    // All but the last read were paid for before it began.
    let least = Duration::from_secs_f64(255.0 / 1024.0);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    assert!(pace.waited() <= begun.elapsed());
}

#[test]
fn nothing_with_a_deadline_is_paced_and_a_wait_for_the_pace_hears_a_stop() {
    let truth = contents(1 << 20);
    let disk = FakeDisk::new(truth.clone(), 512);
    let options = options(8, 4096, 3);
    let mut reader = disk.reader(&options).unwrap();
    // Hours for the whole disk.
    let pace = Pace::new(Bytes(64));
    let limits = Limits {
        pace: Some(&pace),
        ..Limits::until(Instant::now() + Duration::from_secs(60))
    };
    let mut extents = whole(1 << 20, 4096).into_iter();
    let read = reader.read(&mut extents, &limits, &mut |_, _| Ok(()));
    assert_eq!(read.unwrap().bytes, Bytes(1 << 20));
    assert_eq!(pace.waited(), Duration::ZERO);

    let asked = AtomicU64::new(0);
    let stop = || match asked.fetch_add(1, Ordering::Relaxed) {
        0..5 => Ok(()),
        _ => Err(Error::new(ErrorKind::Interrupted(15), "stopped")),
    };
    let limits = Limits {
        pace: Some(&pace),
        ..Limits::cancelled_by(&stop)
    };
    let mut extents = whole(1 << 20, 4096).into_iter();
    let read = reader.read(&mut extents, &limits, &mut |_, _| Ok(()));
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Interrupted(15));
}

#[test]
fn reads_are_as_urgent_as_they_are_said_to_be_and_nothing_else_is() {
    use crate::sys::io_priority::of;
    let disk = FakeDisk::new(contents(1 << 16), 512);
    let options = options(8, 4096, 3);
    let mut reader = disk.reader(&options).unwrap();
    for priority in [None, Some(IoPriority::Idle), Some(IoPriority::Urgent)] {
        let limits = Limits {
            priority,
            ..Limits::default()
        };
        let mut extents = whole(1 << 16, 4096).into_iter();
        let read = reader.read(&mut extents, &limits, &mut |_, _| {
            assert_eq!(of(0).unwrap(), priority);
            Ok(())
        });
        read.unwrap();
        assert_eq!(of(0).unwrap(), None);
    }
}
