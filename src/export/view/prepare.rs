//! What is changed of a filesystem, in memory, before the kernel's driver sees it: what would have
//! it open a device of this host, or take the filesystem for its original. It must never write to a
//! file that is not a layer of the view.

use super::btrfs::{self, BtrfsSuperblock};
use super::ext::{self, ExtNames, LogPlace};
use super::part::AttachPart;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where an xfs says in which of its blocks its log begins: zero, if on another device
/// (`struct xfs_dsb`, `fs/xfs/libxfs/xfs_format.h`).
const XFS_LOG_START: u64 = 48;

/// A part of a disk, and the file of the layer that it is in.
pub(super) struct LayerPart<'a> {
    pub(super) part: &'a AttachPart,
    pub(super) file: File,
}

impl LayerPart<'_> {
    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        if at + length as u64 > self.part.place.length.0 {
            let what = "it is too short for a superblock";
            return Err(Error::new(ErrorKind::Failed, what));
        }
        let from = self.part.place.offset + Bytes(at);
        let read = self.file.read_exact_at(&mut bytes, from.0);
        read.io_context("read", Path::new("a superblock"))?;
        Ok(bytes)
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let to = self.part.place.offset + Bytes(at);
        let written = self.file.write_all_at(bytes, to.0);
        written.io_context("write", Path::new("a superblock"))
    }
}

/// Prepares a filesystem for its driver; says where its log is.
///
/// # Errors
/// `Unsupported`: what it is, or where its parts are, is not opened here.
pub(super) fn prepare(driver: &str, parts: &[LayerPart<'_>]) -> Result<LogPlace> {
    match driver {
        "ext4" => prepare_ext(parts),
        "xfs" => prepare_xfs(parts),
        "btrfs" => rename_btrfs(parts).map(|()| LogPlace::Within),
        _ => Ok(LogPlace::Within),
    }
}

fn prepare_ext(parts: &[LayerPart<'_>]) -> Result<LogPlace> {
    let mut log = LogPlace::Within;
    for part in parts {
        let superblock = ExtNames::new(part.read(ext::SUPERBLOCK, ext::LENGTH)?)?;
        log = superblock.log();
        if let Some(bytes) = superblock.without_names() {
            part.write(ext::SUPERBLOCK, &bytes)?;
        }
    }
    Ok(log)
}

/// The driver opens no device that it is not told of, but it does not say what it lacks.
fn prepare_xfs(parts: &[LayerPart<'_>]) -> Result<LogPlace> {
    for part in parts {
        if part.read(XFS_LOG_START, 8)?.iter().all(|byte| *byte == 0) {
            let what = "its log is on another device, and xfs is not opened without it";
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
    }
    Ok(LogPlace::Within)
}

/// Gives a btrfs a UUID that no other has.
fn rename_btrfs(parts: &[LayerPart<'_>]) -> Result<()> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
    for part in parts {
        let superblock = BtrfsSuperblock::new(part.read(btrfs::SUPERBLOCK, btrfs::LENGTH)?)?;
        let devices = superblock.devices();
        if devices != parts.len() as u64 {
            let what = format!(
                "this btrfs is on {devices} devices, and {} of them are here",
                parts.len()
            );
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        part.write(btrfs::SUPERBLOCK, &superblock.renamed(name))?;
    }
    Ok(())
}
