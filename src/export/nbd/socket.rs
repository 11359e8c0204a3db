//! A client's socket, with an end to each wait. A client that hangs costs its own threads, and
//! those not for ever.

use super::certificates::ServerCertificates;
use super::heard::{Gone, Heard};
use super::secured::SecuredTalk;
use crate::error::{Error, ErrorKind};
use crate::sys::locked::LockExt;
use nix::errno::Errno;
use nix::libc::{POLLRDHUP, SIGPIPE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{SndBuf, SndBufForce};
use nix::sys::socket::{MsgFlags, Shutdown, recv, sendmsg, setsockopt, shutdown};
use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// So much of answers may wait in the kernel for a client at a Unix socket.
const MOST_UNTAKEN: usize = 1 << 20;

/// Makes room for a few answers in the kernel: with less than one each wakes both ends twice. A
/// port makes its own room.
pub fn make_roomy(socket: &impl AsFd) {
    // Who may not have so much has what he may.
    if setsockopt(socket, SndBufForce, &MOST_UNTAKEN).is_err() {
        let _ = setsockopt(socket, SndBuf, &MOST_UNTAKEN);
    }
}

/// A socket to a client.
pub struct ClientSocket {
    socket: OwnedFd,
    /// What all goes through once the client has shown who it is.
    secured: OnceLock<SecuredTalk>,
    /// Held while something is sealed and sent: in the same order.
    sealed: Mutex<Vec<u8>>,
}

impl ClientSocket {
    /// Of a socket that does not block.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            secured: OnceLock::new(),
            sealed: Mutex::default(),
        }
    }

    /// Goes over to TLS, by a certain moment. Nobody else may use it meanwhile.
    ///
    /// # Errors
    /// Why the client is not let in.
    pub fn secure(&self, with: &ServerCertificates, until: Instant) -> Result<(), &'static str> {
        let late = "it did not end the TLS handshake in time";
        let talk = with.begin().ok_or("no memory for TLS")?;
        let talk = SecuredTalk::new(talk);
        loop {
            let shaken = talk.shake(&mut RawBytes(self));
            // A client that is refused is told, too.
            let left = until.saturating_duration_since(Instant::now());
            let told = self.write_raw(&[&talk.outgoing()], left);
            if shaken? {
                told.map_err(|Gone| late)?;
                let _ = self.secured.set(talk);
                return Ok(());
            }
            told.and_then(|()| self.ready(PollFlags::POLLIN, Some(until)))
                .map_err(|Gone| late)?;
        }
    }

    /// Says that it is over, where there is a word for that, and ends it.
    pub fn say_goodbye(&self) {
        if let Some(secured) = self.secured.get() {
            let farewell = secured.farewell();
            let _ = self.write_raw(&[&farewell], Duration::ZERO);
        }
        self.end();
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

    /// Takes what there is of what the client has said; 0: nothing yet. `into` is not empty.
    fn take(&self, into: &mut [u8]) -> Heard<usize> {
        match self.secured.get() {
            Some(secured) => secured.take(into, &mut RawBytes(self)),
            None => self.take_raw(into),
        }
    }

    fn take_raw(&self, into: &mut [u8]) -> Heard<usize> {
        loop {
            match recv(self.socket.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT) {
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
        let Some(secured) = self.secured.get() else {
            return self.write_raw(all, patience);
        };
        let mut sealed = self.sealed.locked();
        for part in all {
            let mut rest = *part;
            while !rest.is_empty() {
                rest = &rest[secured.seal(rest, &mut sealed)?..];
                if sealed.len() >= MOST_SEALED {
                    self.write_raw(&[&sealed], patience)?;
                    sealed.clear();
                }
            }
        }
        self.write_raw(&[&sealed], patience)?;
        sealed.clear();
        Ok(())
    }

    fn write_raw(&self, all: &[&[u8]], patience: Duration) -> Heard<()> {
        let mut parts: Vec<IoSlice<'_>> = all.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = parts.as_mut_slice();
        // What is empty at the beginning goes.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.socket.as_raw_fd(), left, &[], flags, None) {
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
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// Refuses to go on with what takes long, for a client that has gone, or was ended.
    ///
    /// # Errors
    /// `Interrupted`: it has.
    pub fn refuse_gone(&self) -> Result<(), Error> {
        let gone = PollFlags::from_bits_retain(POLLRDHUP);
        let mut socket = [PollFd::new(self.socket.as_fd(), gone)];
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
            // Also for who says without end what is nothing.
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Gone);
            }
            // Rounded up: who asks too soon asks again and again.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
    }
}

/// What comes from the client, as it comes.
struct RawBytes<'a>(&'a ClientSocket);

impl Read for RawBytes<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.take_raw(into) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(count) => Ok(count),
            Err(Gone) => Ok(0),
        }
    }
}

/// So much is sealed before it is sent.
const MOST_SEALED: usize = 64 << 10;

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
