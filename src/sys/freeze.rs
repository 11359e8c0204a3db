//! The two calls that freeze and thaw a filesystem. They never decide whether to: whoever calls
//! [`freeze`] owes the machine a [`thaw`].
#![expect(
    unsafe_code,
    reason = "FIFREEZE and FITHAW are ioctls, which have no safe wrapper"
)]

use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd};

/// From `include/uapi/linux/fs.h`:
/// ```c
/// #define FIFREEZE  _IOWR('X', 119, int)    /* Freeze */
/// #define FITHAW    _IOWR('X', 120, int)    /* Thaw */
/// ```
/// `fs/ioctl.c` hands neither of them its argument.
mod abi {
    nix::ioctl_readwrite!(fifreeze, b'X', 119, nix::libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, nix::libc::c_int);
}

/// Freezes the filesystem on which `fd` (a directory or regular file, not `O_PATH`) was opened:
/// everything dirty is written out, then all further writers block until it is thawed.
///
/// Blocks without bound, deaf to signals, while a writer inside the filesystem is stuck.
///
/// # Errors
/// `EBUSY`: it is frozen already; `EOPNOTSUPP`: this sort of filesystem cannot freeze; `EPERM`: no
/// `CAP_SYS_ADMIN` in the user namespace that mounted it; or what writing out its data gave.
pub fn freeze(fd: impl AsFd) -> Result<(), Errno> {
    let mut unused = 0;
    // SAFETY: the descriptor is open for the whole call, and the kernel ignores the argument,
    // which points to a live integer all the same.
    unsafe { abi::fifreeze(fd.as_fd().as_raw_fd(), &raw mut unused) }.map(drop)
}

/// Thaws the filesystem on which `fd` was opened.
///
/// # Errors
/// `EINVAL`: it is not frozen (or a freeze of it has not come to its end yet); `EPERM` as for
/// [`freeze`]; or what writing its superblock gave, and then it is still frozen.
pub fn thaw(fd: impl AsFd) -> Result<(), Errno> {
    let mut unused = 0;
    // SAFETY: as in `freeze`.
    unsafe { abi::fithaw(fd.as_fd().as_raw_fd(), &raw mut unused) }.map(drop)
}
