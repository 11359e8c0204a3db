//! What can go wrong with one file of a copy: it alone, or all that follows. It must never take
//! what ends all for what one file has.

use super::outcome::FailureCause;
use crate::error::Error;
use std::io;

/// Why one file was not copied.
pub(super) enum Trouble {
    /// It alone: it is noted, and the rest goes on.
    Here(FailureCause, String),
    /// All ends.
    Stop(Error),
}

/// The same failure, and what it has left.
pub(super) fn with_rest(error: Error, stays: Option<String>) -> Error {
    match stays {
        Some(stays) => error.and_said(stays),
        None => error,
    }
}

/// Something cannot be read from the snapshot.
pub(super) fn unread(action: &str, error: &io::Error) -> Trouble {
    Trouble::Here(FailureCause::Source, format!("cannot {action} it: {error}"))
}

/// Whether nothing more can be written there.
pub(super) fn is_fatal(error: &io::Error) -> bool {
    let fatal = [
        libc::ENOSPC,
        libc::EDQUOT,
        libc::EROFS,
        libc::EIO,
        libc::ESTALE,
        libc::ENODEV,
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| fatal.contains(&errno))
}
