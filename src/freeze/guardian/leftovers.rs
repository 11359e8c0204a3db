//! What the engine thaws when its guardian has been killed or hangs. It must never thaw what the
//! guardian has not frozen, as somebody else may have.

use crate::error::Result;
use crate::freeze::direct_thaw::thaw_all;
use crate::freeze::expedite::undo_expedited;
use crate::freeze::record::RecordFile;
use crate::freeze::state::TargetState;
use crate::freeze::target_states::ThawOutcome;
use crate::helper::Helper;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// How long the engine waits for its own thaw.
const THAW_WITHIN: Duration = Duration::from_secs(5);

/// What a guardian that is gone may have left frozen, as far as its engine knows.
#[derive(Debug)]
pub(super) struct Leftovers {
    pub(super) fds: Arc<Vec<OwnedFd>>,
    pub(super) record: Arc<RecordFile>,
}

impl Leftovers {
    /// Thaws what may be frozen: not what the journal calls thawed or untouched, nor what an
    /// emergency thaw has recorded as thawed while this process slept. Returns the first target
    /// that may still be frozen.
    pub(super) fn thaw(&self) -> Result<Option<usize>> {
        let noted = self.record.journal.states(self.fds.len());
        let recorded = self.record.states(self.fds.len());
        let suspect = |index| {
            let thawed = recorded.get(index) == Some(&TargetState::Thawed);
            !thawed
                && noted
                    .get(index)
                    .copied()
                    .is_none_or(TargetState::may_be_frozen)
        };
        let outcomes = thaw_all(&self.fds, suspect, THAW_WITHIN)?;
        Ok(outcomes.iter().position(|outcome| {
            matches!(outcome, Some(ThawOutcome::Failed(_) | ThawOutcome::Stuck))
        }))
    }

    /// Waits until a guardian with a stuck call exits. If it was killed, the call may have frozen a
    /// target only now, and that is thawed; if it was not, the journal names no target.
    pub(super) fn outlive(self, guardian: &Helper) {
        guardian.await_end();
        // If it fails, the next run does it.
        let _ = undo_expedited(self.record.run_dir());
        if matches!(self.thaw(), Ok(None)) {
            // As a rule the guardian has done so.
            let _ = std::fs::remove_file(&self.record.path);
        }
    }
}
