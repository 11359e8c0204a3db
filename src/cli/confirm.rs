//! Asks before something is overwritten: `--yes` confirms it, or the user does on the terminal.
//! Where nobody can be asked, the restore is refused.

use super::output::write_patiently;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::{Event, Monitor, Overwritten, refused_to_overwrite};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;
use crate::model::printable::one_line;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fmt::Write;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::time::Duration;

/// How long to wait for a terminal that takes no output.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often to look for a signal while the user has not answered, in milliseconds.
const TICK: u8 = 200;

/// Shows progress, and asks.
pub struct Asking<'a> {
    /// Where all else goes.
    pub progress: &'a ProgressDisplay,
    /// The answer was given on the command line.
    pub yes: bool,
}

impl Monitor for Asking<'_> {
    fn tell(&self, event: Event) {
        self.progress.tell(event);
    }

    fn confirm(&self, lost: &[Overwritten]) -> Result<()> {
        if self.yes {
            return Ok(());
        }
        let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
        if !stdin.is_terminal() || !stderr.is_terminal() {
            return Err(refused_to_overwrite(lost));
        }
        let _ = write_patiently(stderr.as_fd(), &question(lost), PATIENCE);
        loop {
            signals::check()?;
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(TICK)).is_ok_and(|count| count > 0) {
                break;
            }
        }
        let mut answer = String::new();
        let read = stdin.read_line(&mut answer);
        if read.is_ok() && answer.trim() == "yes" {
            return Ok(());
        }
        Err(not_confirmed(answer.trim()))
    }
}

impl Cancel for Asking<'_> {
    fn check(&self) -> Result<()> {
        self.progress.check()
    }
}

fn not_confirmed(answer: &str) -> Error {
    let answer = match answer {
        "" => "nothing was answered".into(),
        answer => format!("the answer was {answer:?}"),
    };
    let what = format!("not confirmed, as {answer}; nothing was written");
    Error::new(ErrorKind::Usage, what)
        .with_hint("run it again and type the whole word, yes; or add --yes")
}

fn question(lost: &[Overwritten]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    for one in lost {
        let target = one.target.display().to_string();
        let (target, device) = (one_line(&target), one_line(&one.device));
        let disk = one_line(&one.disk);
        let _ = writeln!(text, "{target} ({device}) is to become {disk}. It holds:");
        for thing in &one.holds {
            let _ = writeln!(text, "    {}", one_line(thing));
        }
    }
    text.push_str("All of this will be lost. Type yes to go on: ");
    text
}
