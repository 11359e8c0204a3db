//! Reads segments whole, every byte of them, with several threads.

use super::damaged_segments::is_damage;
use super::look::check_slots;
use super::needed_slots::SomeSegments;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, Result};
use crate::model::{Bytes, ObjectId};
use crate::store::Vault;
use crate::sys::locked::{LockExt, LockResultExt};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most segments that are in memory at once, where threads wait for a network more than they work.
const MOST_READ: usize = 4;

/// What was found in segments.
#[derive(Default)]
pub(super) struct ReadSegments {
    /// How many bytes of whole ones were read.
    pub(super) bytes: Bytes,
    /// Those in which something is wrong, and what.
    pub(super) bad: BTreeMap<ObjectId, String>,
}

/// Reads every byte of these segments, with so many threads.
pub(super) fn read_segments(
    vault: &Vault,
    segments: &SomeSegments,
    workers: usize,
    monitor: &dyn Monitor,
) -> Result<ReadSegments> {
    monitor.tell(Event::Phase(RunPhase::ReadingSegments(segments.len())));
    let next = AtomicUsize::new(0);
    let passed = AtomicU64::new(0);
    let found = Mutex::new(ReadSegments::default());
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let total = segments.iter().map(|(_, needed)| needed.bytes()).sum();
    let work = || {
        while let Some((id, needed)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = monitor.check().and_then(|()| vault.check_segment(*id));
            let checked = read.and_then(|footer| {
                check_slots(*id, needed, &footer)?;
                Ok(Bytes(footer.segment_len()))
            });
            match checked {
                Ok(read) => found.locked().bytes += read,
                Err(error) if is_damage(&error) => {
                    found.locked().bad.insert(*id, error.to_string());
                }
                Err(error) => {
                    failure.locked().get_or_insert(error);
                    return;
                }
            }
            // A damaged one is done with too: progress must reach the end.
            let length = needed.bytes();
            let before = passed.fetch_add(length.0, Ordering::Relaxed);
            let done = Bytes(before + length.0);
            monitor.tell(Event::Progress { done, total });
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..vault.readers(workers).min(workers.max(MOST_READ)).max(1) {
            scope.spawn(work);
        }
    });
    if let Some(error) = failure.into_inner().unpoisoned() {
        return Err(error);
    }
    // Threads may have reported their last segments in another order.
    monitor.tell(Event::Progress { done: total, total });
    Ok(found.into_inner().unpoisoned())
}
