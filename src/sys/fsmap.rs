//! Which bytes of its device a mounted filesystem uses: `FS_IOC_GETFSMAP`. It only asks.
#![expect(unsafe_code, reason = "ioctls are not known to the compiler")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One stretch of a device and who owns it. All positions and lengths are bytes.
///
/// `include/uapi/linux/fsmap.h`:
/// ```c
/// struct fsmap {
///     __u32 fmr_device;      /* device id */
///     __u32 fmr_flags;       /* mapping flags */
///     __u64 fmr_physical;    /* device offset of segment */
///     __u64 fmr_owner;       /* owner id */
///     __u64 fmr_offset;      /* file offset of segment */
///     __u64 fmr_length;      /* length of segment */
///     __u64 fmr_reserved[3]; /* must be zero */
/// };
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FsmapRecord {
    /// The device: a `dev_t` in the kernel's 32-bit encoding if the batch says so.
    pub device: u32,
    /// `FMR_OF_*`.
    pub flags: u32,
    /// Offset on that device.
    pub physical: u64,
    /// An inode number, or one of the filesystem's own codes with [`FsmapRecord::SPECIAL_OWNER`].
    pub owner: u64,
    /// Offset in the file that owns it.
    pub offset: u64,
    /// Length.
    pub length: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

impl FsmapRecord {
    /// `FMR_OF_SPECIAL_OWNER`: the owner is a code, not an inode.
    pub const SPECIAL_OWNER: u32 = 0x10;
    /// `FMR_OF_LAST`: the last record there is.
    pub const LAST: u32 = 0x20;
    /// `FMR_OWN_FREE`, `FMR_OWNER(0, 1)`: nobody owns it.
    pub const OWNER_FREE: u64 = 1;

    /// Whether it is free space.
    pub fn is_free(&self) -> bool {
        self.flags & Self::SPECIAL_OWNER != 0 && self.owner == Self::OWNER_FREE
    }
}

/// Records asked for at a time: 64 KiB of them.
const BATCH: usize = 1024;

/// `FMH_OF_DEV_T`: `fmr_device` values are `dev_t`.
const DEVICES_ARE_NUMBERS: u32 = 0x1;

/// `struct fsmap_head` with room for its records:
/// ```c
/// struct fsmap_head {
///     __u32 fmh_iflags;      /* control flags */
///     __u32 fmh_oflags;      /* output flags */
///     __u32 fmh_count;       /* # of entries in array incl. input */
///     __u32 fmh_entries;     /* # of entries filled in (output). */
///     __u64 fmh_reserved[6]; /* must be zero */
///     struct fsmap fmh_keys[2]; /* low and high keys for the mapping search */
///     struct fsmap fmh_recs[];  /* returned records */
/// };
/// #define FS_IOC_GETFSMAP _IOWR('X', 59, struct fsmap_head)
/// ```
#[repr(C)]
struct FsmapQuery {
    head: FsmapHead,
    records: [FsmapRecord; BATCH],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct FsmapHead {
    iflags: u32,
    oflags: u32,
    count: u32,
    entries: u32,
    reserved: [u64; 6],
    keys: [FsmapRecord; 2],
}

// The size in the request's number is that of the head alone.
const _: () = assert!(size_of::<FsmapHead>() == 192 && size_of::<FsmapRecord>() == 64);
const GETFSMAP: libc::c_ulong = nix::request_code_readwrite!(b'X', 59, size_of::<FsmapHead>()) as _;

/// Reads a filesystem's map from its beginning, a bounded batch at a time.
pub struct FsmapReader<'fd> {
    filesystem: BorrowedFd<'fd>,
    query: Box<FsmapQuery>,
    done: bool,
}

impl<'fd> FsmapReader<'fd> {
    /// `filesystem` is any open file or directory on it; reading is enough.
    pub fn new(filesystem: BorrowedFd<'fd>) -> Self {
        let every = FsmapRecord {
            device: u32::MAX,
            flags: u32::MAX,
            physical: u64::MAX,
            owner: u64::MAX,
            offset: u64::MAX,
            ..FsmapRecord::default()
        };
        let head = FsmapHead {
            count: BATCH as u32,
            keys: [FsmapRecord::default(), every],
            ..FsmapHead::default()
        };
        Self {
            filesystem,
            query: Box::new(FsmapQuery {
                head,
                records: [FsmapRecord::default(); BATCH],
            }),
            done: false,
        }
    }

    /// The next records, ascending by device and position; none at the end. `EOPNOTSUPP` or
    /// `ENOTTY` where the filesystem has no such map (ext4 before 4.16, xfs before 4.12, others).
    pub fn next_batch(&mut self) -> io::Result<&[FsmapRecord]> {
        if self.done {
            return Ok(&[]);
        }
        let query: *mut FsmapQuery = &raw mut *self.query;
        // SAFETY: the kernel reads the head and writes it and at most `count` records behind it;
        // `FsmapQuery` is both, in that layout, with room for `BATCH` = `count` records.
        let result = unsafe { libc::ioctl(self.filesystem.as_raw_fd(), GETFSMAP, query) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let filled = self.query.head.entries as usize;
        let records = self
            .query
            .records
            .get(..filled)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
        match records.last() {
            Some(last) if last.flags & FsmapRecord::LAST == 0 => {
                if *last == self.query.head.keys[0] {
                    // It gave what it had given: asking again would never end.
                    return Err(io::Error::from_raw_os_error(libc::EPROTO));
                }
                self.query.head.keys[0] = *last;
            }
            _ => self.done = true,
        }
        Ok(records)
    }

    /// Whether the devices in the last batch are device numbers. Where they are not (an xfs with
    /// its realtime part inside), nothing can be said about a device.
    pub fn devices_are_numbers(&self) -> bool {
        self.query.head.oflags & DEVICES_ARE_NUMBERS != 0
    }
}

/// A device number as `fmr_device` holds it: `new_encode_dev` of `include/linux/kdev_t.h`.
pub fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_is_the_kernels() {
        // _IOWR('X', 59, struct fsmap_head) as the C compiler sees it.
        assert_eq!(GETFSMAP, 0xc0c0_583b);
    }

    #[test]
    fn a_device_number_is_encoded_as_the_kernel_does() {
        assert_eq!(encode_device(7, 3), 0x0703);
        assert_eq!(encode_device(259, 0x123), 0x0010_0000 | (259 << 8) | 0x23);
    }
}
