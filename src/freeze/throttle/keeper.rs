//! The throttle's keeper: `stillpoint __throttle`, with a socket as its standard input. It undoes
//! what the note says when the engine is gone, or has taken too long; it never limits anything.

use super::LONGEST;
use super::note::undo;
use crate::freeze::helper;
use crate::freeze::isolation::Isolation;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long the engine may take to say where the note is.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Longest path of a note, in bytes.
const MAX_PATH: usize = 4096;
/// How often it is tried to undo what the kernel or another process does not let it.
const TRIES: u32 = 20;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs as the keeper, to the end. Exit code 0: nothing is limited any more; 1: something may be,
/// and the note tells what; 2: nobody asked for a keeper.
pub fn throttle_keeper_main() -> ExitCode {
    let Some(socket) = helper::begin() else {
        return ExitCode::from(2);
    };
    let mut isolation = Isolation::begin();
    let _ = nix::sys::prctl::set_name(c"write-throttle");
    let mut path = vec![0; MAX_PATH];
    let told = await_word(&socket, TOLD_WITHIN)
        .then(|| recv(socket.as_raw_fd(), &mut path, MsgFlags::MSG_DONTWAIT));
    let Some(Ok(length @ 1..)) = told else {
        return ExitCode::from(2);
    };
    path.truncate(length);
    let path = PathBuf::from(OsString::from_vec(path));
    let Some(run_dir) = path.parent() else {
        return ExitCode::from(2);
    };
    isolation.join_group();
    // Nobody to hear it: the next look at the socket says so.
    let _ = send(socket.as_raw_fd(), &[1], MsgFlags::MSG_NOSIGNAL);
    await_word(&socket, LONGEST);
    let undone = (0..TRIES).any(|tries| {
        if tries > 0 {
            std::thread::sleep(PAUSE);
        }
        undo(run_dir, &path).is_ok()
    });
    isolation.leave_groups();
    ExitCode::from(u8::from(!undone))
}

/// Waits until something is said, or the other end is closed; answers whether it was in time.
fn await_word(socket: &OwnedFd, within: Duration) -> bool {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, left) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::Error::EINTR) => {}
            Err(_) => return true,
        }
    }
}
