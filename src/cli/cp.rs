//! `cp`: files and trees of snapshots, copied to a directory of this host.

use super::args::{Common, CpArgs, SnapshotPath};
use super::browse::{find_manifest, find_scope};
use super::context;
use super::output::PolledOut;
use super::progress::ProgressDisplay;
use crate::engine::{
    BrowseOptions, CopyRequest, CopyResult, CopyTarget, copy_from_snapshot, find_target, is_stdout,
    stream_from_snapshot,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::printable;
use crate::report::Report;
use crate::report::cp::{self, CopiedFrom};
use crate::store::Vault;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub fn run(args: &CpArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    check(args, common)?;
    context::need_root()?;
    let paths: Vec<PathBuf> = args
        .from
        .iter()
        .filter_map(|one| one.path.clone())
        .collect();
    // What can be refused here costs no request.
    let target = match to_stdout(args) {
        true => None,
        false => Some(find_target(&args.dest, &paths, args.overwrite)?),
    };
    let vault = context::open_vault(common)?;
    context::asking(&vault, progress, || {
        let copying = Copying {
            args,
            common,
            vault: &vault,
            target: target.as_ref(),
        };
        copying.run(progress)
    })
}

/// Whether a file's bytes go to standard output, so that text must not.
pub fn to_stdout(args: &CpArgs) -> bool {
    is_stdout(&args.dest)
}

/// Refuses what is wrong with the arguments and can be seen without asking any vault.
pub fn check(args: &CpArgs, common: &Common) -> Result<()> {
    let refused = |what: &str, hint: &str| {
        Err(Error::new(ErrorKind::Usage, format!("{what}; nothing was copied")).with_hint(hint))
    };
    if args.from.iter().any(|one| one.path.is_none()) {
        return refused(
            "a snapshot without a path",
            "give ID:PATH, as in latest:/etc/fstab; `stillpoint restore` brings back whole disks",
        );
    }
    if !to_stdout(args) {
        return Ok(());
    }
    if common.json {
        return refused(
            "- with --json: standard output can hold the file or the document, not both",
            "leave --json out, or copy to a file",
        );
    }
    if args.from.len() > 1 {
        return refused(
            "several files to standard output",
            "name one, or a directory",
        );
    }
    if std::io::stdout().is_terminal() {
        return refused(
            "a file's bytes are not for a terminal: they could be commands to it",
            "redirect it, or pipe it into a program: ... - | less",
        );
    }
    Ok(())
}

/// What is copied, and where to; without a target, to standard output.
struct Copying<'a> {
    args: &'a CpArgs,
    common: &'a Common,
    vault: &'a Arc<Vault>,
    target: Option<&'a CopyTarget>,
}

impl Copying<'_> {
    fn run(&self, progress: &ProgressDisplay) -> Result<Report> {
        self.vault.need_to_read()?;
        let mut found = Vec::new();
        for group in groups(&self.args.from) {
            if let Some(first) = group.first() {
                let inside = &self.args.inside;
                found.push((find_manifest(self.vault, first, inside, progress)?, group));
            }
        }
        let mut all: Vec<CopiedFrom> = Vec::new();
        for (manifest, group) in found {
            let paths: Vec<PathBuf> = group.iter().filter_map(|one| one.path.clone()).collect();
            let result = self.copy(&manifest, &paths, progress).map_err(|error| {
                let before = all.iter().flat_map(|one| &one.result.tops);
                let before: Vec<String> = before.map(|top| printable::path(&top.to)).collect();
                match before.is_empty() {
                    true => error,
                    false => error.and_said(format!("copied before: {}", before.join(", "))),
                }
            })?;
            all.push(CopiedFrom {
                snapshot: manifest.snapshot,
                host: manifest.host,
                result,
            });
        }
        Ok(cp::report(&all))
    }

    fn copy(
        &self,
        manifest: &Manifest,
        paths: &[PathBuf],
        progress: &ProgressDisplay,
    ) -> Result<CopyResult> {
        let options = BrowseOptions {
            vault: self.vault,
            manifest,
            scope: find_scope(self.vault, manifest, &self.args.inside)?,
            run_dir: &self.common.run_dir,
        };
        match self.target {
            None => {
                let path = paths.first().map_or(Path::new("/"), PathBuf::as_path);
                stream_from_snapshot(&options, path, &mut PolledOut, progress)
            }
            Some(target) => {
                let request = CopyRequest {
                    paths,
                    target,
                    replace: self.args.overwrite,
                    follow: self.args.follow,
                };
                copy_from_snapshot(&options, &request, progress)
            }
        }
    }
}

/// What is asked of each snapshot, in the order in which they are named first.
fn groups(from: &[SnapshotPath]) -> Vec<Vec<&SnapshotPath>> {
    let mut groups: Vec<Vec<&SnapshotPath>> = Vec::new();
    for one in from {
        let is_its = |group: &&mut Vec<&SnapshotPath>| group.iter().any(|first| first.id == one.id);
        match groups.iter_mut().find(is_its) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}
