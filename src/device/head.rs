//! The beginning of something on a disk, as it stands there, past all caches. It only reads.

use crate::model::Extent;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// What is read: all of a superblock or of a swap area's header, and as much as the largest sector
/// or page there is.
const HEAD: usize = 64 * 1024;

/// The first 64 KiB of a place on the disk at that path, or all of it if it is smaller.
///
/// # Errors
/// When the disk cannot be read there.
pub(super) fn head_on_disk(disk: &Path, place: Extent) -> io::Result<Vec<u8>> {
    let disk = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk)?;
    let mut room = vec![0; 2 * HEAD];
    let shift = room.as_ptr().align_offset(HEAD);
    let length = HEAD.min(usize::try_from(place.length.0).unwrap_or(HEAD));
    let head = room
        .get_mut(shift..shift + length)
        .ok_or_else(|| io::Error::other("no aligned memory"))?;
    disk.read_exact_at(head, place.offset.0)?;
    Ok(head.to_vec())
}
