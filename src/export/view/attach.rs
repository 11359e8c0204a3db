//! Attaching a filesystem of a view: a loop device on the disk's file, and the kernel's driver on
//! that. What the driver replays of a log goes to memory, so that what is seen is what a restored
//! disk shows once it is mounted. Where it cannot be replayed, it is mounted without, and that is
//! said.

use super::btrfs::{self, BtrfsSuperblock};
use super::kinds::{FilesystemDriver, driver};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::fuse::OVERLAY;
use crate::model::{Bytes, Extent};
use crate::sys::loop_device::{LoopDevice, LoopOptions};
use crate::sys::mounting::{MountOptions, Unmount, folder, mount_at, unmount};
use nix::errno::Errno;
use std::cell::RefCell;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How far ahead the kernel reads of who reads in a row, in KiB.
const READ_AHEAD: &str = "4096";

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachPart {
    /// Which disk of the view, from 0.
    pub disk: usize,
    /// Which part of it.
    pub place: Extent,
}

/// A filesystem that is to be attached.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// `ext4`, `xfs`, ... as signatures and mount tables say.
    pub kind: String,
    /// The devices that it is on: one, but of a btrfs there may be several.
    pub parts: Vec<AttachPart>,
    /// Which it is, for people: `vda1`.
    pub name: String,
}

/// A filesystem that is attached, read-only.
#[derive(Debug)]
pub struct AttachedFilesystem {
    /// Its root folder (`O_PATH`).
    pub root: OwnedFd,
    /// The same as a path that only the view's thread sees.
    pub path: PathBuf,
    /// Why its log was not replayed: what was changed last may be missing, or half there.
    pub without_log: Option<String>,
}

/// What a thread sees of a snapshot. It stays in that thread.
pub struct View {
    folder: PathBuf,
    images: PathBuf,
    files: Vec<String>,
    /// Where filesystems are mounted.
    mounted: RefCell<Vec<PathBuf>>,
}

impl View {
    pub(super) fn new(folder: &Path, images: &Path, files: Vec<String>) -> Self {
        // Nothing but slower where it cannot be set.
        if let Ok(found) = fs::metadata(images) {
            let (major, minor) = (
                nix::sys::stat::major(found.dev()),
                nix::sys::stat::minor(found.dev()),
            );
            let _ = fs::write(
                format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
                READ_AHEAD,
            );
        }
        Self {
            folder: folder.to_owned(),
            images: images.to_owned(),
            files,
            mounted: RefCell::default(),
        }
    }

    /// A folder in memory that this thread alone sees.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the disks, as FUSE shows them.
    pub fn images(&self) -> &Path {
        &self.images
    }

    /// Attaches a filesystem. It goes with the view.
    ///
    /// # Errors
    /// `Unsupported`: it is none that can be opened here, or there are no loop devices. `Failed`:
    /// what the kernel's driver said.
    pub fn attach(&self, options: &AttachOptions) -> Result<AttachedFilesystem> {
        let AttachOptions { kind, parts, name } = options;
        let found = driver(kind).filter(|_| !parts.is_empty());
        let Some(driver) = found else {
            let what = format!("{name} is {kind}, which is not opened here");
            return Err(Error::new(ErrorKind::Unsupported, what));
        };
        if driver.name == "btrfs" {
            self.rename_btrfs(parts)?;
        }
        let mut devices = Vec::new();
        for part in parts {
            devices.push(self.loop_device(part)?);
        }
        let place = self
            .folder
            .join(format!("filesystem-{}", self.mounted.borrow().len()));
        fs::create_dir(&place).io_context("make", &place)?;
        let without_log = mount_one(&place, &driver, &devices)
            .map_err(|error| error.context(format!("the kernel does not mount {name} ({kind})")))?;
        self.mounted.borrow_mut().push(place.clone());
        Ok(AttachedFilesystem {
            root: folder(&place).io_context("open", &place)?,
            path: place,
            without_log,
        })
    }

    fn overlay(&self, disk: usize) -> Result<File> {
        let name = self
            .files
            .get(disk)
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("the view has no disk {disk}")))?;
        let path = self.images.join(OVERLAY).join(name);
        let open = File::options().read(true).write(true).open(&path);
        open.io_context("open", &path)
    }

    fn loop_device(&self, part: &AttachPart) -> Result<LoopDevice> {
        let options = LoopOptions {
            place: part.place,
            writable: true,
        };
        let device = LoopDevice::new(self.overlay(part.disk)?, options).map_err(|error| {
            Error::new(ErrorKind::Unsupported, "cannot make a loop device")
                .with_source(error)
                .with_hint(
                    "modprobe loop; in a container, give it /dev/loop-control and /dev/loop*",
                )
        })?;
        if let Some(name) = device.path().file_name() {
            let queue = Path::new("/sys/block")
                .join(name)
                .join("queue/read_ahead_kb");
            // Nothing but slower where it cannot be set.
            let _ = fs::write(queue, READ_AHEAD);
        }
        Ok(device)
    }

    /// Gives a btrfs a UUID that no other has, in memory.
    fn rename_btrfs(&self, parts: &[AttachPart]) -> Result<()> {
        let mut name = [0; 16];
        getrandom::fill(&mut name)
            .map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        for part in parts {
            let file = self.overlay(part.disk)?;
            let at = part.place.offset + Bytes(btrfs::SUPERBLOCK);
            let mut bytes = vec![0; btrfs::LENGTH];
            let path = Path::new("a superblock of btrfs");
            file.read_exact_at(&mut bytes, at.0)
                .io_context("read", path)?;
            let superblock = BtrfsSuperblock::new(bytes)?;
            let devices = superblock.devices();
            if devices != parts.len() as u64 {
                let what = format!(
                    "this btrfs is on {devices} devices, and {} of them are here",
                    parts.len()
                );
                return Err(Error::new(ErrorKind::Unsupported, what));
            }
            file.write_all_at(&superblock.renamed(name), at.0)
                .io_context("write", path)?;
        }
        Ok(())
    }

    /// Unmounts all, the last one first.
    pub(super) fn take_down(&self) {
        for place in self.mounted.borrow_mut().drain(..).rev() {
            if unmount(&place, Unmount::Unused).is_err() {
                // Somebody has left a file open: it goes with this thread.
                let _ = unmount(&place, Unmount::Detach);
            }
        }
    }
}

/// Mounts read-only; returns why that was without the log, if it was.
fn mount_one(
    place: &Path,
    driver: &FilesystemDriver,
    devices: &[LoopDevice],
) -> Result<Option<String>> {
    let paths: Vec<String> = devices
        .iter()
        .map(|device| device.path().display().to_string())
        .collect();
    let (source, others) = paths.split_first().unwrap_or((&EMPTY, &[]));
    let mount = |own: &str| {
        let others = others.iter().map(|path| format!("device={path}"));
        let mut all: Vec<String> = others.collect();
        if !own.is_empty() {
            all.push(own.to_owned());
        }
        let options = MountOptions {
            source,
            fstype: driver.name,
            data: &all.join(","),
            read_only: true,
        };
        mount_at(place, &options)
    };
    match (mount(driver.options), driver.without_log) {
        (Ok(()), _) => Ok(None),
        (Err(errno), Some(options)) if errno != Errno::ENODEV => match mount(options) {
            Ok(()) => Ok(Some(format!(
                "its log could not be replayed: {}",
                errno.desc()
            ))),
            Err(_) => Err(refused(driver, errno)),
        },
        (Err(errno), _) => Err(refused(driver, errno)),
    }
}

static EMPTY: String = String::new();

fn refused(driver: &FilesystemDriver, errno: Errno) -> Error {
    let (kind, hint) = match errno {
        Errno::ENODEV => (ErrorKind::Unsupported, format!("modprobe {}", driver.name)),
        _ => (
            ErrorKind::Failed,
            "dmesg has what the driver said of it".to_owned(),
        ),
    };
    Error::new(kind, "mount(2)")
        .with_source(errno)
        .with_hint(hint)
}
