//! The engine's hand on the two hooks: prescript, postscript, and never the one without the other.

use super::HOOK_KEEPER_COMMAND;
use super::execute::{GONE_WITHIN, GRACE};
use super::keeper::open_both;
use super::lock::HookLock;
use super::note::NOTES;
use super::script::Script;
use super::wire::{Answer, HookOrder, Order, Silence, hear, say, say_with};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::{HookRecord, HookStatus};
use crate::freeze::helper::{Helper, Role};
use crate::freeze::record::new_name;
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the engine looks whether it shall stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a keeper may take beyond a hook's own time.
const MARGIN: Duration = Duration::from_secs(5);

const ROLE: Role = Role {
    command: HOOK_KEEPER_COMMAND,
    name: "hook-keeper",
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
    /// The program that becomes the keeper.
    pub program: PathBuf,
    /// Where it is put down that a postscript is owed, and where the lock is.
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

/// What a second keeper is given like the first.
#[derive(Clone, Copy)]
pub(super) struct Kept<'a> {
    pub(super) lock: &'a HookLock,
    pub(super) postscript: &'a Script,
    pub(super) note: &'a Path,
}

/// A keeper that runs, and the lock and postscript that another one needs when it does not do its
/// work.
struct Held {
    keeper: Keeper,
    lock: HookLock,
    postscript: Script,
    note: PathBuf,
}

/// The hooks of one run. When dropped between the two, the postscript is run.
pub struct Hooks {
    options: HookOptions,
    /// Present from before the prescript until after the postscript.
    held: Option<Held>,
}

impl Hooks {
    /// Nothing is run yet.
    pub fn new(options: HookOptions) -> Self {
        Self {
            options,
            held: None,
        }
    }

    /// Runs the prescript. `stop` is asked again and again; its error ends the hook, and has the
    /// postscript run.
    ///
    /// # Errors
    /// `stop`'s before anything was run; `Failed`: no keeper can be started, and nothing was run.
    pub fn pre(&mut self, stop: &dyn Fn() -> Result<()>) -> Result<HookOutcome> {
        let options = &self.options;
        let Some(lock) = HookLock::take(&options.run_dir, options.timeout, stop)? else {
            return Ok(HookOutcome::Unfit(taken(options.timeout), not_run()));
        };
        let (prescript, postscript) = match open_both(&options.prescript, &options.postscript) {
            Ok(both) => both,
            Err(unfit) => {
                let (prescript, postscript) = *unfit;
                return Ok(HookOutcome::Unfit(prescript, postscript));
            }
        };
        let note = new_name(&options.run_dir, NOTES)?;
        let kept = Kept {
            lock: &lock,
            postscript: &postscript,
            note: &note,
        };
        let keeper = Keeper::start(options, kept, Some(&prescript))?;
        if !matches!(
            keeper.answer(Instant::now() + MARGIN, stop)?,
            Ok(Answer::Ready)
        ) {
            let why = "the process that runs hooks did not start";
            return Ok(HookOutcome::Unfit(failed(why), not_run()));
        }
        let asked = say(&keeper.socket, &Order::Pre);
        let held = self.held.insert(Held {
            keeper,
            lock,
            postscript,
            note,
        });
        let until = Instant::now() + options.timeout + GRACE + GONE_WITHIN + MARGIN;
        let ended = match asked {
            Ok(()) => held.keeper.ended(until, stop),
            Err(_) => Ok(None),
        };
        let report = match ended {
            Ok(Some(report)) => report,
            Ok(None) => {
                held.keeper.kill();
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

    /// Runs the postscript. `cut`: the instant has been had. It is not stopped by anything but its
    /// own time: applications wait for it.
    pub fn post(&mut self, cut: bool) -> HookRecord {
        let Some(mut held) = self.held.take() else {
            return not_run();
        };
        if let Some(report) = held.keeper.post(cut, self.options.timeout) {
            return report;
        }
        // It is gone, or stopped. Whether the postscript had begun cannot be told: rather twice
        // than not at all, but not both at once.
        held.keeper.kill();
        let kept = Kept {
            lock: &held.lock,
            postscript: &held.postscript,
            note: &held.note,
        };
        post_anew(&self.options, kept, cut)
    }
}

/// Has a new keeper run the postscript.
pub(super) fn post_anew(options: &HookOptions, kept: Kept<'_>, cut: bool) -> HookRecord {
    let Ok(mut keeper) = Keeper::start(options, kept, None) else {
        return failed("no process could be started to run it");
    };
    let answer = keeper.answer(Instant::now() + MARGIN, &|| Ok(()));
    if !matches!(answer, Ok(Ok(Answer::Ready))) {
        return failed("the process that runs hooks did not start");
    }
    keeper.post(cut, options.timeout).unwrap_or_else(|| {
        keeper.kill();
        failed("the process that ran it was killed, or does not answer")
    })
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        // It hears that nobody is there any more, ends a prescript that still runs, and runs the
        // postscript; which is worth waiting for.
        let _ = shutdown(held.keeper.socket.as_raw_fd(), Shutdown::Both);
        let patience = self.options.timeout + 2 * (GRACE + GONE_WITHIN) + MARGIN;
        held.keeper.helper.has_ended(patience);
    }
}

/// A process that runs hooks.
struct Keeper {
    helper: Helper,
    socket: OwnedFd,
    /// The process group of the hook that it runs, or has run last.
    group: Option<Pid>,
}

impl Keeper {
    fn start(options: &HookOptions, kept: Kept<'_>, prescript: Option<&Script>) -> Result<Self> {
        let (helper, socket) = Helper::start(&options.program, ROLE)?;
        let order = HookOrder {
            prescript: prescript.map(|script| script.call.clone()),
            postscript: kept.postscript.call.clone(),
            environment: options.environment.clone(),
            timeout_ms: milliseconds(options.timeout),
            hold_ms: milliseconds(options.hold),
            note: std::path::absolute(kept.note).io_context("name", kept.note)?,
        };
        let mut fds = vec![kept.lock.as_fd(), kept.postscript.text.as_fd()];
        fds.extend(prescript.map(|script| script.text.as_fd()));
        let order = Order::Hooks(Box::new(order));
        say_with(&socket, &order, &fds).map_err(|errno| {
            let message = "cannot tell the process that runs hooks what to run";
            Error::new(ErrorKind::Failed, message).with_source(errno)
        })?;
        Ok(Self {
            helper,
            socket,
            group: None,
        })
    }

    /// Its next answer, or why there is none until then.
    fn answer(
        &self,
        until: Instant,
        stop: &dyn Fn() -> Result<()>,
    ) -> Result<Result<Answer, Silence>> {
        loop {
            stop()?;
            match hear(&self.socket, LOOK_EVERY) {
                Err(Silence::Waiting) if Instant::now() < until => {}
                heard => return Ok(heard),
            }
        }
    }

    /// How the prescript ended; `None` when it is not told until then.
    fn ended(
        &mut self,
        until: Instant,
        stop: &dyn Fn() -> Result<()>,
    ) -> Result<Option<HookRecord>> {
        loop {
            match self.answer(until, stop)? {
                Ok(Answer::Begun { group }) => self.group = pid(group),
                Ok(Answer::Ended { record, .. }) => {
                    self.group = None;
                    return Ok(Some(record));
                }
                Ok(Answer::Ready) | Err(_) => return Ok(None),
            }
        }
    }

    /// Has the postscript run; `None` when it is gone or does not answer.
    fn post(&mut self, cut: bool, timeout: Duration) -> Option<HookRecord> {
        say(&self.socket, &Order::Post { cut }).ok()?;
        // It may be running it already, having waited too long.
        let until = Instant::now() + 2 * (timeout + GRACE + GONE_WITHIN) + MARGIN;
        loop {
            match hear(&self.socket, LOOK_EVERY) {
                Ok(Answer::Ended { post: true, record }) => {
                    self.helper.has_ended(MARGIN);
                    return Some(record);
                }
                Ok(Answer::Begun { group }) => self.group = pid(group),
                Ok(_) => self.group = None,
                Err(Silence::Waiting) if Instant::now() < until => {}
                Err(_) => return None,
            }
        }
    }

    /// Ends it and the hook that it runs, which would hold applications once the postscript has let
    /// them go. The hook first: as long as its parent has not waited for it, its number is its own.
    /// A prescript whose keeper is dead is dead too; what it has started is still of its group, and
    /// where nothing is, the number was free for no longer than it took to hear of that.
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
