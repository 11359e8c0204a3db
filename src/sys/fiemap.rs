//! Where on its device a file lies: `FS_IOC_FIEMAP`. It only asks, and writes nothing out.
#![expect(unsafe_code, reason = "ioctls are not known to the compiler")]

use crate::model::{Bytes, Extent};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// One stretch of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// Where in the file it begins.
    pub logical: Bytes,
    /// Where on the filesystem's device it lies.
    pub place: Extent,
    /// Whether that is the place of these bytes, and of no other file's.
    pub certain: bool,
    /// Whether bytes were written there; else it is allocated alone, and reads as zeros.
    pub written: bool,
}

/// `include/uapi/linux/fiemap.h`:
/// ```c
/// struct fiemap_extent {
///     __u64 fe_logical;  /* logical offset in bytes for the start of the extent */
///     __u64 fe_physical; /* physical offset in bytes for the start of the extent */
///     __u64 fe_length;   /* length in bytes for this extent */
///     __u64 fe_reserved64[2];
///     __u32 fe_flags;    /* FIEMAP_EXTENT_* flags for this extent */
///     __u32 fe_reserved[3];
/// };
/// ```
#[derive(Clone, Copy)]
#[repr(C)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `FIEMAP_EXTENT_LAST`
const LAST: u32 = 0x1;
/// `FIEMAP_EXTENT_UNWRITTEN`: allocated, reads as zeros.
const UNWRITTEN: u32 = 0x800;
/// These, and `FIEMAP_EXTENT_MERGED`.
const HARMLESS: u32 = LAST | UNWRITTEN | 0x1000;

/// Records asked for at a time.
const BATCH: usize = 512;
/// So many are enough where not all are needed.
const FIRST: usize = BATCH;
/// Most records of one file.
const MOST: usize = 1 << 20;

/// ```c
/// struct fiemap {
///     __u64 fm_start;          /* logical offset (inclusive) at which to start mapping */
///     __u64 fm_length;         /* logical length of mapping which userspace wants */
///     __u32 fm_flags;
///     __u32 fm_mapped_extents; /* number of extents that were mapped (out) */
///     __u32 fm_extent_count;   /* size of fm_extents array (in) */
///     __u32 fm_reserved;
///     struct fiemap_extent fm_extents[];
/// };
/// #define FS_IOC_FIEMAP _IOWR('f', 11, struct fiemap)
/// ```
#[repr(C)]
struct FiemapQuery {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    records: [FiemapExtent; BATCH],
}

/// The size in the request's number is that of the head alone.
const HEAD: usize = 32;
const _: () = assert!(
    size_of::<FiemapQuery>() == HEAD + BATCH * size_of::<FiemapExtent>()
        && size_of::<FiemapExtent>() == 56
);
const FIEMAP: libc::c_ulong = nix::request_code_readwrite!(b'f', 11, HEAD) as _;

/// All stretches of a file, by their place in it. `EOPNOTSUPP` where the filesystem does not tell.
pub fn file_extents(file: impl AsFd) -> io::Result<Vec<FileExtent>> {
    extents(file, usize::MAX)
}

/// The first of them, some hundred.
pub fn first_extents(file: impl AsFd) -> io::Result<Vec<FileExtent>> {
    extents(file, FIRST)
}

fn extents(file: impl AsFd, enough: usize) -> io::Result<Vec<FileExtent>> {
    let empty = FiemapExtent {
        logical: 0,
        physical: 0,
        length: 0,
        reserved64: [0; 2],
        flags: 0,
        reserved: [0; 3],
    };
    let mut query = Box::new(FiemapQuery {
        start: 0,
        length: u64::MAX,
        flags: 0,
        mapped: 0,
        count: BATCH as u32,
        reserved: 0,
        records: [empty; BATCH],
    });
    let mut found = Vec::new();
    loop {
        let raw: *mut FiemapQuery = &raw mut *query;
        // SAFETY: the kernel reads the head and writes it and at most `count` records behind it;
        // `FiemapQuery` is both, in that layout, with room for `BATCH` = `count` records.
        let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FIEMAP, raw) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let records = query.records.get(..query.mapped as usize);
        let records = records.ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))?;
        found.extend(records.iter().map(|record| FileExtent {
            logical: Bytes(record.logical),
            place: Extent::new(Bytes(record.physical), Bytes(record.length)),
            certain: record.flags & !HARMLESS == 0,
            written: record.flags & UNWRITTEN == 0,
        }));
        if found.len() >= enough {
            return Ok(found);
        }
        match records.last() {
            None => return Ok(found),
            Some(last) if last.flags & LAST != 0 => return Ok(found),
            Some(last) => {
                let next = last.logical.saturating_add(last.length);
                if next <= query.start && query.start > 0 || found.len() > MOST {
                    return Err(io::Error::from_raw_os_error(libc::EPROTO));
                }
                query.start = next;
                query.length = u64::MAX - next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_number_is_the_kernels() {
        // _IOWR('f', 11, struct fiemap) as the C compiler sees it.
        assert_eq!(FIEMAP, 0xc020_660b);
    }
}
