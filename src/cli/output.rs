//! The last words of a command. Nobody listening, or nobody reading, changes nothing of what was
//! done, nor of its exit code.

use super::args::Common;
use super::exit::code;
use super::outcome::Outcome;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a reader may keep the last words waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a pipe that is ready takes without blocking (`PIPE_BUF`).
const ATOM: usize = 4096;

/// Prints a command's answer, or why there is none, and gives its exit code.
pub fn conclude(result: Result<Outcome>, common: &Common) -> ExitCode {
    match result {
        Ok(outcome) => {
            let mut text = if common.json {
                outcome.json.to_string()
            } else {
                outcome.text
            };
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            write_patiently(std::io::stdout().as_fd(), text.as_bytes(), PATIENCE);
            ExitCode::from(outcome.code)
        }
        Err(error) => conclude_error(&error, common.json),
    }
}

/// Prints why there is no answer, and gives the exit code.
pub fn conclude_error(error: &Error, as_json: bool) -> ExitCode {
    if as_json {
        let mut document = json!({"error": {
            "kind": error.kind().name(),
            "message": error.to_string(),
            "hint": error.hint(),
        }})
        .to_string();
        document.push('\n');
        write_patiently(std::io::stdout().as_fd(), document.as_bytes(), PATIENCE);
    } else {
        let hint = error
            .hint()
            .map(|hint| format!("  {hint}\n"))
            .unwrap_or_default();
        let text = format!("stillpoint: {error}\n{hint}");
        write_patiently(std::io::stderr().as_fd(), text.as_bytes(), PATIENCE);
    }
    ExitCode::from(code(error.kind()))
}

/// Writes, but waits for a reader no longer than that; what is left then is lost.
pub fn write_patiently(to: BorrowedFd<'_>, bytes: &[u8], patience: Duration) {
    let until = Instant::now() + patience;
    let mut rest = bytes;
    while !rest.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], timeout) {
            Ok(1) => {}
            Err(Errno::EINTR) => continue,
            _ => return,
        }
        match nix::unistd::write(to, &rest[..rest.len().min(ATOM)]) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR | Errno::EAGAIN) if !left.is_zero() => {}
            Err(_) => return,
        }
    }
}
