//! The thread that sees a view. It has descriptors and mounts of its own. The FUSE device is not
//! among its descriptors: when the process is killed while this thread waits for the kernel, those
//! who serve go, the kernel then gives errors to all that wait, and the thread goes, too.

use super::attach::{View, ViewFiles};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::fuse::{FuseControl, FuseDevice, FuseServer, ServeOptions};
use crate::sys::mounting::{MountOptions, Unmount, leave_for_own_mounts, mount_at, unmount};
use crate::sys::process::close_from;
use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;

/// The folder of the FUSE filesystem.
const IMAGES: &str = "images";

/// What is to be seen, and where.
#[derive(Clone)]
pub struct ViewOptions {
    /// The disks.
    pub serve: ServeOptions,
    /// An empty folder that is mounted on; nobody else sees that. It is made where it is missing.
    pub folder: PathBuf,
}

/// Runs `work` in a thread that sees a view of these disks, and takes all of it down again. The
/// thread has descriptors of its own: no open file may be taken into `work`, or out of it.
///
/// # Errors
/// Those of `work`. `Unsupported`: not root, no FUSE, no namespaces. `Failed`: the kernel refuses.
pub fn with_view<T: Send>(
    options: ViewOptions,
    work: impl FnOnce(&View) -> Result<T> + Send,
) -> Result<T> {
    // Here alone: where something is served on, it must not get errors from here.
    let work = |view: &View| {
        let done = work(view);
        view.abort_if_it_hangs();
        done
    };
    make_view(options, work).map(|(seen, _)| seen)
}

/// The same, and what was put elsewhere meanwhile is served on, as long as it is mounted.
///
/// # Errors
/// As [`with_view`].
pub fn make_view<T: Send>(
    options: ViewOptions,
    work: impl FnOnce(&View) -> Result<T> + Send,
) -> Result<(T, FuseServer)> {
    let ViewOptions { serve, folder } = options;
    make_folder(&folder)?;
    let device = FuseDevice::open()?;
    let data = device.mount_data();
    let files = serve.disks.iter().chain(&serve.volumes);
    let files: Vec<String> = files.map(|disk| disk.file.clone()).collect();
    let (mounted, when_mounted) = bounded(1);
    let (served, when_served) = bounded(1);
    thread::scope(|scope| {
        let viewer = thread::Builder::new().name("view".into());
        let view = move || {
            let seen = ViewThread {
                mounted: &mounted,
                served: &when_served,
            };
            seen.see(&folder, &data, files, work)
        };
        let viewer = viewer.spawn_scoped(scope, view).map_err(no_thread)?;
        // An error otherwise, and the thread has it.
        let server = when_mounted
            .recv()
            .ok()
            .map(|()| FuseServer::start(device, serve));
        let server = match server {
            Some(Ok(server)) => {
                let _ = served.send(Ok(server.control()));
                Some(server)
            }
            Some(Err(error)) => {
                let _ = served.send(Err(error));
                None
            }
            None => None,
        };
        drop(served);
        let seen = viewer.join().unwrap_or_else(|_| {
            let what = "the thread that looks at the snapshot has panicked";
            Err(Error::new(ErrorKind::Failed, what))
        });
        let nobody = || Error::new(ErrorKind::Failed, "nobody serves the disks");
        seen.and_then(|seen| Ok((seen, server.ok_or_else(nobody)?)))
    })
}

fn no_thread(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
}

fn make_folder(folder: &Path) -> Result<()> {
    let mut make = DirBuilder::new();
    make.recursive(true).mode(0o700);
    make.create(folder).io_context("make", folder)
}

/// What the thread has to do with those who serve.
struct ViewThread<'a> {
    mounted: &'a Sender<()>,
    served: &'a Receiver<Result<FuseControl>>,
}

impl ViewThread<'_> {
    /// Runs as the thread.
    fn see<T>(
        &self,
        folder: &Path,
        data: &str,
        files: Vec<String>,
        work: impl FnOnce(&View) -> Result<T>,
    ) -> Result<T> {
        leave_for_own_mounts().map_err(cannot_leave)?;
        let images = mount_images(folder, data)?;
        // The device first of all.
        close_from(3).io_context(
            "close what was inherited",
            Path::new("/proc/thread-self/fd"),
        )?;
        let told = self.mounted.send(());
        let served = told.ok().and_then(|()| self.served.recv().ok());
        let nobody = || Err(Error::new(ErrorKind::Failed, "nobody serves the disks"));
        let control = served.unwrap_or_else(nobody)?;
        let view = View::new(folder, &images, ViewFiles { files, control });
        let done = work(&view);
        if done.is_err() {
            // The vault may hang: what still waits for it gets errors.
            let _ = unmount(&images, Unmount::Force);
        }
        view.take_down();
        for place in [&images, folder] {
            if unmount(place, Unmount::Unused).is_err() {
                let _ = unmount(place, Unmount::Detach);
            }
        }
        done
    }
}

/// Mounts a small filesystem in memory on the folder, and the FUSE filesystem on one in it.
fn mount_images(folder: &Path, data: &str) -> Result<PathBuf> {
    let failed = |place: &Path, errno: Errno| {
        Error::io("mount at", place, errno.into()).with_kind(ErrorKind::Unsupported)
    };
    let memory = MountOptions {
        source: "stillpoint",
        fstype: "tmpfs",
        data: "size=1m,nr_inodes=16k,mode=700",
        read_only: false,
    };
    mount_at(folder, &memory).map_err(|errno| failed(folder, errno))?;
    let images = folder.join(IMAGES);
    fs::create_dir(&images).io_context("make", &images)?;
    let fuse = MountOptions {
        source: "stillpoint",
        fstype: "fuse.stillpoint",
        data,
        read_only: false,
    };
    mount_at(&images, &fuse).map_err(|errno| failed(&images, errno))?;
    Ok(images)
}

fn cannot_leave(errno: Errno) -> Error {
    let what = "this thread cannot have mounts of its own";
    let hint = match errno {
        Errno::EPERM => "run it as root, outside of a container or in a privileged one",
        _ => "run it outside of a chroot",
    };
    Error::new(ErrorKind::Unsupported, what)
        .with_source(errno)
        .with_hint(hint)
}
