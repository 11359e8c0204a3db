//! Attaching a filesystem of a view: a loop device on the disk's file, and the kernel's driver on
//! that. What the driver replays of a log goes to memory, so that what is seen is what a restored
//! disk shows once it is mounted. Where it cannot be replayed, it is mounted without, and that is
//! said. Each attempt has a layer of its own: none sees what another one has left half done.

use super::deadline::ViewDeadline;
use super::ext::LogPlace;
use super::kinds::{FilesystemDriver, driver};
use super::part::AttachPart;
use super::prepare::{LayerPart, prepare};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::fuse::{FuseControl, OVERLAY};
use crate::sys::loop_device::{LoopDevice, LoopOptions};
use crate::sys::mounting::{MountOptions, Unmount, folder, mount_at, unmount};
use nix::errno::Errno;
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How far ahead the kernel reads of who reads in a row, in KiB.
const READ_AHEAD: &str = "4096";
/// The option that shows all of a btrfs, by the ID of its first tree.
const TOP_LEVEL: &str = "subvolid=5";

/// A filesystem that is to be attached.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// `ext4`, `xfs`, ... as signatures and mount tables say.
    pub kind: String,
    /// The devices that it is on: one, but of a btrfs there may be several.
    pub parts: Vec<AttachPart>,
    /// Which it is, for people: `vda1`.
    pub name: String,
    /// Whether the root is that of the whole btrfs, from which the host's mount table counts, and
    /// not its default subvolume.
    pub top_level: bool,
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
    /// Whether that says nothing of the log: it is elsewhere, larger than what is kept of it, or
    /// the kernel is too old for it.
    pub log_untried: bool,
    /// Its layer: what its driver has written, in memory.
    pub(super) layer: u32,
}

/// What a thread sees of a snapshot. It stays in that thread.
pub struct View {
    folder: PathBuf,
    images: PathBuf,
    files: Vec<String>,
    control: FuseControl,
    /// The number of the next attempt, of its folder and its layer.
    next: Cell<u32>,
    /// Where filesystems are mounted.
    mounted: RefCell<Vec<PathBuf>>,
}

/// How an attempt goes about the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LogUse {
    Replay,
    LeaveAlone,
}

/// An attempt that did not succeed.
enum AttachFailure {
    /// It is not to be tried again.
    Refused(Error),
    /// The log is on another device, and holds what is not in its place, or does not.
    LogElsewhere { needed: bool },
    /// What the kernel said.
    Kernel(Errno),
}

impl From<Error> for AttachFailure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl View {
    pub(super) fn new(folder: &Path, images: &Path, seen: ViewFiles) -> Self {
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
            files: seen.files,
            control: seen.control,
            next: Cell::new(0),
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

    /// Attaches a filesystem. It goes with the view. No device that it names is opened: there is
    /// nothing but the parts that are given.
    ///
    /// # Errors
    /// `Unsupported`: it is none that can be opened here, or there are no loop devices. `Failed`:
    /// what the kernel's driver said.
    pub fn attach(&self, options: &AttachOptions) -> Result<AttachedFilesystem> {
        let AttachOptions { kind, name, .. } = options;
        let found = driver(kind).filter(|_| !options.parts.is_empty());
        let Some(driver) = found else {
            let what = format!("{name} is {kind}, which is not opened here");
            return Err(Error::new(ErrorKind::Unsupported, what));
        };
        let told = |failed: AttachFailure| {
            let error = match failed {
                AttachFailure::Refused(error) => error,
                AttachFailure::LogElsewhere { .. } => refused(&driver, Errno::EINVAL),
                AttachFailure::Kernel(errno) => refused(&driver, errno),
            };
            error.context(format!("cannot mount {name} ({kind})"))
        };
        let first = self.attempt(options, &driver, LogUse::Replay);
        let (why, untried) = match (first, driver.without_log) {
            (Ok(attached), _) => return Ok(attached),
            (Err(AttachFailure::LogElsewhere { needed }), _) => {
                let elsewhere = "its log is on another device, which is not opened";
                (needed.then(|| elsewhere.to_owned()), needed)
            }
            (Err(AttachFailure::Kernel(errno)), Some(_)) if errno != Errno::ENODEV => {
                let why = format!("its log could not be replayed: {}", errno.desc());
                let says = matches!(errno, Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO);
                (Some(why), !says)
            }
            (Err(failed), _) => return Err(told(failed)),
        };
        let mut attached = self
            .attempt(options, &driver, LogUse::LeaveAlone)
            .map_err(told)?;
        attached.without_log = why;
        attached.log_untried = untried;
        Ok(attached)
    }

    /// Tries once, in a layer of its own. What has failed leaves nothing.
    fn attempt(
        &self,
        options: &AttachOptions,
        driver: &FilesystemDriver,
        log: LogUse,
    ) -> Result<AttachedFilesystem, AttachFailure> {
        let number = self.next.get();
        self.next.set(number + 1);
        let place = self.folder.join(format!("filesystem-{number}"));
        fs::create_dir(&place).io_context("make", &place)?;
        let mounted = self.mount(&place, options, driver, AttachAttempt { number, log });
        let root = mounted.and_then(|()| {
            self.mounted.borrow_mut().push(place.clone());
            Ok(folder(&place).io_context("open", &place)?)
        });
        match root {
            Ok(root) => Ok(AttachedFilesystem {
                root,
                path: place,
                without_log: None,
                log_untried: false,
                layer: number,
            }),
            Err(failed) => {
                self.control.give_up(number);
                // It stays where it is still mounted, and goes with the view.
                let _ = fs::remove_dir(&place);
                Err(failed)
            }
        }
    }

    fn mount(
        &self,
        place: &Path,
        options: &AttachOptions,
        driver: &FilesystemDriver,
        attempt: AttachAttempt,
    ) -> Result<(), AttachFailure> {
        let AttachAttempt { number, log } = attempt;
        let mut parts = Vec::new();
        for part in &options.parts {
            let file = self.overlay(part.disk, number)?;
            parts.push(LayerPart { part, file });
        }
        let elsewhere = prepare(driver.name, &parts)?;
        let own = match (log, elsewhere, driver.without_log) {
            (LogUse::Replay, LogPlace::Elsewhere { needed }, _) => {
                return Err(AttachFailure::LogElsewhere { needed });
            }
            (LogUse::Replay, LogPlace::Within, _) => driver.options,
            (LogUse::LeaveAlone, _, Some(without)) => without,
            (LogUse::LeaveAlone, _, None) => return Err(AttachFailure::Kernel(Errno::EINVAL)),
        };
        let mut devices = Vec::new();
        for LayerPart { part, file } in parts {
            let options = LoopOptions {
                place: part.place,
                writable: log == LogUse::Replay,
            };
            devices.push(loop_device(file, options)?);
        }
        let top_level = (driver.name == "btrfs" && options.top_level).then_some(TOP_LEVEL);
        let own = [Some(own).filter(|own| !own.is_empty()), top_level];
        mount_devices(place, driver, &devices, own.into_iter().flatten())
            .map_err(AttachFailure::Kernel)?;
        if log == LogUse::LeaveAlone {
            return Ok(());
        }
        // What is replayed but not written yet may find no room: that is known now, or never.
        let written = devices.iter().try_for_each(LoopDevice::write_out);
        if written.is_err() || self.control.is_broken(number) {
            let _ = unmount(place, Unmount::Detach);
            return Err(AttachFailure::Kernel(Errno::ENOSPC));
        }
        Ok(())
    }

    fn overlay(&self, disk: usize, layer: u32) -> Result<File> {
        let name = self
            .files
            .get(disk)
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("the view has no disk {disk}")))?;
        let path = self.images.join(OVERLAY).join(format!("{name}.{layer}"));
        let open = File::options().read(true).write(true).open(&path);
        open.io_context("open", &path)
    }

    /// Has all that waits for the disks get errors, if they hang: nothing is read any more.
    pub(super) fn abort_if_it_hangs(&self) {
        if self.control.hangs() {
            let _ = unmount(&self.images, Unmount::Force);
        }
    }

    /// Has all that waits for the disks get errors once it is `until`, and nothing be read from
    /// then on, unless that is dropped before.
    ///
    /// # Errors
    /// There is no thread left.
    pub fn end_at(&self, until: Instant) -> Result<ViewDeadline> {
        ViewDeadline::start(&self.images, until)
    }

    /// Unmounts one, and shows a part of it as a device that cannot be written to, with what its
    /// driver has left in memory. The device is gone when it is dropped.
    ///
    /// # Errors
    /// It is in use; `Unsupported`: there are no loop devices.
    pub fn closed(&self, attached: AttachedFilesystem, part: &AttachPart) -> Result<ClosedPart> {
        let AttachedFilesystem {
            path, layer, root, ..
        } = attached;
        drop(root);
        unmount(&path, Unmount::Unused).io_context("unmount", &path)?;
        self.mounted.borrow_mut().retain(|place| *place != path);
        let options = LoopOptions {
            place: part.place,
            writable: false,
        };
        let device = loop_device(self.overlay(part.disk, layer)?, options)?;
        let control = self.control.clone();
        Ok(ClosedPart {
            device,
            layer,
            control,
        })
    }

    /// Whether a disk has not answered in time lately.
    pub fn hangs(&self) -> bool {
        self.control.hangs()
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

/// A part of a filesystem that was unmounted again, with what its driver has written. That is
/// forgotten when this is dropped.
pub struct ClosedPart {
    device: LoopDevice,
    layer: u32,
    control: FuseControl,
}

impl ClosedPart {
    /// Its node.
    pub fn path(&self) -> &Path {
        self.device.path()
    }
}

impl Drop for ClosedPart {
    fn drop(&mut self) {
        self.control.give_up(self.layer);
    }
}

/// The files that a view is made of.
pub(super) struct ViewFiles {
    pub(super) files: Vec<String>,
    pub(super) control: FuseControl,
}

/// Which attempt it is, and what it does.
#[derive(Clone, Copy)]
struct AttachAttempt {
    number: u32,
    log: LogUse,
}

/// Mounts read-only.
fn mount_devices<'o>(
    place: &Path,
    driver: &FilesystemDriver,
    devices: &[LoopDevice],
    own: impl Iterator<Item = &'o str>,
) -> nix::Result<()> {
    let paths = devices
        .iter()
        .map(|device| device.path().display().to_string());
    let paths: Vec<String> = paths.collect();
    let (source, others) = paths.split_first().ok_or(Errno::ENODEV)?;
    let others = others.iter().map(|path| format!("device={path}"));
    let all: Vec<String> = others.chain(own.map(str::to_owned)).collect();
    let options = MountOptions {
        source,
        fstype: driver.name,
        data: &all.join(","),
        read_only: true,
    };
    mount_at(place, &options)
}

fn loop_device(file: File, options: LoopOptions) -> Result<LoopDevice> {
    let device = LoopDevice::new(file, options).map_err(|error| {
        Error::new(ErrorKind::Unsupported, "cannot make a loop device")
            .with_source(error)
            .with_hint("modprobe loop; in a container, give it /dev/loop-control and /dev/loop*")
    })?;
    if let Some(name) = device.path().file_name() {
        let queue = Path::new("/sys/block").join(name);
        // Nothing but slower where it cannot be set.
        let _ = fs::write(queue.join("queue/read_ahead_kb"), READ_AHEAD);
    }
    Ok(device)
}

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
