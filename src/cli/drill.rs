//! `drill`: tries a snapshot, and keeps in the vault what came of it.

use super::args::{BootArgs, Common, DrillArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use crate::engine::{BootOptions, DrillOptions, REST, drill};
use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;
use crate::report::drill::report;

pub fn run(args: &DrillArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    context::need_root()?;
    if args.boot && args.check.is_some() {
        let what = "a check sees a tree of files, and a machine that boots shows none";
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint("drill twice: once with --boot, once with --check"));
    }
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
    context::asking(&vault, progress, || Ok(report(&drill(&options, progress)?)))
}

fn machine(args: &BootArgs) -> BootOptions {
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
