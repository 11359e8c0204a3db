//! `verify`: whether what the vault holds is whole.

use super::args::{Common, VerifyArgs};
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::{against_disk, context, may_lack, signals};
use crate::engine::{VerifyDepth, VerifyOptions, VerifyReport, find_lost_files, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Bytes;
use crate::report::verify::SnapshotFiles;
use crate::report::{self, Report};
use crate::store::Vault;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most damaged snapshots that are walked through, the newest ones.
const MOST_WALKED: usize = 8;

pub fn run(args: &VerifyArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    if args.against_disk {
        return against_disk::run(args, common, progress);
    }
    let vault = context::open_vault_itself(common)?;
    if args.files {
        context::need_root_to("name files, which the kernel's drivers are asked for")?;
    }
    context::asking(&vault, progress, || judge(args, common, &vault, progress))
}

fn judge(
    args: &VerifyArgs,
    common: &Common,
    vault: &Arc<Vault>,
    progress: &ProgressDisplay,
) -> Result<Report> {
    let snapshots = if args.all {
        vault.snapshots()?
    } else {
        args.ids
            .iter()
            .map(|id| find_snapshot(vault, id, &[], progress))
            .collect::<Result<Vec<_>>>()?
    };
    let depth = match (args.fast, args.sample) {
        (true, _) => VerifyDepth::Fast,
        (false, Some(percent)) => VerifyDepth::Sample(percent),
        (false, None) => VerifyDepth::Full,
    };
    let options = VerifyOptions {
        depth,
        workers: context::workers(),
    };
    let found = verify(vault, &snapshots, &options, progress)?;
    let files = match args.files {
        true => files_of(&found, vault, common, progress)?,
        false => Vec::new(),
    };
    let mut report = report::verify::report(&found, depth, &files);
    if let Some(words) = &found.dedup
        && let Some(changed) = words.told()
    {
        match words.is_new() {
            true => report.warn(&changed),
            // Snapshots of both words may stand for years.
            false => report.mention(&changed),
        }
    }
    if let Err(error) = may_lack::warn(vault, &snapshots, &mut report) {
        report.warn(&format!(
            "snapshots of early versions were not looked for: {error}"
        ));
    }
    Ok(report)
}

/// The files that damaged snapshots have lost bytes of. What stands in the way is told with them:
/// what was found damaged is reported all the same.
fn files_of(
    found: &VerifyReport,
    vault: &Arc<Vault>,
    common: &Common,
    progress: &ProgressDisplay,
) -> Result<Vec<SnapshotFiles>> {
    let broken = found.broken.iter().filter(|broken| broken.lost > Bytes(0));
    let damaged: BTreeSet<_> = broken.map(|broken| broken.snapshot).collect();
    let mut files = Vec::new();
    for (number, snapshot) in damaged.into_iter().rev().enumerate() {
        let find = || {
            if number >= MOST_WALKED {
                let what = format!("only {MOST_WALKED} snapshots are walked through: name it");
                return Err(Error::new(ErrorKind::Failed, what));
            }
            let stored = vault.find(&snapshot.to_string())?;
            let manifest = vault.manifest(&stored)?;
            find_lost_files(vault, &manifest, &found.broken, &common.run_dir, progress)
        };
        let lost = find();
        signals::check()?;
        files.push(SnapshotFiles { snapshot, lost });
    }
    Ok(files)
}
