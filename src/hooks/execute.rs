//! Runs one hook under limits: a process group of its own, nothing to read, a time limit, and as
//! much of its output kept as fits. It must never wait for anything but the script itself: what
//! the script leaves behind may keep its output open.

use super::script::{Call, Script};
use crate::sys::process::{
    GONE_WITHIN, LOOK_EVERY, await_end, die_of_file_limits, die_with_starter, spawn_apart,
};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between asking a process group to end and ending it.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// The end of a hook's output that is kept, in bytes.
const KEPT: usize = 8 << 10;
/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HookEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// It took too long and was ended; so many seconds were allowed.
    TimedOut(u64),
    /// The run was given up meanwhile, and it was ended.
    Cancelled,
    /// It could not be started.
    NotStarted(String),
}

/// What running a hook came to.
#[derive(Debug)]
pub(super) struct HookRun {
    pub end: HookEnd,
    /// The end of what it said.
    pub output: String,
    pub took: Duration,
    /// The read end of its output, to which what it has left behind may go on writing.
    pub output_pipe: Option<PipeReader>,
}

impl HookRun {
    pub(super) fn not_started(why: &str) -> Self {
        Self {
            end: HookEnd::NotStarted(why.to_owned()),
            output: String::new(),
            took: Duration::ZERO,
            output_pipe: None,
        }
    }
}

/// How a hook is run.
pub(super) struct ExecuteOptions<'a> {
    /// What it finds in its environment, beside what every hook does.
    pub environment: &'a [(String, String)],
    pub timeout: Duration,
    /// Whether it is killed when this process dies.
    pub dies_with_us: bool,
    pub surroundings: Surroundings,
    /// What it reads; `None`: nothing.
    pub input: Option<File>,
}

/// What a program sees of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surroundings {
    /// All that this process sees.
    Host,
    /// No network, and no processes but those that it starts: all of them end with it, and it ends
    /// with this process. What it mounts nobody else sees.
    Apart,
}

impl Surroundings {
    pub(super) fn spawn(self, command: &mut Command) -> std::io::Result<Child> {
        match self {
            Self::Host => command.spawn(),
            Self::Apart => spawn_apart(command),
        }
    }
}

/// A program that leads a process group.
pub(super) struct RunningProgram {
    pub child: Child,
    /// What it says; reading never waits.
    pub reader: PipeReader,
    pub begun: Instant,
}

/// Runs a script until it exits or its time is over. `started` is called with the process group
/// once it runs.
pub(super) fn execute(
    script: &Script,
    options: &ExecuteOptions<'_>,
    started: &mut dyn FnMut(u32),
    cancelled: &mut dyn FnMut() -> bool,
) -> HookRun {
    let begun = Instant::now();
    let (child, reader) = match start(script, options) {
        Ok(child) => child,
        Err(error) => return HookRun::not_started(&format!("it cannot be started: {error}")),
    };
    started(child.id());
    let running = RunningProgram {
        child,
        reader,
        begun,
    };
    running.wait(options.timeout, cancelled)
}

impl RunningProgram {
    /// Waits until it exits or its time is over.
    pub(super) fn wait(self, timeout: Duration, cancelled: &mut dyn FnMut() -> bool) -> HookRun {
        let Self {
            mut child,
            mut reader,
            begun,
        } = self;
        let mut tail = Tail::default();
        let end = loop {
            tail.take_in(&mut reader);
            match child.try_wait() {
                Ok(Some(status)) => break end_of(status),
                Ok(None) => {}
                Err(error) => {
                    break HookEnd::NotStarted(format!("it cannot be waited for: {error}"));
                }
            }
            let late = begun.elapsed() >= timeout;
            if late || cancelled() {
                end_group(&mut child, &mut tail, &mut reader);
                break match late {
                    true => HookEnd::TimedOut(timeout.as_secs()),
                    false => HookEnd::Cancelled,
                };
            }
            std::thread::sleep(LOOK_EVERY);
        };
        tail.take_in(&mut reader);
        HookRun {
            end,
            output: tail.text(),
            took: begun.elapsed(),
            output_pipe: Some(reader),
        }
    }
}

/// Gives a program that is to be started a process group, a clean environment, nothing to read, and
/// a pipe for what it says, of which this is the end to read from; reading never waits.
pub(super) fn surround(command: &mut Command) -> std::io::Result<PipeReader> {
    let (reader, writer) = std::io::pipe()?;
    die_of_file_limits(command);
    let flags = fcntl(&reader, FcntlArg::F_GETFL)?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(&reader, FcntlArg::F_SETFL(flags))?;
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    Ok(reader)
}

fn start(script: &Script, options: &ExecuteOptions<'_>) -> std::io::Result<(Child, PipeReader)> {
    let call = &script.call;
    let mut command = Command::new(&call.interpreter);
    let reader = surround(&mut command)?;
    // The interpreter opens the copy by this descriptor, which it inherits. Nobody else starts a
    // process meanwhile: the supervisor has one thread, and who runs a check has descriptors of
    // its own.
    let inherited = script.text.as_fd();
    fcntl(inherited, FcntlArg::F_SETFD(FdFlag::empty()))?;
    command
        .args(&call.argument)
        .arg(format!("/proc/self/fd/{}", inherited.as_raw_fd()))
        .envs(language(call))
        .env("STILLPOINT_HOOK", &call.path)
        .envs(
            options
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
    if let Some(input) = &options.input {
        command.stdin(input.try_clone()?);
    }
    if options.dies_with_us {
        die_with_starter(&mut command);
    }
    let child = options.surroundings.spawn(&mut command);
    fcntl(inherited, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok((child?, reader))
}

/// What some interpreters are told, so that they neither look for more code around the script nor
/// insist on a name for it. Not told to others: it would hold for all that the hook starts, too.
fn language(call: &Call) -> Option<(&'static str, &'static str)> {
    let words = call.argument.iter().flat_map(|all| all.split_whitespace());
    let words = words.chain([call.interpreter.as_str()]);
    words
        .filter_map(|word| word.rsplit('/').next())
        .find_map(|program| match program {
            // The script's folder is not searched for modules.
            _ if program.starts_with("python") => Some(("PYTHONSAFEPATH", "1")),
            // Its name is taken as it is given: the name of a copy leads nowhere.
            _ if program.starts_with("node") => Some(("NODE_PRESERVE_SYMLINKS_MAIN", "1")),
            _ => None,
        })
}

fn end_of(status: ExitStatus) -> HookEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => HookEnd::Exited(code),
        (None, Some(signal)) => HookEnd::Signalled(signal),
        (None, None) => HookEnd::Exited(-1),
    }
}

/// Ends the whole group: asked first, then killed.
fn end_group(child: &mut Child, tail: &mut Tail, reader: &mut PipeReader) {
    let Ok(group) = i32::try_from(child.id()).map(Pid::from_raw) else {
        return;
    };
    for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, GONE_WITHIN)] {
        // Gone already: nothing to do.
        let _ = killpg(group, signal);
        if await_end(child, patience, &mut || tail.take_in(reader)) {
            // Those it started may still be there, and deaf.
            let _ = killpg(group, Signal::SIGKILL);
            return;
        }
    }
}

/// The end of what a hook says.
#[derive(Default)]
struct Tail {
    kept: Vec<u8>,
    dropped: u64,
}

impl Tail {
    /// What there is to read now, but for what comes faster than it can be thrown away.
    fn take_in(&mut self, reader: &mut PipeReader) {
        let mut buffer = [0; 16 << 10];
        for _ in 0..64 {
            match reader.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => self.kept.extend_from_slice(&buffer[..count]),
            }
            let over = self.kept.len().saturating_sub(KEPT);
            self.kept.drain(..over);
            self.dropped += over as u64;
        }
    }

    /// As text that harms no terminal.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let clean: String = text
            .chars()
            .map(|c| match c {
                '\n' | '\t' => c,
                c if c.is_control() => '?',
                c => c,
            })
            .collect();
        match self.dropped {
            0 => clean,
            bytes => format!("({bytes} bytes left out) {clean}"),
        }
    }
}
