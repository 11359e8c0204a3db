//! Which file a loop device shows: `LOOP_GET_STATUS64`. It only asks.
#![expect(unsafe_code, reason = "ioctls are not known to the compiler")]

use crate::model::{Bytes, DevNumber};
use serde::Serialize;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `include/uapi/linux/loop.h`, `struct loop_info64`.
#[repr(C)]
pub(super) struct LoopInfo {
    pub device: u64,
    pub inode: u64,
    pub rdevice: u64,
    pub offset: u64,
    pub sizelimit: u64,
    pub number: u32,
    pub encrypt_type: u32,
    pub encrypt_key_size: u32,
    pub flags: u32,
    pub file_name: [u8; 64],
    pub crypt_name: [u8; 64],
    pub encrypt_key: [u8; 32],
    pub init: [u64; 2],
}

const _: () = assert!(size_of::<LoopInfo>() == 232);

impl LoopInfo {
    /// All zeros.
    pub(super) const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        sizelimit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

mod raw {
    // `#define LOOP_GET_STATUS64 0x4C05`
    nix::ioctl_read_bad!(loop_get_status64, 0x4C05, super::LoopInfo);
}

/// The file that a loop device shows, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LoopFile {
    /// `st_dev` of the file: its filesystem's device, but for btrfs, overlay and the like.
    pub device: DevNumber,
    /// Its inode.
    pub inode: u64,
    /// The number of a block device that is shown instead of a file, whatever its node is called.
    pub block_device: Option<DevNumber>,
    /// Where in the file the device begins.
    pub offset: Bytes,
}

/// Asks a loop device. `ENXIO` when it shows nothing; `ENOTTY` when it is none.
pub fn loop_file(device: impl AsFd) -> io::Result<LoopFile> {
    let mut info = LoopInfo::EMPTY;
    // SAFETY: the kernel writes one `struct loop_info64` to `info`, which lives across the call.
    unsafe { raw::loop_get_status64(device.as_fd().as_raw_fd(), &raw mut info) }?;
    Ok(LoopFile {
        device: decode_device(info.device),
        inode: info.inode,
        // 0:0 of what is no device (`lo_rdevice` is its `st_rdev`).
        block_device: (info.rdevice != 0).then(|| decode_device(info.rdevice)),
        offset: Bytes(info.offset),
    })
}

/// `huge_decode_dev` of `include/linux/kdev_t.h`.
fn decode_device(number: u64) -> DevNumber {
    let major = (number & 0x000f_ff00) >> 8;
    let minor = (number & 0xff) | ((number >> 12) & 0x000f_ff00);
    // Twelve and twenty bits by the masks above.
    DevNumber {
        major: major as u32,
        minor: minor as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_is_decoded_as_the_kernel_does() {
        let number = crate::sys::fsmap::encode_device(259, 0x123);
        let expected = DevNumber {
            major: 259,
            minor: 0x123,
        };
        assert_eq!(decode_device(number.into()), expected);
    }
}
