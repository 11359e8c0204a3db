//! Runs one call of a runner: a process group of its own, an input that is a file,
//! a time limit, and as much of what it says as fits. It must never wait for anything but the
//! program itself: what that leaves behind may keep its output open, and is ended with it.

use super::token::FleetToken;
use crate::model::Cancel;
use crate::sys::process::{die_with_starter, in_own_session};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Most bytes that a call may answer.
pub(super) const MOST_ANSWER: usize = 64 << 10;
/// The end of what it says besides that is kept, in bytes.
const KEPT_ASIDE: usize = 4 << 10;
/// More than that nobody says besides, in bytes.
const MOST_ASIDE: usize = 1 << 20;
/// Between asking a process group to end and ending it.
const GRACE: Duration = Duration::from_secs(2);
/// How long a killed process may take to be gone: it may hang in the kernel.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How often is asked whether to go on, in milliseconds.
const LOOK_EVERY: u16 = 50;

/// What a call reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallInput<'a> {
    /// Nothing.
    Nothing,
    /// Nothing: what it needs lies on the other side.
    LiesThere,
    /// A secret.
    Token(&'a FleetToken),
    /// A file.
    Package(&'a Path),
}

/// How long a call may take.
#[derive(Clone, Copy)]
pub(super) struct CallLimits<'a> {
    /// So long.
    pub(super) within: Duration,
    /// Whether the batch goes on.
    pub(super) go_on: &'a dyn Cancel,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// It took too long, and was ended.
    TimedOut,
    /// It said too much, and was ended.
    SaidTooMuch,
    /// The batch was stopped, and it was ended.
    Stopped,
    /// It could not be started.
    NotStarted(String),
}

/// What a call came to.
#[derive(Debug)]
pub(super) struct CallRun {
    pub(super) end: CallEnd,
    /// Its standard output.
    pub(super) answer: Vec<u8>,
    /// The end of its standard error.
    pub(super) aside: Vec<u8>,
}

/// Runs it to its end.
pub(super) fn call(line: &[String], input: CallInput<'_>, limits: CallLimits<'_>) -> CallRun {
    let begun = Instant::now();
    let started = start(line, input).and_then(CallListener::of);
    let mut listener = match started {
        Ok(listener) => listener,
        Err(error) => {
            return CallRun {
                end: CallEnd::NotStarted(error.to_string()),
                answer: Vec::new(),
                aside: Vec::new(),
            };
        }
    };
    let end = loop {
        listener.wait_a_little();
        if listener.said_too_much {
            listener.end_group();
            break CallEnd::SaidTooMuch;
        }
        if let Some(end) = listener.ended() {
            break end;
        }
        let stopped = limits.go_on.check().is_err();
        if stopped || begun.elapsed() >= limits.within {
            listener.end_group();
            break match stopped {
                true => CallEnd::Stopped,
                false => CallEnd::TimedOut,
            };
        }
    };
    let end = match listener.said_too_much {
        true => CallEnd::SaidTooMuch,
        false => end,
    };
    CallRun {
        end,
        answer: listener.answer,
        aside: listener.aside,
    }
}

fn start(line: &[String], input: CallInput<'_>) -> io::Result<Child> {
    let (program, arguments) = line.split_first().ok_or(Errno::ENOENT)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(stdin(input)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Without a terminal nothing can ask there, and be stopped for it.
    in_own_session(&mut command);
    die_with_starter(&mut command);
    command.spawn()
}

fn stdin(input: CallInput<'_>) -> io::Result<Stdio> {
    match input {
        CallInput::Nothing | CallInput::LiesThere => Ok(Stdio::null()),
        CallInput::Package(path) => Ok(File::open(path)?.into()),
        CallInput::Token(token) => Ok(token.input()?.into()),
    }
}

/// A call that runs, and what it has said.
struct CallListener {
    child: Child,
    answer_open: bool,
    aside_open: bool,
    answer: Vec<u8>,
    aside: Vec<u8>,
    aside_total: usize,
    said_too_much: bool,
}

impl CallListener {
    fn of(child: Child) -> io::Result<Self> {
        let listener = Self {
            child,
            answer_open: true,
            aside_open: true,
            answer: Vec::new(),
            aside: Vec::new(),
            aside_total: 0,
            said_too_much: false,
        };
        let (stdout, stderr) = (&listener.child.stdout, &listener.child.stderr);
        let ends = [
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        for end in ends.into_iter().flatten() {
            let flags = OFlag::from_bits_retain(fcntl(end, FcntlArg::F_GETFL)?);
            fcntl(end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        }
        Ok(listener)
    }

    /// Waits until it says something, but not for long, and takes it in.
    fn wait_a_little(&mut self) {
        let open = |fd: Option<BorrowedFd<'_>>, is_open: bool| fd.filter(|_| is_open).is_some();
        let stdout = self.child.stdout.as_ref().map(AsFd::as_fd);
        let stderr = self.child.stderr.as_ref().map(AsFd::as_fd);
        let ends = [(stdout, self.answer_open), (stderr, self.aside_open)];
        let mut fds: Vec<PollFd<'_>> = ends
            .into_iter()
            .filter(|(fd, is_open)| open(*fd, *is_open))
            .filter_map(|(fd, _)| Some(PollFd::new(fd?, PollFlags::POLLIN)))
            .collect();
        // With nobody to listen to this is a pause.
        let _ = poll(&mut fds, LOOK_EVERY);
        self.take_in();
    }

    /// What there is to read now, but for what comes faster than it can be thrown away.
    fn take_in(&mut self) {
        let mut buffer = [0; 16 << 10];
        for _ in 0..16 {
            let answer = self.child.stdout.as_mut().filter(|_| self.answer_open);
            let more = read_now(answer, &mut buffer, &mut self.answer_open);
            let room = MOST_ANSWER - self.answer.len();
            self.said_too_much |= more > room;
            self.answer.extend(buffer.iter().take(more.min(room)));
            let aside = self.child.stderr.as_mut().filter(|_| self.aside_open);
            let besides = read_now(aside, &mut buffer, &mut self.aside_open);
            self.aside.extend(buffer.iter().take(besides));
            let over = self.aside.len().saturating_sub(KEPT_ASIDE);
            self.aside.drain(..over);
            self.aside_total = self.aside_total.saturating_add(besides);
            self.said_too_much |= self.aside_total > MOST_ASIDE;
            if more + besides == 0 || self.said_too_much {
                return;
            }
        }
    }

    /// How it ended, if it has. What it has left behind in its group is ended, too.
    fn ended(&mut self) -> Option<CallEnd> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = match waitid(Id::Pid(self.group()), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => return None,
            other => other,
        };
        // What it wrote before it ended is there by now.
        self.take_in();
        // As long as it was not waited for, no other group can have its number.
        let _ = killpg(self.group(), Signal::SIGKILL);
        let _ = self.child.wait();
        Some(match status {
            Ok(WaitStatus::Exited(_, code)) => CallEnd::Exited(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => CallEnd::Signalled(signal as i32),
            Ok(_) => CallEnd::Exited(-1),
            Err(errno) => CallEnd::NotStarted(format!("it cannot be waited for: {errno}")),
        })
    }

    /// Ends the whole group: asked first, then killed.
    fn end_group(&mut self) {
        for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, GONE_WITHIN)] {
            let _ = killpg(self.group(), signal);
            let until = Instant::now() + patience;
            while Instant::now() < until {
                if self.ended().is_some() {
                    return;
                }
                // Nobody reads it any more: who is blocked by that is killed.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

/// Reads without waiting; notes when there is nothing more to come.
fn read_now(from: Option<&mut impl Read>, buffer: &mut [u8], open: &mut bool) -> usize {
    let Some(from) = from else { return 0 };
    match from.read(buffer) {
        Ok(0) => {
            *open = false;
            0
        }
        Ok(count) => count,
        Err(error) => {
            let later = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
            *open = later.contains(&error.kind());
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LONG: Duration = Duration::from_secs(120);

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(String::from).into()
    }

    fn run(script: &str, within: Duration) -> CallRun {
        let limits = CallLimits {
            within,
            go_on: &|| Ok(()),
        };
        call(&shell(script), CallInput::Nothing, limits)
    }

    #[test]
    fn what_it_says_and_how_it_ends_is_told() {
        let ended = run("echo out; echo err >&2; exit 7", LONG);
        assert_eq!(ended.end, CallEnd::Exited(7));
        assert_eq!(
            (&ended.answer[..], &ended.aside[..]),
            (&b"out\n"[..], &b"err\n"[..])
        );
        assert_eq!(run("kill -9 $$", LONG).end, CallEnd::Signalled(9));
        let nothing = call(
            &["/no/such/program".into()],
            CallInput::Nothing,
            CallLimits {
                within: LONG,
                go_on: &|| Ok(()),
            },
        );
        assert!(matches!(nothing.end, CallEnd::NotStarted(why) if why.contains("No such")));
    }

    #[test]
    fn what_is_read_is_ready_before_it_starts() {
        let limits = CallLimits {
            within: LONG,
            go_on: &|| Ok(()),
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("package");
        fs::write(&file, vec![b'y'; 1 << 20]).unwrap();
        let got = call(&shell("wc -c"), CallInput::Package(&file), limits);
        assert_eq!(got.answer.trim_ascii(), b"1048576");
        // Nobody reads it.
        let unread = call(&shell("exit 3"), CallInput::Package(&file), limits);
        assert_eq!(unread.end, CallEnd::Exited(3));
    }

    #[test]
    fn who_says_too_much_is_ended() {
        for endless in ["yes", "yes >&2", "exec >&-; yes >&2"] {
            let run = run(endless, LONG);
            assert_eq!(run.end, CallEnd::SaidTooMuch, "{endless}");
            assert!(run.answer.len() <= MOST_ANSWER && run.aside.len() <= KEPT_ASIDE);
        }
        let full = run(&format!("head -c {MOST_ANSWER} /dev/zero"), LONG);
        assert_eq!(
            (full.end, full.answer.len()),
            (CallEnd::Exited(0), MOST_ANSWER)
        );
        let over = run(&format!("head -c {} /dev/zero", MOST_ANSWER + 1), LONG);
        assert_eq!(over.end, CallEnd::SaidTooMuch);
        // Besides, much may be said; its end is kept.
        let besides = run("head -c 500000 /dev/zero >&2; echo end >&2", LONG);
        assert_eq!(besides.end, CallEnd::Exited(0));
        assert!(besides.aside.ends_with(b"end\n"));
    }

    #[test]
    fn who_takes_too_long_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pids");
        // The shell and its child are deaf to a kind word.
        let script = format!(
            "trap '' TERM; sleep 1000 & echo $$ $! >{0}.new; mv {0}.new {0}; wait",
            file.display()
        );
        let stop = AtomicBool::new(false);
        let go_on = || match stop.load(Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::Interrupted(2), "stopped")),
            false => Ok(()),
        };
        let limits = CallLimits {
            within: LONG,
            go_on: &go_on,
        };
        let ended = std::thread::scope(|scope| {
            let call = scope.spawn(|| call(&shell(&script), CallInput::Nothing, limits));
            while !file.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            call.join().unwrap()
        });
        assert_eq!(ended.end, CallEnd::Stopped);
        for pid in fs::read_to_string(&file).unwrap().split_whitespace() {
            let pid = pid.parse().unwrap();
            // Who is killed may take a moment to be gone.
            while crate::sys::process::start_time(pid).is_some_and(|(_, dead)| !dead) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let late = run("exec sleep 1000", Duration::from_millis(50));
        assert_eq!(late.end, CallEnd::TimedOut);
    }

    #[test]
    fn what_is_left_behind_is_not_waited_for() {
        let left = run("sleep 1000 & echo done", LONG);
        assert_eq!(
            (left.end, &left.answer[..]),
            (CallEnd::Exited(0), &b"done\n"[..])
        );
    }
}
