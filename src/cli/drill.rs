//! `drill`: tries a snapshot, and keeps in the vault what came of it.

use super::args::{BootArgs, Common, DrillArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use crate::engine::{BootOptions, DrillOptions, DrillReport, REST, can_boot, drill};
use crate::error::Result;
use crate::report::Report;
use crate::report::drill::{report, verdict};
use std::time::Instant;

pub fn run(args: &DrillArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    context::need_root()?;
    // What this host has kept of it proves nothing.
    let vault = context::open_vault_itself(common)?;
    vault.need_to_read()?;
    let snapshot = find_snapshot(&vault, &args.id, &[], progress)?;
    let manifest = vault.manifest_hashed(&snapshot)?;
    let options = DrillOptions {
        vault: &vault,
        snapshot: &snapshot,
        manifest: &manifest,
        run_dir: &common.run_dir,
        check: args.check.as_deref(),
        boot: args.boot.then(|| machine(&args.machine)),
        timeout: args.timeout,
    };
    context::asking(&vault, progress, || {
        let done = match &options.boot {
            Some(boot) if options.check.is_some() => drill_both(&options, boot, progress)?,
            _ => vec![drill(&options, progress)?],
        };
        Ok(report(&done))
    })
}

/// The files first, so that a machine that is slow leaves no check undone; then the machine,
/// whatever became of them. Each is a drill of its own kind in the vault, so what was found first
/// is kept also where the second one is stopped.
fn drill_both(
    options: &DrillOptions<'_>,
    boot: &BootOptions,
    progress: &ProgressDisplay,
) -> Result<Vec<DrillReport>> {
    can_boot(options.vault, boot)?;
    let begun = Instant::now();
    let files = DrillOptions {
        boot: None,
        ..options.clone()
    };
    let files = drill(&files, progress)?;
    let machine = DrillOptions {
        check: None,
        timeout: options.timeout.saturating_sub(begun.elapsed()),
        ..options.clone()
    };
    match drill(&machine, progress) {
        Ok(machine) => Ok(vec![files, machine]),
        Err(error) => {
            let kept = match &files.object {
                Ok(object) => format!("kept as {object}"),
                Err(error) => format!("not kept: {error}"),
            };
            let found = verdict(&files.record);
            Err(error.and_said(format!(
                "its files were tried before, nothing was booted: {found} ({kept})"
            )))
        }
    }
}

/// The machine that these ask for.
pub fn machine(args: &BootArgs) -> BootOptions {
    BootOptions {
        firmware: args.firmware,
        bus: args.disk_bus,
        memory: args.memory,
        accelerate: !args.no_kvm,
        keep: args.keep.clone(),
        work: args.work.clone(),
        room: args.room,
        rest: REST,
    }
}
