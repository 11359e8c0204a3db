//! The channel between a detached job and its starter: JSON, one line a message, over a socket that
//! is the job's standard input. Neither waits for the other without a bound. Who says what, and
//! when: `detach.rs`.

use crate::error::{Error, ErrorKind};
use crossbeam_channel::RecvTimeoutError;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest line, in bytes.
const MOST: usize = 64 << 10;
/// The starter sends this once it knows the job. If it closes the channel without it, the job ends.
const GO: &[u8] = b"g";

/// What the job sends, in this order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartReply {
    /// It has not begun, and will not.
    Refused {
        /// The name of the error's kind.
        kind: String,
        message: String,
        hint: Option<String>,
    },
    /// Its record is there.
    Known,
    /// What stops the starter does not stop the job, except as the warnings say.
    Runs { warnings: Vec<String> },
}

/// One end of the channel.
pub struct StartChannel(UnixStream);

impl StartChannel {
    /// The starter's end, and what is to be the job's standard input.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), theirs.into()))
    }

    /// The job's end. Its standard input is empty from here on.
    pub fn of_stdin() -> crate::error::Result<Self> {
        let socket = || -> io::Result<UnixStream> {
            let socket: UnixStream = io::stdin().as_fd().try_clone_to_owned()?.into();
            // This fails for anything but a socket.
            socket.local_addr()?;
            let null = OpenOptions::new().read(true).open(Path::new("/dev/null"))?;
            nix::unistd::dup2_stdin(&null)?;
            Ok(socket)
        };
        socket()
            .map(Self)
            .map_err(|error| nobody_waits().with_source(error))
    }

    /// Sends a reply. If the starter is gone, that is found out when receiving.
    pub fn send(&mut self, reply: &StartReply) {
        if let Ok(mut line) = serde_json::to_vec(reply) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }

    /// Receives what the job sends.
    ///
    /// # Errors
    /// `Timeout` when it sends nothing until `until`; `Disconnected` when it has ended.
    pub fn recv(&mut self, until: Instant) -> Result<StartReply, RecvTimeoutError> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < MOST {
            let left = until.saturating_duration_since(Instant::now());
            // Zero would mean no limit.
            let left = left.max(Duration::from_millis(1));
            let read = self.0.set_read_timeout(Some(left));
            match read.and_then(|()| self.0.read(&mut byte)) {
                Ok(0) => return Err(RecvTimeoutError::Disconnected),
                Ok(_) if byte == *b"\n" => {
                    let reply = serde_json::from_slice(&line);
                    return reply.map_err(|_| RecvTimeoutError::Disconnected);
                }
                Ok(_) => line.extend(byte),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(RecvTimeoutError::Timeout);
                }
                Err(_) => return Err(RecvTimeoutError::Disconnected),
            }
        }
        Err(RecvTimeoutError::Disconnected)
    }

    /// Tells the job that it is known.
    pub fn go(&mut self) {
        // If it is gone, that is found out when receiving.
        let _ = self.0.write_all(GO);
    }

    /// Waits until the starter knows of the job, or is gone. Returns whether it knows.
    pub fn wait_for_go(&mut self) -> bool {
        let mut word = [0; GO.len()];
        self.0.read_exact(&mut word).is_ok() && word == *GO
    }
}

impl StartReply {
    /// Why there is no job.
    pub fn refused(error: &Error) -> Self {
        Self::Refused {
            kind: error.kind().name().into(),
            message: error.to_string(),
            hint: error.hint().map(Into::into),
        }
    }
}

/// The job's failure, as the starter reports it.
pub fn as_error(kind: &str, message: String, hint: Option<String>) -> Error {
    let known = ErrorKind::PLAIN
        .into_iter()
        .find(|known| known.name() == kind);
    let error = Error::new(known.unwrap_or(ErrorKind::Failed), message);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The starter was ended, or has given up waiting.
pub fn nobody_waits() -> Error {
    let what = "the starter is gone before the job was known; nothing was done";
    Error::new(ErrorKind::Failed, what).with_hint("start it again")
}
