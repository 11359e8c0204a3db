//! The file of an overlay: its user's alone, sparse, and one server's at a time. No symlink is
//! followed to it, and what is no overlay is left as it is.

use super::head::{OverlayLayout, OverlayOf, PAGE, decode_head, encode_head};
use super::marks::{MarkPage, OverlayMarks};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::image::{Allocation, AllocationRun};
use crate::model::{Bytes, Extent, ObjectId};
use crate::sys::plain;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Whence, lseek};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Room that is left to the host, or a sixteenth of the filesystem where that is less.
const ROOM_LEFT: u64 = 256 << 20;
/// Zeros that are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The file of an overlay.
pub(super) struct OverlayFile {
    file: File,
    path: PathBuf,
    layout: OverlayLayout,
    /// The most room that it may take; `None`: what the host has.
    most: Option<Bytes>,
}

impl OverlayFile {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path, of: &OverlayOf, known_as: &[OverlayOf]) -> Result<Self> {
        let opened = plain::open_or_create(path, OFlag::O_RDWR);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => refused(path, "is no plain file"),
            _ => Error::io("open", path, error),
        })?;
        let overlay = Self {
            file,
            path: path.into(),
            layout: OverlayLayout::of(of.size),
            most: None,
        };
        overlay.refuse_foreign()?;
        overlay.lock()?;
        match overlay.is_to_begin(of)? {
            true => overlay.begin(of)?,
            false => overlay.refuse_another(of, known_as)?,
        }
        Ok(overlay)
    }

    /// Makes one without a name in a folder: it is gone with this process, however that ends.
    pub(super) fn nameless(folder: &Path, layout: OverlayLayout, most: Bytes) -> Result<Self> {
        let file = nameless_file(folder).io_context("make a file in", folder)?;
        file.set_len(layout.length)
            .io_context("make a file in", folder)?;
        Ok(Self {
            file,
            path: folder.into(),
            layout,
            most: Some(most),
        })
    }

    /// Its path, as it was named.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What others can read or write is no overlay: they could read the disk, or change it.
    fn refuse_foreign(&self) -> Result<()> {
        let found = self.file.metadata().io_context("look at", &self.path)?;
        let owner = nix::unistd::geteuid().as_raw();
        match found.uid() != owner || found.mode() & 0o077 != 0 || found.nlink() != 1 {
            false => Ok(()),
            true => Err(refused(&self.path, "is not its owner's alone")),
        }
    }

    fn lock(&self) -> Result<()> {
        match self.file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                let what = format!("{} is in use by another server", self.path.display());
                let hint = "name another file with --overlay, or end that server";
                Err(Error::new(ErrorKind::Busy, what).with_hint(hint))
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &self.path, error)),
        }
    }

    fn length(&self) -> Result<u64> {
        let found = self.file.metadata().io_context("look at", &self.path)?;
        Ok(found.len())
    }

    /// Whether the file is empty, or holds no more than a part of this overlay's head: whoever
    /// began it was killed, or the power went.
    fn is_to_begin(&self, of: &OverlayOf) -> Result<bool> {
        let length = self.length()?;
        if length > PAGE {
            return Ok(false);
        }
        let mut found = vec![0; length as usize];
        let read = self.file.read_exact_at(&mut found, 0);
        read.io_context("read", &self.path)?;
        let head = encode_head(of)?;
        // What was never written is zeros.
        let mut both = found.iter().zip(&head);
        Ok(found != head && both.all(|(found, head)| found == head || *found == 0))
    }

    /// Makes an empty file an overlay.
    fn begin(&self, of: &OverlayOf) -> Result<()> {
        let head = encode_head(of)?;
        let put = self.file.write_all_at(&head, 0);
        let put = put.and_then(|()| self.file.sync_all());
        let made = put.io_context("make", &self.path);
        let made = made.and_then(|()| self.lengthen());
        made.inspect_err(|_| {
            // Empty, it is begun anew the next time.
            let _ = self.file.set_len(0);
        })?;
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = File::open(parent).io_context("open", parent)?;
        folder.sync_all().io_context("write the directory", parent)
    }

    fn lengthen(&self) -> Result<()> {
        let made = self.file.set_len(self.layout.length);
        // A full host must not lose marks of what it has taken.
        let marks = (self.layout.data_at - PAGE).cast_signed();
        let flags = FallocateFlags::empty();
        let made =
            made.and_then(
                |()| match fallocate(&self.file, flags, PAGE.cast_signed(), marks) {
                    Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
                    done => done.map_err(io::Error::from),
                },
            );
        let made = made.and_then(|()| self.file.sync_all());
        made.io_context("make", &self.path)
    }

    /// Refuses what is no overlay, and one of another disk.
    fn refuse_another(&self, of: &OverlayOf, known_as: &[OverlayOf]) -> Result<()> {
        let mut head = vec![0; PAGE as usize];
        let read = self.file.read_exact_at(&mut head, 0);
        let found = read.ok().and_then(|()| decode_head(&head));
        let Some(found) = found else {
            let what = "holds something, and is no overlay";
            return Err(refused(&self.path, what));
        };
        if found != *of && !known_as.contains(&found) {
            let what = format!(
                "{} is an overlay of {} in snapshot {}, and not of {} in {}; it was left alone",
                self.path.display(),
                found.disk,
                found.snapshot,
                of.disk,
                of.snapshot
            );
            let hint = "serve that snapshot, or name another file with --overlay";
            return Err(Error::new(ErrorKind::Exists, what).with_hint(hint));
        }
        match self.length()? {
            length if length == self.layout.length => Ok(()),
            // Whoever made it was killed.
            PAGE => self.lengthen(),
            _ => Err(refused(&self.path, "was cut short")),
        }
    }

    /// Reads the marks.
    pub(super) fn load_marks(&self, marks: &mut OverlayMarks) -> Result<()> {
        let mut page = vec![0; PAGE as usize];
        for number in 0..(self.layout.data_at - PAGE) / PAGE {
            self.file
                .read_exact_at(&mut page, PAGE + number * PAGE)
                .io_context("read", &self.path)?;
            marks.load(number, &page);
        }
        Ok(())
    }

    /// Writes pages of marks.
    pub(super) fn put_marks(&self, pages: &[MarkPage]) -> Result<()> {
        pages.iter().try_for_each(|page| {
            let at = PAGE + page.number * PAGE;
            self.file
                .write_all_at(&page.bytes, at)
                .io_context("write", &self.path)
        })
    }

    /// Reads bytes of the disk.
    pub(super) fn read(&self, offset: Bytes, into: &mut [u8]) -> Result<()> {
        let at = self.layout.data_at + offset.0;
        self.file
            .read_exact_at(into, at)
            .io_context("read", &self.path)
    }

    /// Writes bytes of the disk.
    pub(super) fn write(&self, offset: Bytes, bytes: &[u8]) -> Result<()> {
        let at = self.layout.data_at + offset.0;
        self.file
            .write_all_at(bytes, at)
            .io_context("write", &self.path)
    }

    /// Writes zeros that take room.
    pub(super) fn write_zeros(&self, place: Extent) -> Result<()> {
        let mut at = place.offset;
        while at < place.end() {
            let length = (place.end().0 - at.0).min(ZEROS.len() as u64);
            self.write(at, &ZEROS[..length as usize])?;
            at += Bytes(length);
        }
        Ok(())
    }

    /// Makes zeros that take no room; false: the filesystem cannot.
    pub(super) fn punch(&self, place: Extent) -> Result<bool> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let at = (self.layout.data_at + place.offset.0).cast_signed();
        match fallocate(&self.file, flags, at, place.length.0.cast_signed()) {
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(false),
            done => done.io_context("write", &self.path).map(|()| true),
        }
    }

    /// Makes all last that was written.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().io_context("make last", &self.path)
    }

    /// Refuses to take what the host needs for itself.
    pub(super) fn refuse_without_room(&self, wanted: Bytes) -> Result<()> {
        if let Some(most) = self.most {
            let found = self.file.metadata().io_context("look at", &self.path)?;
            let taken = found.blocks().saturating_mul(512);
            if taken.saturating_add(wanted.0) > most.0 {
                let what = format!("what is written has taken {most}, and may take no more");
                return Err(Error::new(ErrorKind::NoSpace, what));
            }
        }
        // What cannot tell will fail when it is full.
        let Ok(room) = fstatvfs(&self.file) else {
            return Ok(());
        };
        let bytes = |blocks: u64| blocks.saturating_mul(room.fragment_size());
        let left = ROOM_LEFT.min(bytes(room.blocks()) / 16);
        if room.blocks() == 0 || bytes(room.blocks_available()) >= left.saturating_add(wanted.0) {
            return Ok(());
        }
        let what = format!(
            "the filesystem of {} has less than {} left, which stays the host's",
            self.path.display(),
            Bytes(left)
        );
        let hint = "make room there; what was written before is kept";
        Err(Error::new(ErrorKind::NoSpace, what).with_hint(hint))
    }

    /// What of a place that was written is data, and what are holes: zeros.
    pub(super) fn allocation(&self, place: Extent, most: usize) -> Vec<AllocationRun> {
        let mut runs = Vec::new();
        let (mut at, end) = (place.offset.0, place.end().0);
        let seek = |at: u64, whence| {
            let from = (self.layout.data_at + at).cast_signed();
            match lseek(&self.file, from, whence) {
                Ok(found) => Some((found.cast_unsigned() - self.layout.data_at).clamp(at, end)),
                Err(Errno::ENXIO) => Some(end),
                Err(_) => None,
            }
        };
        while at < end && runs.len() < most {
            let data = seek(at, Whence::SeekData).unwrap_or(at);
            let (next, kind) = match data > at {
                true => (data, Allocation::Zeros),
                // Who cannot tell holes has none.
                false => (seek(at, Whence::SeekHole).unwrap_or(end), Allocation::Data),
            };
            // Between two questions somebody has made a hole there: what is asked for last counts.
            let (next, kind) = match next > at {
                true => (next, kind),
                false => (end, Allocation::Data),
            };
            let length = Bytes(next - at);
            runs.push(AllocationRun { length, kind });
            at = next;
        }
        runs
    }
}

/// A file without a name, or, where the filesystem has none, one that loses its name at once.
fn nameless_file(folder: &Path) -> io::Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match open(folder, flags, mode) {
        Ok(file) => return Ok(file.into()),
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let name = format!("stillpoint-{}.overlay", ObjectId::generate());
    let path = folder.join(name);
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = open(&path, flags, mode)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}

fn refused(path: &Path, what: &str) -> Error {
    let what = format!("{} {what}; it was left alone", path.display());
    Error::new(ErrorKind::Exists, what).with_hint("name another file with --overlay")
}
