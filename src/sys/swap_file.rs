//! Whether the kernel swaps to a file: the one question about it whose answer is of this very
//! inode, and not of a name. It changes no file.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::os::fd::AsFd;

/// Whether the kernel swaps to that file, which must be open for writing: else the answer is no.
///
/// `vfs_fallocate` (`fs/open.c`) refuses an active swap file (`IS_SWAPFILE`) before it looks at the
/// range. The range that is asked for ends past all that an offset can name, so any other file
/// refuses too, by `EFBIG`; neither waits for a filesystem that is frozen.
pub fn is_swapped_to(file: impl AsFd) -> bool {
    let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(file, flags, i64::MAX, i64::MAX) == Err(Errno::ETXTBSY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_ordinary_file_is_not_swapped_to_and_not_changed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"ordinary").unwrap();
        let before = file.metadata().unwrap();
        assert!(!is_swapped_to(&file));
        let after = file.metadata().unwrap();
        assert_eq!(after.len(), 8);
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    }
}
