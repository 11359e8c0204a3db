//! A snapshot on a folder of this host: `fs` is the host's tree as it was, `raw` has its disks. It
//! is made where nobody sees it, and appears as a whole. This process serves it until it is
//! unmounted.

use super::directory::{MountFolder, refuse_mount_directory};
use super::look::{LookIntoOptions, open_disks, serve_options};
use super::note::{KeptNote, MountNote, MountState, MountedDisk, NewMount, take_turn};
use super::plan::MountPlan;
use super::standing::StandingTree;
use super::take_down::{TakeDown, Unmounted, take_down_all_dead, unmount_tree};
use super::tree::HostTree;
use super::users::in_words;
use super::watcher::MountWatcher;
use crate::engine::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::{FuseServer, RAW, ReadFailure, View, ViewOptions, make_view};
use crate::sys::locked::LockExt;
use crate::sys::mounting::{
    MountOptions, TreePart, copy_mount, enter_mounts, folder, make_read_only, mount_at, put_mount,
};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The folder of the host's tree.
pub const TREE: &str = "fs";
/// How often it looks whether it is still needed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a watcher that was ended is started again.
const MOST_RESTARTS: u32 = 8;
/// How long it waits, after a signal, until the kernel has let go of all.
const END_WITHIN: Duration = Duration::from_secs(5);

/// What is mounted, and where.
pub struct MountRequest<'a> {
    /// The snapshot, and which disks of it.
    pub look: LookIntoOptions<'a>,
    /// The folder.
    pub dir: &'a Path,
    /// The program to start as the watcher.
    pub program: &'a Path,
    /// The name of the job that this is.
    pub job: Option<String>,
}

/// Mounts a snapshot, and serves it until it is unmounted. `on_mounted` hears when it is there.
///
/// # Errors
/// `Interrupted`: a signal came, and it is unmounted. Else nothing was mounted, or stays.
pub fn hold_mount(
    request: &MountRequest<'_>,
    monitor: &dyn Monitor,
    on_mounted: &mut dyn FnMut(&MountNote),
) -> Result<MountNote> {
    let run_dir = request.look.run_dir;
    for failure in take_down_all_dead(run_dir) {
        monitor.tell(Event::Warning(format!(
            "what a dead mount has left: {failure}"
        )));
    }
    let dir = refuse_mount_directory(run_dir, request.dir)?;
    let disks = open_disks(&request.look, monitor)?;
    let plan = MountPlan::of_snapshot(request.look.manifest, &disks, &|| monitor.check())?;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let serve = serve_options(request.look.manifest, &disks, &plan.volumes, &failures);
    let each = disks.iter().zip(&serve.disks);
    let each = each.map(|(disk, served)| MountedDisk {
        disk: disk.record.identity.name.clone(),
        file: served.file.clone(),
        size_bytes: disk.image.size(),
    });
    let manifest = request.look.manifest;
    let note = MountNote::new(NewMount {
        job: request.job.clone(),
        snapshot: manifest.snapshot,
        host: &manifest.host,
        time: manifest.time,
        dir: &dir.path,
        run_dir,
        disks: each.collect(),
    })?;
    let kept = KeptNote::new(run_dir)?;
    let watcher = MountWatcher::start(request.program, &kept.path, &note)?;
    let mut held = HeldMount {
        note,
        kept,
        watcher,
        program: request.program,
        restarts: 0,
    };
    held.note_it()?;
    let folder = run_dir.join(super::look::VIEW);
    let placing = Placing {
        note: &held.note,
        plan: &plan,
        dir: &dir,
        run_dir,
    };
    let made = make_view(ViewOptions { serve, folder }, |view| placing.place(view));
    let served = made.and_then(|(tree, server)| {
        held.note.tree.mounts = StandingTree::of(&held.note.tree)?.ids();
        held.note.tell(&tree.shown, &tree.not_shown);
        held.note.state = MountState::Mounted;
        held.note_it()?;
        on_mounted(&held.note);
        held.serve(&server, &failures, monitor)
    });
    held.end(served, monitor)
}

/// A mount that this process serves, who watches it, and the note of it.
struct HeldMount<'a> {
    note: MountNote,
    kept: KeptNote,
    watcher: MountWatcher,
    program: &'a Path,
    restarts: u32,
}

impl HeldMount<'_> {
    fn note_it(&mut self) -> Result<()> {
        self.note.watcher = Some(self.watcher.pid());
        self.kept.write(&self.note)
    }

    /// Serves until nothing of it is mounted any more, or a signal comes.
    fn serve(
        &mut self,
        server: &FuseServer,
        failures: &Mutex<Vec<ReadFailure>>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let tell = || {
            for failure in std::mem::take(&mut *failures.locked()) {
                monitor.tell(Event::Warning(failure.what));
            }
        };
        while !server.has_ended() {
            tell();
            if let Err(stopped) = monitor.check() {
                return Err(unmount_now(&self.note, server, stopped));
            }
            self.see_to_the_watcher(monitor);
            std::thread::sleep(LOOK_EVERY);
        }
        tell();
        Ok(())
    }

    /// Starts another watcher if somebody has ended the first one.
    fn see_to_the_watcher(&mut self, monitor: &dyn Monitor) {
        if self.restarts >= MOST_RESTARTS || !self.watcher.has_ended() {
            return;
        }
        self.restarts += 1;
        let started = MountWatcher::start(self.program, &self.kept.path, &self.note);
        let started = started.and_then(|watcher| {
            self.watcher = watcher;
            self.note_it()
        });
        let words = match started {
            Ok(()) => "the process that watches this mount was ended; another was started".into(),
            Err(error) => format!("nobody watches this mount any more: {error}"),
        };
        monitor.tell(Event::Warning(words));
    }

    /// Sees to it that nothing stays, whatever has ended it. Where it has to, its note and its
    /// watcher stay, too.
    fn end(self, served: Result<()>, monitor: &dyn Monitor) -> Result<MountNote> {
        let stood = StandingTree::of(&self.note.tree).and_then(|tree| {
            tree.detach()?;
            Ok(!tree.ours.is_empty())
        });
        match stood {
            Ok(stood) => {
                // In this order: a watcher that finds no note goes by what it was told.
                self.watcher.dismiss();
                drop(self.kept);
                if stood && served.is_ok() {
                    let what = "its connection to the kernel was ended by somebody else; what was \
                                still mounted of it is unmounted";
                    monitor.tell(Event::Warning(what.into()));
                    return Err(Error::new(ErrorKind::Failed, what));
                }
                served.map(|()| self.note)
            }
            Err(left) => {
                std::mem::forget(self.kept);
                let words = format!("it is taken down as soon as that can be: {left}");
                Err(match served {
                    Err(error) => error.and_said(words),
                    Ok(()) => Error::new(ErrorKind::Failed, words),
                })
            }
        }
    }
}

/// What the view's thread needs to put a tree where all see it.
struct Placing<'a> {
    note: &'a MountNote,
    plan: &'a MountPlan,
    dir: &'a MountFolder,
    run_dir: &'a Path,
}

impl Placing<'_> {
    fn place(&self, view: &View) -> Result<HostTree> {
        let top = view.folder().join("tree");
        fs::create_dir(&top).io_context("make", &top)?;
        let memory = MountOptions {
            source: &self.note.tree.source,
            fstype: "tmpfs",
            data: "size=1m,nr_inodes=16k,mode=700",
            read_only: false,
        };
        mount_at(&top, &memory).io_context("mount at", &top)?;
        let (tree, raw) = (top.join(TREE), top.join(RAW));
        for place in [&tree, &raw] {
            fs::create_dir(place).io_context("make", place)?;
        }
        let shown = HostTree::make(view, self.plan, &tree)?;
        let images = view.images().join(RAW);
        let put = folder(&images)
            .and_then(|images| copy_mount(images, TreePart::Mount))
            .and_then(|copy| put_mount(copy, folder(&raw)?));
        put.and_then(|()| make_read_only(&raw))
            .and_then(|()| make_read_only(&top))
            .io_context("mount at", &raw)?;
        self.appear(&top)?;
        Ok(shown)
    }

    /// Puts all of it on the folder, at once, in the namespace of the process.
    fn appear(&self, top: &Path) -> Result<()> {
        let whole = folder(top).and_then(|top| copy_mount(top, TreePart::All));
        let whole = whole.io_context("take", top)?;
        let namespace = |whose: &str| {
            let path = PathBuf::from(format!("/proc/{whose}/ns/mnt"));
            File::open(&path).io_context("open", &path)
        };
        let (host, own) = (namespace("self")?, namespace("thread-self")?);
        enter_mounts(&host).io_context("enter", Path::new("/proc/self/ns/mnt"))?;
        let put = || {
            let _turn = take_turn(self.run_dir)?;
            let place = self.dir.open()?;
            put_mount(&whole, place).io_context("mount on", &self.dir.path)
        };
        let put = put();
        enter_mounts(&own).io_context("enter", Path::new("/proc/thread-self/ns/mnt"))?;
        put
    }
}

/// Unmounts after a signal, whoever uses it: they were not asked, so they are named.
fn unmount_now(note: &MountNote, server: &FuseServer, stopped: Error) -> Error {
    let dir = note.dir();
    let unmounted = unmount_tree(&note.tree, TakeDown::Unused)
        .or_else(|_| unmount_tree(&note.tree, TakeDown::Lazy));
    let Unmounted { users, lazily } = match unmounted {
        Ok(unmounted) => unmounted,
        Err(error) => return stopped.and_said(error),
    };
    if lazily {
        return stopped.and_said(format!(
            "{} is unmounted; it was used by {}, which get errors from now on",
            dir.display(),
            in_words(&users)
        ));
    }
    let until = Instant::now() + END_WITHIN;
    while !server.has_ended() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    stopped.and_said(format!("{} is unmounted", dir.display()))
}
