//! What stands still for a cut, and what makes it: filesystems by a guardian, applications by
//! hooks. Nothing is frozen or run here.

use super::busy::OnBusy;
use super::hold::{Holding, SharedHookLog};
use super::quiesce::{Quiesce, Unfrozen};
use super::slow::Slow;
use super::snapshot::{Places, SnapshotOptions};
use super::still::{Seen, Still, StillOptions};
use crate::device::{Disk, Filesystem, Freezable, FreezeSet, freezable};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{Expedite, FreezeTarget};
use crate::hooks::HookOptions;
use crate::model::{Level, SnapshotId};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Applications are let go after so long and the freeze, whatever holds up the cut.
const HOLD: Duration = Duration::from_secs(60);
/// Hooks are told of so many bytes of mount points; what is beyond is left out.
const MOUNT_POINTS: usize = 32 << 10;

/// What holds everything still that a snapshot of these disks needs held.
pub fn standstill(
    (snapshot, disks): (SnapshotId, &[Disk]),
    (options, places, expedite): (&SnapshotOptions, &Places, &Expedite),
    seen: &Seen,
    log: &SharedHookLog,
) -> Result<Box<dyn Quiesce>> {
    let held = what_holds((snapshot, disks), (options, places, expedite), seen, log)?;
    Ok(match options.on_busy {
        OnBusy::Throttle => {
            let (program, run_dir) = (places.program.clone(), places.run_dir.clone());
            Box::new(Slow::new(held, program, run_dir))
        }
        OnBusy::Fail | OnBusy::Freeze => held,
    })
}

fn what_holds(
    (snapshot, disks): (SnapshotId, &[Disk]),
    (options, places, expedite): (&SnapshotOptions, &Places, &Expedite),
    seen: &Seen,
    log: &SharedHookLog,
) -> Result<Box<dyn Quiesce>> {
    if options.level < Level::Filesystem {
        return Ok(Box::new(Unfrozen::new(
            options.max_freeze,
            expedite.clone(),
        )));
    }
    let set = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // What cannot be frozen is told before everything is copied.
    targets(&set)?;
    let still = Still::new(
        StillOptions {
            disks: disks.to_vec(),
            program: places.program.clone(),
            run_dir: places.run_dir.clone(),
            deadline: options.max_freeze,
            expedite: expedite.clone(),
        },
        Arc::clone(seen),
    );
    if options.level < Level::Application {
        return Ok(Box::new(still));
    }
    let names: Vec<&str> = disks.iter().map(Disk::name).collect();
    let hooks = HookOptions {
        prescript: options.hooks.prescript.clone(),
        postscript: options.hooks.postscript.clone(),
        timeout: options.hooks.timeout,
        hold: HOLD + options.max_freeze,
        environment: vec![
            ("STILLPOINT_RUN".into(), snapshot.to_string()),
            ("STILLPOINT_DISKS".into(), names.join(" ")),
            ("STILLPOINT_MOUNT_POINTS".into(), mount_points(&set)),
        ],
        program: places.program.clone(),
        run_dir: places.run_dir.clone(),
    };
    let on_failure = options.hooks.on_failure;
    let holding = Holding::new(Box::new(still), hooks, on_failure, Arc::clone(log))?;
    Ok(Box::new(holding))
}

/// Where the filesystems are mounted, one a line.
fn mount_points(set: &FreezeSet) -> String {
    let mut text = String::new();
    for filesystem in &set.filesystems {
        let target = filesystem.target().display().to_string();
        if text.len() + target.len() < MOUNT_POINTS {
            text.push_str(&target);
            text.push('\n');
        }
    }
    text
}

/// What the guardian has to freeze.
pub(super) fn targets(set: &FreezeSet) -> Result<Vec<FreezeTarget>> {
    // What lies in a file of another is frozen before that other. Read-only ones need nothing; of
    // those that cannot be frozen the tracker must see no write.
    let deepest = set
        .filesystems
        .iter()
        .map(|filesystem| filesystem.depth)
        .max()
        .unwrap_or(0);
    let wave =
        |filesystem: &Filesystem| u16::try_from(deepest - filesystem.depth).unwrap_or(u16::MAX);
    let can = |filesystem: &&Filesystem| freezable(filesystem) == Freezable::Yes;
    let each = set.filesystems.iter().filter(can);
    let mut targets = each
        .map(|filesystem| target(filesystem, wave(filesystem)))
        .collect::<Result<Vec<_>>>()?;
    targets.sort_by_key(|target| target.wave);
    Ok(targets)
}

fn target(filesystem: &Filesystem, wave: u16) -> Result<FreezeTarget> {
    let mut visible: Vec<_> = filesystem
        .mounts
        .iter()
        .filter(|mount| mount.visible)
        .collect();
    visible.sort_by_key(|mount| mount.pid);
    let mount = visible.first().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} at {} is hidden under other mounts and cannot be frozen; nothing was done",
                filesystem.source,
                filesystem.target().display()
            ),
        )
        .with_hint("unmount what hides it, or take --level crash")
    })?;
    Ok(FreezeTarget {
        mount_point: mount.target.clone(),
        namespace_pid: mount.pid,
        dev: filesystem.dev,
        wave,
        source: filesystem.source.clone(),
        fstype: filesystem.fstype.clone(),
    })
}
