//! `drill`: proves a snapshot. Each filesystem is opened by the kernel's own driver on an overlay
//! in memory, checked, put where the host had it, and the operator's script is run against the
//! tree. What came of it is put beside the snapshot. Nothing is written to what the vault has, and
//! what was not tried is never called proven.

mod boot;
mod checker;
mod setting;
mod step_end;
mod steps;
mod tree_steps;

pub use boot::{BootDiskBus, BootFirmware, BootOptions, REST, can_boot};
pub use setting::DrillOptions;

use super::monitor::Monitor;
use super::mount::{LookIntoOptions, look_into};
use crate::error::{ErrorKind, Result};
use crate::format::{DiskRecord, DrillKind, DrillName, DrillRecord};
use crate::hooks::qualify_check;
use crate::sys::machine::{host_name, kernel_release};
use jiff::Timestamp;
use setting::{DrillMonitor, millis};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use steps::Steps;

/// A drill may take so long at most.
const MOST_TIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a drill has found, and where that was put.
pub struct DrillReport {
    /// What was found.
    pub record: DrillRecord,
    /// The object's name, or why it could not be put: then nobody else will know.
    pub object: Result<String>,
    /// Of a machine that was booted: the folder with what was seen of it, or why there is none.
    pub kept: Option<Result<PathBuf>>,
}

/// Drills a snapshot, and puts what came of it into the vault: also of a drill that fails, and of
/// one that something ends in its middle.
///
/// # Errors
/// Nothing of it could be tried: no FUSE, not root, a script that does not qualify. Or a signal.
/// Then nothing is put.
pub fn drill(options: &DrillOptions<'_>, monitor: &dyn Monitor) -> Result<DrillReport> {
    let (begun, time) = (Instant::now(), Timestamp::now());
    options.check.map_or(Ok(()), qualify_check)?;
    let listening = DrillMonitor {
        outer: monitor,
        until: begun + options.timeout.min(MOST_TIME),
    };
    let mut steps = Steps::new(&listening);
    let looked = match &options.boot {
        Some(boot) => steps.boot(options, boot).map(Some),
        None => look_at_all(&mut steps, options).map(|()| None),
    };
    monitor.check()?;
    let (mut ended, mut booted) = (None, None);
    match looked {
        Ok(machine) => booted = machine,
        Err(error) => {
            let could_not_begin = matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Usage);
            if steps.done.is_empty() && could_not_begin {
                return Err(error);
            }
            // A vault that is out of reach will not take a result, either.
            let is_all = steps.done.is_empty();
            steps.ended_by(&error);
            ended = is_all.then_some(error);
        }
    }
    let DrillName { snapshot, drill } = options.vault.name_drill(options.snapshot.id);
    let record = DrillRecord {
        drill,
        snapshot,
        manifest: options.manifest.hash.clone(),
        host: options.snapshot.host().unwrap_or_default().into(),
        time,
        by: host_name(),
        writer: env!("CARGO_PKG_VERSION").into(),
        kernel: kernel_release(),
        check: options.check.map(|path| path.display().to_string()),
        took_ms: millis(begun.elapsed()),
        kind: Some(match options.boot {
            Some(_) => DrillKind::Booted,
            None => DrillKind::Opened,
        }),
        boot: booted.as_ref().map(|booted| booted.proof.clone()),
        steps: steps.done,
    };
    let kept = booted.map(|booted| booted.kept);
    let object = options.vault.put_drill(&record);
    match (object, ended) {
        (Err(_), Some(error)) if error.kind() != ErrorKind::Damaged => Err(error),
        (object, _) => Ok(DrillReport {
            record,
            object,
            kept,
        }),
    }
}

/// The steps that need no machine.
fn look_at_all(steps: &mut Steps<'_>, options: &DrillOptions<'_>) -> Result<()> {
    let manifest = &options.manifest.manifest;
    let disks: Vec<&DiskRecord> = manifest.disks.iter().collect();
    let look = LookIntoOptions {
        vault: options.vault,
        manifest,
        disks,
        run_dir: options.run_dir,
    };
    let monitor = steps.monitor;
    look_into(&look, monitor, |look| steps.run(look, options))
}
