//! A hold on a process, so that a signal reaches it or nobody: numbers are used again. It must
//! never wait for a process without a limit, unless asked to.
#![expect(unsafe_code, reason = "libc and nix have no wrapper for pidfd calls")]

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// A hold on a process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Takes hold of the process that has this number now.
    ///
    /// # Errors
    /// `ESRCH` when there is none; `ENOSYS` on kernels before 5.3.
    pub fn open(pid: u32) -> nix::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
        if pid <= 0 {
            return Err(Errno::ESRCH);
        }
        // From include/linux/syscalls.h:
        //   asmlinkage long sys_pidfd_open(pid_t pid, unsigned int flags);
        // SAFETY: the call takes no pointer.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0u32) };
        let fd = RawFd::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a signal to the process that is held.
    ///
    /// # Errors
    /// `ESRCH` when it has ended, `EPERM` when it is another user's.
    pub fn send(&self, signal: Signal) -> nix::Result<()> {
        let fd = self.0.as_raw_fd();
        // From include/linux/syscalls.h:
        //   asmlinkage long sys_pidfd_send_signal(int pidfd, int sig, siginfo_t __user *info,
        //                                         unsigned int flags);
        // SAFETY: without a siginfo the kernel fills in its own; no memory is read or written.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd,
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0u32,
            )
        };
        Errno::result(done).map(drop)
    }

    /// Waits until it has come to its end, but no longer than `within` (`None`: for ever); answers
    /// whether it has. A process of which one thread is stuck in the kernel has not.
    pub fn await_end(&self, within: Option<Duration>) -> bool {
        let until = within.map(|within| Instant::now() + within);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                // Rounded up: no turn of this loop is for nothing.
                PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            });
            // From pidfd_open(2): it is readable once the process has terminated.
            match poll(
                &mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return false,
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                Err(_) => return false,
            }
        }
        // A subreaper inherits what it has started; for all others it is not theirs to wait for.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        let _ = waitid(Id::PIDFd(self.0.as_fd()), flags);
        true
    }
}
