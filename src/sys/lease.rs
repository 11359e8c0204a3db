//! Leases on files, to learn who else has one open. It must never keep one.
#![expect(unsafe_code, reason = "leases have no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;

/// Whether someone has the file open for writing; it must itself be open for reading only, and be
/// of a filesystem that knows leases: where it does not, the answer is no.
pub fn is_open_for_writing(file: &File) -> bool {
    // From fcntl(2): "A read lease can be placed only on a file descriptor that is opened
    // read-only"; EAGAIN when "the file is currently open for writing" by anyone.
    let set = |kind: i32| {
        // SAFETY: F_SETLEASE takes an int and touches no memory of ours.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) }
    };
    if set(libc::F_RDLCK) == 0 {
        set(libc::F_UNLCK);
        return false;
    }
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}
