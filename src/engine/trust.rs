//! Whether the marks that a run rests on can be believed, from the parent's cut (or from the run's
//! own beginning) to the end of this cut, where nothing is written any more.

use super::subject::Subject;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{DiskIdentity, Mode, Witness};
use crate::track::{ChangeSource, Moment, ProofFailure, unbroken};
use std::time::{Duration, Instant};

/// How long a busy disk is given to stand still for an instant.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the tracker says when the disk stands still for an instant, which a busy one does too; what
/// it says last, if it never did. The tracker is waited for first.
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

/// From here the run's own marks count: it must be known where the counts stood.
pub fn beginning(changes: &mut dyn ChangeSource, disk: &DiskIdentity) -> Result<Witness> {
    let witness = steady(changes)?;
    if witness.unaccounted.is_some() {
        return Ok(witness);
    }
    let name = &disk.name;
    Err(Error::new(
        ErrorKind::Inconsistent,
        format!(
            "{name}: the kernel's count of what is written could not be read: it is switched off, \
             or the disk was never still for an instant; nothing was stored"
        ),
    )
    .with_hint(format!(
        "echo 1 > /sys/block/{name}/queue/iostats, or try at a quieter time"
    )))
}

/// Why the marks that this subject's copy rests on prove nothing; `None` when they do.
pub fn doubt(subject: &Subject) -> Option<ProofFailure> {
    let disk = &subject.options.identity;
    let parent = subject.options.parent.as_ref().filter(|_| {
        // Compare and full rest on this run's marks alone.
        subject.options.plan.mode == Mode::Incremental
    });
    let then = match parent.and_then(|(record, _)| Some((&record.identity, record.cut.as_ref()?))) {
        Some((disk, witness)) => Moment { disk, witness },
        None => Moment {
            disk,
            witness: &subject.witness,
        },
    };
    let Some(witness) = subject.end.as_ref() else {
        return Some(ProofFailure::Uncounted);
    };
    // That the parent's cut is of this history was found when the run was planned.
    unbroken(then, Moment { disk, witness }).err()
}
