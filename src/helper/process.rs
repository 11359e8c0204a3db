//! A process of this program that must outlive the one that started it. It is nobody's child but
//! init's, as there are runners that end a whole tree of processes, from parent to child. It is
//! found and held by a descriptor, never by its number alone. Nothing is frozen or run here.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::pidfd::PidFd;
use crate::sys::process::{close_from, leave_starter, spawn_deaf};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::{SFlag, fstat};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long it may take to say who it is.
const NAMED_WITHIN: Duration = Duration::from_secs(15);

/// How a helper is started, and what lists of processes call it. No name has this program's in it:
/// who ends all processes of that name shall not end both.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The hidden command.
    pub command: &'static str,
    /// Its name: 15 bytes at most (`TASK_COMM_LEN`).
    pub name: &'static str,
}

/// A helper, held.
#[derive(Debug)]
pub struct Helper {
    pid: u32,
    held: PidFd,
}

impl Helper {
    /// Starts `program` in this role, a socket as its standard input and with an empty environment;
    /// gives it and our end of the socket. It ends when that is closed.
    pub fn start(program: &Path, role: Role) -> Result<(Self, OwnedFd)> {
        let pair = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        );
        let (ours, theirs) = pair.map_err(|errno| {
            Error::new(ErrorKind::Failed, "cannot make a socket pair").with_source(errno)
        })?;
        let mut command = Command::new(program);
        command
            .arg0(role.name)
            .arg(role.command)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut starter = spawn_deaf(&mut command).io_context("start", program)?;
        // Ours of the other end: while it were open, its end would not be noticed.
        drop(command);
        // From its end on the helper is init's child.
        starter.wait().io_context("wait for", program)?;
        let failed = |errno: Errno| {
            let message = format!("the process {} did not start; nothing was done", role.name);
            Error::new(ErrorKind::Failed, message).with_source(errno)
        };
        let pid = hear_number(&ours).map_err(failed)?;
        let held = PidFd::open(pid).map_err(failed)?;
        // It alone has the other end: while that is open, the number is still its own, and what is
        // held is the helper and not a later process.
        if is_closed(&ours) {
            return Err(failed(Errno::ESRCH));
        }
        Ok((Self { pid, held }, ours))
    }

    /// Its number, for messages.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it, if it has not ended.
    pub fn kill(&self) {
        // Already ended is as good.
        let _ = self.held.send(Signal::SIGKILL);
    }

    /// Waits for its end, but no longer than that; answers whether it has ended. One of which a
    /// thread is stuck in the kernel has not.
    pub fn has_ended(&self, within: Duration) -> bool {
        self.held.await_end(Some(within))
    }

    /// Waits for its end.
    pub fn await_end(&self) {
        self.held.await_end(None);
    }
}

/// What a helper does first of all: leaves its starter's session and tree, and says who it is.
/// Gives the socket over which it is spoken to; `None` when nobody has started it as a helper. All
/// signals are blocked, and none is pending (fork(2)): it has to say what they do, and to unblock
/// them.
pub fn begin() -> Option<OwnedFd> {
    let stdin = std::io::stdin();
    let kind = SFlag::from_bits_truncate(fstat(&stdin).ok()?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return None;
    }
    // What the starter's group is sent from here on is not for this process.
    nix::unistd::setsid().ok()?;
    leave_starter().ok()?;
    close_from(3).ok()?;
    let socket = stdin.as_fd().try_clone_to_owned().ok()?;
    let mut null = OpenOptions::new();
    let null = null.read(true).write(true).open("/dev/null").ok()?;
    nix::unistd::dup2_stdin(&null).ok()?;
    nix::unistd::dup2_stdout(&null).ok()?;
    nix::unistd::dup2_stderr(&null).ok()?;
    std::env::set_current_dir("/").ok()?;
    let number = std::process::id().to_le_bytes();
    send(socket.as_raw_fd(), &number, MsgFlags::MSG_NOSIGNAL).ok()?;
    Some(socket)
}

fn hear_number(socket: &OwnedFd) -> Result<u32, Errno> {
    let within = PollTimeout::try_from(NAMED_WITHIN).unwrap_or(PollTimeout::MAX);
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    while let Err(errno) = poll(&mut ready, within) {
        if errno != Errno::EINTR {
            return Err(errno);
        }
    }
    let mut number = [0; 4];
    match recv(socket.as_raw_fd(), &mut number, MsgFlags::MSG_DONTWAIT)? {
        4 => Ok(u32::from_le_bytes(number)),
        _ => Err(Errno::ESRCH),
    }
}

/// Whether the other end is closed.
fn is_closed(socket: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    match poll(&mut ready, PollTimeout::ZERO) {
        Ok(0) => false,
        Ok(_) => ready[0].revents().is_some_and(|is| is.intersects(gone)),
        Err(_) => true,
    }
}
