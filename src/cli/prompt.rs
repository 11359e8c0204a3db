//! Asks for a passphrase on the terminal, which shows nothing of it. It must never ask where nobody
//! is there.

use super::signals;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::printable::one_line;
use crate::store::KeySource;
use crate::sys::secret::{MOST_SECRET, SecretBytes};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

const TERMINAL: &str = "/dev/tty";
/// How often to look for a signal while nothing was typed, in milliseconds.
const TICK: u8 = 200;

/// Asks for the passphrase of the vault at `place`; `None`: nobody is there.
pub fn ask(place: &str) -> Result<Option<SecretBytes>> {
    read(&format!("passphrase of {}: ", one_line(place)))
}

/// Asks for a new passphrase, twice; `None`: nobody is there.
pub fn ask_new() -> Result<Option<KeySource>> {
    let Some(one) = read("new passphrase: ")? else {
        return Ok(None);
    };
    let two = read("once more: ")?;
    if two.is_none_or(|two| two.bytes() != one.bytes()) {
        return Err(Error::new(
            ErrorKind::Usage,
            "the two passphrases differ; nothing was done",
        ));
    }
    Ok(Some(KeySource::Given(Arc::new(one))))
}

/// The terminal, which shows what is typed again when this is dropped.
struct Silenced {
    terminal: File,
    before: Termios,
}

impl Drop for Silenced {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
        let _ = self.terminal.write_all(b"\n");
    }
}

fn read(question: &str) -> Result<Option<SecretBytes>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let opened = File::options().read(true).write(true).open(TERMINAL);
    let Ok(mut terminal) = opened else {
        return Ok(None);
    };
    let Ok(before) = tcgetattr(&terminal) else {
        return Ok(None);
    };
    terminal
        .write_all(question.as_bytes())
        .io_context("write to", Path::new(TERMINAL))?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    let set = tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent);
    let mut silenced = Silenced { terminal, before };
    set.map_err(|errno| {
        Error::new(ErrorKind::Failed, "the terminal would show what is typed").with_source(errno)
    })?;
    line(&mut silenced.terminal).map(Some)
}

/// What is typed until the end of a line.
fn line(terminal: &mut File) -> Result<SecretBytes> {
    let mut length = 0;
    let mut secret = SecretBytes::made(MOST_SECRET, |room| {
        while length < room.len() {
            signals::check()?;
            let mut ready = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
            if !poll(&mut ready, PollTimeout::from(TICK)).is_ok_and(|count| count > 0) {
                continue;
            }
            match terminal.read(&mut room[length..=length]) {
                Ok(0) => return Ok(()),
                Ok(_) if matches!(room[length], b'\n' | b'\r') => return Ok(()),
                Ok(more) => length += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", Path::new(TERMINAL), error)),
            }
        }
        let what = "a passphrase has less than 4096 bytes";
        Err(Error::new(ErrorKind::Usage, what))
    })?;
    secret.truncate(length);
    Ok(secret)
}
