//! The process that writes the record of a run. The folder it stands in may stand still, frozen by
//! that very run, or hang; who waits in the kernel for it cannot be ended, and its process cannot
//! end before it. So that is never the run's own process, and this one is left behind then.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::job::{JobFolder, JobRecord, Keep};
use crate::model::exit::{DONE, USAGE, below, exit};
use crate::sys::process::{close_from, hear_signals, ignore_signals, spawn_deaf};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What makes the program this process, followed by the folder.
pub const RECORD_KEEPER_COMMAND: &str = "__record";
/// The program, also when its file has been replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// What is to be written, one line of JSON each. Each is answered by a line: empty, or what is
/// wrong.
#[derive(Serialize, Deserialize)]
struct Order {
    record: JobRecord,
    /// It says how the job ended, and is to outlast a power cut.
    last: bool,
}

/// The run's end of it.
pub struct RecordKeeper {
    child: Child,
    orders: UnixStream,
    answers: BufReader<UnixStream>,
}

impl RecordKeeper {
    /// Starts the process.
    pub fn start(folder: &Path) -> Result<Self> {
        let program = Path::new(PROGRAM);
        let pair = || -> io::Result<_> {
            let (ours, theirs) = UnixStream::pair()?;
            Ok((ours.try_clone()?, ours, theirs))
        };
        let (orders, answers, theirs) = pair().io_context("speak to", program)?;
        let mut command = Command::new(program);
        command
            .arg(RECORD_KEEPER_COMMAND)
            .arg(folder)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn_deaf(&mut command).io_context("start", program)?;
        Ok(Self {
            child,
            orders,
            answers: BufReader::new(answers),
        })
    }

    /// Has a record written, and waits until it is.
    pub fn write(&mut self, record: &JobRecord, last: bool) -> Result<()> {
        let failed = |what: &str| Error::new(ErrorKind::Failed, what);
        let order = Order {
            record: record.clone(),
            last,
        };
        let mut line = serde_json::to_vec(&order)
            .map_err(|error| failed("cannot write a job's record").with_source(error))?;
        line.push(b'\n');
        let mut answer = String::new();
        let told = self.orders.write_all(&line);
        let heard = told.and_then(|()| self.answers.read_line(&mut answer));
        match (heard, answer.trim_end()) {
            (Ok(1..), "") => Ok(()),
            (Ok(1..), wrong) => Err(failed(wrong)),
            _ => Err(failed("the process that writes it is gone")),
        }
    }

    /// Lets the process go, and waits for its end, but not for long.
    pub fn finish(mut self, patience: Duration) {
        let _ = self.orders.shutdown(std::net::Shutdown::Both);
        let until = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs as that process, until nobody asks any more. Exit code 2: nobody asked.
pub fn record_keeper_main(folder: Option<&OsStr>) -> ExitCode {
    // Each is a best effort. What tells the run to stop is not meant for who writes down that it
    // has.
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
    let served = match (folder, socket) {
        (Some(folder), Ok(socket)) => serve(Path::new(folder), &socket.into()),
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
        line.and_then(|line| serde_json::from_str::<Order>(&line).ok())
    };
    let first = next()?;
    let made = JobFolder::make(path).and_then(|folder| {
        folder.write(&first.record, first.last)?;
        Ok(folder)
    });
    answer(socket, made.as_ref().err())?;
    // Without a folder there is nothing more to do.
    let folder = made.ok()?;
    // What cannot be removed now is tried again by the next job.
    let _ = folder.prune(Keep::default());
    while let Some(Order { mut record, last }) = next() {
        let written = folder.write(&record, last).inspect_err(|_| {
            if last {
                record.exit_code = record.exit_code.map(below);
                let _ = folder.write_in_place(&record);
            }
        });
        answer(socket, written.as_ref().err())?;
    }
    Some(())
}

fn answer(mut socket: &UnixStream, wrong: Option<&Error>) -> Option<()> {
    let wrong = wrong.map_or_else(String::new, |error| error.to_string().replace('\n', " "));
    socket.write_all(format!("{wrong}\n").as_bytes()).ok()
}
