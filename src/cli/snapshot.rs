//! `snapshot`: takes a snapshot of disks.

use super::args::{Common, SnapshotArgs, SwitchArg, tags};
use super::context;
use super::progress::ProgressDisplay;
use crate::config::{Config, ReadingSettings};
use crate::device::HostLayout;
use crate::engine::{
    HookSettings, OnBusy, Selection, SnapshotOptions, select_all, snapshot, snapshot_of_what_can_be,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Level;
use crate::report::snapshot::Taken;
use crate::report::{self, Report};
use crate::store::Vault;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the arguments, the configuration file and the defaults amount to.
pub struct Checked {
    tags: BTreeMap<String, String>,
    on_busy: OnBusy,
    hooks: HookSettings,
    reading: ReadingSettings,
    encryption_alarm: bool,
}

/// Refuses what can be refused without looking at any disk.
pub fn check(args: &SnapshotArgs, common: &Common) -> Result<Checked> {
    context::need_root()?;
    let given = args.hooks.given();
    if given.any() && args.level.level() < Level::Application {
        let message = "hooks were named, and no --level application: they would not be run";
        return Err(Error::new(ErrorKind::Usage, message).with_hint("add --level application"));
    }
    let tags = tags(&args.tags)?;
    let given_alarm = args.encryption_alarm.map(|given| given == SwitchArg::On);
    let config = Config::read(&common.config_place())?;
    Ok(Checked {
        tags,
        on_busy: args.on_busy.choice(),
        hooks: config.hooks(&given)?,
        reading: config.reading(args.limit_read)?,
        encryption_alarm: config.encryption_alarm(given_alarm),
    })
}

pub fn run(args: &SnapshotArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let begun = Instant::now();
    let checked = check(args, common)?;
    let vault = context::open_vault_to_write(common, args.limit_write)?;
    context::asking(&vault, progress, || {
        let mut taken = take(args, common, checked, &vault, progress)?;
        taken.took = begun.elapsed();
        Ok(report::snapshot::report(taken))
    })
}

fn take(
    args: &SnapshotArgs,
    common: &Common,
    checked: Checked,
    vault: &Arc<Vault>,
    progress: &ProgressDisplay,
) -> Result<Taken> {
    let Checked {
        tags,
        on_busy,
        hooks,
        reading,
        encryption_alarm,
    } = checked;
    let layout = HostLayout::scan()?;
    let choice = if args.all {
        select_all(&layout, vault, &args.exclude)?
    } else {
        Selection {
            disks: layout.resolve(&args.disks)?,
            left_out: Vec::new(),
        }
    };
    let options = SnapshotOptions {
        layout,
        disks: choice.disks,
        level: args.level.level(),
        full: args.full,
        all_blocks: args.all_blocks,
        tags,
        keep: args.keep,
        max_freeze: args.max_freeze,
        on_busy,
        allow_fuzzy: args.allow_fuzzy,
        workers: context::workers(),
        limit_read: reading.limit,
        idle: reading.idle,
        hooks,
        encryption_alarm,
    };
    let places = common.places()?;
    let (manifest, failed) = if args.partial {
        snapshot_of_what_can_be(vault, &options, &places, progress)?
    } else {
        (snapshot(vault, &options, &places, progress)?, Vec::new())
    };
    Ok(Taken {
        manifest,
        left_out: choice.left_out,
        failed,
        took: Duration::ZERO,
    })
}
