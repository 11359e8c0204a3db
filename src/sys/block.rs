//! What a block device says of itself by ioctl, and making a part of one read as zeros.
#![expect(unsafe_code, reason = "ioctls are not known to the compiler")]

use crate::model::{Bytes, Extent};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `include/uapi/linux/fs.h`:
/// ```c
/// #define BLKROSET      _IO(0x12,93)          /* set device read-only (0 = read-write) */
/// #define BLKROGET      _IO(0x12,94)          /* get read-only status (0 = read_write) */
/// #define BLKRRPART     _IO(0x12,95)          /* re-read partition table */
/// #define BLKSSZGET     _IO(0x12,104)         /* get block device sector size */
/// #define BLKGETSIZE64  _IOR(0x12,114,size_t) /* return device size in bytes (u64 *arg) */
/// #define BLKZEROOUT    _IO(0x12,127)
/// #define BLKGETDISKSEQ _IOR(0x12,128,__u64)
/// ```
/// `block/ioctl.c` reads an `int` for the first, stores one for the second and for
/// BLKSSZGET, a `u64` for BLKGETSIZE64 and BLKGETDISKSEQ.
mod raw {
    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), libc::c_int);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), libc::c_int);
    nix::ioctl_none_bad!(blkrrpart, nix::request_code_none!(0x12, 95));
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_read!(blkgetsize64, 0x12, 114, libc::size_t);
    nix::ioctl_write_ptr_bad!(blkzeroout, nix::request_code_none!(0x12, 127), [u64; 2]);
    nix::ioctl_read!(blkgetdiskseq, 0x12, 128, u64);
}

/// Size of the device in bytes. Fails with `ENOTTY` on what is not a block device.
pub fn size_in_bytes(device: BorrowedFd<'_>) -> io::Result<u64> {
    let mut size: libc::size_t = 0;
    // SAFETY: the kernel writes one `u64` to `size`, which lives across the call and, on the
    // 64-bit targets this builds for, has that size.
    unsafe { raw::blkgetsize64(device.as_raw_fd(), &raw mut size) }?;
    Ok(size as u64)
}

/// Logical sector size in bytes: what direct I/O must be aligned to.
pub fn logical_block_size(device: BorrowedFd<'_>) -> io::Result<u32> {
    let mut size: libc::c_int = 0;
    // SAFETY: the kernel writes one `int` to `size`, which lives across the call.
    unsafe { raw::blksszget(device.as_raw_fd(), &raw mut size) }?;
    u32::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Whether the device refuses writes.
pub fn is_read_only(device: BorrowedFd<'_>) -> io::Result<bool> {
    let mut flag: libc::c_int = 0;
    // SAFETY: the kernel writes one `int` to `flag`, which lives across the call.
    unsafe { raw::blkroget(device.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// Has the device refuse writes, or take them.
pub fn set_read_only(device: BorrowedFd<'_>, refuse: bool) -> io::Result<()> {
    let flag = libc::c_int::from(refuse);
    // SAFETY: the kernel reads one `int` from `flag`, which lives across the call.
    unsafe { raw::blkroset(device.as_raw_fd(), &raw const flag) }?;
    Ok(())
}

/// The disk's sequence number, never used twice within one boot. Linux 5.15 on; `ENOTTY` before.
pub fn disk_sequence(device: BorrowedFd<'_>) -> io::Result<u64> {
    let mut sequence = 0;
    // SAFETY: the kernel writes one `u64` to `sequence`, which lives across the call.
    unsafe { raw::blkgetdiskseq(device.as_raw_fd(), &raw mut sequence) }?;
    Ok(sequence)
}

/// Size of the device. Fails with `ENOTTY` on what is not a block device.
pub fn size_of(device: impl AsFd) -> io::Result<Bytes> {
    size_in_bytes(device.as_fd()).map(Bytes)
}

/// Makes the extent, a multiple of the logical block, read as zeros: discarded where the device
/// promises zeros then, written otherwise (`blkdev_issue_zeroout` in `block/blk-lib.c`).
pub fn zero_out(device: impl AsFd, extent: Extent) -> io::Result<()> {
    let range = [extent.offset.0, extent.length.0];
    // SAFETY: the kernel reads two `u64` (start, length in bytes) from `range`, which lives across
    // the call.
    unsafe { raw::blkzeroout(device.as_fd().as_raw_fd(), &raw const range) }?;
    Ok(())
}

/// Lets the kernel read the partition table again. `EBUSY` while a partition is in use; `EINVAL` on
/// a device that has no partitions, as loop devices made without `--partscan`.
pub fn reread_partitions(device: impl AsFd) -> io::Result<()> {
    // SAFETY: it takes no argument.
    unsafe { raw::blkrrpart(device.as_fd().as_raw_fd()) }?;
    Ok(())
}
