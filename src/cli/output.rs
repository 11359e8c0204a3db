//! The last output of a command. A reader that is gone or does not read changes nothing of what was
//! done, nor the exit code. A file that got only part of the output does: somebody will read it.
//! Only plain text is written; control characters are escaped.

use super::signals;
use crate::error::{Error, Result};
use crate::model::exit::{below, code, exit};
use crate::model::printable;
use crate::model::{Cancel, clip};
use crate::report::{self, Report};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use serde_json::{Value, json};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a reader may keep the last output waiting.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether to go on waiting for a reader, in milliseconds.
const LOOK_EVERY: u16 = 200;
/// Bytes that a pipe takes without blocking once it is ready (`PIPE_BUF`).
const ATOM: usize = 4096;

/// How the last output is printed.
#[derive(Clone, Copy, Debug)]
pub struct PrintOptions {
    /// Prints the document instead of the text.
    pub as_json: bool,
    /// Prints to standard error, as standard output holds something else.
    pub aside: bool,
    /// How long the reader may keep it waiting.
    pub patience: Duration,
}

/// Prints what a command reports, or why it failed, and returns its exit code.
pub fn conclude(result: Result<Report>, options: PrintOptions) -> ExitCode {
    match result {
        Ok(reported) => {
            let text = text_of(&reported, options.as_json);
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

/// Prints on standard output, before the command ends, what it has to report.
pub fn print_report(report: &Report, as_json: bool, patience: Duration) {
    let text = text_of(report, as_json);
    // Who does not read it changes nothing of what is done.
    let _ = write_patiently(std::io::stdout().as_fd(), &text, patience);
}

fn text_of(report: &Report, as_json: bool) -> String {
    let mut text = match as_json {
        // Its document was printed before.
        true if report.json.is_null() => String::new(),
        true => document(&report.json),
        false => report.text.clone(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Reports that the output is not whole. Success becomes the code below it.
fn cut_short(code: u8, errno: Errno) -> ExitCode {
    let why = format!(
        "done, but the report could not be written: {}",
        errno.desc()
    );
    print_last(&verdict(&why), "make room where its output goes");
    exit(below(code))
}

/// Prints why the command failed, and returns the exit code.
pub fn conclude_error(error: &Error, as_json: bool) -> ExitCode {
    if as_json {
        let mut document = document(&json!({"error": report::error::document(error)}));
        document.push('\n');
        // If nobody reads it, the exit code still says that it failed.
        let _ = write_patiently(std::io::stdout().as_fd(), &document, PATIENCE);
    } else {
        print_last(
            &verdict(&error.to_string()),
            &clip(&report::error::advice(error), report::error::MOST_WORDS),
        );
    }
    exit(code(error.kind()))
}

/// Prints what went wrong and what to do next. On a terminal they come in that order; elsewhere the
/// verdict is the last line.
fn print_last(verdict: &str, hint: &str) {
    let stderr = std::io::stderr();
    let text = match stderr.is_terminal() {
        true => format!("{verdict}\nhint: {hint}\n"),
        false => format!("hint: {hint}\n{verdict}\n"),
    };
    let _ = write_patiently(stderr.as_fd(), &text, PATIENCE);
}

/// Why the command failed, as one line. It comes last, as runners keep only the end of the output.
pub fn verdict(said: &str) -> String {
    let said = clip(said, report::error::MOST_WORDS).replace('\n', " ");
    format!("stillpoint: {}", printable::one_line(&said))
}

/// A JSON document on one line.
fn document(value: &Value) -> String {
    // A `Value` always serializes.
    printable::json(value).unwrap_or_default()
}

/// Writes the text, and waits for the reader no longer than `patience`; what is left then is lost.
/// All output passes here, and control characters are escaped.
///
/// # Errors
/// The text was cut short, and not because its reader is gone or does not read.
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
            // The terminal is gone.
            Err(Errno::EIO) if !is_file(to) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes the text, and waits for the reader as long as `go_on` allows. Control characters are
/// escaped. `false`: the reader is gone.
///
/// # Errors
/// What `go_on` says; the text could not be written.
pub fn write_on(to: BorrowedFd<'_>, text: &str, go_on: &dyn Cancel) -> Result<bool> {
    let plain = printable::lines(text);
    let mut rest = plain.as_bytes();
    while !rest.is_empty() {
        go_on.check()?;
        match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], LOOK_EVERY) {
            Ok(1) => {}
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(unwritten(errno)),
        }
        match nix::unistd::write(to, &rest[..rest.len().min(ATOM)]) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(Errno::EPIPE) => return Ok(false),
            Err(Errno::EIO) if !is_file(to) => return Ok(false),
            Err(errno) => return Err(unwritten(errno)),
        }
    }
    Ok(true)
}

/// Standard output for bytes: who waits for a reader hears a signal meanwhile.
pub struct PolledOut;

impl Write for PolledOut {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stdout = io::stdout();
        let to = stdout.as_fd();
        loop {
            // It is told from other failures by who asks whether to stop.
            signals::check().map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(to, PollFlags::POLLOUT)], LOOK_EVERY) {
                Ok(1) => {}
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            match nix::unistd::write(to, &bytes[..bytes.len().min(ATOM)]) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unwritten(errno: Errno) -> Error {
    Error::io("write", Path::new("standard output"), errno.into())
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    let kind = fstat(fd).map(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT);
    kind == Ok(SFlag::S_IFREG)
}
