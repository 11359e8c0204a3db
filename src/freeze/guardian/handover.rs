//! What a guardian is given: targets that can be frozen as asked, each open, and a record. Nothing
//! is frozen here.

use super::wire::Hello;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::freeze::MAX_TARGETS;
use crate::freeze::record::{Record, RecordFile};
use crate::freeze::target::FreezeTarget;
use crate::sys::process::MAX_FDS_PER_MESSAGE;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::collections::BTreeSet;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// The longest deadline that is accepted.
const MAX_DEADLINE: Duration = Duration::from_secs(600);

/// Refuses what cannot be frozen as asked.
pub(super) fn check(targets: &[FreezeTarget], deadline: Duration) -> Result<()> {
    if targets.len() > MAX_TARGETS {
        let message = format!(
            "{} filesystems to freeze; at most {MAX_TARGETS} can be",
            targets.len()
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    if deadline.is_zero() || deadline > MAX_DEADLINE {
        let message = format!("a freeze deadline of {deadline:?}: more than 0, at most 10 minutes");
        return Err(Error::new(ErrorKind::Usage, message));
    }
    if !targets.is_sorted_by_key(|target| target.wave) {
        let message = "the filesystems to freeze are not in the order of their waves";
        return Err(Error::new(ErrorKind::Failed, message));
    }
    let mut seen = BTreeSet::new();
    for target in targets {
        // Its second freeze would say "frozen already", as if a stranger had done it.
        if !seen.insert(target.dev) {
            let message = format!("{} is to be frozen twice", target.name());
            return Err(Error::new(ErrorKind::Failed, message));
        }
    }
    Ok(())
}

/// Opens all targets, in order.
pub(super) fn open_all(targets: &[FreezeTarget]) -> Result<Vec<OwnedFd>> {
    targets.iter().map(FreezeTarget::open).collect()
}

/// Writes the record and hands everything over.
pub(super) fn hand_over(
    socket: &OwnedFd,
    guardian: u32,
    run_dir: &Path,
    deadline: Duration,
    targets: &[FreezeTarget],
    fds: &[OwnedFd],
) -> Result<RecordFile> {
    let record = Record::new(guardian, deadline, targets)?;
    let file = RecordFile::create(run_dir, &record)?;
    let absolute = std::path::absolute(&file.path).io_context("name", &file.path)?;
    let hello = Hello {
        deadline,
        waves: targets.iter().map(|target| target.wave).collect(),
        record: std::os::unix::ffi::OsStringExt::into_vec(absolute.into_os_string()),
    };
    let journal = [file.journal.as_fd().as_raw_fd()];
    let sent = send_with(socket, &hello.encode(), &journal).and_then(|()| {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        raw.chunks(MAX_FDS_PER_MESSAGE)
            .try_for_each(|some| send_with(socket, b"+", some))
    });
    if let Err(errno) = sent {
        // Nothing has been frozen: the record says nothing.
        let _ = std::fs::remove_file(&file.path);
        let message = "cannot hand the filesystems over to the guardian";
        return Err(Error::new(ErrorKind::Failed, message).with_source(errno));
    }
    Ok(file)
}

fn send_with(socket: &OwnedFd, bytes: &[u8], fds: &[RawFd]) -> nix::Result<()> {
    let control = [ControlMessage::ScmRights(fds)];
    let parts = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(socket.as_raw_fd(), &parts, &control, flags, None).map(drop)
}
