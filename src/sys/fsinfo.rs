//! What the kernel's memory says of a mounted filesystem as a whole: its counts, its name, its
//! size. It only asks.
#![expect(unsafe_code, reason = "ioctls are not known to the compiler")]

use crate::model::Bytes;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// `fstatfs(2)`, as far as it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceCounts {
    /// Bytes that the counts are in.
    pub unit: u64,
    /// All space.
    pub all: Bytes,
    /// Free space, blocks reserved for root included.
    pub free: Bytes,
    /// The name of the filesystem. ext4 (`uuid_to_fsid`) makes it of the UUID, xfs of the device.
    pub fsid: [u32; 2],
}

/// The counts of the filesystem that `file` is on.
pub fn counts(file: impl AsFd) -> io::Result<SpaceCounts> {
    let mut raw = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the kernel writes at most one `struct statfs` to `raw`, which lives across the call.
    let result = unsafe { libc::fstatfs(file.as_fd().as_raw_fd(), raw.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all its fields are integers, for which zeros are values, and the kernel filled it.
    let raw = unsafe { raw.assume_init() };
    // SAFETY: `fsid_t` is `struct { int val[2]; }`, whose field the crate keeps to itself.
    let fsid = unsafe { std::mem::transmute::<libc::fsid_t, [u32; 2]>(raw.f_fsid) };
    let unit = u64::try_from(raw.f_bsize).unwrap_or(0);
    Ok(SpaceCounts {
        unit,
        all: Bytes(raw.f_blocks.saturating_mul(unit)),
        free: Bytes(raw.f_bfree.saturating_mul(unit)),
        fsid,
    })
}

/// What a mounted xfs says of itself.
///
/// `fs/xfs/libxfs/xfs_fs.h`:
/// ```c
/// struct xfs_fsop_geom_v1 {
///     __u32 blocksize;   __u32 rtextsize;  __u32 agblocks;  __u32 agcount;
///     __u32 logblocks;   __u32 sectsize;   __u32 inodesize; __u32 imaxpct;
///     __u64 datablocks;  __u64 rtblocks;   __u64 rtextents; __u64 logstart;
///     unsigned char uuid[16];
///     __u32 sunit;       __u32 swidth;     __s32 version;   __u32 flags;
///     __u32 logsectsize; __u32 rtsectsize; __u32 dirblocksize;
/// };
/// #define XFS_IOC_FSGEOMETRY_V1 _IOR('X', 100, struct xfs_fsop_geom_v1)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct XfsGeometry {
    /// Bytes of a block.
    pub block_size: u32,
    numbers: [u32; 7],
    /// Blocks of the data device.
    pub data_blocks: u64,
    counts: [u64; 3],
    /// Its UUID.
    pub uuid: [u8; 16],
    rest: [u32; 7],
}

const _: () = assert!(size_of::<XfsGeometry>() == 112);
const GEOMETRY: libc::c_ulong = nix::request_code_read!(b'X', 100, size_of::<XfsGeometry>()) as _;

/// The geometry of the xfs that `file` is on.
pub fn xfs_geometry(file: impl AsFd) -> io::Result<XfsGeometry> {
    let mut geometry = XfsGeometry::default();
    let raw: *mut XfsGeometry = &raw mut geometry;
    // SAFETY: the kernel writes one `struct xfs_fsop_geom_v1`, which `XfsGeometry` is to the byte.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), GEOMETRY, raw) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(geometry)
}
