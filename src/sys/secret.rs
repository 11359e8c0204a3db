//! Memory for keys and passphrases: not swapped, not in a core dump, cleared when it is let go. It
//! must never be printed, nor be copied to memory that is none of these.
#![expect(unsafe_code, reason = "anonymous mappings")]

use crate::error::{Error, ErrorKind, Result};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use zeroize::Zeroize;

/// The longest secret, in bytes: a page.
pub const MOST_SECRET: usize = 4096;

const PAGE: NonZeroUsize = NonZeroUsize::new(MOST_SECRET).expect("a page has bytes");

/// A secret of at most [`MOST_SECRET`] bytes, in a page of its own.
pub struct SecretBytes {
    page: NonNull<u8>,
    length: usize,
}

// SAFETY: plain memory of its own, not tied to a thread, which only its owner changes.
unsafe impl Send for SecretBytes {}
// SAFETY: as above; shared, it can only be read.
unsafe impl Sync for SecretBytes {}

impl SecretBytes {
    /// Room for so many bytes, which `fill` writes.
    ///
    /// # Errors
    /// There is no memory, more than a page is asked for, or `fill` fails.
    pub fn made(length: usize, fill: impl FnOnce(&mut [u8]) -> Result<()>) -> Result<Self> {
        if length > MOST_SECRET {
            let what = format!("a key or passphrase has at most {MOST_SECRET} bytes");
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping anywhere the kernel likes: no existing memory is touched.
        let map = unsafe { mmap_anonymous(None, PAGE, access, MapFlags::MAP_PRIVATE) };
        let map = map.map_err(|errno| {
            Error::new(ErrorKind::Failed, "no memory for a key").with_source(errno)
        })?;
        let mut secret = Self {
            page: map.cast(),
            length,
        };
        // A host that forbids it (`ulimit -l`) may swap it; the limit of root is larger by far.
        // SAFETY: the page is our own mapping; neither changes what is in it.
        let _ = unsafe { mlock(map, MOST_SECRET) };
        for advice in [MmapAdvise::MADV_DONTDUMP, MmapAdvise::MADV_DONTFORK] {
            // SAFETY: as above; a child that is forked has no such page.
            let _ = unsafe { madvise(map, MOST_SECRET, advice) };
        }
        fill(secret.bytes_mut())?;
        Ok(secret)
    }

    /// A copy of `bytes`; who has them clears them.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        Self::made(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// The first so many of its bytes stay.
    pub fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.bytes_mut()[length..].zeroize();
            self.length = length;
        }
    }

    /// The secret. Nobody else is to hold it for long.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the page is ours, at least as long, and was zeroed by the kernel.
        unsafe { std::slice::from_raw_parts(self.page.as_ptr(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.page.as_ptr(), self.length) }
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the page is ours, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.page.cast(), MOST_SECRET) };
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

/// From here on the kernel dumps nothing of this process, whatever the limits are and whoever takes
/// dumps; a program that is started by it is not concerned. Root can still look into it.
pub fn dump_nothing() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_and_never_printed() {
        let mut secret = SecretBytes::copy_of(b"very secret\n").unwrap();
        secret.truncate(11);
        assert_eq!(secret.bytes(), b"very secret");
        assert_eq!(format!("{secret:?}"), "SecretBytes");
        assert!(SecretBytes::made(MOST_SECRET + 1, |_| Ok(())).is_err());
    }

    #[test]
    fn its_page_is_locked_and_left_out_of_dumps() {
        let secret = SecretBytes::copy_of(b"secret").unwrap();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let at = secret.page.as_ptr() as usize;
        let mut own = false;
        let mut flags = String::new();
        for line in maps.lines() {
            let head = line.split(' ').next().unwrap();
            if let Some((start, end)) = head.split_once('-') {
                let number = |text| usize::from_str_radix(text, 16).unwrap_or_default();
                own = (number(start)..number(end)).contains(&at);
            }
            if own && line.starts_with("VmFlags:") {
                flags = line.to_owned();
            }
        }
        for flag in [" dd", " dc", " lo"] {
            assert!(flags.contains(flag), "{flag} is not in {flags:?}");
        }
    }
}
