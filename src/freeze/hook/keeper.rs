//! The hook keeper's process: `stillpoint __hooks`, with a socket as its standard input. Once it
//! has started the prescript it does not end before it has run the postscript, told to or not.

use super::execute::{End, Ended, execute};
use super::note::Note;
use super::script::{Script, Unfit};
use super::wire::{Answer, Order, Silence, hear, hear_with, is_called, say};
use crate::error::Result;
use crate::format::{HookRecord, HookStatus};
use crate::freeze::helper;
use crate::sys::cgroup::OwnGroup;
use crate::sys::process::hear_signals;
use nix::sys::prctl;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use std::cell::RefCell;
use std::fs::File;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long the engine may take to say what is to be run.
const ORDERS_WITHIN: Duration = Duration::from_secs(30);
/// How often is looked for the next order; the engine's end is noticed at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// The control group of hook keepers, and of what hooks leave behind.
const GROUP: &str = "stillpoint-hooks";

struct Keeper {
    socket: OwnedFd,
    /// None: only the postscript is asked for.
    prescript: Option<Script>,
    postscript: Script,
    environment: Vec<(String, String)>,
    timeout: Duration,
    /// What applications may be held after the prescript.
    hold: Duration,
    /// Where it is put down that the postscript is owed.
    note: PathBuf,
    /// As long as this process is there, no other run holds applications.
    _lock: OwnedFd,
    /// Where hooks speak to: what one leaves behind dies of it when nobody is there.
    ears: RefCell<Vec<PipeReader>>,
}

/// Runs as the hook keeper, to the end. Exit code 2: nobody asked for one.
pub fn hook_keeper_main() -> ExitCode {
    let Some(socket) = helper::begin() else {
        return ExitCode::from(2);
    };
    // Each is a best effort: what ends the engine shall not end this process too. Caught signals,
    // unlike blocked or ignored ones, are not handed on to the hooks.
    let _ = nix::unistd::setsid();
    let caught = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM] {
        let _ = flag::register(signal, Arc::clone(&caught));
    }
    let _ = hear_signals();
    let _ = prctl::set_name(c"hook-keeper");
    let (group, _) = OwnGroup::join(GROUP);
    let code = match Keeper::begin(socket) {
        Some(keeper) => {
            keeper.serve();
            ExitCode::SUCCESS
        }
        None => ExitCode::from(2),
    };
    group.leave();
    code
}

impl Keeper {
    fn begin(socket: OwnedFd) -> Option<Self> {
        let (order, fds) = hear_with(&socket, ORDERS_WITHIN).ok()?;
        let Order::Hooks(order) = order else {
            return None;
        };
        let mut fds = fds.into_iter();
        let (lock, text) = (fds.next()?, File::from(fds.next()?));
        let postscript = Script {
            text,
            call: order.postscript,
        };
        let prescript = match order.prescript {
            Some(call) => Some(Script {
                text: File::from(fds.next()?),
                call,
            }),
            None => None,
        };
        Some(Self {
            socket,
            prescript,
            postscript,
            environment: order.environment,
            timeout: Duration::from_millis(order.timeout_ms),
            hold: Duration::from_millis(order.hold_ms),
            note: order.note,
            _lock: lock,
            ears: RefCell::default(),
        })
    }

    fn serve(&self) {
        // Nobody to hear it: the next look at the socket says so.
        let _ = say(&self.socket, &Answer::Ready);
        let mut held_until: Option<Instant> = None;
        let mut let_go = false;
        loop {
            let left = held_until.map(|until| until.saturating_duration_since(Instant::now()));
            match hear(&self.socket, left.unwrap_or(PATIENCE).min(PATIENCE)) {
                Ok(Order::Pre) => {
                    let record = self.pre();
                    held_until = Some(Instant::now() + self.hold);
                    let _ = say(
                        &self.socket,
                        &Answer::Ended {
                            post: false,
                            record,
                        },
                    );
                }
                Ok(Order::Post { cut }) => {
                    let record = match let_go {
                        false => self.post(cut),
                        true => held_too_long(self.hold),
                    };
                    let _ = say(&self.socket, &Answer::Ended { post: true, record });
                    return;
                }
                Ok(Order::Hooks(_)) | Err(Silence::Gone) => break,
                Err(Silence::Waiting) => {
                    if !let_go && held_until.is_some_and(|until| Instant::now() >= until) {
                        let_go = true;
                        held_until = None;
                        self.post(false);
                    }
                }
            }
        }
        if held_until.is_some() {
            self.post(false);
        }
    }

    fn pre(&self) -> HookRecord {
        let Some(script) = &self.prescript else {
            return report(Ended::not_started("it was not named"));
        };
        if let Err(error) = self.put_down() {
            return report(Ended::not_started(&error.to_string()));
        }
        // Whatever is said meanwhile, it is not to go on.
        let mut called = || is_called(&self.socket);
        report(self.run((script, "pre", None), &mut called))
    }

    fn post(&self, cut: bool) -> HookRecord {
        if self.prescript.is_none() {
            // The one that put it down first is dead. Even unnoted it is run.
            let _ = self.put_down();
        }
        let outcome = if cut { "cut" } else { "failed" };
        let ended = self.run((&self.postscript, "post", Some(outcome)), &mut || false);
        if !matches!(ended.end, End::NotStarted(_)) {
            let _ = std::fs::remove_file(&self.note);
        }
        report(ended)
    }

    /// Puts down that this process owes the postscript.
    fn put_down(&self) -> Result<()> {
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let note = Note::new(&self.postscript.call.path, &self.environment, timeout)?;
        note.write(&self.note)
    }

    fn run(
        &self,
        (script, phase, outcome): (&Script, &str, Option<&str>),
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Ended {
        let mut environment = self.environment.clone();
        environment.push(("STILLPOINT_PHASE".into(), phase.into()));
        if let Some(outcome) = outcome {
            environment.push(("STILLPOINT_OUTCOME".into(), outcome.into()));
        }
        let mut begun = |group| {
            let _ = say(&self.socket, &Answer::Begun { group });
        };
        // A prescript would hold applications for good once a postscript, run by another keeper,
        // has let them go. A postscript is good to its end, whoever is there.
        let how = (self.timeout, phase == "pre");
        let mut ended = execute(script, &environment, how, &mut begun, cancelled);
        self.ears.borrow_mut().extend(ended.ear.take());
        ended
    }
}

fn held_too_long(hold: Duration) -> HookRecord {
    let seconds = hold.as_secs();
    let why = format!("applications had been held for {seconds} s: it was run before the cut");
    HookRecord::new(HookStatus::Failed, Some(why))
}

/// What to say of two hooks of which at least one is unfit.
pub(super) fn unfit(
    prescript: Option<&Unfit>,
    postscript: Option<&Unfit>,
) -> (HookRecord, HookRecord) {
    let one = |unfit: Option<&Unfit>, other: &str, others: Option<&Unfit>| {
        let (status, reason) = match (unfit, others) {
            (Some(Unfit::Absent), _) => (HookStatus::Absent, "there is none".to_owned()),
            (Some(Unfit::Rejected(why)), _) => (HookStatus::Rejected, why.clone()),
            (None, Some(Unfit::Rejected(_))) => (
                HookStatus::NotRun,
                format!("the {other} that goes with it is unfit"),
            ),
            (None, _) => (
                HookStatus::NotRun,
                format!("there is no {other} to go with it"),
            ),
        };
        HookRecord::new(status, Some(reason))
    };
    (
        one(prescript, "postscript", postscript),
        one(postscript, "prescript", prescript),
    )
}

/// Whether both hooks qualify now; if not, what is wrong with each.
pub fn check_hooks(prescript: &Path, postscript: &Path) -> Option<(HookRecord, HookRecord)> {
    open_both(prescript, postscript).err().map(|both| *both)
}

/// Both, before either is run: the prescript cannot change what undoes it.
pub(super) fn open_both(
    prescript: &Path,
    postscript: &Path,
) -> Result<(Script, Script), Box<(HookRecord, HookRecord)>> {
    match (Script::open(prescript), Script::open(postscript)) {
        (Ok(prescript), Ok(postscript)) => Ok((prescript, postscript)),
        (prescript, postscript) => Err(Box::new(unfit(
            prescript.err().as_ref(),
            postscript.err().as_ref(),
        ))),
    }
}

fn report(ended: Ended) -> HookRecord {
    let started = !matches!(ended.end, End::NotStarted(_));
    let (status, reason) = match ended.end {
        End::Exited(0) => (HookStatus::Ran, None),
        End::Exited(code) => (
            HookStatus::Failed,
            Some(format!("it ended with exit code {code}")),
        ),
        End::Signalled(signal) => {
            let why = format!("signal {signal} ended it");
            (HookStatus::Failed, Some(why))
        }
        End::TimedOut(seconds) => {
            let why = format!("it was ended after {seconds} s");
            (HookStatus::TimedOut, Some(why))
        }
        End::Cancelled => (HookStatus::Failed, Some("the run was given up".into())),
        End::NotStarted(why) => (HookStatus::Failed, Some(why)),
    };
    HookRecord {
        status,
        reason,
        output: Some(ended.output).filter(|output| !output.is_empty()),
        took_us: u64::try_from(ended.took.as_micros())
            .ok()
            .filter(|_| started),
    }
}
