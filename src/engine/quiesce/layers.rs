//! Which layers a run needs around its cut: filesystems by a guardian, applications by hooks,
//! writers throttled. Nothing is frozen or run here.

use super::Quiesce;
use super::applications::{ApplicationQuiesce, SharedHookLog};
use super::filesystems::{FilesystemQuiesce, FilesystemQuiesceOptions, SharedFreezeSet};
use super::none::NoQuiesce;
use super::throttle::ThrottledQuiesce;
use super::waves::targets;
use crate::device::{Disk, FreezeSet};
use crate::engine::places::Places;
use crate::engine::snapshot_options::{OnBusy, SnapshotOptions};
use crate::error::Result;
use crate::freeze::Expedite;
use crate::hooks::HookOptions;
use crate::model::{Level, SnapshotId};
use crate::sys::locked::LockExt;
use std::sync::Arc;
use std::time::Duration;

/// Applications are let go after this and the longest freeze, whatever holds up the cut.
const HOLD: Duration = Duration::from_secs(60);
/// Hooks get at most this many bytes of mount points; the rest is left out.
const MOUNT_POINTS: usize = 32 << 10;

/// What the layers are built from.
pub struct Layers<'a> {
    /// The snapshot's name.
    pub snapshot: SnapshotId,
    /// What the user wants.
    pub options: &'a SnapshotOptions,
    /// Where guardian, hooks and throttle keep their records.
    pub places: &'a Places,
    /// Expedites the kernel's grace periods.
    pub expedite: &'a Expedite,
    /// The filesystems of the run; kept up to date.
    pub seen: &'a SharedFreezeSet,
    /// Where the hooks' results go.
    pub hook_log: &'a SharedHookLog,
}

impl Layers<'_> {
    /// What quiesces everything that a snapshot of these disks needs quiesced.
    pub fn build(&self) -> Result<Box<dyn Quiesce>> {
        let inner = self.by_level()?;
        Ok(match self.options.on_busy {
            OnBusy::Throttle => {
                let (program, run_dir) = (&self.places.program, &self.places.run_dir);
                Box::new(ThrottledQuiesce::new(
                    inner,
                    program.clone(),
                    run_dir.clone(),
                ))
            }
            OnBusy::Fail | OnBusy::Freeze => inner,
        })
    }

    fn by_level(&self) -> Result<Box<dyn Quiesce>> {
        let Self { options, .. } = self;
        if options.level < Level::Filesystem {
            let nothing = NoQuiesce::new(options.max_freeze, self.expedite.clone());
            return Ok(Box::new(nothing));
        }
        let set = self.seen.locked().clone();
        // What cannot be frozen is reported before everything is copied.
        targets(&set)?;
        let filesystems = FilesystemQuiesce::new(
            FilesystemQuiesceOptions {
                disks: options.disks.clone(),
                program: self.places.program.clone(),
                run_dir: self.places.run_dir.clone(),
                deadline: options.max_freeze,
                expedite: self.expedite.clone(),
            },
            Arc::clone(self.seen),
        );
        if options.level < Level::Application {
            return Ok(Box::new(filesystems));
        }
        let applications = ApplicationQuiesce::new(
            Box::new(filesystems),
            self.hooks(&set),
            options.hooks.on_failure,
            Arc::clone(self.hook_log),
        )?;
        Ok(Box::new(applications))
    }

    fn hooks(&self, set: &FreezeSet) -> HookOptions {
        let hooks = &self.options.hooks;
        let names: Vec<&str> = self.options.disks.iter().map(Disk::name).collect();
        HookOptions {
            prescript: hooks.prescript.clone(),
            postscript: hooks.postscript.clone(),
            timeout: hooks.timeout,
            hold: HOLD + self.options.max_freeze,
            environment: vec![
                ("STILLPOINT_RUN".into(), self.snapshot.to_string()),
                ("STILLPOINT_DISKS".into(), names.join(" ")),
                ("STILLPOINT_MOUNT_POINTS".into(), mount_points(set)),
            ],
            program: self.places.program.clone(),
            run_dir: self.places.run_dir.clone(),
        }
    }
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
