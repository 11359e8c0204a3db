//! Jobs that go on without their starter. The starter returns within a second, whatever the disks
//! do, unless the host is so busy that the job's process has not got that far: only that process
//! asks the vault and the job directory anything, and it is left behind where they do not answer.

use super::live::NewJob;
use super::record::JobState;
use super::scope;
use super::start_channel::{StartChannel, StartReply, as_error, nobody_waits};
use super::{JobDirectory, JobId};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::printable::one_line;
use crate::sys::cgroup::{OwnGroup, sweep};
use crate::sys::process::{close_from, in_own_session};
use crossbeam_channel::RecvTimeoutError;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a job looks ahead (at its vault, for example) before it says that it is there.
const STEP: Duration = Duration::from_millis(300);
/// How soon the starter returns, even if the job has not said yet that it runs.
const RETURN_WITHIN: Duration = Duration::from_millis(900);
/// How long it waits for the job's record. A host that is busy, or a virtual machine that stands
/// still for a moment, is no reason to have no snapshot.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// This program, even if its file has been replaced meanwhile.
const PROGRAM: &str = "/proc/self/exe";
/// The names of its control group and scope begin with this.
const GROUP: &str = "stillpoint-job-";

/// How a job is started.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// The job's name.
    pub id: JobId,
    /// The directory of its record.
    pub directory: PathBuf,
    /// The arguments that make the program work on it: that process must call [`settle`] first.
    pub args: Vec<OsString>,
}

/// Starts a process for the job, and waits until its record is there. Returns warnings for the
/// user.
///
/// # Errors
/// There is no job; what it had begun it takes back.
pub fn start(options: StartOptions) -> Result<Vec<String>> {
    let began = Instant::now();
    let StartOptions {
        id,
        directory,
        args,
    } = options;
    let mut channel = spawn(args)?;
    let ended = || {
        let what = format!("job {id} ended before it began");
        let hint = format!("its log may say why: stillpoint job logs {id}");
        Error::new(ErrorKind::Failed, what).with_hint(hint)
    };
    match channel.recv(began + KNOWN_WITHIN) {
        Ok(StartReply::Known) => {}
        Ok(StartReply::Refused {
            kind,
            message,
            hint,
        }) => return Err(as_error(&kind, message, hint)),
        // The job takes back what it has begun when it finds the channel closed.
        Err(RecvTimeoutError::Timeout) => return Err(refused(silent(&directory))),
        Err(RecvTimeoutError::Disconnected) | Ok(StartReply::Runs { .. }) => return Err(ended()),
    }
    channel.go();
    match channel.recv(began + RETURN_WITHIN) {
        Ok(StartReply::Runs { warnings }) => Ok(warnings),
        // Its record is there, and says the rest.
        Err(RecvTimeoutError::Timeout) => Ok(Vec::new()),
        Err(RecvTimeoutError::Disconnected) | Ok(_) => Err(ended()),
    }
}

fn spawn(args: Vec<OsString>) -> Result<StartChannel> {
    let program = Path::new(PROGRAM);
    let (channel, theirs) = StartChannel::pair().io_context("speak to", program)?;
    let mut command = Command::new(program);
    command
        .arg0("stillpoint")
        .args(args)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    in_own_session(&mut command);
    command.spawn().io_context("start", program)?;
    Ok(channel)
}

fn silent(path: &Path) -> Error {
    let what = format!(
        "the job directory {} does not answer within {} s, or this host is too busy to begin \
         anything",
        path.display(),
        KNOWN_WITHIN.as_secs()
    );
    Error::new(ErrorKind::Io, what).with_hint("run it again, or name another with --job-dir")
}

fn refused(error: Error) -> Error {
    error.context("cannot start a job of its own; nothing was done")
}

/// What `ask` returns, if it returns within this time.
fn within<T: Send + 'static>(
    time: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (send, returned) = crossbeam_channel::bounded(1);
    let thread = std::thread::Builder::new().spawn(move || {
        // The caller may have gone on.
        let _ = send.send(ask());
    });
    thread.ok()?;
    returned.recv_timeout(time).ok()
}

/// What a detached process holds until it exits.
pub struct Settled {
    groups: OwnGroup,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

impl Settled {
    /// Leaves its control group and removes it.
    pub fn leave(&self) {
        self.groups.leave();
    }
}

/// The first steps of a process started by [`start`]: it keeps nothing inherited, looks ahead,
/// makes its log and its record, waits until its starter knows that, and moves out of the starter's
/// control group. `foresee`: an error if the job is bound to fail. The job goes on if that takes
/// too long.
///
/// # Errors
/// There is no job; the starter knows why.
pub fn settle(
    new: Result<NewJob>,
    foresee: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<Settled> {
    close_from(3).io_context("close what was inherited", Path::new("/proc/self/fd"))?;
    // For people who read the list of processes.
    let _ = nix::sys::prctl::set_name(c"stillpoint-job");
    let mut channel = StartChannel::of_stdin()?;
    // What does not answer is waited for later.
    let foreseen = within(STEP, foresee).unwrap_or(Ok(()));
    let made = foreseen.and(new).and_then(|new| make_known(&new));
    let (id, directory) = match made {
        Ok(made) => made,
        Err(error) => {
            channel.send(&StartReply::refused(&error));
            return Err(error);
        }
    };
    channel.send(&StartReply::Known);
    if !channel.wait_for_go() {
        directory.remove(id);
        return Err(nobody_waits());
    }
    let settled = move_out(id);
    channel.send(&StartReply::Runs {
        warnings: settled.warnings.clone(),
    });
    Ok(settled)
}

/// Makes the log and the record. Standard output and error go to the log from here on.
fn make_known(new: &NewJob) -> Result<(JobId, JobDirectory)> {
    let id = new.id;
    let record = new.record(JobState::Starting)?;
    let begin = || {
        let directory = JobDirectory::make(&new.directory)?;
        let begun = directory
            .create_log(id)
            .and_then(|log| print_to(&log))
            .and_then(|()| directory.write(&record));
        match begun {
            Ok(()) => Ok((id, directory)),
            Err(error) => {
                directory.remove(id);
                Err(error)
            }
        }
    };
    begin().map_err(refused)
}

fn print_to(log: &File) -> Result<()> {
    nix::unistd::dup2_stdout(log)
        .and_then(|()| nix::unistd::dup2_stderr(log))
        .io_context("write to", Path::new("the log"))
}

/// Leaves the control group of the starter: all that is in it may be killed.
fn move_out(id: JobId) -> Settled {
    sweep(GROUP);
    let (groups, moved) = OwnGroup::join(&format!("{GROUP}{id}"));
    let mut stays = moved.err();
    note(&match &stays {
        None => format!("job {id}: in a control group of its own"),
        Some(error) => format!("job {id}: in the control group of its starter: {error}"),
    });
    if scope::is_managed() {
        let name = format!("{GROUP}{id}.scope");
        note(&match scope::enter(&name) {
            Ok(()) => {
                stays = None;
                format!("job {id}: in the scope {name}")
            }
            Err(why) => format!("job {id}: in no scope of systemd: {why}"),
        });
    }
    let warnings = stays.map(|error| {
        format!(
            "the job could not leave the control group of its starter ({error}): whatever ends \
             that group ends the job too, with all that would thaw and let applications go"
        )
    });
    Settled {
        groups,
        warnings: warnings.into_iter().collect(),
    }
}

/// Writes a line to the log.
fn note(line: &str) {
    // A log that cannot be written to is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}", one_line(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_answer_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (_keep, never) = crossbeam_channel::bounded::<()>(0);
        assert_eq!(within(Duration::from_millis(1), move || never.recv()), None);
    }
}
