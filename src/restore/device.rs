//! A block device as a target. It is opened so that nobody else uses it, and its first MiB, which
//! makes it bootable or known, is written last of all: until then its first sector says that it is
//! not whole.

use super::staged_head::{HEAD, StagedHead};
use super::table::TableChange;
use super::target::{Target, each_at, write_error};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{BLOCK_SIZE, Bytes, Extent, SECTOR_SIZE};
use crate::sys::block::{is_read_only, logical_block_size, reread_partitions, size_of, zero_out};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the first sector of a device begins with while it is not whole.
const MARK: &[u8] = b"STILLPOINT: THIS DISK IS NOT WHOLE. ";

/// How to go on after a failed write.
const AGAIN: &str = "restore it again, to another target if this one is broken";

/// A device that was found fit, which nobody else may use meanwhile. Nothing was written to it.
pub struct FreeDevice {
    file: File,
    path: PathBuf,
    size: Bytes,
    has: Bytes,
    sector: u32,
}

impl FreeDevice {
    /// Opens a device for a disk of `size` with sectors of `logical_block` bytes.
    ///
    /// # Errors
    /// `Busy` when someone uses it, `Unsupported` when it is not fit: read-only, too small, with
    /// sectors of another size. Nothing was written then.
    pub fn open(path: &Path, size: Bytes, logical_block: u32) -> Result<Self> {
        let looked_at = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        let looked_at = looked_at.map_err(|source| not_opened(path, source))?;
        let kind = looked_at.metadata().io_context("look at", path)?;
        if !kind.file_type().is_block_device() {
            let what = format!("{} is not a block device", path.display());
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let has = size_of(&looked_at).io_context("ask the size of", path)?;
        let refused = |what: String, hint: &str| {
            let what = format!("{}: {what}; nothing was written", path.display());
            Err(Error::new(ErrorKind::Unsupported, what).with_hint(hint))
        };
        if is_read_only(looked_at.as_fd()).io_context("ask", path)? {
            return refused(
                "it is read-only".into(),
                &format!(
                    "if it is not so by a switch or for good: blockdev --setrw {}",
                    path.display()
                ),
            );
        }
        if has < size {
            return refused(
                format!("the target has {} bytes, the disk had {}", has.0, size.0),
                "name a target at least as large",
            );
        }
        let sector = logical_block_size(looked_at.as_fd());
        let sector = sector.io_context("ask the sector size of", path)?;
        if sector != logical_block {
            return refused(
                format!("its sectors have {sector} bytes, those of the disk had {logical_block}"),
                "partition tables and filesystems count in sectors: restore to a file, or to a \
                 disk of that sort",
            );
        }
        drop(looked_at);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path);
        Ok(Self {
            file: opened.map_err(|source| not_opened(path, source))?,
            path: path.into(),
            size,
            has,
            sector,
        })
    }

    /// The device, to be looked at.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// As it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size.
    pub fn capacity(&self) -> Bytes {
        self.has
    }

    /// Bytes in its sectors.
    pub fn sector(&self) -> u32 {
        self.sector
    }

    /// What a restore that did not come to its end has left: which one it was.
    pub fn unfinished(&self) -> Option<String> {
        unfinished(&self.file)
    }

    /// Begins to overwrite it: takes away what makes it bootable or known, and says in its first
    /// sector that it is not whole, and `what` was to be restored. `change` is written at the end,
    /// with the first MiB.
    pub fn begin(self, what: &str, change: Option<TableChange>) -> Result<TargetDevice> {
        let failed = |error| write_error(&self.path, Bytes(0), error).with_hint(AGAIN);
        let mut head = vec![0; self.size.0.min(HEAD) as usize];
        let text = what.bytes().filter(|byte| (0x20..0x7f).contains(byte));
        let mark = MARK.iter().copied().chain(text.take(256)).chain([b'\n']);
        for (to, from) in head.iter_mut().zip(mark) {
            *to = from;
        }
        // First, so that whoever sees the mark sees nothing else.
        self.forget_the_end().map_err(failed)?;
        self.file.write_all_at(&head, 0).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        // Of the partitions that there were nothing is left; refused where there can be none.
        let _ = reread_partitions(&self.file);
        Ok(TargetDevice {
            head: StagedHead::new(self.size),
            device: self,
            change,
        })
    }

    /// Zeros the last MiB: a backup GPT there would be offered for recovery, and what md, a RAID
    /// controller or ZFS has there would make the whole disk a member of what it was part of.
    fn forget_the_end(&self) -> std::io::Result<()> {
        let end = self.has.0 / u64::from(self.sector) * u64::from(self.sector);
        let start = end.saturating_sub(HEAD).max(self.size.0.min(HEAD));
        let start = start.next_multiple_of(u64::from(self.sector));
        if start >= end {
            return Ok(());
        }
        zero_out(&self.file, Extent::new(Bytes(start), Bytes(end - start)))
    }
}

/// What a restore that did not come to its end has left on a device: which one it was.
pub fn unfinished(device: &File) -> Option<String> {
    let mut first = [0; SECTOR_SIZE as usize];
    device.read_exact_at(&mut first, 0).ok()?;
    let rest = first.strip_prefix(MARK)?;
    let text = rest.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Why a device could not be had.
fn not_opened(path: &Path, source: std::io::Error) -> Error {
    let shown = path.display();
    let (kind, what, hint) = match source.raw_os_error() {
        Some(libc::EBUSY | libc::ETXTBSY) => (
            ErrorKind::Busy,
            format!("{shown} is in use, and no table tells by what"),
            "it may be mounted where no process looks, unmounted with files still open, a member \
             of a pool, or held by a program: let go of it, or name another target",
        ),
        Some(libc::EROFS) => (
            ErrorKind::Unsupported,
            format!("{shown} is read-only"),
            "name another target, or take the write protection off",
        ),
        Some(libc::EPERM | libc::EACCES) => (
            ErrorKind::Unsupported,
            format!("{shown} may not be written to, and nothing here is seen to use it"),
            "run it as root; in a container, the host must let it have the device (its device \
             cgroup) and may itself be using it",
        ),
        Some(libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM) => (
            ErrorKind::NotFound,
            format!("there is no disk behind {shown}"),
            "`stillpoint disks` lists the disks of this host",
        ),
        _ => return Error::io("open for this restore alone", path, source),
    };
    let what = format!("{what}; nothing was written");
    Error::new(kind, what).with_hint(hint).with_source(source)
}

/// A device that is being overwritten.
pub struct TargetDevice {
    device: FreeDevice,
    head: StagedHead,
    change: Option<TableChange>,
}

impl TargetDevice {
    fn put(&self, offset: Bytes, bytes: &[u8]) -> Result<()> {
        let device = &self.device;
        let written = device.file.write_all_at(bytes, offset.0);
        written.map_err(|error| write_error(&device.path, offset, error).with_hint(AGAIN))
    }

    fn zero(&self, extent: Extent) -> Result<()> {
        debug_assert!((extent.offset.0 | extent.length.0).is_multiple_of(SECTOR_SIZE));
        if extent.length.0 == 0 {
            return Ok(());
        }
        // The kernel discards where that gives zeros.
        let zeroed = zero_out(&self.device.file, extent);
        zeroed
            .map_err(|error| write_error(&self.device.path, extent.offset, error).with_hint(AGAIN))
    }

    fn sync(&self) -> Result<()> {
        let device = &self.device;
        let synced = device.file.sync_all().io_context("write", &device.path);
        synced.map_err(|error| error.with_hint(AGAIN))
    }
}

impl Target for TargetDevice {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        each_at(offset, blocks, |at, bytes| {
            let rest = self.head.keep(at, bytes);
            let kept = (bytes.len() - rest.len()) as u64;
            self.put(Bytes(at.0 + kept), rest)
        })
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        self.zero(self.head.keep_zeros(extent))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let mut head = std::mem::replace(&mut self.head, StagedHead::new(Bytes(0))).into_bytes();
        if let Some(change) = self.change.take() {
            if let Some(place) = change.old_backup {
                self.zero(place)?;
            }
            let sector = u64::from(self.device.sector);
            let end = self.device.has.0 / sector * sector;
            self.put(Bytes(end - change.tail.len() as u64), &change.tail)?;
            head = change.head;
        }
        // Everything is there before anything makes it look so; its very first block last.
        self.sync()?;
        let (first, rest) = head.split_at(head.len().min(BLOCK_SIZE as usize));
        self.put(Bytes(first.len() as u64), rest)?;
        self.sync()?;
        self.put(Bytes(0), first)?;
        self.sync()?;
        let _ = reread_partitions(&self.device.file);
        Ok(())
    }
}
