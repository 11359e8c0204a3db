//! The last words of a command. Nobody listening, or nobody reading, changes nothing of what was
//! done, nor of its exit code; where words are cut short in a file, somebody will read them.
//! Nothing but plain text is ever written: what a terminal would obey leaves as an escape.

use super::args::Common;
use super::outcome::Outcome;
use crate::error::{Error, ErrorKind, Result};
use crate::model::clip;
use crate::model::exit::{below, code, exit};
use crate::model::printable;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a reader may keep the last words waiting.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an error's message, and of its hint: runners keep but the end of what is said.
const MOST_WORDS: usize = 4000;
/// What a pipe that is ready takes without blocking (`PIPE_BUF`).
const ATOM: usize = 4096;

/// Prints a command's answer, or why there is none, and gives its exit code.
pub fn conclude(result: Result<Outcome>, common: &Common, patience: Duration) -> ExitCode {
    match result {
        Ok(outcome) => {
            let mut text = if common.json {
                document(&outcome.json)
            } else {
                outcome.text
            };
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
            let to = match outcome.aside {
                true => stderr.as_fd(),
                false => stdout.as_fd(),
            };
            match write_patiently(to, &text, patience) {
                Ok(()) => exit(outcome.code),
                Err(errno) => cut_short(outcome.code, errno),
            }
        }
        Err(error) => conclude_error(&error, common.json),
    }
}

/// Tells that an answer is not whole; what was to end well ends below that.
fn cut_short(code: u8, errno: Errno) -> ExitCode {
    let why = format!(
        "done, but what it answers could not be written: {}",
        errno.desc()
    );
    say_last(&verdict(&why), "make room where its output goes");
    exit(below(code))
}

/// Prints why there is no answer, and gives the exit code.
pub fn conclude_error(error: &Error, as_json: bool) -> ExitCode {
    if as_json {
        let mut document = document(&json!({"error": error_document(error)}));
        document.push('\n');
        // Its code says that it failed.
        let _ = write_patiently(std::io::stdout().as_fd(), &document, PATIENCE);
    } else {
        say_last(
            &verdict(&error.to_string()),
            &clip(&advice(error), MOST_WORDS),
        );
    }
    exit(code(error.kind()))
}

/// What went wrong, and what to do next. People read it in that order; elsewhere the verdict is the
/// last line.
fn say_last(verdict: &str, hint: &str) {
    let stderr = std::io::stderr();
    let text = match stderr.is_terminal() {
        true => format!("{verdict}\nhint: {hint}\n"),
        false => format!("hint: {hint}\n{verdict}\n"),
    };
    let _ = write_patiently(stderr.as_fd(), &text, PATIENCE);
}

/// Why there is no answer, in the one line that all that is said ends with: runners keep but the
/// end.
pub fn verdict(said: &str) -> String {
    let said = clip(said, MOST_WORDS).replace('\n', " ");
    format!("stillpoint: {}", printable::one_line(&said))
}

/// An error as users' scripts know it.
pub fn error_document(error: &Error) -> Value {
    json!({
        "kind": error.kind().name(),
        "message": clip(&error.to_string(), MOST_WORDS),
        "hint": clip(&advice(error), MOST_WORDS),
    })
}

/// What to do next: as the error says, or what fits all of its kind.
fn advice(error: &Error) -> Cow<'_, str> {
    let root = nix::unistd::Uid::effective().is_root();
    printable::one_line(error.hint().unwrap_or(match error.kind() {
        ErrorKind::Usage => "see stillpoint --help",
        ErrorKind::NotFound => "check the name; `stillpoint disks` and `stillpoint list` tell them",
        ErrorKind::Exists => "name another, or remove what is there if nobody needs it",
        ErrorKind::NoSpace => "make room there, or name another place, and run it again",
        ErrorKind::Io => "look at the kernel's log (dmesg) for what the device says, and try again",
        ErrorKind::Damaged => {
            "`stillpoint verify --all` says what is damaged and which snapshots are whole"
        }
        ErrorKind::Format => "name a vault that this version knows, or use the newest stillpoint",
        ErrorKind::Unsupported if !root => "run it as root, with sudo for example",
        ErrorKind::Unsupported => "`stillpoint doctor` says what this host cannot do, and why",
        ErrorKind::Busy => "wait until it is free, and run it again",
        ErrorKind::Inconsistent => "nothing was stored; run it again, at a quieter time if need be",
        ErrorKind::Interrupted(_) => "run it again when it suits",
        ErrorKind::Failed => {
            "run it again with -v; if it stays, please report it with what it says"
        }
    }))
}

/// A document of JSON, in a line.
fn document(value: &Value) -> String {
    // A value can always be written.
    printable::json(value).unwrap_or_default()
}

/// Writes, but waits for a reader no longer than that; what is left then is lost. All that is said
/// leaves through here, as plain text.
///
/// # Errors
/// What was to be written was cut short by something else than that nobody reads it.
pub fn write_patiently(to: BorrowedFd<'_>, text: &str, patience: Duration) -> Result<(), Errno> {
    let until = Instant::now() + patience;
    let plain = printable::lines(text);
    let mut rest = plain.as_bytes();
    while !rest.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], timeout) {
            Ok(1) => {}
            Err(Errno::EINTR) => continue,
            _ => return Ok(()),
        }
        match nix::unistd::write(to, &rest[..rest.len().min(ATOM)]) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR | Errno::EAGAIN) if !left.is_zero() => {}
            Err(Errno::EPIPE | Errno::EINTR | Errno::EAGAIN) => return Ok(()),
            // A terminal that has gone.
            Err(Errno::EIO) if !is_file(to) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    let kind = fstat(fd).map(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT);
    kind == Ok(SFlag::S_IFREG)
}
