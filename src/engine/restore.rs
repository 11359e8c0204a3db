//! `restore`: one disk of a snapshot onto a target.

use super::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{BLOCK_SIZE, Bytes, Content};
use crate::restore::{CopyOptions, CopyReport, RawFile, Target, TargetDisk, copy};
use crate::store::Vault;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Which disk of the snapshot; may be left out when it has just one.
    pub disk: Option<String>,
    /// A block device, or a file that is made.
    pub target: PathBuf,
    /// Replace a file that is there.
    pub force: bool,
    /// Restore what can be restored of a damaged snapshot.
    pub keep_going: bool,
    /// How many threads.
    pub workers: usize,
}

/// Restores; answers what was restored. With damage and `keep_going` the report says what is
/// missing.
pub fn restore<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<(&'m DiskRecord, CopyReport)> {
    let disk = choose_disk(manifest, options.disk.as_deref())?;
    refuse_the_vault(vault, &options.target)?;
    let size = disk.identity.size;
    monitor.tell(Event::Phase(format!(
        "reading the index of {}",
        disk.identity.name
    )));
    let map = vault.load_index(&disk.index, size.0.div_ceil(BLOCK_SIZE))?;
    refuse_planted_link(&options.target)?;
    let is_device =
        fs::metadata(&options.target).is_ok_and(|found| found.file_type().is_block_device());
    let target: Box<dyn Target> = if is_device {
        Box::new(TargetDisk::open(
            &options.target,
            size,
            disk.identity.logical_block,
        )?)
    } else {
        Box::new(RawFile::create(&options.target, size, options.force)?)
    };
    let data = map
        .iter()
        .filter(|run| matches!(run.content, Content::Data { .. }));
    let total = Bytes(data.map(|run| run.count * BLOCK_SIZE).sum());
    monitor.tell(Event::Phase(format!(
        "restoring to {}",
        options.target.display()
    )));
    let told = AtomicU64::new(0);
    let progress = |done: Bytes| {
        let step = done.0 >> 24;
        if told.fetch_max(step, Ordering::Relaxed) < step {
            monitor.tell(Event::Progress { done, total });
        }
    };
    let report = copy(
        vault,
        &map,
        size,
        target.as_ref(),
        CopyOptions {
            workers: options.workers,
            keep_going: options.keep_going,
            stop: &|| monitor.check(),
            progress: &progress,
        },
    )
    .map_err(|error| explain(error, options, is_device))?;
    target.finish()?;
    Ok((disk, report))
}

fn explain(error: Error, options: &RestoreOptions, is_device: bool) -> Error {
    let state = if is_device {
        "the target is not whole"
    } else {
        "no file was made"
    };
    let damaged = error.kind() == ErrorKind::Damaged;
    let error = error.context(format!(
        "cannot restore to {}; {state}",
        options.target.display()
    ));
    if damaged {
        error.with_hint(
            "what is not damaged can be had with --keep-going, or restore an older snapshot; \
             `stillpoint verify --all` says which are whole",
        )
    } else {
        error
    }
}

/// The disk of a snapshot that `name` means: the kernel's name at the time, `/dev/…` or a serial.
pub fn choose_disk<'m>(manifest: &'m Manifest, name: Option<&str>) -> Result<&'m DiskRecord> {
    let names: Vec<&str> = manifest
        .disks
        .iter()
        .map(|disk| disk.identity.name.as_str())
        .collect();
    let there = names.join(", ");
    match (name, manifest.disks.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Error::new(
            ErrorKind::Usage,
            format!("the snapshot has several disks: {there}"),
        )
        .with_hint("say which with --disk")),
        (Some(name), disks) => {
            let wanted = name.strip_prefix("/dev/").unwrap_or(name);
            let found = disks.iter().find(|disk| {
                disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(name)
            });
            found.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("the snapshot has no disk {name:?}"),
                )
                .with_hint(format!("it has: {there}"))
            })
        }
    }
}

/// A link to a device counts only where root alone makes links: below `/dev`.
fn refuse_planted_link(target: &Path) -> Result<()> {
    let is_link = fs::symlink_metadata(target).is_ok_and(|found| found.file_type().is_symlink());
    if !is_link || target.starts_with("/dev") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Exists,
        format!(
            "{} is a symbolic link; nothing was written",
            target.display()
        ),
    )
    .with_hint("name the device itself, or a file"))
}

fn refuse_the_vault(vault: &Vault, target: &Path) -> Result<()> {
    let Some(root) = vault.local_path() else {
        return Ok(());
    };
    let folder = if target.is_dir() {
        Some(target)
    } else {
        target.parent()
    };
    let folder = match folder {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let inside = match (fs::canonicalize(root), fs::canonicalize(folder)) {
        (Ok(root), Ok(folder)) => folder.starts_with(root),
        _ => false,
    };
    if inside {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} is inside the vault; nothing was written",
                target.display()
            ),
        )
        .with_hint("name a target outside the vault"));
    }
    Ok(())
}
