//! The error of a restore that failed: what is whole, what is not, and what to do next.

use crate::error::{Error, ErrorKind};
use crate::model::SnapshotId;
use crate::restore::FreeDevice;

/// Adds to the error which other disks are whole, and which were not begun.
pub fn of_the_others(error: Error, whole: &[String], not_begun: &[String]) -> Error {
    let mut said = Vec::new();
    if !whole.is_empty() {
        said.push(format!("whole: {}", whole.join(", ")));
    }
    if !not_begun.is_empty() {
        said.push(format!("not begun: {}", not_begun.join(", ")));
    }
    if said.is_empty() {
        error
    } else {
        error.context(said.join("; "))
    }
}

/// The error of a snapshot that is not there any more: what it needed went after it.
pub fn went_meanwhile(error: Error, id: SnapshotId) -> Error {
    let what = format!(
        "snapshot {id} was deleted while it was read, or has got another ID by `stillpoint gc`"
    );
    error
        .with_kind(ErrorKind::Failed)
        .and_said(what)
        .with_hint("the same command again finds it under its new ID, if it has one")
}

/// The target of a restore that failed, and what state it is in.
pub struct FailedTarget {
    /// The target's name.
    pub target: String,
    /// The state it is in.
    pub state: &'static str,
}

/// A device to which nothing was written yet.
pub fn untouched(device: &FreeDevice) -> FailedTarget {
    FailedTarget {
        target: device.path().display().to_string(),
        state: "nothing was written",
    }
}

/// Adds to the error what failed and what is left of the target.
pub fn explain(error: Error, state: &FailedTarget) -> Error {
    let damaged = error.kind() == ErrorKind::Damaged;
    let FailedTarget { target, state } = state;
    let hint = error.hint().map(str::to_owned);
    let error = error.context(format!("cannot restore to {target}; {state}"));
    if damaged {
        return error.with_hint(
            "what is not damaged can be had with --keep-going, or restore an older snapshot; \
             `stillpoint verify --all` says which are whole",
        );
    }
    let interrupted = matches!(error.kind(), ErrorKind::Interrupted(_));
    match hint {
        None if interrupted => {
            error.with_hint("the same command again starts over and makes it whole")
        }
        _ => error,
    }
}
