//! Hands over to a new guardian what it needs: the targets, open, and the record.
//! Nothing is frozen here.

use super::wire::Hello;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::freeze::record::{Record, RecordFile};
use crate::freeze::target::FreezeTarget;
use crate::sys::process::MAX_FDS_PER_MESSAGE;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

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
        // Nothing has been frozen, so the record is of no use.
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
