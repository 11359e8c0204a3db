//! `cp`: files and trees of snapshots, copied to a directory of this host.

use super::args::{Common, CpArgs, SnapshotPath};
use super::browse::{find_manifest, find_scope};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{
    BrowseOptions, CopyRequest, CopyResult, copy_from_snapshot, find_target, is_stdout,
    stream_from_snapshot,
};
use crate::error::{Error, ErrorKind, Result};
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
    if !to_stdout(args) {
        // What can be refused here costs no request.
        find_target(&args.dest, &paths, args.overwrite)?;
    }
    let vault = context::open_vault(common)?;
    context::asking(&vault, progress, || copy(args, common, &vault, progress))
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

fn copy(
    args: &CpArgs,
    common: &Common,
    vault: &Arc<Vault>,
    progress: &ProgressDisplay,
) -> Result<Report> {
    vault.need_to_read()?;
    let mut all = Vec::new();
    for group in groups(&args.from) {
        let Some(first) = group.first() else { continue };
        let manifest = find_manifest(vault, first, &args.inside, progress)?;
        let scope = find_scope(vault, &manifest, &args.inside)?;
        let paths: Vec<PathBuf> = group.iter().filter_map(|one| one.path.clone()).collect();
        let options = BrowseOptions {
            vault,
            manifest: &manifest,
            scope,
            run_dir: &common.run_dir,
        };
        let result = match to_stdout(args) {
            true => {
                let path = paths.first().map_or(Path::new("/"), PathBuf::as_path);
                let mut out = std::io::stdout();
                CopyResult::streamed(stream_from_snapshot(&options, path, &mut out, progress)?)
            }
            false => {
                let target = find_target(&args.dest, &paths, args.overwrite)?;
                let request = CopyRequest {
                    paths: &paths,
                    target: &target,
                    replace: args.overwrite,
                    follow: args.follow,
                };
                copy_from_snapshot(&options, &request, progress)?
            }
        };
        all.push(CopiedFrom {
            snapshot: manifest.snapshot,
            host: manifest.host,
            result,
        });
    }
    Ok(cp::report(&all))
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
