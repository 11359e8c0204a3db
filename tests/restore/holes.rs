//! Holes take as long as a device takes to write zeros: a stop is heard in the midst of one.

use crate::support::vaults::vault_options;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use stillpoint::model::{BLOCK_SIZE, BlockIndex, Bytes, Content, Extent, Run, RunMap};
use stillpoint::restore::{CopyOptions, CopyReport, Target, copy};
use stillpoint::store::{MemoryStore, Vault};
use stillpoint::{Error, ErrorKind, Result};

const TIB: u64 = 1 << 40;
/// Most bytes that may be zeroed between two looks at whether to stop.
const PIECE: u64 = 64 << 20;

/// Notes what is zeroed.
#[derive(Default)]
struct Counting(Mutex<Vec<Extent>>);

impl Target for Counting {
    fn write(&self, _: Bytes, _: &[&[u8]]) -> Result<()> {
        unreachable!("there is nothing to write")
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        self.0.lock().unwrap().push(extent);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// Copies a disk of zeros, a TiB and a little large, and stops at the question with this number.
fn zeroed(stop_at: u64) -> (Result<CopyReport>, Vec<Extent>) {
    let store = Arc::new(MemoryStore::new());
    let vault = Vault::create(store, vault_options()).unwrap();
    let size = Bytes(TIB + 512);
    let mut map = RunMap::new();
    map.insert(Run {
        start: BlockIndex(0),
        count: size.0.div_ceil(BLOCK_SIZE),
        content: Content::Zero,
    });
    let questions = AtomicU64::new(0);
    let stop = || match questions.fetch_add(1, Ordering::Relaxed) < stop_at {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Interrupted(2), "the test says so")),
    };
    let options = CopyOptions {
        workers: 1,
        keep_going: false,
        cancel: &stop,
        progress: &|_| {},
    };
    let target = Counting::default();
    let report = copy(&vault, &map, size, &target, options);
    (report, target.0.into_inner().unwrap())
}

#[test]
fn a_stop_is_heard_within_one_hole() {
    for stop_at in [0, 1, 5, 1000] {
        let (report, holes) = zeroed(stop_at);
        assert_eq!(report.unwrap_err().kind(), ErrorKind::Interrupted(2));
        assert_eq!(holes.len() as u64, stop_at, "zeroed after the stop");
    }
}

#[test]
fn a_hole_is_zeroed_wholly_piece_by_piece() {
    let (report, holes) = zeroed(u64::MAX);
    assert_eq!(report.unwrap().holes, Bytes(TIB + 512));
    let mut at = Bytes(0);
    for hole in &holes {
        assert_eq!(hole.offset, at);
        assert!((1..=PIECE).contains(&hole.length.0), "{hole}");
        at = hole.end();
    }
    assert_eq!(at, Bytes(TIB + 512));
}
