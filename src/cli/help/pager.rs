//! Shows a text in a pager on a terminal. Without a pager the caller prints it: the text must never
//! be lost because a program is missing.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

/// The pager where `PAGER` is not set.
const USUAL: &str = "less";
/// The shell's exit codes for a program that cannot be run, or is not there.
const NOT_RUN: [i32; 2] = [126, 127];

/// Shows the text if standard output is a terminal and there is a pager. Returns whether it did.
pub fn show(text: &str) -> bool {
    if !std::io::stdout().is_terminal() {
        return false;
    }
    let pager = std::env::var("PAGER").unwrap_or_default();
    if pager.trim().is_empty() {
        return through(Command::new(USUAL), text);
    }
    through(shell(&pager), text)
}

/// `PAGER` may hold arguments, too.
fn shell(words: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", words]);
    command
}

fn through(mut command: Command, text: &str) -> bool {
    command.stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // F: exit if all fits on the screen. X: leave it there. R: show colours.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // The pager closes it when the reader quits early.
        let _ = stdin.write_all(text.as_bytes());
    }
    let ended = child.wait().ok().and_then(|status| status.code());
    !ended.is_some_and(|code| NOT_RUN.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pager_that_is_not_there_leaves_the_text_to_be_printed() {
        assert!(!through(Command::new("/nowhere/a-pager"), "text"));
        assert!(!through(shell("/nowhere/a-pager 2>/dev/null"), "text"));
        assert!(through(shell("cat >/dev/null"), "text"));
        // A pager that reads nothing, or fails, has shown it all the same.
        assert!(through(shell("exec 0<&-; exit 1"), &"text".repeat(1 << 18)));
    }
}
