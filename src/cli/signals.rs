//! Signals that stop a run. The handler only notes them; the engine checks where it can stop
//! cleanly. A signal that the starter had set to be ignored (`nohup`, `trap ''`) stays ignored.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::process::ignores;
use nix::sys::signal::Signal;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static SIGNAL: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// Notes SIGINT, SIGTERM and SIGHUP from here on, except those that are ignored. `all`: those too,
/// as a detached job has its own session, and what was ignored were the signals of its starter's.
pub fn watch(all: bool) -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        if !all && ignores(signal) {
            continue;
        }
        let signal = signal as libc::c_int;
        let number = usize::try_from(signal).expect("signals are positive");
        signal_hook::flag::register_usize(signal, Arc::clone(&SIGNAL), number).map_err(
            |error| Error::new(ErrorKind::Failed, "cannot watch for signals").with_source(error),
        )?;
    }
    Ok(())
}

/// Returns an error once one of them has arrived.
pub fn check() -> Result<()> {
    match SIGNAL.load(Ordering::Relaxed) {
        0 => Ok(()),
        signal => {
            let signal = i32::try_from(signal).unwrap_or(libc::SIGTERM);
            Err(Error::new(
                ErrorKind::Interrupted(signal),
                "stopped by a signal",
            ))
        }
    }
}
