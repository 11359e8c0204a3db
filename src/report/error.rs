//! An error as a document, and what to do about it.

use crate::error::{Error, ErrorKind};
use crate::model::clip;
use crate::model::printable;
use serde_json::{Value, json};
use std::borrow::Cow;

/// Most bytes of an error's message, and of its hint: runners keep only the end of what is
/// printed.
pub const MOST_WORDS: usize = 4000;

/// An error as users' scripts know it.
pub fn document(error: &Error) -> Value {
    json!({
        "kind": error.kind().name(),
        "message": clip(&error.to_string(), MOST_WORDS),
        "hint": clip(&advice(error), MOST_WORDS),
    })
}

/// What to do next: as the error says, or what fits all of its kind.
pub fn advice(error: &Error) -> Cow<'_, str> {
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
        ErrorKind::Archived => "thaw it, and run it again: `stillpoint help s3` says how",
        ErrorKind::Format => "name a vault that this version knows, or use the newest stillpoint",
        ErrorKind::Unsupported if !root => "run it as root, with sudo for example",
        ErrorKind::Unsupported => "`stillpoint doctor` says what this host cannot do, and why",
        ErrorKind::Busy => "wait until it is free, and run it again",
        ErrorKind::Inconsistent => {
            "no snapshot was made; run it again, at a quieter time if need be"
        }
        ErrorKind::Interrupted(_) => "run it again when it suits",
        ErrorKind::Failed => {
            "run it again with -v; if it stays, please report it with what it says"
        }
    }))
}
