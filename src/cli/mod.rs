//! The command line: the only place that knows clap, the terminal and signals.

use crate::freeze::{GUARDIAN_COMMAND, guardian_main};
use std::process::ExitCode;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // Not for users, and before anything else is set up: see there.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|arg| arg == GUARDIAN_COMMAND)
    {
        return guardian_main();
    }
    ExitCode::SUCCESS
}
