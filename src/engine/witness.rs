//! Whether tracking proves what a run rests on: from the parent's cut, or from the run's own
//! beginning, to the end of this cut, when nothing is written any more. `track::proof` judges; here
//! the tracker is asked, and a busy disk waited for.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{DiskIdentity, Witness};
use crate::track::{ChangeSource, Moment, ProofFailure, unbroken};
use std::time::{Duration, Instant};

/// How long a busy disk is given to stand still for an instant.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the tracker says when the disk stands still for an instant, which a busy one does too; what
/// it says last, if it never did. Waits for the tracker first.
pub fn steady(changes: &mut dyn ChangeSource) -> Result<Witness> {
    changes.ready()?;
    let until = Instant::now() + PATIENCE;
    loop {
        let witness = changes.witness()?;
        if witness.unaccounted.is_some() || Instant::now() > until {
            return Ok(witness);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the tracker says before a copy that rests on this run's own marks: its counts must be
/// known.
pub fn first(changes: &mut dyn ChangeSource, disk: &DiskIdentity) -> Result<Witness> {
    let witness = steady(changes)?;
    if witness.unaccounted.is_some() {
        return Ok(witness);
    }
    let name = &disk.name;
    Err(Error::new(
        ErrorKind::Inconsistent,
        format!(
            "{name}: the kernel's count of what is written could not be read: it is switched off, \
             or the disk was never still for an instant; no snapshot was made"
        ),
    )
    .with_hint(format!(
        "echo 1 > /sys/block/{name}/queue/iostats, or try at a quieter time"
    )))
}

/// Why the marks prove nothing, from a moment to the end of a cut on the same disk; `None` when
/// they do. `end`: what the tracker said then, if it was asked.
pub fn check_proof(
    since: Moment<'_>,
    disk: &DiskIdentity,
    end: Option<&Witness>,
) -> Option<ProofFailure> {
    let Some(witness) = end else {
        return Some(ProofFailure::Uncounted);
    };
    unbroken(since, Moment { disk, witness }).err()
}
