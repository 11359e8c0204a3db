//! `cp`: what is copied, and in which order: all paths are found before the first one is copied.

use super::attach::{BrowseOptions, Browsed, browse};
use super::target::CopyTarget;
use super::told_once::ToldOnce;
use crate::engine::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::export::{
    DataFailure, NodeKind, NodeSeen, TreeCopyOptions, TreeCopyOutcome, TreeNode, TreeTarget,
    copy_to_stream, copy_tree, unreadable,
};
use crate::model::{Bytes, printable};
use crate::sys::handle::open_handle;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What is to be copied.
pub struct CopyRequest<'a> {
    /// Paths in the snapshot.
    pub paths: &'a [PathBuf],
    /// Where to.
    pub target: &'a CopyTarget,
    /// Replace what is there.
    pub replace: bool,
    /// Copy what a path leads to where it ends in a symlink.
    pub follow: bool,
}

/// Something that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTop {
    /// Where it is in the snapshot.
    pub from: PathBuf,
    /// Where it was copied to.
    pub to: PathBuf,
    /// Where it leads to, if it is a symlink that was copied as one.
    pub link: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct CopyResult {
    /// What was asked for, in this order; without what could not be copied at all.
    pub tops: Vec<CopiedTop>,
    /// All that was copied.
    pub outcome: TreeCopyOutcome,
    /// What is to be known of it.
    pub warnings: Vec<String>,
}

impl CopyResult {
    /// Of one file that went to a stream.
    fn streamed(data: Bytes) -> Self {
        let outcome = TreeCopyOutcome {
            files: 1,
            data,
            ..TreeCopyOutcome::default()
        };
        Self {
            outcome,
            ..Self::default()
        }
    }
}

/// Copies files and trees of a snapshot.
///
/// # Errors
/// Nothing of what is named in it was copied. What was copied whole before stays.
pub fn copy_from_snapshot(
    options: &BrowseOptions<'_>,
    request: &CopyRequest<'_>,
    monitor: &dyn Monitor,
) -> Result<CopyResult> {
    let told = ToldOnce::new(monitor);
    let monitor: &dyn Monitor = &told;
    let copied = browse(options, request.paths, monitor, |browsed| {
        let mut found = Vec::new();
        for path in request.paths {
            let node = browsed.find(path, request.follow)?;
            browsed.need_all_below(&node.place)?;
            found.push((path, node));
        }
        let mut result = CopyResult::default();
        for (path, node) in found {
            copy_one(browsed, path, node, request, monitor, &mut result)
                .map_err(|error| also_copied(error, &result))?;
        }
        Ok(result)
    });
    copied.map(|result| CopyResult {
        warnings: told.warnings(),
        ..result
    })
}

fn copy_one(
    browsed: &Browsed<'_>,
    path: &Path,
    node: TreeNode,
    request: &CopyRequest<'_>,
    monitor: &dyn Monitor,
    result: &mut CopyResult,
) -> Result<()> {
    let shown = request.target.place_of(path)?;
    let directory = request.target.directory();
    let mut open = File::options();
    let open = open.read(true).custom_flags(libc::O_DIRECTORY);
    let opened = open.open(directory).io_context("open", directory)?;
    let to = TreeTarget {
        directory: Arc::new(opened.into()),
        name: request.target.name_of(path)?.to_owned(),
        replace: request.replace,
        shown: shown.clone(),
    };
    let size = match (&node.seen, node.seen.kind()) {
        (NodeSeen::File { stat, .. }, Some(NodeKind::File)) => stat.st_size.unsigned_abs(),
        _ => 0,
    };
    let from = node.place.clone();
    let link = link_of(&node);
    let before = result.outcome.data;
    let done = AtomicU64::new(before.0);
    let options = TreeCopyOptions {
        source: browsed.source(),
        cancel: &|| monitor.check(),
        progress: &|bytes| {
            let done = Bytes(done.fetch_add(bytes.0, Ordering::Relaxed) + bytes.0);
            let total = done.max(before + Bytes(size));
            monitor.tell(Event::Progress { done, total });
        },
    };
    let outcome = copy_tree(node, &to, options)?;
    let whole = outcome.failures.iter().all(|failure| failure.place != from);
    if whole {
        result.tops.push(CopiedTop {
            from,
            to: shown,
            link,
        });
    }
    result.outcome.add(outcome);
    Ok(())
}

fn link_of(node: &TreeNode) -> Option<PathBuf> {
    let NodeSeen::File { handle, .. } = &node.seen else {
        return None;
    };
    let is_link = node.seen.kind() == Some(NodeKind::Link);
    let to = is_link.then(|| nix::fcntl::readlinkat(handle, "").ok());
    Some(PathBuf::from(to??))
}

/// What was copied whole before something failed stays.
fn also_copied(error: Error, result: &CopyResult) -> Error {
    let whole: Vec<String> = result
        .tops
        .iter()
        .map(|top| printable::path(&top.to))
        .collect();
    match whole.is_empty() {
        true => error,
        false => error.and_said(format!("copied before: {}", whole.join(", "))),
    }
}

/// Writes one file to a stream.
///
/// # Errors
/// `Usage`: it is no plain file. Else some of it may have been written.
pub fn stream_from_snapshot(
    options: &BrowseOptions<'_>,
    path: &Path,
    to: &mut (dyn Write + Send),
    monitor: &dyn Monitor,
) -> Result<CopyResult> {
    let told = ToldOnce::new(monitor);
    let monitor: &dyn Monitor = &told;
    let to = Mutex::new(to);
    let streamed = browse(options, &[path.to_owned()], monitor, |browsed| {
        let node = browsed.find(path, true)?;
        let (NodeSeen::File { handle, stat }, Some(NodeKind::File)) =
            (&node.seen, node.seen.kind())
        else {
            return Err(no_file(&printable::path(&node.place)));
        };
        let unread = |error: io::Error| unreadable(&node.place, error);
        let from = open_handle(handle, OFlag::O_RDONLY | OFlag::O_NONBLOCK).map_err(unread)?;
        let size = Bytes(stat.st_size.unsigned_abs());
        let mut done = Bytes(0);
        let mut to = to.lock().unwrap_or_else(|poison| poison.into_inner());
        let written = copy_to_stream(&File::from(from), &mut **to, size, &mut |bytes| {
            done += bytes;
            monitor.tell(Event::Progress { done, total: size });
            monitor.check()
        });
        let failed = match written {
            Ok(()) => return Ok(size),
            Err(DataFailure::Read(error)) => unread(error),
            Err(DataFailure::Stop(error)) => error,
            Err(DataFailure::Write(error)) => {
                // A writer that waits for its reader ends when it shall stop.
                monitor.check()?;
                Error::io("write", Path::new("standard output"), error)
            }
        };
        Err(failed.and_said(format!("{done} of it were written")))
    });
    streamed.map(|data| CopyResult {
        warnings: told.warnings(),
        ..CopyResult::streamed(data)
    })
}

fn no_file(place: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("{place} is no plain file"))
        .with_hint("only one file can go to standard output: name a directory to copy to")
}
