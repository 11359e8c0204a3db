//! What a shell does for a test and undoes when the test lets go: also when the test is killed, as
//! the shell reads the end of its input then. A filesystem that stays frozen, or a file that stays
//! swapped to, harms all of the machine.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Done until it is dropped.
pub struct Held(Child);

impl Held {
    /// Has a shell do `doing` with the words as `$1` and so on; `undoing` follows. `apart`: in a
    /// namespace of mounts of its own. `None`: it could not be done.
    pub fn new(apart: bool, doing: &str, undoing: &str, words: &[&Path]) -> Option<Self> {
        let mut command = match apart {
            true => Command::new("unshare"),
            false => Command::new("sh"),
        };
        if apart {
            command.args(["--mount", "sh"]);
        }
        // A signal to the group of the test must not keep it from undoing.
        let script =
            format!("trap '' INT TERM HUP\n{doing} && {{ echo done; read end; {undoing}; }}");
        let command = command
            .args(["-c", &script, "sh"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut held = Self(command.spawn().unwrap());
        let out = held.0.stdout.take().unwrap();
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).unwrap();
        (line == "done\n").then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A filesystem that somebody else has frozen, until it is dropped.
pub fn frozen(place: &Path) -> Held {
    let (freeze, thaw) = ("fsfreeze --freeze \"$1\"", "fsfreeze --unfreeze \"$1\"");
    Held::new(false, freeze, thaw, &[place]).expect("it cannot be frozen")
}

#[test]
fn it_is_undone_when_the_test_lets_go_and_when_nothing_is_heard_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("there");
    let hold = || Held::new(false, "touch \"$1\"", "rm \"$1\"", &[&file]);
    let held = hold().unwrap();
    assert!(file.exists());
    drop(held);
    assert!(!file.exists());
    // As a killed test leaves it: its end of the pipe is gone, and nobody waits.
    let mut held = hold().unwrap();
    let group = nix::unistd::Pid::from_raw(held.0.id().cast_signed());
    nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(file.exists());
    drop(held.0.stdin.take());
    assert!(held.0.wait().unwrap().success());
    assert!(!file.exists());
    assert!(Held::new(false, "false", "true", &[]).is_none());
}
