//! A disk's bytes in their order, to whoever reads from a pipe. What has been written cannot be
//! taken back: only the exit code shows that it is not whole.

use super::target::Target;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{Bytes, Cancel, Extent};
use crate::sys::locked::{LockExt, LockResultExt};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};

/// What a pipe that is ready takes without blocking (`PIPE_BUF`).
const ATOM: usize = 4096;
/// How often is asked whether to stop while nobody reads, milliseconds.
const TICK: u8 = 200;
/// Zeros that are written at once.
static ZEROS: [u8; 65536] = [0; 65536];

/// Writes what comes out of order in its order: each writer waits for its turn.
pub struct Stream<'a> {
    out: File,
    is_pipe: bool,
    /// Asked often; its error ends the writing.
    cancel: &'a dyn Cancel,
    state: Mutex<StreamState>,
    turn: Condvar,
}

struct StreamState {
    /// How many bytes have been written.
    written: u64,
    /// Somebody has failed: nobody's turn comes any more.
    over: bool,
}

impl<'a> Stream<'a> {
    /// Writes to `out` from where it stands.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn new(out: File, cancel: &'a dyn Cancel) -> Result<Self> {
        let kind = out.metadata().io_context("look at", name())?.file_type();
        Ok(Self {
            out,
            is_pipe: kind.is_fifo() || kind.is_socket() || kind.is_char_device(),
            cancel,
            state: Mutex::new(StreamState {
                written: 0,
                over: false,
            }),
            turn: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, StreamState> {
        self.state.locked()
    }

    /// Waits until all before that offset is written.
    fn wait_for(&self, offset: Bytes) -> Result<MutexGuard<'_, StreamState>> {
        let waits = |state: &mut StreamState| state.written != offset.0 && !state.over;
        let state = self.turn.wait_while(self.lock(), waits);
        let state = state.unpoisoned();
        if state.over {
            // Who has failed says why.
            return Err(Error::new(
                ErrorKind::Failed,
                "another part could not be written",
            ));
        }
        Ok(state)
    }

    fn put(&self, mut rest: &[u8]) -> Result<()> {
        let failed = |errno: Errno| match errno {
            Errno::EPIPE => Error::new(
                ErrorKind::Io,
                "whoever reads standard output has stopped before the end",
            )
            .with_hint("look at the program behind the pipe, and run both again"),
            _ => Error::io("write to", name(), errno.into()),
        };
        while !rest.is_empty() {
            self.cancel.check()?;
            let mut ready = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut ready, PollTimeout::from(TICK)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let most = if self.is_pipe { ATOM } else { rest.len() };
            match nix::unistd::write(&self.out, &rest[..rest.len().min(most)]) {
                Ok(0) => return Err(failed(Errno::EIO)),
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }
}

fn name() -> &'static Path {
    Path::new("standard output")
}

impl Target for Stream<'_> {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        let mut state = self.wait_for(offset)?;
        for bytes in blocks {
            self.put(bytes)?;
            state.written += bytes.len() as u64;
        }
        self.turn.notify_all();
        Ok(())
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        let mut state = self.wait_for(extent.offset)?;
        let mut left = extent.length.0;
        while left > 0 {
            let some = left.min(ZEROS.len() as u64);
            self.put(&ZEROS[..some as usize])?;
            left -= some;
        }
        state.written = extent.end().0;
        self.turn.notify_all();
        Ok(())
    }

    fn give_up(&self) {
        self.lock().over = true;
        self.turn.notify_all();
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.out.flush().io_context("write to", name())?;
        match self.out.sync_all() {
            // A pipe.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other.io_context("write to", name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    const GO_ON: &dyn Cancel = &|| Ok(());

    #[test]
    fn what_comes_out_of_order_is_written_in_its_order() {
        let mut file = tempfile::tempfile().unwrap();
        let stream = Stream::new(file.try_clone().unwrap(), GO_ON).unwrap();
        let early = &stream;
        std::thread::scope(|scope| {
            scope.spawn(move || early.write(Bytes(70_003), &[b"end"]).unwrap());
            scope.spawn(move || early.hole(Extent::new(Bytes(3), Bytes(70_000))).unwrap());
            early.write(Bytes(0), &[b"a", b"bc"]).unwrap();
        });
        Box::new(stream).finish().unwrap();
        let mut all = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut all).unwrap();
        assert_eq!(all, [&b"abc"[..], &[0; 70_000], b"end"].concat());
    }

    #[test]
    fn nobody_waits_for_one_who_has_failed() {
        let stream = Stream::new(tempfile::tempfile().unwrap(), GO_ON).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stream.write(Bytes(5), &[b"x"]));
            stream.give_up();
            assert!(waiting.join().unwrap().is_err());
        });
    }

    #[test]
    fn a_full_pipe_hears_a_stop_and_a_reader_that_has_gone_is_told() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let stopped = || Err(Error::new(ErrorKind::Interrupted(2), "stopped"));
        let rounds = std::sync::atomic::AtomicU32::new(0);
        let stop = || match rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..64 => Ok(()),
            _ => stopped(),
        };
        let stream = Stream::new(File::from(writer), &stop).unwrap();
        let error = stream
            .hole(Extent::new(Bytes(0), Bytes(1 << 20)))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
        drop(reader);
        rounds.store(0, std::sync::atomic::Ordering::Relaxed);
        let error = stream.write(Bytes(0), &[b"x"]).unwrap_err();
        assert!(
            error.to_string().contains("stopped before the end"),
            "{error}"
        );
    }
}
