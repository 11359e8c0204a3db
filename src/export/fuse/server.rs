//! The FUSE server: a thread that takes the kernel's requests, readers that ask the vault, and a
//! clock that answers for those that take too long. Its threads must never look at what is mounted
//! above it: they would wait for themselves.

use super::answers::Answers;
use super::files::Files;
use super::layout::{ImageFile, Layout};
use super::reader::run_reader;
use super::scratch::ReplayedPages;
use super::served::{Failures, OnFailure, Served};
use super::work::Work;
use crate::error::{Error, ErrorKind, Result};
use crate::export::in_place::InPlace;
use crate::model::Bytes;
use crate::sys::locked::LockExt;
use crate::sys::secret::dump_nothing;
use fuser::{Config, Session, SessionACL};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// How many threads ask the vault.
const READERS: usize = 8;
/// How often the clock looks for who has waited too long.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const DEVICE: &str = "/dev/fuse";

/// A disk that is served.
#[derive(Clone)]
pub struct ServedDisk {
    /// The name of its file, without folders.
    pub file: String,
    /// Its bytes.
    pub image: Arc<dyn InPlace>,
}

/// What is served, and how.
#[derive(Clone)]
pub struct ServeOptions {
    /// The disks.
    pub disks: Vec<ServedDisk>,
    /// What lies on them with something between; their numbers follow those of the disks. They are
    /// for the kernel's drivers alone, and not among the disks as they are in the vault.
    pub volumes: Vec<ServedDisk>,
    /// The time of all files.
    pub time: SystemTime,
    /// Each read ends within this time, with an error if it must.
    pub within: Duration,
    /// The most that is kept of what a filesystem's driver writes; of all together four times that.
    pub scratch: Bytes,
    /// Is told which reads failed; at most 64 times.
    pub on_failure: OnFailure,
}

/// A connection to the kernel that nothing is mounted from yet.
#[derive(Debug)]
pub struct FuseDevice(File);

impl FuseDevice {
    /// Opens one. From here on the kernel dumps nothing of this process: while it dumps, threads
    /// that serve stand still with the device open, and it waits for who waits for them, for ever.
    ///
    /// # Errors
    /// `Unsupported`: this kernel has no FUSE.
    pub fn open() -> Result<Self> {
        dump_nothing();
        let open = File::options().read(true).write(true).open(DEVICE);
        open.map(Self).map_err(|error| {
            let what = format!("cannot open {DEVICE}: what is in the vault is shown by FUSE");
            Error::new(ErrorKind::Unsupported, what)
                .with_source(error)
                .with_hint("modprobe fuse; in a container, give it /dev/fuse")
        })
    }

    /// The options for mount(2), in a thread that has this descriptor.
    pub fn mount_data(&self) -> String {
        use std::os::fd::AsRawFd;
        let fd = self.0.as_raw_fd();
        format!("fd={fd},rootmode=40500,user_id=0,group_id=0")
    }
}

/// A server. It ends when nothing is mounted from it any more, or when the process does.
pub struct FuseServer {
    session: JoinHandle<()>,
    served: Weak<Served>,
}

/// What who mounts has to say to a server, and to ask it.
#[derive(Clone)]
pub struct FuseControl(Weak<Served>);

impl FuseControl {
    /// Nothing is kept of a layer any more, and nothing is shown.
    pub fn give_up(&self, layer: u32) {
        if let Some(served) = self.0.upgrade() {
            served.scratch.locked().give_up(layer);
        }
    }

    /// Whether a layer lacks a write.
    pub fn is_broken(&self, layer: u32) -> bool {
        let served = self.0.upgrade();
        served.is_none_or(|served| served.scratch.locked().is_broken(layer))
    }

    /// Whether a disk has not answered in time lately.
    pub fn hangs(&self) -> bool {
        let served = self.0.upgrade();
        served.is_none_or(|served| served.answers.hangs())
    }
}

impl FuseServer {
    /// Serves what is mounted from a device.
    ///
    /// # Errors
    /// `Failed`: the kernel speaks no FUSE that is known here, or there are no more threads.
    pub fn start(device: FuseDevice, options: ServeOptions) -> Result<Self> {
        let failed = |what: &str, error: std::io::Error| {
            Error::new(ErrorKind::Failed, what).with_source(error)
        };
        let file = |disk: &ServedDisk| ImageFile {
            name: disk.file.clone(),
            size: disk.image.size(),
        };
        let disks = options.disks.len();
        let all: Vec<ServedDisk> = options.disks.into_iter().chain(options.volumes).collect();
        let files = all.iter().map(file).collect();
        let served = Arc::new(Served {
            layout: Layout::new(files, disks, options.time),
            answers: Answers::new(options.within),
            images: all.into_iter().map(|disk| disk.image).collect(),
            scratch: Mutex::new(ReplayedPages::new(options.scratch)),
            failures: Failures::new(options.on_failure),
        });
        let (send, receive) = crossbeam_channel::unbounded::<Work>();
        for _ in 0..READERS {
            let (served, receive) = (Arc::clone(&served), receive.clone());
            let reader = thread::Builder::new().name("image read".into());
            let started = reader.spawn(move || run_reader(&served, &receive));
            started.map_err(|error| failed("cannot start a thread", error))?;
        }
        let clock = thread::Builder::new().name("image clock".into());
        let shared = Arc::downgrade(&served);
        let started = clock.spawn(move || run_clock(&shared));
        started.map_err(|error| failed("cannot start a thread", error))?;
        let weak = Arc::downgrade(&served);
        let files = Files::new(served, send);
        let device = OwnedFd::from(device.0);
        // One thread takes requests; `Config` is to be made by its default.
        let session = Session::from_fd(files, device, SessionACL::Owner, Config::default());
        let session =
            session.map_err(|error| failed("cannot speak FUSE with the kernel", error))?;
        let served = Weak::clone(&weak);
        let taker = thread::Builder::new().name("image requests".into());
        let session = taker.spawn(move || run_session(session, &served));
        let session = session.map_err(|error| failed("cannot start a thread", error))?;
        Ok(Self {
            session,
            served: weak,
        })
    }

    /// Whether nothing is mounted from it any more.
    pub fn has_ended(&self) -> bool {
        self.session.is_finished()
    }

    /// What the thread that mounts needs of it.
    pub fn control(&self) -> FuseControl {
        FuseControl(Weak::clone(&self.served))
    }
}

/// Takes requests until nothing is mounted any more. However it ends: nobody has the device open
/// after that, so the kernel gives errors to all that wait.
fn run_session(session: Session<Files>, served: &Weak<Served>) {
    let served = served.upgrade();
    let ended = session.run();
    let Some(served) = served else { return };
    if let Err(error) = ended {
        let what = format!("the disks are not served any more: {error}");
        served.failures.tell(&what);
    }
    // Each of them has the device open.
    served.refuse_all();
}

/// Runs as the clock, until nothing is served any more.
fn run_clock(served: &Weak<Served>) {
    loop {
        thread::sleep(LOOK_EVERY);
        let Some(served) = served.upgrade() else {
            return;
        };
        let late = served.refuse_late();
        if late > 0 {
            served.failures.tell(&format!(
                "the vault did not answer in time: {late} reads failed, and others do for a while"
            ));
        }
    }
}
