//! `mount` and `unmount`: a snapshot on a folder of this host.

use super::args::{Common, MountAction, MountArgs, UnmountArgs};
use super::find_snapshot::{find_disk, find_snapshot};
use super::job::directory_of_jobs;
use super::progress::ProgressDisplay;
use super::{context, signals};
use crate::engine::{
    Event, LookIntoOptions, Monitor, MountNote, MountRequest, MountState, TakeDown, hold_mount,
    list_mounts, refuse_mount_directory, take_down_all_dead, unmount_snapshot,
};
use crate::error::{Error, ErrorKind, Result};
use crate::job::JobId;
use crate::report::{self, Report};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the starter waits until it is mounted.
const MOUNTED_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop where that is given up.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs in the process that serves the mount, or lists mounts.
pub fn run(args: &MountArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    match (&args.action, &args.id, &args.dir) {
        (Some(MountAction::List), ..) => list(common),
        (None, Some(id), Some(dir)) => {
            let wanted = Wish {
                id,
                dir,
                disk: args.disk.as_deref(),
            };
            wanted.hold(common, progress)
        }
        _ => Err(Error::new(ErrorKind::Usage, "name a snapshot and a folder")),
    }
}

/// Refuses what can be seen without asking the vault.
pub fn check(args: &MountArgs, common: &Common) -> Result<()> {
    let Some(dir) = &args.dir else { return Ok(()) };
    context::need_root_to("mount snapshots")?;
    // What a dead one left on the folder is not in its way.
    take_down_all_dead(&common.run_dir);
    refuse_mount_directory(&common.run_dir, dir).map(drop)
}

/// Waits until the process that was started for it has mounted a snapshot. Where that is given up,
/// it is stopped: nobody shall find something mounted that was said not to be.
pub fn await_mounted(id: JobId, warnings: &[String], common: &Common) -> Result<Report> {
    look_for_it(id, warnings, common).map_err(|error| {
        let until = Instant::now() + STOPPED_WITHIN;
        let stopped = directory_of_jobs(common).and_then(|jobs| {
            jobs.ask_to_stop(id)?;
            jobs.wait(id, Some(until), &|| Ok(()))
        });
        match stopped {
            Ok(record) if record.state.is_end() => error.and_said("nothing is mounted"),
            _ => error.and_said(format!("job {id} was asked to stop, and has not yet")),
        }
    })
}

fn look_for_it(id: JobId, warnings: &[String], common: &Common) -> Result<Report> {
    let job = id.to_string();
    let until = Instant::now() + MOUNTED_WITHIN;
    loop {
        let mounts = list_mounts(&common.run_dir)?.mounts;
        let ours = mounts.iter().find(|note| note.job.as_ref() == Some(&job));
        if let Some(note) = ours.filter(|note| note.state == MountState::Mounted) {
            let mut report = report::mount::mounted(note);
            warnings.iter().for_each(|warning| report.warn(warning));
            return Ok(report);
        }
        let record = directory_of_jobs(common)?.look(id)?;
        if record.state.is_end() {
            return report::job::ended(record);
        }
        if Instant::now() >= until {
            let what = format!("job {id} has not mounted it within a minute: the vault is slow");
            let hint = "mount --foreground waits as long as it takes";
            return Err(Error::new(ErrorKind::Busy, what).with_hint(hint));
        }
        signals::check()?;
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What is to be mounted.
struct Wish<'a> {
    id: &'a str,
    dir: &'a Path,
    disk: Option<&'a str>,
}

impl Wish<'_> {
    fn hold(&self, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
        context::need_root_to("mount snapshots")?;
        let vault = context::open_vault(common)?;
        vault.need_to_read()?;
        let disks: Vec<&str> = self.disk.into_iter().collect();
        let manifest = vault.manifest(&find_snapshot(&vault, self.id, &disks, progress)?)?;
        let disks = match self.disk {
            Some(name) => vec![find_disk(&vault, &manifest, Some(name))?],
            None => manifest.disks.iter().collect(),
        };
        let request = MountRequest {
            look: LookIntoOptions {
                vault: &vault,
                manifest: &manifest,
                disks,
                run_dir: &common.run_dir,
            },
            dir: self.dir,
            program: &common.places()?.program,
            job: common.as_job.map(|id| id.to_string()),
        };
        let mut on_mounted = |note: &MountNote| {
            for warning in report::mount::warnings(note) {
                progress.tell(Event::Warning(warning));
            }
        };
        let note = hold_mount(&request, progress, &mut on_mounted)?;
        Ok(report::mount::ended(&note))
    }
}

fn list(common: &Common) -> Result<Report> {
    context::need_root_to("list what is mounted")?;
    Ok(report::mount::list(&list_mounts(&common.run_dir)?))
}

/// `unmount`.
pub fn unmount(args: &UnmountArgs, common: &Common) -> Result<Report> {
    context::need_root_to("unmount snapshots")?;
    let how = match args.lazy {
        true => TakeDown::Lazy,
        false => TakeDown::Unused,
    };
    let done = unmount_snapshot(&common.run_dir, &args.dir, how)?;
    Ok(report::mount::unmounted(&done))
}
