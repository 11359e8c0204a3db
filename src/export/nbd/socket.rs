//! A client's socket, with an end to each wait. A client that hangs costs its own threads, and
//! those not for ever.

use crate::error::{Error, ErrorKind};
use nix::errno::Errno;
use nix::libc::{POLLRDHUP, SIGPIPE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, sendmsg, shutdown};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// What came of waiting for a client.
pub type Heard<T> = Result<T, Gone>;

/// The client is gone, or has not kept a deadline: there is nobody to talk to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A socket to a client.
pub struct ClientSocket(OwnedFd);

impl ClientSocket {
    /// Of a socket that does not block.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Fills `into` with what the client says next, if that takes for ever; but once it has begun
    /// it has to come within `arrival`.
    pub fn read_next(&self, into: &mut [u8], arrival: Duration) -> Heard<()> {
        let begun = loop {
            match self.take(into)? {
                0 => self.ready(PollFlags::POLLIN, None)?,
                count => break count,
            }
        };
        self.read(&mut into[begun..], Instant::now() + arrival)
    }

    /// Fills `into` with what the client says, by a certain moment.
    pub fn read(&self, into: &mut [u8], until: Instant) -> Heard<()> {
        let mut filled = 0;
        while filled < into.len() {
            match self.take(&mut into[filled..])? {
                0 => self.ready(PollFlags::POLLIN, Some(until))?,
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Takes what there is of what the client has said; 0: nothing yet.
    fn take(&self, into: &mut [u8]) -> Heard<usize> {
        loop {
            match recv(self.0.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(Gone),
                Ok(count) => return Ok(count),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(0),
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Says things, one right after the other. The client must take something of it each
    /// `patience`.
    pub fn write(&self, all: &[&[u8]], patience: Duration) -> Heard<()> {
        let mut parts: Vec<IoSlice<'_>> = all.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = parts.as_mut_slice();
        // What is empty at the beginning goes.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.0.as_raw_fd(), left, &[], flags, None) {
                Ok(count) => IoSlice::advance_slices(&mut left, count),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.ready(PollFlags::POLLOUT, Some(Instant::now() + patience))?;
                }
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Ends it both ways: whoever waits for it wakes up.
    pub fn end(&self) {
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Refuses to go on with what takes long, for a client that has gone, or was ended.
    ///
    /// # Errors
    /// `Interrupted`: it has.
    pub fn refuse_gone(&self) -> Result<(), Error> {
        let gone = PollFlags::from_bits_retain(POLLRDHUP);
        let mut socket = [PollFd::new(self.0.as_fd(), gone)];
        let is_gone = poll(&mut socket, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        match is_gone {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Interrupted(SIGPIPE),
                "the client is gone",
            )),
        }
    }

    fn ready(&self, what: PollFlags, until: Option<Instant>) -> Heard<()> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // Rounded up: who asks too soon asks again and again.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut [PollFd::new(self.0.as_fd(), what)], timeout) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Err(Gone),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn who_is_gone_is_known_also_while_he_is_not_heard() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = ClientSocket::new(ours.into());
        theirs.write_all(b"a request that nobody has read").unwrap();
        assert!(socket.refuse_gone().is_ok());
        drop(theirs);
        let error = socket.refuse_gone().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Interrupted(_)), "{error}");
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let socket = ClientSocket::new(ours.into());
        assert!(socket.refuse_gone().is_ok());
        socket.end();
        assert!(socket.refuse_gone().is_err());
    }
}
