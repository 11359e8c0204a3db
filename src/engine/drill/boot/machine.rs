//! One machine: QEMU as a user without rights, in namespaces of its own, that dies with us. Nothing
//! of what it says is waited for without an end.

use super::arguments::{MachineDescriptors, MachinePlan, SCREEN, arguments};
use super::console::{GuestConsole, screen_lines};
use super::emulator::Emulator;
use super::qmp::{QmpChannel, QmpEvent};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::PairedServer;
use crate::sys::plain;
use crate::sys::process::{GONE_WITHIN, LoweredProgram, await_end, spawn_lowered};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The first of the users' numbers that systemd gives to services for a while, and how many these
/// are: no account has one.
const USERS: (u32, u32) = (61_184, 4_336);
/// The longest file that QEMU may write: a picture of the screen.
const MOST_FILE: u64 = 64 << 20;
/// The largest picture that is kept.
const MOST_PICTURE: u64 = 16 << 20;
/// What is kept of QEMU's own complaints, in bytes.
const MOST_COMPLAINT: usize = 4 << 10;
/// The longest file of a firmware's variables.
const MOST_VARIABLES: u64 = 16 << 20;
/// How long QEMU may take for an answer: a busy host is slow to start it.
const FIRST_ANSWER: Duration = Duration::from_secs(60);
/// The same once it runs: whoever stops the drill waits for that.
const ANSWER: Duration = Duration::from_secs(10);

/// A machine that runs.
pub(super) struct BootMachine {
    child: Child,
    qmp: QmpChannel,
    serial: UnixStream,
    serial_has_ended: bool,
    complaints: PipeReader,
    complaint: Vec<u8>,
    pub console: GuestConsole,
    screen: File,
    pub begun: Instant,
    answers_within: Duration,
}

impl BootMachine {
    /// Starts it. The disks' clients are taken from their servers.
    ///
    /// # Errors
    /// QEMU cannot be started, or does not answer.
    pub(super) fn start(plan: &MachinePlan<'_>, servers: &mut [PairedServer]) -> Result<Self> {
        let failed = |error| {
            let what = "QEMU cannot be started";
            Error::new(ErrorKind::Failed, what).with_source(error)
        };
        let (monitor, theirs_monitor) = UnixStream::pair().map_err(failed)?;
        let (serial, theirs_serial) = UnixStream::pair().map_err(failed)?;
        serial.set_nonblocking(true).map_err(failed)?;
        let screen = memory_file("screen").map_err(failed)?;
        // It is opened for writing alone, and QEMU asks for just that.
        let for_qemu = plain::reopen(&screen, OFlag::O_WRONLY).map_err(failed)?;
        let variables = variables(plan.emulator)?;
        let disks: Vec<OwnedFd> = servers
            .iter_mut()
            .filter_map(PairedServer::take_client)
            .collect();
        let fds = MachineDescriptors {
            monitor: theirs_monitor.as_raw_fd(),
            serial: theirs_serial.as_raw_fd(),
            screen: for_qemu.as_raw_fd(),
            variables: variables.as_ref().map(AsRawFd::as_raw_fd),
            disks: disks.iter().map(AsRawFd::as_raw_fd).collect(),
        };
        let mut command = Command::new(&plan.emulator.program);
        command.args(arguments(plan, &fds));
        let complaints = surround(&mut command).map_err(failed)?;
        let mut descriptors = vec![
            OwnedFd::from(theirs_monitor),
            theirs_serial.into(),
            for_qemu.into(),
        ];
        descriptors.extend(variables.map(OwnedFd::from));
        descriptors.extend(disks);
        let begun = Instant::now();
        let child = spawn_lowered(
            &mut command,
            LoweredProgram {
                id: USERS.0 + std::process::id() % USERS.1,
                group: plan.emulator.group.filter(|_| plan.accelerated),
                descriptors,
                file_size: MOST_FILE,
            },
        );
        // Its own ends of the pipe go with it.
        drop(command);
        let mut machine = Self {
            child: child.map_err(failed)?,
            qmp: QmpChannel::new(monitor).map_err(failed)?,
            serial,
            serial_has_ended: false,
            complaints,
            complaint: Vec::new(),
            console: GuestConsole::new(),
            screen,
            begun,
            answers_within: FIRST_ANSWER,
        };
        let ready = machine.ask("qmp_capabilities", &json!({}));
        ready.map_err(|why| {
            let what = format!("QEMU does not begin: {why}; {}", machine.complaint());
            Error::new(ErrorKind::Failed, what)
        })?;
        machine.answers_within = ANSWER;
        Ok(machine)
    }

    /// QEMU's version.
    pub(super) fn version(&self) -> String {
        self.qmp
            .version()
            .unwrap_or("of an unknown version")
            .to_owned()
    }

    /// Takes what is said, for so long at most.
    pub(super) fn listen(&mut self, within: Duration) {
        let mut waits = Vec::new();
        if !self.qmp.has_ended() {
            waits.push(PollFd::new(self.qmp.socket().as_fd(), PollFlags::POLLIN));
            if !self.serial_has_ended {
                waits.push(PollFd::new(self.serial.as_fd(), PollFlags::POLLIN));
            }
        }
        let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut waits, timeout);
        self.qmp.listen();
        let mut buffer = [0; 16 << 10];
        // No more than that in one go: others speak, too.
        for _ in 0..16 {
            match self.serial.read(&mut buffer) {
                Ok(0) => {
                    self.serial_has_ended = true;
                    break;
                }
                Err(_) => break,
                Ok(count) => self.console.take(buffer.get(..count).unwrap_or_default()),
            }
        }
        for _ in 0..4 {
            let Ok(count @ 1..) = self.complaints.read(&mut buffer) else {
                break;
            };
            let said = buffer.get(..count).unwrap_or_default();
            self.complaint.extend_from_slice(said);
            let over = self.complaint.len().saturating_sub(MOST_COMPLAINT);
            self.complaint.drain(..over);
        }
    }

    /// Asks QEMU, and listens meanwhile; what it returns, or why not.
    pub(super) fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value, String> {
        let asked = self.qmp.ask(command, arguments);
        asked.map_err(|error| error.to_string())?;
        let until = Instant::now() + self.answers_within;
        loop {
            if let Some(answer) = self.qmp.take_answer() {
                return answer;
            }
            if self.qmp.has_ended() {
                return Err("it has ended".into());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("it did not answer in time".into());
            }
            self.listen(left);
        }
    }

    /// The next event.
    pub(super) fn take_event(&mut self) -> Option<QmpEvent> {
        self.qmp.take_event()
    }

    /// Whether QEMU has ended by itself.
    pub(super) fn has_died(&mut self) -> bool {
        self.qmp.has_ended() || !matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it was killed from outside: for want of memory, perhaps.
    pub(super) fn was_killed(&mut self) -> bool {
        let ended = self.child.try_wait().ok().flatten();
        ended.and_then(|status| status.signal()) == Some(nix::libc::SIGKILL)
    }

    /// How long its threads have run, or waited for a processor of this host; `None`: not known.
    pub(super) fn busy(&self) -> Option<Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let mut sum = 0_u64;
        for task in tasks.flatten() {
            // What has ended meanwhile was busy before; the first two numbers are nanoseconds
            // (Documentation/scheduler/sched-stats.rst).
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else {
                continue;
            };
            let numbers = text.split_whitespace().take(2);
            for number in numbers {
                sum = sum.saturating_add(number.parse().ok()?);
            }
        }
        Some(Duration::from_nanos(sum))
    }

    /// What QEMU has complained of last, in words.
    pub(super) fn complaint(&self) -> String {
        let said = String::from_utf8_lossy(&self.complaint);
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        match lines.next_back() {
            Some(line) => format!("it said: {line}"),
            None => "it said nothing".into(),
        }
    }

    /// The letters on its screen, where it shows letters.
    pub(super) fn screen_lines(&mut self) -> Vec<String> {
        // 25 lines of 80 letters (VGA's text mode).
        let line = json!({"command-line": "xp /1000xw 0xb8000"});
        let said = self.ask("human-monitor-command", &line).unwrap_or_default();
        let said = said.as_str().unwrap_or_default();
        let words = said.lines().filter_map(|line| line.split_once(": "));
        let words = words.flat_map(|(_, words)| words.split_whitespace());
        let memory = words
            .take(1000)
            .filter_map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok())
            .flat_map(u32::to_le_bytes);
        screen_lines(&memory.collect::<Vec<u8>>())
    }

    /// A picture of its screen, and the ending of its name.
    pub(super) fn picture(&mut self) -> Result<(Vec<u8>, &'static str), String> {
        let taken = self.ask("screendump", &json!({"filename": SCREEN, "format": "png"}));
        let ending = match taken {
            Ok(_) => "png",
            // Before 7.1, or built without.
            Err(_) => {
                self.screen.set_len(0).map_err(|error| error.to_string())?;
                self.ask("screendump", &json!({"filename": SCREEN}))?;
                "ppm"
            }
        };
        let length = self.screen.metadata().map_or(0, |found| found.len());
        if length == 0 || length > MOST_PICTURE {
            return Err(format!("it has {length} bytes"));
        }
        let mut bytes = vec![0; length as usize];
        let read = self.screen.read_exact_at(&mut bytes, 0);
        read.map_err(|error| error.to_string())?;
        Ok((bytes, ending))
    }
}

impl Drop for BootMachine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        await_end(&mut self.child, GONE_WITHIN, &mut || ());
    }
}

/// A clean environment, nothing to read, and a pipe for complaints, of which this is the end to
/// read from; reading never waits.
fn surround(command: &mut Command) -> std::io::Result<PipeReader> {
    let (reader, writer) = std::io::pipe()?;
    let flags = OFlag::from_bits_retain(fcntl(&reader, FcntlArg::F_GETFL)?);
    fcntl(&reader, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    Ok(reader)
}

/// A copy of the firmware's variables, which is the machine's.
fn variables(emulator: &Emulator) -> Result<Option<File>> {
    let Some(files) = &emulator.uefi else {
        return Ok(None);
    };
    let path: &Path = &files.variables;
    let length = fs::metadata(path).io_context("look at", path)?.len();
    if length > MOST_VARIABLES {
        let what = format!("{} is too long for what it is", path.display());
        return Err(Error::new(ErrorKind::Unsupported, what));
    }
    let bytes = fs::read(path).io_context("read", path)?;
    let mut copy = memory_file("variables").io_context("copy", path)?;
    copy.write_all(&bytes).io_context("copy", path)?;
    Ok(Some(copy))
}

fn memory_file(name: &str) -> std::io::Result<File> {
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC)?))
}
