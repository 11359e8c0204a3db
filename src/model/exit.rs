//! Exit codes, as users' scripts know them.

use crate::error::ErrorKind;
use std::process::ExitCode;

/// Done as asked.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// Done, but below what was asked, or with warnings.
pub const BELOW: u8 = 3;
/// The vault's data is damaged.
pub const DAMAGED: u8 = 4;

/// Some runners power off or reboot the host at these.
const FORBIDDEN: [u8; 2] = [193, 194];

/// Makes an exit code. All others are made here too, so that none is ever one of the forbidden.
pub fn exit(code: u8) -> ExitCode {
    ExitCode::from(allowed(code))
}

/// The code, or failure where the code could do harm.
pub fn allowed(code: u8) -> u8 {
    if FORBIDDEN.contains(&code) {
        FAILED
    } else {
        code
    }
}

/// The code of a run whose report or record is not whole: no longer success.
pub fn below(code: u8) -> u8 {
    if code == DONE { BELOW } else { code }
}

/// The code for a failure.
pub fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::Damaged => DAMAGED,
        ErrorKind::Unsupported => 5,
        ErrorKind::Busy => 6,
        ErrorKind::Interrupted(signal) => match signal {
            libc::SIGINT => 130,
            // Scripts know just two codes of a stopped run.
            _ => 143,
        },
        ErrorKind::NotFound
        | ErrorKind::Exists
        | ErrorKind::NoSpace
        | ErrorKind::Io
        | ErrorKind::Archived
        | ErrorKind::Format
        | ErrorKind::Inconsistent
        | ErrorKind::Failed => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_and_no_foreign_code_turns_the_host_off() {
        let signals = (i32::from(i16::MIN)..=i32::from(i16::MAX)).map(ErrorKind::Interrupted);
        for kind in ErrorKind::PLAIN.into_iter().chain(signals) {
            let code = code(kind);
            assert!(code != 0 && !FORBIDDEN.contains(&code), "{kind:?}");
            assert_eq!(allowed(code), code);
        }
        for code in 0..=u8::MAX {
            let given = allowed(code);
            assert!(!FORBIDDEN.contains(&given));
            assert!(given == code || given == FAILED);
        }
        assert_eq!(format!("{:?}", exit(194)), format!("{:?}", exit(FAILED)));
    }
}
