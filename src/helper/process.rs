//! A process of this program that must outlive the process that started it, its starter. It is a
//! child of init, as some runners kill a whole tree of processes, from parent to child. It is held
//! by a descriptor, never by its pid alone. Nothing is frozen or run here.

use super::channel::{NoMessage, recv, send};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::pidfd::PidFd;
use crate::sys::process::{close_from, leave_starter, spawn_deaf};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::{SFlag, fstat};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a helper may take to report its pid.
const PID_WITHIN: Duration = Duration::from_secs(15);

/// How a helper is started, and its name in lists of processes. No name contains this program's: a
/// command that kills all processes of that name must not kill both.
#[derive(Clone, Copy, Debug)]
pub struct Role {
    /// The hidden command.
    pub command: &'static str,
    /// Its name: 15 bytes at most (`TASK_COMM_LEN`).
    pub name: &'static str,
}

/// A running helper.
#[derive(Debug)]
pub struct Helper {
    pid: u32,
    held: PidFd,
}

impl Helper {
    /// Starts `program` in this role, with a socket as its standard input and an empty environment.
    /// Returns the helper and our end of the socket; the helper exits when that is closed.
    ///
    /// # Errors
    /// `Failed`: it does not start, and why. Nothing has been done then.
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
        // It holds a copy of the other end: as long as that is open, we would not notice that the
        // helper has exited.
        drop(command);
        // As soon as the starting process has exited, the helper is a child of init.
        starter.wait().io_context("wait for", program)?;
        let failed = |errno: Errno| {
            let message = format!("the process {} did not start; nothing was done", role.name);
            Error::new(ErrorKind::Failed, message).with_source(errno)
        };
        let pid: u32 = recv(&ours, PID_WITHIN).map_err(|why| {
            failed(match why {
                NoMessage::Waiting => Errno::ETIMEDOUT,
                NoMessage::Gone => Errno::ESRCH,
            })
        })?;
        let held = PidFd::open(pid).map_err(failed)?;
        // The helper alone has the other end: as long as that is open, the pid is its own, and the
        // descriptor holds the helper and not a later process.
        if is_closed(&ours) {
            return Err(failed(Errno::ESRCH));
        }
        Ok((Self { pid, held }, ours))
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it, if it has not exited.
    pub fn kill(&self) {
        // It may have exited already.
        let _ = self.held.send(Signal::SIGKILL);
    }

    /// Waits for its exit for up to `within`; returns whether it has exited. A process with a
    /// thread that is stuck in the kernel has not.
    pub fn has_ended(&self, within: Duration) -> bool {
        self.held.await_end(Some(within))
    }

    /// Waits for its exit.
    pub fn await_end(&self) {
        self.held.await_end(None);
    }
}

/// What a helper does first: it leaves its starter's session and tree, and sends its pid. Returns
/// the socket that connects it to its starter; `None` when nobody has started it as a helper. All
/// signals are blocked, and none is pending (fork(2)): the helper has to set their actions and to
/// unblock them.
pub fn begin() -> Option<OwnedFd> {
    let stdin = std::io::stdin();
    let kind = SFlag::from_bits_truncate(fstat(&stdin).ok()?.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFSOCK {
        return None;
    }
    // From here on, a signal to the starter's group does not reach this process.
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
    send(&socket, &std::process::id()).ok()?;
    Some(socket)
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
