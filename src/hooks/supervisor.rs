//! The hook supervisor's process: `stillpoint __hooks`, with a socket as its standard input. Once
//! it has started the prescript, or has taken over from a dead one, it does not exit before it has
//! run the postscript, asked to or not.

use super::execute::{ExecuteOptions, HookEnd, HookRun, Surroundings, execute};
use super::note::PendingNote;
use super::script::Script;
use super::wire::{HookReply, HookRequest};
use crate::error::Result;
use crate::format::{HookRecord, HookStatus};
use crate::helper::{self, NoMessage, has_message, recv, recv_with_fds, send};
use crate::sys::cgroup::OwnGroup;
use crate::sys::process::hear_signals;
use nix::sys::prctl;
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;
use std::cell::RefCell;
use std::fs::File;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long the engine may take to say what is to be run.
const SETUP_WITHIN: Duration = Duration::from_secs(30);
/// How long one wait for the next request lasts; the engine's exit is noticed at once.
const PATIENCE: Duration = Duration::from_secs(60);
/// The control group of hook supervisors, and of what hooks leave behind.
const GROUP: &str = "stillpoint-hooks";

struct Supervisor {
    socket: OwnedFd,
    /// None: only the postscript is asked for.
    prescript: Option<Script>,
    postscript: Script,
    environment: Vec<(String, String)>,
    timeout: Duration,
    /// How long applications may be held after the prescript.
    hold: Duration,
    /// Where the note of the pending postscript is kept.
    note: PathBuf,
    /// As long as this process lives, no other run holds applications.
    _lock: OwnedFd,
    /// The read ends of the hooks' output: what a hook leaves behind is killed by SIGPIPE when it
    /// writes and nobody can read.
    outputs: RefCell<Vec<PipeReader>>,
}

/// Runs as the hook supervisor until it exits. Exit code 2: nobody has started it as one.
pub fn hook_supervisor_main() -> ExitCode {
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
    let _ = prctl::set_name(c"hook-supervisor");
    let (group, _) = OwnGroup::join(GROUP);
    let code = match Supervisor::begin(socket) {
        Some(supervisor) => {
            supervisor.serve();
            ExitCode::SUCCESS
        }
        None => ExitCode::from(2),
    };
    group.leave();
    code
}

impl Supervisor {
    fn begin(socket: OwnedFd) -> Option<Self> {
        let (request, fds) = recv_with_fds(&socket, SETUP_WITHIN).ok()?;
        let HookRequest::Setup(setup) = request else {
            return None;
        };
        let mut fds = fds.into_iter();
        let (lock, text) = (fds.next()?, File::from(fds.next()?));
        let postscript = Script {
            text,
            call: setup.postscript,
        };
        let prescript = match setup.prescript {
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
            environment: setup.environment,
            timeout: Duration::from_millis(setup.timeout_ms),
            hold: Duration::from_millis(setup.hold_ms),
            note: setup.note,
            _lock: lock,
            outputs: RefCell::default(),
        })
    }

    fn serve(&self) {
        // If the engine is gone, the next recv reports it.
        let _ = send(&self.socket, &HookReply::Ready);
        let mut held_until: Option<Instant> = None;
        let mut let_go = false;
        loop {
            let left = held_until.map(|until| until.saturating_duration_since(Instant::now()));
            match recv(&self.socket, left.unwrap_or(PATIENCE).min(PATIENCE)) {
                Ok(HookRequest::Pre) => {
                    let record = self.pre();
                    held_until = Some(Instant::now() + self.hold);
                    let _ = send(
                        &self.socket,
                        &HookReply::Ended {
                            post: false,
                            record,
                        },
                    );
                }
                Ok(HookRequest::Post { cut }) => {
                    let record = match let_go {
                        false => self.post(cut),
                        true => held_too_long(self.hold),
                    };
                    let _ = send(&self.socket, &HookReply::Ended { post: true, record });
                    return;
                }
                Ok(HookRequest::Setup(_)) | Err(NoMessage::Gone) => break,
                Err(NoMessage::Waiting) => {
                    if !let_go && held_until.is_some_and(|until| Instant::now() >= until) {
                        let_go = true;
                        held_until = None;
                        self.post(false);
                    }
                }
            }
        }
        // A supervisor that takes over owes the postscript from its start on: the prescript has
        // begun before, or it would not be there.
        if held_until.is_some() || self.prescript.is_none() {
            self.post(false);
        }
    }

    fn pre(&self) -> HookRecord {
        let Some(script) = &self.prescript else {
            return report(HookRun::not_started("it was not named"));
        };
        if let Err(error) = self.write_note() {
            return report(HookRun::not_started(&error.to_string()));
        }
        // Whatever arrives meanwhile, or the engine's exit, ends the prescript.
        let mut cancelled = || has_message(&self.socket);
        report(self.run(script, "pre", None, &mut cancelled))
    }

    fn post(&self, cut: bool) -> HookRecord {
        if self.prescript.is_none() {
            // The supervisor that wrote the note is dead. The postscript is run even without one.
            let _ = self.write_note();
        }
        let outcome = if cut { "cut" } else { "failed" };
        let outcome = ("STILLPOINT_OUTCOME".to_owned(), outcome.to_owned());
        let ended = self.run(&self.postscript, "post", Some(outcome), &mut || false);
        if !matches!(ended.end, HookEnd::NotStarted(_)) {
            let _ = std::fs::remove_file(&self.note);
        }
        report(ended)
    }

    /// Notes that this process is to run the postscript.
    fn write_note(&self) -> Result<()> {
        let timeout = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
        let note = PendingNote::new(&self.postscript.call.path, &self.environment, timeout)?;
        note.write(&self.note)
    }

    fn run(
        &self,
        script: &Script,
        phase: &str,
        outcome: Option<(String, String)>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> HookRun {
        let mut environment = self.environment.clone();
        environment.push(("STILLPOINT_PHASE".into(), phase.into()));
        environment.extend(outcome);
        let mut begun = |group| {
            let _ = send(&self.socket, &HookReply::Begun { group });
        };
        let options = ExecuteOptions {
            environment: &environment,
            timeout: self.timeout,
            // A prescript that outlives this process would hold applications for good once another
            // supervisor's postscript has let them go. A postscript may always run to its end.
            dies_with_us: phase == "pre",
            surroundings: Surroundings::Host,
            input: None,
        };
        let mut ended = execute(script, &options, &mut begun, cancelled);
        self.outputs.borrow_mut().extend(ended.output_pipe.take());
        ended
    }
}

fn held_too_long(hold: Duration) -> HookRecord {
    let seconds = hold.as_secs();
    let why = format!("applications had been held for {seconds} s: it was run before the cut");
    HookRecord::new(HookStatus::Failed, Some(why))
}

fn report(ended: HookRun) -> HookRecord {
    let started = !matches!(ended.end, HookEnd::NotStarted(_));
    let (status, reason) = match ended.end {
        HookEnd::Exited(0) => (HookStatus::Ran, None),
        HookEnd::Exited(code) => (
            HookStatus::Failed,
            Some(format!("it ended with exit code {code}")),
        ),
        HookEnd::Signalled(signal) => {
            let why = format!("signal {signal} ended it");
            (HookStatus::Failed, Some(why))
        }
        HookEnd::TimedOut(seconds) => {
            let why = format!("it was ended after {seconds} s");
            (HookStatus::TimedOut, Some(why))
        }
        HookEnd::Cancelled => (HookStatus::Failed, Some("the run was given up".into())),
        HookEnd::NotStarted(why) => (HookStatus::Failed, Some(why)),
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

#[cfg(test)]
mod tests {
    use super::super::script::Call;
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    /// What runs in a supervisor that gets these orders and whose engine is gone then.
    fn runs(has_prescript: bool, orders: &[HookRequest]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (text, ran, note) = (
            dir.path().join("hook"),
            dir.path().join("ran"),
            "hooks-1.json",
        );
        let line = format!(
            "echo $STILLPOINT_PHASE $STILLPOINT_OUTCOME >>{}",
            ran.display()
        );
        std::fs::write(&text, line).unwrap();
        let script = || Script {
            text: File::open(&text).unwrap(),
            call: Call {
                path: text.clone(),
                interpreter: "/bin/sh".into(),
                argument: None,
            },
        };
        let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        for order in orders {
            send(&ours, order).unwrap();
        }
        drop(ours);
        let supervisor = Supervisor {
            socket: theirs,
            prescript: has_prescript.then(script),
            postscript: script(),
            environment: Vec::new(),
            timeout: Duration::from_secs(60),
            hold: Duration::from_secs(60),
            note: dir.path().join(note),
            _lock: File::open("/dev/null").unwrap().into(),
            outputs: RefCell::default(),
        };
        supervisor.serve();
        assert!(!supervisor.note.exists());
        std::fs::read_to_string(ran).unwrap_or_default()
    }

    #[test]
    fn whoever_takes_over_runs_the_postscript_once_asked_to_or_not() {
        assert_eq!(runs(false, &[]), "post failed\n");
        assert_eq!(
            runs(false, &[HookRequest::Post { cut: true }]),
            "post cut\n"
        );
        assert_eq!(runs(true, &[]), "", "no prescript has begun");
    }
}
