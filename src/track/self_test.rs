//! Freshly loaded programs are tried on a scratch disk: hooks have been known to attach and never
//! fire. It must never touch any other disk.

use super::source::ChangeSource;
use super::sysfs;
use super::tracker::{TrackedDisk, Tracker};
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

/// Tries the programs. Needs the pins' lock.
pub(super) fn run(tracker: &mut Tracker) -> Result<SelfTest> {
    let prepared = ScratchDisk::create(SIZE).and_then(|disk| Ok((disk.dev()?, disk)));
    let (dev, disk) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Ok(SelfTest::Impossible(error.to_string())),
    };
    let described = TrackedDisk {
        dev,
        size: SIZE,
        diskseq: sysfs::diskseq(dev)?,
    };
    let outcome = try_on(tracker, &described, &disk);
    let detached = tracker.detach(dev);
    outcome.and(detached).map(|()| SelfTest::Passed)
}

/// Some kernels hide a few events from programs, which the tracker notices: then once more.
fn try_on(tracker: &mut Tracker, described: &TrackedDisk, disk: &ScratchDisk) -> Result<()> {
    let mut changes = tracker.attach_locked(described)?;
    let mut said = String::new();
    for _ in 0..TRIES {
        let before = changes.cut()?;
        disk.write_at(Bytes(WRITTEN * BLOCK_SIZE + 4096))?;
        changes.advance()?;
        let seen = changes.changed_since(before.epoch)?;
        let accounted = changes.witness()?.unaccounted == before.unaccounted;
        if accounted && seen == BlockSet::from_range(WRITTEN..WRITTEN + 1) {
            return Ok(());
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
