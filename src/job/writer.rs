//! The process that writes the record of a run. The record's directory may be frozen by that very
//! run, or hang; a thread that waits in the kernel for it cannot be killed, and its process cannot
//! exit before it. So once a job is at work its own process never writes there, and leaves this one
//! behind if need be.

use super::prune::PruneOptions;
use super::{JobDirectory, JobRecord};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::exit::{DONE, USAGE, below, exit};
use crate::sys::process::{await_end, close_from, hear_signals, ignore_signals, spawn_deaf};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The argument that makes the program this process; the directory follows.
pub const RECORD_WRITER_COMMAND: &str = "__record";
/// This program, even if its file has been replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// A record to be written: one line of JSON. The reply is a line, too: empty, or what went wrong.
#[derive(Serialize, Deserialize)]
struct WriteRequest {
    record: JobRecord,
    /// It says how the job ended, and is to outlast a power cut.
    last: bool,
}

/// The run's end of the channel to the writer.
pub struct RecordWriter {
    child: Child,
    requests: UnixStream,
    replies: BufReader<UnixStream>,
}

impl RecordWriter {
    /// Starts the process.
    pub fn start(directory: &Path) -> Result<Self> {
        let program = Path::new(PROGRAM);
        let pair = || -> io::Result<_> {
            let (ours, theirs) = UnixStream::pair()?;
            Ok((ours.try_clone()?, ours, theirs))
        };
        let (requests, replies, theirs) = pair().io_context("speak to", program)?;
        let mut command = Command::new(program);
        command
            .arg(RECORD_WRITER_COMMAND)
            .arg(directory)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn_deaf(&mut command).io_context("start", program)?;
        Ok(Self {
            child,
            requests,
            replies: BufReader::new(replies),
        })
    }

    /// Has a record written, and waits until it is.
    pub fn write(&mut self, record: &JobRecord) -> Result<()> {
        self.send(&WriteRequest {
            record: record.clone(),
            last: false,
        })
    }

    /// Has the record written that says how the job ended.
    pub fn write_last(&mut self, record: &JobRecord) -> Result<()> {
        self.send(&WriteRequest {
            record: record.clone(),
            last: true,
        })
    }

    fn send(&mut self, request: &WriteRequest) -> Result<()> {
        let failed = |what: &str| Error::new(ErrorKind::Failed, what);
        let mut line = serde_json::to_vec(request)
            .map_err(|error| failed("cannot write a job's record").with_source(error))?;
        line.push(b'\n');
        let mut reply = String::new();
        let sent = self.requests.write_all(&line);
        let received = sent.and_then(|()| self.replies.read_line(&mut reply));
        match (received, reply.trim_end()) {
            (Ok(1..), "") => Ok(()),
            (Ok(1..), wrong) => Err(failed(wrong)),
            _ => Err(failed("the process that writes it is gone")),
        }
    }

    /// Closes the channel, and waits no longer than `patience` for the process to exit.
    pub fn finish(mut self, patience: Duration) {
        let _ = self.requests.shutdown(std::net::Shutdown::Both);
        await_end(&mut self.child, patience, &mut || ());
    }
}

/// Runs as that process until the channel is closed. Exits with code 2 if there is none.
pub fn record_writer_main(directory: Option<&OsStr>) -> ExitCode {
    // Each is a best effort. A signal that stops the run must not stop the process that writes down
    // that it was stopped.
    let _ = nix::unistd::setsid();
    let deaf_to = [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ];
    let _ = ignore_signals(&deaf_to);
    let _ = hear_signals();
    let _ = nix::sys::prctl::set_name(c"stillpoint-rec");
    let closed = close_from(3);
    let socket = closed.and_then(|()| std::io::stdin().as_fd().try_clone_to_owned());
    let served = match (directory, socket) {
        (Some(directory), Ok(socket)) => serve(Path::new(directory), &socket.into()),
        _ => None,
    };
    exit(served.map_or(USAGE, |()| DONE))
}

fn serve(path: &Path, socket: &UnixStream) -> Option<()> {
    // Only a run has a socket there.
    socket.local_addr().ok()?;
    let mut lines = BufReader::new(socket).lines().map_while(io::Result::ok);
    let mut next = || {
        let line = lines.next();
        line.and_then(|line| serde_json::from_str::<WriteRequest>(&line).ok())
    };
    let first = next()?;
    let write = |directory: &JobDirectory, record: &JobRecord, last: bool| match last {
        true => directory.write_durably(record),
        false => directory.write(record),
    };
    let made = JobDirectory::make(path).and_then(|directory| {
        write(&directory, &first.record, first.last)?;
        Ok(directory)
    });
    reply(socket, made.as_ref().err())?;
    // Without a directory there is nothing more to do.
    let directory = made.ok()?;
    // The next job tries again to remove what cannot be removed now.
    let _ = directory.prune(PruneOptions::default());
    while let Some(WriteRequest { mut record, last }) = next() {
        let written = write(&directory, &record, last).inspect_err(|_| {
            if last {
                record.exit_code = record.exit_code.map(below);
                let _ = directory.write_in_place(&record);
            }
        });
        reply(socket, written.as_ref().err())?;
    }
    Some(())
}

fn reply(mut socket: &UnixStream, wrong: Option<&Error>) -> Option<()> {
    let wrong = wrong.map_or_else(String::new, |error| error.to_string().replace('\n', " "));
    socket.write_all(format!("{wrong}\n").as_bytes()).ok()
}
