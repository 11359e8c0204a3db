//! Thawing without a guardian, and calls that may never come back made in threads that nobody waits
//! for without bound.

use super::expedite::undo_expedited;
use super::record::RecordFile;
use super::target_states::{Ledger, Outcome, State, THAWERS};
use crate::error::{Error, ErrorKind, Result};
use crate::helper::Helper;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long the engine tries to thaw by itself.
const RESCUE_WITHIN: Duration = Duration::from_secs(5);

/// Thaws those of `fds` (in freeze order) that `suspect` names, last first, and waits for at most
/// `within`. The outcome of each, `None` for those not named.
pub(super) fn thaw_all(
    fds: &Arc<Vec<OwnedFd>>,
    suspect: impl Fn(usize) -> bool,
    within: Duration,
) -> Result<Vec<Option<Outcome>>> {
    let failed = |error| Error::new(ErrorKind::Failed, "cannot prepare to thaw").with_source(error);
    let until = Instant::now() + within;
    let (mut bell, ring) = std::io::pipe().map_err(failed)?;
    let plan = (0..fds.len()).map(|index| match suspect(index) {
        true => (0, State::Frozen),
        false => (0, State::Planned),
    });
    let ledger = Arc::new(Ledger::new(Arc::clone(fds), plan, None, ring));
    ledger.order_thaw();
    for _ in 0..fds.len().min(THAWERS) {
        let ledger = Arc::clone(&ledger);
        let builder = thread::Builder::new().name("thawer".to_owned());
        let spawned = builder.spawn(move || ledger.run_thawer());
        spawned.map_err(failed)?;
    }
    while ledger.unsettled().0 > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut rung = [PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
        if poll(&mut rung, timeout).is_ok_and(|ready| ready > 0) {
            let _ = bell.read(&mut [0; 64]);
        }
    }
    Ok((0..fds.len()).map(|index| ledger.outcome(index)).collect())
}

/// What a guardian that is gone may have left frozen, as its engine knows it.
#[derive(Debug)]
pub(super) struct Leftovers {
    pub(super) fds: Arc<Vec<OwnedFd>>,
    pub(super) record: Arc<RecordFile>,
}

impl Leftovers {
    /// Thaws what the journal does not call thawed or untouched, nor an emergency thaw has noted as
    /// thawed while this process slept; gives the first target that may still be frozen.
    pub(super) fn thaw(&self) -> Result<Option<usize>> {
        let noted = self.record.journal.states(self.fds.len());
        let told = self.record.told(self.fds.len());
        let suspect = |index| {
            let thawed = told.get(index) == Some(&State::Thawed);
            !thawed && noted.get(index).copied().is_none_or(State::may_be_frozen)
        };
        let outcomes = thaw_all(&self.fds, suspect, RESCUE_WITHIN)?;
        Ok(outcomes
            .iter()
            .position(|outcome| matches!(outcome, Some(Outcome::Failed(_) | Outcome::Stuck))))
    }

    /// Waits for the end of a guardian that could not end yet. If it did not end well, a freeze of
    /// it may have come unstuck only now; if it did, the journal names nothing.
    pub(super) fn outlive(self, guardian: &Helper) {
        guardian.await_end();
        // What fails is done by the next run.
        let _ = undo_expedited(self.record.run_dir());
        if matches!(self.thaw(), Ok(None)) {
            // Usually the guardian has done so.
            let _ = std::fs::remove_file(&self.record.path);
        }
    }
}

/// Runs `work` in a thread of its own; `None` when it has not come back within `within`, and then
/// the thread is left to itself.
pub(super) fn bounded<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let builder = thread::Builder::new().name("bounded".to_owned());
    builder
        .spawn(move || {
            // Nobody there any more: it came too late.
            let _ = sender.send(work());
        })
        .map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
        })?;
    Ok(receiver.recv_timeout(within).ok())
}
