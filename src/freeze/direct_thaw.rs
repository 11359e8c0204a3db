//! Thawing without a guardian, in the engine or for `thaw`. Calls that may never return are made in
//! threads, and nobody waits for these without bound.

use super::state::TargetState;
use super::target_states::{THAWERS, TargetStates, ThawOutcome};
use crate::error::{Error, ErrorKind, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Thaws those of `fds` (in freeze order) that `suspect` returns true for, last first, and waits
/// for at most `within`. Returns the outcome of each, `None` for the others.
pub(super) fn thaw_all(
    fds: &Arc<Vec<OwnedFd>>,
    suspect: impl Fn(usize) -> bool,
    within: Duration,
) -> Result<Vec<Option<ThawOutcome>>> {
    let failed = |error| Error::new(ErrorKind::Failed, "cannot prepare to thaw").with_source(error);
    let until = Instant::now() + within;
    let (mut wake, waker) = std::io::pipe().map_err(failed)?;
    let plan = (0..fds.len()).map(|index| match suspect(index) {
        true => (0, TargetState::Frozen),
        false => (0, TargetState::Planned),
    });
    let targets = Arc::new(TargetStates::new(Arc::clone(fds), plan, None, waker));
    targets.order_thaw();
    for _ in 0..fds.len().min(THAWERS) {
        let targets = Arc::clone(&targets);
        let builder = thread::Builder::new().name("thawer".to_owned());
        let spawned = builder.spawn(move || targets.run_thawer());
        spawned.map_err(failed)?;
    }
    while targets.unsettled().0 > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut readable = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        if poll(&mut readable, timeout).is_ok_and(|ready| ready > 0) {
            let _ = wake.read(&mut [0; 64]);
        }
    }
    Ok((0..fds.len()).map(|index| targets.outcome(index)).collect())
}

/// Runs `work` in a thread of its own; returns `None` when it takes longer than `within`, and then
/// nobody waits for the thread any more.
pub(super) fn bounded<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let builder = thread::Builder::new().name("bounded".to_owned());
    builder
        .spawn(move || {
            // It fails when nobody waits any more.
            let _ = sender.send(work());
        })
        .map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
        })?;
    Ok(receiver.recv_timeout(within).ok())
}
