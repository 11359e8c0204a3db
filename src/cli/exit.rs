//! Exit codes, as users' scripts know them.

use crate::error::ErrorKind;

/// Done as asked.
pub const DONE: u8 = 0;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// Done, but below what was asked, or with warnings.
pub const BELOW: u8 = 3;
/// The vault's data is damaged.
pub const DAMAGED: u8 = 4;

/// The code for a failure. Never 193 or 194: to some runners they mean power off and reboot.
pub fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::Damaged => DAMAGED,
        ErrorKind::Unsupported => 5,
        ErrorKind::Busy => 6,
        ErrorKind::Interrupted(signal) => match signal {
            libc::SIGINT => 130,
            libc::SIGHUP => 129,
            _ => 143,
        },
        ErrorKind::NotFound
        | ErrorKind::Exists
        | ErrorKind::NoSpace
        | ErrorKind::Io
        | ErrorKind::Format
        | ErrorKind::Inconsistent
        | ErrorKind::Failed => 1,
    }
}
