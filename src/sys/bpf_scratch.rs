//! A small disk in memory, for the tracker to try itself on. It must never outlive the process.

#![expect(unsafe_code, reason = "loop device ioctls")]

use super::loop_file::LoopInfo;
use crate::error::{Error, IoContext, Result};
use crate::model::{Bytes, DevNumber};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `include/uapi/linux/loop.h`
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
/// `include/uapi/linux/loop.h`
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// `include/uapi/linux/loop.h`: the device goes away when the last one closes it.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `include/uapi/linux/loop.h`, `struct loop_config` (5.8 on).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// How often another process may snatch the free device before we give up.
const TRIES: usize = 8;

/// A loop disk whose contents live in memory.
#[derive(Debug)]
pub struct ScratchDisk {
    device: File,
    path: PathBuf,
}

/// Direct I/O wants aligned memory.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

fn free_number(control: &File) -> io::Result<i32> {
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(number)
}

fn configure(device: &File, backing: &OwnedFd) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 512,
        info: LoopInfo {
            flags: LO_FLAGS_AUTOCLEAR,
            ..LoopInfo::EMPTY
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which lives over the call.
    let answer = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            LOOP_CONFIGURE as _,
            std::ptr::from_ref(&config),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl ScratchDisk {
    /// A new disk of `size` bytes, a multiple of 4096.
    ///
    /// # Errors
    /// There is no loop driver, no free device, or no device node.
    pub fn create(size: Bytes) -> Result<Self> {
        let control_path = Path::new("/dev/loop-control");
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .open(control_path)
            .io_context("open", control_path)?;
        let backing = memfd_create(c"stillpoint-self-test", MFdFlags::MFD_CLOEXEC)
            .io_context("create a file in memory beside", control_path)?;
        let length = i64::try_from(size.0).map_err(|_| {
            Error::new(crate::ErrorKind::Usage, "a scratch disk cannot be so large")
        })?;
        nix::unistd::ftruncate(&backing, length).io_context("size a file beside", control_path)?;
        for attempt in 1.. {
            let number = free_number(&control).io_context("ask for a device of", control_path)?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_DIRECT)
                .open(&path)
                .io_context("open", &path)?;
            match configure(&device, &backing) {
                Ok(()) => return Ok(Self { device, path }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < TRIES => {}
                Err(error) => return Err(Error::io("configure", &path, error)),
            }
        }
        unreachable!("the loop above returns at the last attempt")
    }

    /// Its device number.
    pub fn dev(&self) -> Result<DevNumber> {
        let number = self
            .device
            .metadata()
            .io_context("stat", &self.path)?
            .rdev();
        Ok(DevNumber {
            major: libc::major(number),
            minor: libc::minor(number),
        })
    }

    /// Writes 4096 bytes at `offset`, past every cache.
    pub fn write_at(&self, offset: Bytes) -> Result<()> {
        let data = Aligned([0xA5; 4096]);
        self.device
            .write_all_at(&data.0, offset.0)
            .io_context("write to", &self.path)
    }
}
