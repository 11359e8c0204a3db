//! The last words of a command. Nobody listening, or nobody reading, changes nothing of what was
//! done, nor of its exit code; where words are cut short in a file, somebody will read them.
//! Nothing but plain text is ever written: what a terminal would obey leaves as an escape.

use crate::error::{Error, Result};
use crate::model::clip;
use crate::model::exit::{below, code, exit};
use crate::model::printable;
use crate::report::{self, Report};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a reader may keep the last words waiting.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// What a pipe that is ready takes without blocking (`PIPE_BUF`).
const ATOM: usize = 4096;

/// How the last words are printed.
#[derive(Clone, Copy, Debug)]
pub struct PrintOptions {
    /// Prints the document instead of the text.
    pub as_json: bool,
    /// Prints to standard error, as standard output holds something else.
    pub aside: bool,
    /// How long the reader may keep them waiting.
    pub patience: Duration,
}

/// Prints what a command reports, or why it failed, and returns its exit code.
pub fn conclude(result: Result<Report>, options: PrintOptions) -> ExitCode {
    match result {
        Ok(reported) => {
            let mut text = if options.as_json {
                document(&reported.json)
            } else {
                reported.text
            };
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
            let to = match options.aside {
                true => stderr.as_fd(),
                false => stdout.as_fd(),
            };
            match write_patiently(to, &text, options.patience) {
                Ok(()) => exit(reported.code),
                Err(errno) => cut_short(reported.code, errno),
            }
        }
        Err(error) => conclude_error(&error, options.as_json),
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
        let mut document = document(&json!({"error": report::error::document(error)}));
        document.push('\n');
        // Its code says that it failed.
        let _ = write_patiently(std::io::stdout().as_fd(), &document, PATIENCE);
    } else {
        say_last(
            &verdict(&error.to_string()),
            &clip(&report::error::advice(error), report::error::MOST_WORDS),
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
    let said = clip(said, report::error::MOST_WORDS).replace('\n', " ");
    format!("stillpoint: {}", printable::one_line(&said))
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
