//! What a process does to itself and to the descriptors it was given: signals it no longer hears,
//! descriptors it closes or receives. It must never touch another process.
#![expect(
    unsafe_code,
    reason = "signal dispositions and raw descriptors have no safe wrapper"
)]

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors that one message can carry: `SCM_MAX_FD` in `include/net/scm.h`.
pub const MAX_FDS_PER_MESSAGE: usize = 253;

/// Makes the process deaf to `signals`.
///
/// # Errors
/// `EINVAL` for `SIGKILL` and `SIGSTOP`, which nobody can ignore.
pub fn ignore_signals(signals: &[Signal]) -> Result<(), Errno> {
    for &one in signals {
        // SAFETY: ignoring a signal installs no handler, so no code runs in signal context.
        unsafe { signal(one, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Closes every descriptor from `first` on. To be called by a process that has just started and
/// owns none of them yet: what it inherited by mistake must not live as long as it does.
///
/// # Errors
/// What reading `/proc/self/fd` gave, on kernels before 5.9, which have no `close_range`.
pub fn close_from(first: RawFd) -> std::io::Result<()> {
    let from = u32::try_from(first).map_err(|_| Errno::EBADF)?;
    // From include/linux/syscalls.h:
    //   asmlinkage long sys_close_range(unsigned int fd, unsigned int max_fd, unsigned int flags);
    // SAFETY: the caller owns no descriptor from `first` on, so no owner is left with a stale one.
    let done = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, from, u32::MAX, 0) };
    if done == 0 {
        return Ok(());
    }
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            open.push(fd);
        }
    }
    for fd in open.into_iter().filter(|fd: &RawFd| *fd >= first) {
        // SAFETY: as above; the one that listed the directory is closed already, giving `EBADF`.
        unsafe { nix::libc::close(fd) };
    }
    Ok(())
}

/// Receives one message and the descriptors that came with it; 0 bytes means that the other end is
/// closed. Received descriptors are not inherited by children.
///
/// # Errors
/// As `recvmsg`; `EMSGSIZE` when the message or its descriptors did not fit.
pub fn receive_with_fds(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = cmsg_space!([RawFd; MAX_FDS_PER_MESSAGE]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for one in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = one {
            // SAFETY: the kernel has just opened these for us, and nobody else knows of them.
            fds.extend(
                raw.into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
    if message.flags.intersects(cut) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((message.bytes, fds))
}
