//! Shows a text page by page on a terminal. Where there is no pager the text is printed: it must
//! never be lost because a program is missing.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};

/// What is started where `PAGER` names nothing.
const USUAL: &str = "less";
/// The shell's codes for a program that cannot be run, or is not there.
const NOT_RUN: [i32; 2] = [126, 127];

/// Shows it, if standard output is a terminal and there is a pager. `false`: it has to be printed.
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

/// What `PAGER` says may have arguments.
fn shell(words: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", words]);
    command
}

fn through(mut command: Command, text: &str) -> bool {
    command.stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Ends by itself where all fits on the screen, and leaves it there.
        command.env("LESS", "FRX");
    }
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    if let Some(mut stdin) = child.stdin.take() {
        // One who has seen enough closes it.
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
        // One who reads nothing of it, and one who ends badly, has been shown it.
        assert!(through(shell("exec 0<&-; exit 1"), &"text".repeat(1 << 18)));
    }
}
