//! What this host is like at one moment: its devices and what is mounted on them, scanned together.
//! It opens no disk but for a look at partition tables.

use super::backing::Backing;
use super::disk::Disk;
use super::host::Host;
use super::mounts::Mounts;
use super::table::NoTables;
use super::topology::Topology;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::DevNumber;
use crate::sys::mountinfo::mounted_device;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The devices of a host and what is mounted on them, as they were at one moment.
#[derive(Clone, Debug)]
pub struct HostLayout {
    /// Where they were read.
    pub host: Host,
    /// Its devices.
    pub topology: Topology,
    /// What is mounted.
    pub mounts: Mounts,
}

impl HostLayout {
    /// Scans this host, partition tables included.
    ///
    /// # Errors
    /// When its devices or mounts cannot be listed.
    pub fn scan() -> Result<Self> {
        let host = Host::here();
        let topology = Topology::scan(&host, &host)?;
        Self::with(host, topology)
    }

    /// The same without opening any disk: what is mounted and swapped to, and on what.
    ///
    /// # Errors
    /// As for [`Self::scan`].
    pub fn scan_mounts() -> Result<Self> {
        let host = Host::here();
        let topology = Topology::scan(&host, &NoTables)?;
        Self::with(host, topology)
    }

    fn with(host: Host, topology: Topology) -> Result<Self> {
        let mounts = Mounts::read(&host, &topology)?;
        Ok(Self {
            host,
            topology,
            mounts,
        })
    }

    /// The disks that a user named, each once.
    ///
    /// # Errors
    /// As for [`Topology::resolve_disk`].
    pub fn resolve(&self, names: &[String]) -> Result<Vec<Disk>> {
        let mut disks: Vec<Disk> = Vec::new();
        for name in names {
            let disk = self.topology.resolve_disk(&self.host, name);
            let disk = disk.map_err(|error| self.named_by_its_place(name, error))?;
            if !disks.iter().any(|known| known.dev() == disk.dev()) {
                disks.push(disk.clone());
            }
        }
        Ok(disks)
    }

    /// What a file lies on. The mount decides: each subvolume of btrfs has an `st_dev` of its own.
    /// Where the mount is gone, `st_dev` decides.
    ///
    /// # Errors
    /// When the file cannot be looked at, or the table of mounts not be read.
    pub fn backing_of(&self, file: File, path: &Path) -> Result<Backing<'_>> {
        let number = file.metadata().io_context("look at", path)?.dev();
        let number = DevNumber::from_dev_t(number);
        let device = mounted_device(&OwnedFd::from(file), None)?.unwrap_or(number);
        Ok(self.mounts.backing(device))
    }

    /// The same refusal; for a file or directory, one that names the disk below it.
    fn named_by_its_place(&self, name: &str, error: Error) -> Error {
        let path = Path::new(name);
        let place = || -> Option<Backing<'_>> {
            if error.kind() != ErrorKind::Usage || !name.contains('/') {
                return None;
            }
            // A handle: nothing behind it is opened.
            let mut options = File::options();
            let handle = options.read(true).custom_flags(libc::O_PATH).open(path);
            self.backing_of(handle.ok()?, path).ok()
        };
        let Some(Backing::Filesystem(filesystem)) = place() else {
            return error;
        };
        let direct = filesystem.direct.map(|direct| direct.disk);
        let is_meant = |dev: &&DevNumber| direct.is_none_or(|direct| direct == **dev);
        let below = filesystem.disks.iter().filter(is_meant);
        let below = below.filter_map(|dev| Some(self.topology.disk(*dev)?.name()));
        let below: Vec<&str> = below.collect();
        let target = filesystem.target().display();
        let message = format!(
            "{name} is no disk; it lies in {target}, on {}",
            below.join(", ")
        );
        let hint = format!(
            "snapshots are of whole disks: stillpoint snapshot {}",
            below.join(" ")
        );
        match below.is_empty() {
            true => error,
            false => Error::new(ErrorKind::Usage, message).with_hint(hint),
        }
    }
}
