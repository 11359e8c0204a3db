//! Making loop devices. One is gone when nobody has it open or mounted any more, whatever became of
//! the process that has made it. Partitions on it are never looked for.
#![expect(unsafe_code, reason = "ioctls are not known to the compiler")]

use super::loop_file::LoopInfo;
use crate::model::Extent;
use nix::errno::Errno;
use nix::libc;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// `include/uapi/linux/loop.h`:
/// ```c
/// enum {
///     LO_FLAGS_READ_ONLY  = 1,
///     LO_FLAGS_AUTOCLEAR  = 4,
///     LO_FLAGS_PARTSCAN   = 8,
///     LO_FLAGS_DIRECT_IO  = 16,
/// };
/// #define LOOP_CONFIGURE     0x4C0A
/// #define LOOP_CTL_GET_FREE  0x4C82
/// ```
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;

/// `include/uapi/linux/loop.h`, `struct loop_config`.
#[repr(C)]
pub(super) struct LoopSetup {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopSetup>() == 304);

mod raw {
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, super::LoopSetup);
}

/// Others may take a free device first, so many times.
const TRIES: u32 = 64;
/// What gives out numbers of free devices.
const CONTROL: &str = "/dev/loop-control";

/// What a loop device shows.
#[derive(Clone, Copy, Debug)]
pub struct LoopOptions {
    /// Which part of the file.
    pub place: Extent,
    /// Whether it can be written to; the file must have been opened for writing then.
    pub writable: bool,
}

/// A loop device that is held. It is gone when it is dropped and nothing on it is mounted.
#[derive(Debug)]
pub struct LoopDevice {
    held: File,
    path: PathBuf,
}

impl LoopDevice {
    /// Shows a part of an open file.
    ///
    /// # Errors
    /// `NotFound`: this kernel has no loop devices, or `/dev` no node of the new one. Else as
    /// `LOOP_CONFIGURE` has it.
    pub fn new(file: impl AsFd, options: LoopOptions) -> io::Result<Self> {
        let control = File::options().read(true).write(true).open(CONTROL)?;
        let mut tries = 0;
        loop {
            // SAFETY: it takes no argument.
            let number = unsafe { raw::loop_ctl_get_free(control.as_raw_fd()) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            match Self::take(&path, file.as_fd().as_raw_fd(), options) {
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < TRIES => {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn take(path: &Path, fd: libc::c_int, options: LoopOptions) -> io::Result<Self> {
        let mut open = File::options();
        let device = open.read(true).write(options.writable).open(path)?;
        let flags = match options.writable {
            true => AUTOCLEAR,
            false => AUTOCLEAR | READ_ONLY,
        };
        let config = LoopSetup {
            fd: u32::try_from(fd).map_err(|_| Errno::EBADF)?,
            block_size: 0,
            info: LoopInfo {
                offset: options.place.offset.0,
                sizelimit: options.place.length.0,
                flags,
                ..LoopInfo::EMPTY
            },
            reserved: [0; 8],
        };
        // SAFETY: the kernel reads one `struct loop_config` from `config`, which lives across the
        // call.
        unsafe { raw::loop_configure(device.as_raw_fd(), &raw const config) }?;
        // A kernel may refuse to mount what somebody has open for writing.
        let held = File::open(path)?;
        Ok(Self {
            held,
            path: path.to_owned(),
        })
    }

    /// Waits until what was written to it is in its file.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn write_out(&self) -> io::Result<()> {
        self.held.sync_all()
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.held.as_fd()
    }
}
