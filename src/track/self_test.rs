//! Freshly loaded programs are tried on a scratch disk: hooks have been known to attach and never
//! fire. It must never touch any other disk.

use super::disk::DiskTracker;
use super::source::ChangeSource;
use super::tracker::{TrackedDisk, Tracker};
use crate::device::{Attributes, Host};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockSet, Bytes};
use crate::sys::bpf_scratch::ScratchDisk;

const SIZE: Bytes = Bytes(16 * BLOCK_SIZE);
const WRITTEN: u64 = 5;
const TRIES: usize = 4;

/// How freshly loaded programs did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelfTest {
    /// A write was seen, and nothing else.
    Passed,
    /// There was nothing to try it on, for this reason.
    Impossible(String),
}

/// What a try on a scratch disk has shown.
pub(super) struct SelfTestReport {
    /// How the marking programs did.
    pub marks: SelfTest,
    /// Whether a set capacity was noticed, so far as that could be tried.
    pub capacity: bool,
}

/// What became of one scratch disk.
enum ScratchResult {
    Seen {
        capacity: bool,
    },
    /// The disk itself did not do what was asked of it.
    NoDisk(Error),
}

/// Tries the programs. Needs the pins' lock. The first free device may have been left in any state:
/// where it does not do, another is made.
pub(super) fn run(tracker: &mut Tracker) -> Result<SelfTestReport> {
    let mut said = String::new();
    for make in [ScratchDisk::on_a_free_device, ScratchDisk::on_a_new_device] {
        let outcome = match make(SIZE) {
            Ok(disk) => try_disk(tracker, &disk)?,
            Err(error) => ScratchResult::NoDisk(error),
        };
        match outcome {
            ScratchResult::Seen { capacity } => {
                let marks = SelfTest::Passed;
                return Ok(SelfTestReport { marks, capacity });
            }
            ScratchResult::NoDisk(error) => said = error.to_string(),
        }
    }
    Ok(SelfTestReport {
        marks: SelfTest::Impossible(said),
        capacity: true,
    })
}

fn try_disk(tracker: &mut Tracker, disk: &ScratchDisk) -> Result<ScratchResult> {
    let dev = match disk.dev() {
        Ok(dev) => dev,
        Err(error) => return Ok(ScratchResult::NoDisk(error)),
    };
    let described = TrackedDisk {
        dev,
        size: SIZE,
        diskseq: Attributes::of(&Host::here(), dev).diskseq()?,
    };
    let outcome = tracker
        .attach_locked(&described)
        .and_then(|mut changes| try_on(&mut changes, disk));
    let detached = tracker.detach(dev);
    let outcome = outcome?;
    detached.map(|()| outcome)
}

/// Some kernels hide a few events from programs, which the tracker notices: then once more.
fn try_on(changes: &mut DiskTracker, disk: &ScratchDisk) -> Result<ScratchResult> {
    let mut said = String::new();
    for _ in 0..TRIES {
        let before = changes.cut()?;
        if let Err(error) = disk.write_at(Bytes(WRITTEN * BLOCK_SIZE + 4096)) {
            return Ok(ScratchResult::NoDisk(error));
        }
        changes.advance()?;
        let seen = changes.changed_since(before.epoch)?;
        let accounted = changes.witness()?.unaccounted == before.unaccounted;
        if accounted && seen == BlockSet::from_range(WRITTEN..WRITTEN + 1) {
            return Ok(ScratchResult::Seen {
                capacity: is_capacity_seen(changes, disk)?,
            });
        }
        said = format!(
            "one written block of a scratch disk was reported as {} changed blocks{}",
            seen.len(),
            if accounted {
                ""
            } else {
                ", and the kernel counts changes otherwise"
            }
        );
    }
    let message = format!("tracking does not work on this kernel: {said}");
    Err(Error::new(ErrorKind::Unsupported, message).with_hint(
        "this version takes no snapshots without it; please report the kernel's version",
    ))
}

fn is_capacity_seen(changes: &mut DiskTracker, disk: &ScratchDisk) -> Result<bool> {
    let before = changes.witness()?.resizes;
    // A device that refuses this shows nothing.
    Ok(disk.set_capacity().is_err() || changes.witness()?.resizes > before)
}
