//! The engine's side of the two hooks: it has a supervisor run the prescript and the postscript,
//! never the one without the other.

use super::HOOK_SUPERVISOR_COMMAND;
use super::execute::GRACE;
use super::note::NOTES;
use super::script::{Script, open_both};
use super::wire::{HookReply, HookRequest, HookSetup};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::{HookRecord, HookStatus};
use crate::helper::{FileLock, Helper, NoMessage, Role, new_note, open_run_dir};
use crate::helper::{recv, send, send_with_fds};
use crate::model::Cancel;
use crate::sys::process::GONE_WITHIN;
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the engine looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a supervisor may take beyond a hook's own time.
const MARGIN: Duration = Duration::from_secs(5);

/// The lock in the run directory of the run that holds applications: one of a host at a time,
/// whichever disks it is of, as the postscript of one would let go what the other holds. Engine and
/// supervisor both hold it; it is free when the last of them has exited.
pub(super) const LOCK: &str = "hooks.lock";

const ROLE: Role = Role {
    command: HOOK_SUPERVISOR_COMMAND,
    name: "hook-supervisor",
};

/// Which hooks, and how to run them.
#[derive(Clone, Debug)]
pub struct HookOptions {
    /// Before the cut.
    pub prescript: PathBuf,
    /// After it.
    pub postscript: PathBuf,
    /// What each may take, and how long to wait for another run to let applications go.
    pub timeout: Duration,
    /// How long applications may be held between them.
    pub hold: Duration,
    /// What both find in their environment, beside what every hook does.
    pub environment: Vec<(String, String)>,
    /// The program that becomes the supervisor.
    pub program: PathBuf,
    /// Where the note of a pending postscript is kept, and the lock.
    pub run_dir: PathBuf,
}

/// What asking for the prescript came to.
#[derive(Debug)]
pub enum HookOutcome {
    /// It ran: applications stand still.
    Ran(HookRecord),
    /// Hooks are missing or unfit, or another run has applications held: nothing was run.
    Unfit(HookRecord, HookRecord),
    /// It failed, and the postscript was run.
    Failed(HookRecord, HookRecord),
    /// The run was to stop, and says why; the prescript was ended, and the postscript was run.
    Stopped(Error, HookRecord),
}

/// What every supervisor is given, the first and one that takes over.
#[derive(Clone, Copy)]
pub(super) struct Handover<'a> {
    pub(super) lock: &'a FileLock,
    pub(super) postscript: &'a Script,
    pub(super) note: &'a Path,
}

/// A supervisor that runs, and what a second one needs if the first dies or hangs.
struct ActiveHooks {
    supervisor: SupervisorHandle,
    lock: FileLock,
    postscript: Script,
    note: PathBuf,
}

/// The hooks of one run. When dropped between the two, the postscript is run.
pub struct Hooks {
    options: HookOptions,
    /// Present from before the prescript until after the postscript.
    active: Option<ActiveHooks>,
}

impl Hooks {
    /// Nothing is run yet.
    pub fn new(options: HookOptions) -> Self {
        Self {
            options,
            active: None,
        }
    }

    /// Runs the prescript. `cancel` is asked again and again; its error ends the hook, and has the
    /// postscript run.
    ///
    /// # Errors
    /// `cancel`'s before anything was run; `Failed`: no supervisor can be started, and nothing was
    /// run.
    pub fn pre(&mut self, cancel: &dyn Cancel) -> Result<HookOutcome> {
        let options = &self.options;
        open_run_dir(&options.run_dir)?;
        let path = options.run_dir.join(LOCK);
        let Some(lock) = FileLock::take(&path, options.timeout, cancel)? else {
            return Ok(HookOutcome::Unfit(taken(options.timeout), not_run()));
        };
        let (prescript, postscript) = match open_both(&options.prescript, &options.postscript) {
            Ok(both) => both,
            Err(unfit) => {
                let (prescript, postscript) = *unfit;
                return Ok(HookOutcome::Unfit(prescript, postscript));
            }
        };
        let note = new_note(&options.run_dir, NOTES)?;
        let handover = Handover {
            lock: &lock,
            postscript: &postscript,
            note: &note,
        };
        let supervisor = SupervisorHandle::start(options, handover, Some(&prescript))?;
        if !matches!(
            supervisor.reply(Instant::now() + MARGIN, cancel)?,
            Ok(HookReply::Ready)
        ) {
            let why = "the process that runs hooks did not start";
            return Ok(HookOutcome::Unfit(failed(why), not_run()));
        }
        let asked = send(&supervisor.socket, &HookRequest::Pre);
        let active = self.active.insert(ActiveHooks {
            supervisor,
            lock,
            postscript,
            note,
        });
        let until = Instant::now() + options.timeout + GRACE + GONE_WITHIN + MARGIN;
        let ended = match asked {
            Ok(()) => active.supervisor.ended(until, cancel),
            Err(_) => Ok(None),
        };
        let report = match ended {
            Ok(Some(report)) => report,
            Ok(None) => {
                active.supervisor.kill();
                failed("the process that ran it is gone, or does not answer")
            }
            Err(stopped) => return Ok(HookOutcome::Stopped(stopped, self.post(false))),
        };
        if report.status == HookStatus::Ran {
            return Ok(HookOutcome::Ran(report));
        }
        let post = self.post(false);
        Ok(HookOutcome::Failed(report, post))
    }

    /// Runs the postscript. `cut`: whether the cut was made. Nothing stops it but its own time
    /// limit: applications wait for it.
    pub fn post(&mut self, cut: bool) -> HookRecord {
        let Some(mut active) = self.active.take() else {
            return not_run();
        };
        if let Some(report) = active.supervisor.post(cut, self.options.timeout) {
            return report;
        }
        // The supervisor is gone, or stopped. Whether the postscript had begun is unknown: better
        // run it twice than not at all, but not two at once.
        active.supervisor.kill();
        let handover = Handover {
            lock: &active.lock,
            postscript: &active.postscript,
            note: &active.note,
        };
        run_postscript(&self.options, handover, cut)
    }
}

/// Has a new supervisor run the postscript.
pub(super) fn run_postscript(
    options: &HookOptions,
    handover: Handover<'_>,
    cut: bool,
) -> HookRecord {
    let Ok(mut supervisor) = SupervisorHandle::start(options, handover, None) else {
        return failed("no process could be started to run it");
    };
    let reply = supervisor.reply(Instant::now() + MARGIN, &|| Ok(()));
    if !matches!(reply, Ok(Ok(HookReply::Ready))) {
        return failed("the process that runs hooks did not start");
    }
    supervisor.post(cut, options.timeout).unwrap_or_else(|| {
        supervisor.kill();
        failed("the process that ran it was killed, or does not answer")
    })
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let Some(active) = self.active.take() else {
            return;
        };
        // The supervisor sees the socket close, ends a prescript that still runs, and runs the
        // postscript, which is worth waiting for.
        let _ = shutdown(active.supervisor.socket.as_raw_fd(), Shutdown::Both);
        let patience = self.options.timeout + 2 * (GRACE + GONE_WITHIN) + MARGIN;
        active.supervisor.helper.has_ended(patience);
    }
}

/// A process that runs hooks.
struct SupervisorHandle {
    helper: Helper,
    socket: OwnedFd,
    /// The process group of the hook that it runs, or has run last.
    group: Option<Pid>,
}

impl SupervisorHandle {
    fn start(
        options: &HookOptions,
        handover: Handover<'_>,
        prescript: Option<&Script>,
    ) -> Result<Self> {
        let (helper, socket) = Helper::start(&options.program, ROLE)?;
        let setup = HookSetup {
            prescript: prescript.map(|script| script.call.clone()),
            postscript: handover.postscript.call.clone(),
            environment: options.environment.clone(),
            timeout_ms: milliseconds(options.timeout),
            hold_ms: milliseconds(options.hold),
            note: std::path::absolute(handover.note).io_context("name", handover.note)?,
        };
        let mut fds = vec![handover.lock.as_fd(), handover.postscript.text.as_fd()];
        fds.extend(prescript.map(|script| script.text.as_fd()));
        let setup = HookRequest::Setup(Box::new(setup));
        send_with_fds(&socket, &setup, &fds).map_err(|errno| {
            let message = "cannot tell the process that runs hooks what to run";
            Error::new(ErrorKind::Failed, message).with_source(errno)
        })?;
        Ok(Self {
            helper,
            socket,
            group: None,
        })
    }

    /// Its next reply, or why there is none until then.
    fn reply(&self, until: Instant, cancel: &dyn Cancel) -> Result<Result<HookReply, NoMessage>> {
        loop {
            cancel.check()?;
            match recv(&self.socket, LOOK_EVERY) {
                Err(NoMessage::Waiting) if Instant::now() < until => {}
                received => return Ok(received),
            }
        }
    }

    /// How the prescript ended; `None` when the supervisor does not report it until then.
    fn ended(&mut self, until: Instant, cancel: &dyn Cancel) -> Result<Option<HookRecord>> {
        loop {
            match self.reply(until, cancel)? {
                Ok(HookReply::Begun { group }) => self.group = pid(group),
                Ok(HookReply::Ended { record, .. }) => {
                    self.group = None;
                    return Ok(Some(record));
                }
                Ok(HookReply::Ready) | Err(_) => return Ok(None),
            }
        }
    }

    /// Has the postscript run; `None` when the supervisor is gone or does not reply.
    fn post(&mut self, cut: bool, timeout: Duration) -> Option<HookRecord> {
        send(&self.socket, &HookRequest::Post { cut }).ok()?;
        // It may be running it already, having waited too long.
        let until = Instant::now() + 2 * (timeout + GRACE + GONE_WITHIN) + MARGIN;
        loop {
            match recv(&self.socket, LOOK_EVERY) {
                Ok(HookReply::Ended { post: true, record }) => {
                    self.helper.has_ended(MARGIN);
                    return Some(record);
                }
                Ok(HookReply::Begun { group }) => self.group = pid(group),
                Ok(_) => self.group = None,
                Err(NoMessage::Waiting) if Instant::now() < until => {}
                Err(_) => return None,
            }
        }
    }

    /// Kills the supervisor and the hook that it runs, which would hold applications again once the
    /// postscript has let them go. The hook first: its pid cannot be reused until the supervisor,
    /// its parent, reaps it. If the supervisor is already dead, so is the prescript
    /// (`PR_SET_PDEATHSIG`), but its children may still be in the process group. If the group is
    /// empty, the pid was reusable only for the moment before we noticed.
    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = killpg(group, Signal::SIGKILL);
        }
        self.helper.kill();
        self.helper.has_ended(GONE_WITHIN);
    }
}

fn pid(number: u32) -> Option<Pid> {
    let number = i32::try_from(number).ok().filter(|number| *number > 1);
    number.map(Pid::from_raw)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn failed(why: &str) -> HookRecord {
    HookRecord::new(HookStatus::Failed, Some(why.to_owned()))
}

fn not_run() -> HookRecord {
    HookRecord::new(HookStatus::NotRun, None)
}

fn taken(waited: Duration) -> HookRecord {
    let seconds = waited.as_secs();
    let why = format!("another run has held applications for more than {seconds} s");
    HookRecord::new(HookStatus::NotRun, Some(why))
}
