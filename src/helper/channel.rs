//! The messages between a helper and the process that started it: JSON, one datagram each. Both
//! sides allocate, so the guardian does not use it once it is ready.

use crate::sys::process::receive_with_fds;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// No message is longer, in bytes.
const MAX_MESSAGE: usize = 160 << 10;

/// Why no message was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMessage {
    /// None within that time.
    Waiting,
    /// The other process has closed the socket, or sent what is no message.
    Gone,
}

/// Sends a message.
///
/// # Errors
/// `EMSGSIZE` when it is too long, `EPIPE` when the other process has closed the socket.
pub fn send(socket: &OwnedFd, message: &impl Serialize) -> Result<(), Errno> {
    send_with_fds(socket, message, &[])
}

/// Sends a message, and descriptors with it.
///
/// # Errors
/// As [`send`].
pub fn send_with_fds(
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

/// Waits up to `within` for the next message.
///
/// # Errors
/// [`NoMessage`].
pub fn recv<T: DeserializeOwned>(socket: &OwnedFd, within: Duration) -> Result<T, NoMessage> {
    recv_with_fds(socket, within).map(|(message, _)| message)
}

/// Waits up to `within` for the next message and the descriptors that come with it.
///
/// # Errors
/// [`NoMessage`].
pub fn recv_with_fds<T: DeserializeOwned>(
    socket: &OwnedFd,
    within: Duration,
) -> Result<(T, Vec<OwnedFd>), NoMessage> {
    let until = Instant::now() + within;
    loop {
        // Rounded up: waking too early would only mean to wait again.
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left.as_micros().div_ceil(1000));
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, left.unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(NoMessage::Waiting),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(_) => return Err(NoMessage::Gone),
        }
    }
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, fds) = receive_with_fds(socket, &mut buffer).map_err(|_| NoMessage::Gone)?;
    let bytes = buffer.get(..length).unwrap_or_default();
    let message = serde_json::from_slice(bytes).map_err(|_| NoMessage::Gone)?;
    Ok((message, fds))
}

/// Whether a message can be received, or the other process has closed the socket.
pub fn has_message(socket: &OwnedFd) -> bool {
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
        fn what_is_no_message_ends_the_channel(
            at in 0..120_usize,
            piece in "[0-9\"\\\\{}\\[\\],:a-z_]{0,30}",
        ) {
            let message = (true, vec!["ran", "\u{1b}"]);
            let mut bytes = serde_json::to_vec(&message).unwrap();
            let at = at.min(bytes.len());
            let end = (at + piece.len() / 2).min(bytes.len());
            bytes.splice(at..end, piece.bytes());
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            theirs.send(&bytes).unwrap();
            let received = recv::<(bool, Vec<String>)>(&ours.into(), Duration::from_secs(60));
            prop_assert!(received.is_ok() || received.is_err_and(|why| why == NoMessage::Gone));
        }
    }
}
