//! What a guardian is asked to freeze, and what is refused before anything is opened.

use crate::error::{Error, ErrorKind, Result};
use crate::freeze::target::FreezeTarget;
use crate::freeze::{DEFAULT_RUN_DIR, MAX_TARGETS};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// The longest deadline that is accepted.
const MAX_DEADLINE: Duration = Duration::from_secs(600);

/// What to freeze, and how.
#[derive(Clone, Debug)]
pub struct GuardianOptions {
    /// The program to start as the guardian.
    pub program: PathBuf,
    /// Where the record is kept.
    pub run_dir: PathBuf,
    /// What to freeze, in this order; each filesystem once.
    pub targets: Vec<FreezeTarget>,
    /// How long anything may stay frozen, counted from the order to freeze: up to 10 minutes.
    pub deadline: Duration,
    /// How long writing everything out before the freeze may take.
    pub sync_within: Duration,
}

impl GuardianOptions {
    /// The defaults: this program, `/run/stillpoint`, a minute to write everything out.
    pub fn new(targets: Vec<FreezeTarget>, deadline: Duration) -> Self {
        Self {
            program: "/proc/self/exe".into(),
            run_dir: DEFAULT_RUN_DIR.into(),
            targets,
            deadline,
            sync_within: Duration::from_secs(60),
        }
    }

    /// Refuses what cannot be frozen as asked.
    pub(super) fn check(&self) -> Result<()> {
        let (targets, deadline) = (&self.targets, self.deadline);
        if targets.len() > MAX_TARGETS {
            let message = format!(
                "{} filesystems to freeze; at most {MAX_TARGETS} can be",
                targets.len()
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if deadline.is_zero() || deadline > MAX_DEADLINE {
            let message =
                format!("a freeze deadline of {deadline:?}: more than 0, at most 10 minutes");
            return Err(Error::new(ErrorKind::Usage, message));
        }
        if !targets.is_sorted_by_key(|target| target.wave) {
            let message = "the filesystems to freeze are not in the order of their waves";
            return Err(Error::new(ErrorKind::Failed, message));
        }
        let mut seen = BTreeSet::new();
        for target in targets {
            // The second freeze would fail with "frozen already", as if somebody else had done it.
            if !seen.insert(target.dev) {
                let message = format!("{} is to be frozen twice", target.name());
                return Err(Error::new(ErrorKind::Failed, message));
            }
        }
        Ok(())
    }
}
