//! The main function of the throttle watcher: `stillpoint __throttle`, with a socket as its
//! standard input. It undoes the limits that the note names when the engine is gone, or has taken
//! too long. It never limits anything.

use super::note::{MAX_DURATION, undo};
use crate::freeze::isolation::Isolation;
use crate::helper::{self, recv, send};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long the engine may take to say where the note is.
const NOTE_WITHIN: Duration = Duration::from_secs(30);
/// How often it tries, when the kernel or another process keeps it from undoing the limits.
const TRIES: u32 = 20;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs as the throttle watcher until it exits. Exit code 0: nothing is limited any more; 1:
/// something may be, and the note says what; 2: nobody has started it as one.
pub fn throttle_watcher_main() -> ExitCode {
    let Some(socket) = helper::begin() else {
        return ExitCode::from(2);
    };
    let mut isolation = Isolation::begin();
    let _ = nix::sys::prctl::set_name(c"write-throttle");
    let Ok(path) = recv::<Vec<u8>>(&socket, NOTE_WITHIN) else {
        return ExitCode::from(2);
    };
    let path = PathBuf::from(OsString::from_vec(path));
    let Some(run_dir) = path.parent() else {
        return ExitCode::from(2);
    };
    isolation.join_group();
    // If the engine is gone, the next recv reports it. It sends nothing more: closing the socket
    // ends the wait.
    let _ = send(&socket, &());
    let _ = recv::<()>(&socket, MAX_DURATION);
    let undone = (0..TRIES).any(|tries| {
        if tries > 0 {
            std::thread::sleep(PAUSE);
        }
        undo(run_dir, &path).is_ok()
    });
    isolation.leave_groups();
    ExitCode::from(u8::from(!undone))
}
