//! A small disk in memory, for the tracker to try itself on. It must never outlive the process, nor
//! change a loop device that shows anything else.

#![expect(unsafe_code, reason = "loop device ioctls")]

use super::block;
use super::loop_file::LoopInfo;
use crate::error::{Error, IoContext, Result};
use crate::model::{Bytes, DevNumber};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `include/uapi/linux/loop.h`
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;
/// `include/uapi/linux/loop.h`
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
/// `include/uapi/linux/loop.h`
const LOOP_CTL_ADD: libc::c_ulong = 0x4C80;
/// `include/uapi/linux/loop.h`
const LOOP_CTL_REMOVE: libc::c_ulong = 0x4C81;
/// `include/uapi/linux/loop.h`
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// `include/uapi/linux/loop.h`: the device goes away when the last one closes it.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `include/uapi/linux/loop.h`, `struct loop_config` (5.8 on).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// How often another process may snatch the free device before we give up.
const TRIES: usize = 8;
/// How often the kernel is asked to take a device away that it may not have let go of yet.
const REMOVALS: usize = 20;
/// How long between two of these.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// A loop disk whose contents live in memory.
#[derive(Debug)]
pub struct ScratchDisk {
    /// `None` once it is closed.
    device: Option<File>,
    path: PathBuf,
    /// It was not there before, and has this number.
    added: Option<libc::c_int>,
}

/// Direct I/O wants aligned memory.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

fn loop_control() -> Result<File> {
    let path = Path::new("/dev/loop-control");
    let control = OpenOptions::new().read(true).write(true).open(path);
    control.io_context("open", path)
}

/// Asks the loop driver for a device: LOOP_CTL_GET_FREE, LOOP_CTL_ADD, LOOP_CTL_REMOVE.
fn ask(control: &File, what: libc::c_ulong, number: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: these take a number, or nothing and ignore it, and return a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), what as _, libc::c_long::from(number)) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(number)
}

fn memory(size: Bytes) -> Result<OwnedFd> {
    let place = Path::new("/dev/loop-control");
    let backing = memfd_create(c"stillpoint-self-test", MFdFlags::MFD_CLOEXEC)
        .io_context("create a file in memory beside", place)?;
    let length = i64::try_from(size.0)
        .map_err(|_| Error::new(crate::ErrorKind::Usage, "a scratch disk cannot be so large"))?;
    nix::unistd::ftruncate(&backing, length).io_context("size a file beside", place)?;
    Ok(backing)
}

fn configure(device: &File, backing: &OwnedFd) -> io::Result<()> {
    let config = LoopConfig {
        fd: u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 512,
        info: LoopInfo {
            flags: LO_FLAGS_AUTOCLEAR,
            ..LoopInfo::EMPTY
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, which lives over the call.
    let answer = unsafe {
        libc::ioctl(
            device.as_raw_fd(),
            LOOP_CONFIGURE as _,
            std::ptr::from_ref(&config),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl ScratchDisk {
    /// A new disk of `size` bytes, a multiple of 4096, on the first free loop device.
    ///
    /// # Errors
    /// There is no loop driver, no free device, or no device node.
    pub fn on_a_free_device(size: Bytes) -> Result<Self> {
        let control = loop_control()?;
        for attempt in 1.. {
            let number = ask(&control, LOOP_CTL_GET_FREE, 0)
                .io_context("ask for a device of", Path::new("/dev/loop-control"))?;
            match Self::on(Path::new(&format!("/dev/loop{number}")), size) {
                Err(error) if error.kind() == crate::ErrorKind::Busy && attempt < TRIES => {}
                outcome => return outcome,
            }
        }
        unreachable!("the loop above returns at the last attempt")
    }

    /// The same on a loop device that was not there before, so that nobody has left a setting.
    ///
    /// # Errors
    /// As [`Self::on_a_free_device`].
    pub fn on_a_new_device(size: Bytes) -> Result<Self> {
        let number = ask(&loop_control()?, LOOP_CTL_ADD, -1)
            .io_context("add a device by", Path::new("/dev/loop-control"))?;
        match Self::on(Path::new(&format!("/dev/loop{number}")), size) {
            Ok(mut disk) => {
                disk.added = Some(number);
                Ok(disk)
            }
            Err(error) => {
                remove(number);
                Err(error)
            }
        }
    }

    /// The same on this loop device.
    ///
    /// # Errors
    /// `Busy`: it shows another file.
    pub fn on(path: &Path, size: Bytes) -> Result<Self> {
        let backing = memory(size)?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)
            .io_context("open", path)?;
        configure(&device, &backing).map_err(|error| {
            let busy = error.raw_os_error() == Some(libc::EBUSY);
            let error = Error::io("configure", path, error);
            match busy {
                true => error.with_kind(crate::ErrorKind::Busy),
                false => error,
            }
        })?;
        // Now that it is ours: a loop device keeps it from its last user to refuse writes. It is
        // left as one that does not, which is what its next user expects.
        if block::is_read_only(device.as_fd()).io_context("look at", path)? {
            block::set_read_only(device.as_fd(), false).io_context("make writable", path)?;
        }
        Ok(Self {
            device: Some(device),
            path: path.to_owned(),
            added: None,
        })
    }

    fn device(&self) -> Result<&File> {
        let closed = || Error::new(crate::ErrorKind::Failed, "the scratch disk is closed");
        self.device.as_ref().ok_or_else(closed)
    }

    /// Its device number.
    ///
    /// # Errors
    /// The device cannot be looked at.
    pub fn dev(&self) -> Result<DevNumber> {
        let facts = self.device()?.metadata().io_context("stat", &self.path)?;
        let number = facts.rdev();
        Ok(DevNumber::from_dev_t(number))
    }

    /// Writes 4096 bytes at `offset`, past every cache.
    ///
    /// # Errors
    /// The device refuses it.
    pub fn write_at(&self, offset: Bytes) -> Result<()> {
        let data = Aligned([0xA5; 4096]);
        self.device()?
            .write_all_at(&data.0, offset.0)
            .io_context("write to", &self.path)
    }

    /// Has the kernel set its capacity, to what it is.
    ///
    /// # Errors
    /// The device refuses it.
    pub fn set_capacity(&self) -> Result<()> {
        // SAFETY: LOOP_SET_CAPACITY takes no argument.
        let answer =
            unsafe { libc::ioctl(self.device()?.as_raw_fd(), LOOP_SET_CAPACITY as _, 0_usize) };
        if answer < 0 {
            let error = io::Error::last_os_error();
            return Err(Error::io("set the capacity of", &self.path, error));
        }
        Ok(())
    }
}

/// Takes a loop device away again. One that stays, because somebody has opened it, harms nobody.
fn remove(number: libc::c_int) {
    let Ok(control) = loop_control() else { return };
    for _ in 0..REMOVALS {
        match ask(&control, LOOP_CTL_REMOVE, number) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            _ => return,
        }
        std::thread::sleep(REMOVAL_PAUSE);
    }
}

impl Drop for ScratchDisk {
    fn drop(&mut self) {
        drop(self.device.take());
        if let Some(number) = self.added {
            remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop device of this test, that nobody is given by chance.
    struct Own(libc::c_int);

    impl Drop for Own {
        fn drop(&mut self) {
            remove(self.0);
        }
    }

    #[test]
    fn a_device_left_read_only_is_written_to() {
        let size = Bytes(1 << 20);
        let number = 1500 + libc::c_int::try_from(std::process::id() % 500).unwrap();
        let added = loop_control().map(|control| ask(&control, LOOP_CTL_ADD, number));
        let Ok(Ok(number)) = added else {
            println!("SKIPPED: a_device_left_read_only: no loop devices here");
            return;
        };
        let own = Own(number);
        let path = PathBuf::from(format!("/dev/loop{}", own.0));
        block::set_read_only(File::open(&path).unwrap().as_fd(), true).unwrap();
        let disk = ScratchDisk::on(&path, size).unwrap();
        disk.write_at(Bytes(8192)).unwrap();
        disk.set_capacity().unwrap();
        let busy = ScratchDisk::on(&path, size).unwrap_err();
        assert_eq!(busy.kind(), crate::ErrorKind::Busy);
        drop(disk);
        let device = File::open(&path).unwrap();
        assert!(!block::is_read_only(device.as_fd()).unwrap());
    }

    #[test]
    fn a_new_device_is_gone_afterwards() {
        let Ok(disk) = ScratchDisk::on_a_new_device(Bytes(1 << 20)) else {
            println!("SKIPPED: a_new_device_is_gone_afterwards: no loop devices here");
            return;
        };
        disk.write_at(Bytes(0)).unwrap();
        let sysfs = Path::new("/sys/block").join(disk.path.file_name().unwrap());
        assert!(sysfs.exists());
        drop(disk);
        assert!(!sysfs.exists());
    }
}
