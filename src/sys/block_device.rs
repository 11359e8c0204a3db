//! What the kernel says of an open block device. It only asks, it must never change the device.
#![expect(unsafe_code, reason = "ioctl")]

use crate::model::Bytes;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

mod raw {
    // linux/fs.h: #define BLKSSZGET  _IO(0x12,104)/* get block device sector size */
    // The kernel writes an int, though the number says that nothing is passed.
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);
    // linux/fs.h: #define BLKGETSIZE64 _IOR(0x12,114,size_t)
    //             /* return device size in bytes (u64 *arg) */
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
}

/// The device's size now. Zero once it is gone. Fails with ENOTTY when it is no block device.
pub fn size(device: impl AsFd) -> io::Result<Bytes> {
    let mut bytes = 0_u64;
    // SAFETY: the fd is open for the length of the call, the kernel writes one u64.
    unsafe { raw::blkgetsize64(device.as_fd().as_raw_fd(), &raw mut bytes) }?;
    Ok(Bytes(bytes))
}

/// The device's logical block in bytes: the alignment of direct I/O (512, 4096 and, since 6.15,
/// also more). Always a power of two from 512 on.
pub fn logical_block(device: impl AsFd) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the fd is open for the length of the call, the kernel writes one int.
    unsafe { raw::blksszget(device.as_fd().as_raw_fd(), &raw mut bytes) }?;
    match u32::try_from(bytes) {
        Ok(block) if block >= 512 && block.is_power_of_two() => Ok(block),
        _ => Err(io::Error::other(format!(
            "a logical block of {bytes} bytes"
        ))),
    }
}
