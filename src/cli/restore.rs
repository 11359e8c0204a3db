//! `restore`: disks come back.

use super::args::{Common, FormatArg, RestoreArgs};
use super::confirm::Asking;
use super::context;
use super::find::{find_disk, find_snapshot};
use super::may_lack;
use super::outcome::{Outcome, listed};
use super::progress::Progress;
use super::signals;
use crate::engine::{
    Event, Goal, Monitor, Overwritten, RestoreOptions, Restored, could_restore, is_stdout,
    refused_to_overwrite, restore,
};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::Manifest;
use crate::model::Bytes;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::restore::{TableChange, TableKind};
use crate::store::Vault;
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Most bytes of the list of what is lost.
const MOST_LOST: usize = 8000;

/// Held while targets are looked at before a job says that it runs: they are opened for that alone,
/// and the restore itself must not find them in use by this.
static LOOKING: Mutex<()> = Mutex::new(());

pub fn run(args: &RestoreArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    check(args, common)?;
    let vault = context::open_vault(common)?;
    let wanted: Vec<&str> = wanted(args).collect();
    let manifest = vault.manifest(&find_snapshot(&vault, &args.id, &wanted, progress)?)?;
    drop(LOOKING.lock());
    let options = options(args, &vault, &manifest)?;
    let begun = Instant::now();
    let asking = Asking {
        progress,
        yes: args.yes,
    };
    let restored = restore(&vault, &manifest, &options, &asking)?;
    let mut outcome = answer(&manifest, &restored, begun.elapsed());
    may_lack::warn_of_one(&vault, &manifest, &mut outcome);
    outcome.aside = to_stdout(args);
    Ok(outcome)
}

/// The disks that were named.
fn wanted(args: &RestoreArgs) -> impl Iterator<Item = &str> {
    let named = args.map.iter().map(|(disk, _)| disk).chain(&args.disk);
    named.map(String::as_str)
}

/// Whether the disk's bytes go to standard output, and words must not.
fn to_stdout(args: &RestoreArgs) -> bool {
    args.target.as_deref().is_some_and(is_stdout)
}

/// What is wrong with the arguments and can be told without asking any disk.
pub fn check(args: &RestoreArgs, common: &Common) -> Result<()> {
    if !to_stdout(args) {
        return Ok(());
    }
    let refused = |what: &str, hint: &str| {
        Err(Error::new(ErrorKind::Usage, format!("{what}; nothing was written")).with_hint(hint))
    };
    if common.json {
        return refused(
            "- with --json: standard output can hold the disk or the document, not both",
            "leave --json out, or restore to a file",
        );
    }
    if args.detach {
        return refused(
            "- with --detach: what goes on without its starter has no standard output",
            "leave --detach out, or restore to a file",
        );
    }
    if std::io::stdout().is_terminal() {
        return refused(
            "a disk's bytes are not for a terminal",
            "redirect it, or pipe it into a program: ... - > FILE",
        );
    }
    Ok(())
}

/// What can be told before it is said that a job has started: the snapshot has those disks, and
/// their targets may be overwritten.
pub fn foresee(args: &RestoreArgs, vault: &Vault) -> Result<()> {
    let _alone = LOOKING.lock();
    let nobody = Nobody { yes: args.yes };
    let wanted: Vec<&str> = wanted(args).collect();
    let manifest = vault.manifest(&find_snapshot(vault, &args.id, &wanted, &nobody)?)?;
    let options = options(args, vault, &manifest)?;
    could_restore(vault, &manifest, &options, &nobody)
}

/// Nobody is there to be asked.
struct Nobody {
    yes: bool,
}

impl Monitor for Nobody {
    fn tell(&self, _: Event) {}

    fn check(&self) -> Result<()> {
        signals::check()
    }

    fn confirm(&self, lost: &[Overwritten]) -> Result<()> {
        match self.yes {
            true => Ok(()),
            false => Err(refused_to_overwrite(lost)),
        }
    }
}

fn options(args: &RestoreArgs, vault: &Vault, manifest: &Manifest) -> Result<RestoreOptions> {
    for name in wanted(args) {
        find_disk(vault, manifest, Some(name))?;
    }
    let stdout = match to_stdout(args) {
        true => {
            let out = std::io::stdout().as_fd().try_clone_to_owned();
            let out = out.io_context("open", Path::new("standard output"))?;
            Some(Arc::new(File::from(out)))
        }
        false => None,
    };
    Ok(RestoreOptions {
        goal: match &args.target {
            Some(target) => Goal::To {
                disk: args.disk.clone(),
                target: target.clone(),
            },
            None => Goal::Map(args.map.clone()),
        },
        format: args.format.map(FormatArg::format),
        stdout,
        force: args.force,
        keep_going: args.keep_going,
        move_gpt: !args.no_move_gpt,
        grow: args.grow,
        workers: context::workers(),
    })
}

fn answer(manifest: &Manifest, restored: &[Restored<'_>], took: Duration) -> Outcome {
    let mut disks: Vec<Value> = restored.iter().map(|one| document(manifest, one)).collect();
    let json = match disks.as_slice() {
        // One disk's keys are also those of the whole.
        [only] => {
            let mut whole = only.clone();
            whole["disks"] = json!([only]);
            whole
        }
        _ => json!({
            "snapshot": manifest.snapshot.to_string(),
            "host": manifest.host,
            "disks": std::mem::take(&mut disks),
        }),
    };
    let damaged: Bytes = restored.iter().map(|one| one.report.damaged_bytes).sum();
    let mut outcome = Outcome::done(json, text(manifest, restored, took, damaged));
    if damaged.0 > 0 {
        outcome.code = DAMAGED;
    }
    outcome
}

fn document(manifest: &Manifest, one: &Restored<'_>) -> Value {
    let report = &one.report;
    json!({
        "snapshot": manifest.snapshot.to_string(),
        "host": manifest.host,
        "disk": one.disk.identity.name,
        "target": one.target.display().to_string(),
        "format": one.kind.name(),
        "size_bytes": one.disk.identity.size,
        "data_bytes": report.data,
        "hole_bytes": report.holes,
        "damaged_bytes": report.damaged_bytes,
        "damaged": report.damaged.iter().map(|damage| json!({
            "offset": damage.place.offset,
            "length": damage.place.length,
            "what": damage.what,
        })).collect::<Vec<_>>(),
        "table": one.table.as_ref().map(table),
        "notes": one.notes,
    })
}

fn table(change: &TableChange) -> Value {
    json!({
        "type": match change.kind {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "mbr",
            TableKind::None => "none",
        },
        "backup_moved": change.moved,
        "grown": change.grown.map(|grown| json!({
            "partition": grown.number,
            "offset": grown.place.offset,
            "length": grown.place.length,
            "length_before": grown.before,
        })),
    })
}

fn text(manifest: &Manifest, restored: &[Restored<'_>], took: Duration, damaged: Bytes) -> String {
    let damages = restored.iter().flat_map(|one| &one.report.damaged);
    let lost = damages.map(|damage| format!("lost: bytes {}: {}", damage.place, damage.what));
    let mut text = listed(lost, MOST_LOST, "--json tells all");
    // Writing to a string cannot fail.
    for one in restored {
        if one.table.as_ref().is_some_and(|change| change.moved) {
            let target = one.target.display().to_string();
            let _ = writeln!(
                text,
                "moved: the backup GPT, to the end of {}",
                one_line(&target)
            );
        }
        if let Some(grown) = one.table.as_ref().and_then(|change| change.grown) {
            let (number, size) = (grown.number, grown.place.length);
            let before = grown.before;
            let _ = writeln!(text, "grown: partition {number}, from {before} to {size}");
        }
        for note in &one.notes {
            let _ = writeln!(text, "note: {}", one_line(note));
        }
        if restored.len() > 1 {
            let target = one.target.display().to_string();
            let (name, target) = (one_line(&one.disk.identity.name), one_line(&target));
            let report = &one.report;
            let (data, holes) = (report.data, report.holes);
            let _ = writeln!(text, "{name} to {target}: {data} of data, {holes} of holes");
        }
    }
    let what = match restored {
        [one] => format!("restored {}", one_line(&one.disk.identity.name)),
        several => format!("restored {} disks", several.len()),
    };
    let data: Bytes = restored.iter().map(|one| one.report.data).sum();
    let holes: Bytes = restored.iter().map(|one| one.report.holes).sum();
    let (snapshot, host) = (manifest.snapshot, one_line(&manifest.host));
    let _ = write!(text, "{what} of {snapshot} (host {host})");
    if let [one] = restored {
        let target = one.target.display().to_string();
        let _ = write!(text, " to {}", one_line(&target));
    }
    let seconds = took.as_secs_f64();
    let _ = write!(
        text,
        ": {data} of data, {holes} of holes, in {seconds:.1} s"
    );
    if damaged.0 > 0 {
        let _ = write!(text, "; {damaged} could not be restored");
    }
    text
}
