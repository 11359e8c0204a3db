//! What the engine and the hook keeper say to each other: JSON, one datagram each.

use super::script::Call;
use crate::format::HookRecord;
use crate::sys::process::receive_with_fds;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

/// No message is longer, in bytes.
const MAX_MESSAGE: usize = 160 << 10;

/// What the engine says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// First of all: what will be asked for. With it come the lock, the postscript and the
    /// prescript as descriptors.
    Hooks(Box<HookOrder>),
    /// Run the prescript.
    Pre,
    /// Run the postscript. `cut`: the snapshot's instant has been had.
    Post { cut: bool },
}

/// A path as its bytes, which need not be UTF-8.
pub(super) mod name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    pub(in crate::freeze) fn serialize<S: Serializer>(
        path: &Path,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_os_str().as_bytes().serialize(to)
    }

    pub(in crate::freeze) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<PathBuf, D::Error> {
        Vec::deserialize(from).map(|bytes| OsString::from_vec(bytes).into())
    }
}

/// Which hooks, and what they are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HookOrder {
    /// None: only the postscript will be asked for.
    pub(super) prescript: Option<Call>,
    pub(super) postscript: Call,
    pub(super) environment: Vec<(String, String)>,
    /// For each.
    pub(super) timeout_ms: u64,
    /// After so long the postscript is run, asked for or not.
    pub(super) hold_ms: u64,
    /// Where to put down that the postscript is owed.
    #[serde(with = "name")]
    pub(super) note: PathBuf,
}

/// What the keeper answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Everything is at hand.
    Ready,
    /// A hook runs, in this process group.
    Begun { group: u32 },
    /// A hook has ended: the postscript, or else the prescript.
    Ended { post: bool, record: HookRecord },
}

/// Why nothing was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Not yet.
    Waiting,
    /// The other side is gone.
    Gone,
}

pub(super) fn say(socket: &OwnedFd, message: &impl Serialize) -> Result<(), Errno> {
    say_with(socket, message, &[])
}

/// The same with descriptors.
pub(super) fn say_with(
    socket: &OwnedFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::EINVAL)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(Errno::EMSGSIZE);
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = rights.get(..usize::from(!raw.is_empty()));
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&bytes)],
        control.unwrap_or_default(),
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}

/// The next message, if one comes within that time.
pub(super) fn hear<T: DeserializeOwned>(socket: &OwnedFd, within: Duration) -> Result<T, Silence> {
    hear_with(socket, within).map(|(message, _)| message)
}

/// The same with the descriptors that come with it.
pub(super) fn hear_with<T: DeserializeOwned>(
    socket: &OwnedFd,
    within: Duration,
) -> Result<(T, Vec<OwnedFd>), Silence> {
    let within = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    match poll(
        &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
        within,
    ) {
        Ok(0) | Err(Errno::EINTR) => return Err(Silence::Waiting),
        Ok(_) => {}
        Err(_) => return Err(Silence::Gone),
    }
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, fds) = receive_with_fds(socket, &mut buffer).map_err(|_| Silence::Gone)?;
    let bytes = buffer.get(..length).unwrap_or_default();
    let message = serde_json::from_slice(bytes).map_err(|_| Silence::Gone)?;
    Ok((message, fds))
}

/// Whether the other side has said something, or is gone.
pub(super) fn is_called(socket: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut ready, PollTimeout::ZERO) {
        Ok(ready) => ready > 0,
        Err(errno) => errno != Errno::EINTR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::net::UnixDatagram;

    proptest! {
        #[test]
        fn what_is_no_message_is_silence(
            at in 0..120_usize,
            piece in "[0-9\"\\\\{}\\[\\],:a-z_]{0,30}",
        ) {
            let mut record = HookRecord::new(crate::format::HookStatus::Ran, None);
            record.output = Some("\u{1b}".into());
            let answer = Answer::Ended { post: true, record };
            let mut bytes = serde_json::to_vec(&answer).unwrap();
            let at = at.min(bytes.len());
            let end = (at + piece.len() / 2).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            theirs.send(&bytes).unwrap();
            let heard = hear::<Answer>(&ours.into(), Duration::from_secs(60));
            prop_assert!(heard.is_ok() || heard.is_err_and(|silence| silence == Silence::Gone));
        }
    }
}
