//! Which disk a user means by a name. It must never take one disk for another.

use super::alias::ONE_PATH;
use super::disk::{Disk, TOO_LARGE};
use super::host::Host;
use super::kind::DeviceKind;
use super::name::head_of_path;
use super::topology::{Device, Topology};
use crate::error::{Error, ErrorKind, Result};
use crate::model::DevNumber;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

const SEE_DISKS: &str = "`stillpoint disks` lists the disks of this host";

impl Topology {
    /// The disk that a user means by `/dev/vda`, `vda`, a link below `/dev/disk`, or a serial
    /// number or world-wide name.
    ///
    /// # Errors
    /// `Usage` for a partition, a path that is no block device, and a serial that two disks have;
    /// `NotFound` for what is not there; `Unsupported` for a device that is not a disk of its own,
    /// one without a size, and one of 2^32 blocks or more.
    pub fn resolve_disk(&self, host: &Host, text: &str) -> Result<&Disk> {
        let device = if text.contains('/') {
            self.by_path(host, text)?
        } else if let Some(device) = self.named(text) {
            device
        } else if let Some(disk) = self.by_serial(text)? {
            return usable(disk);
        } else if let Some(head) = head_of_path(text).filter(|head| self.named(head).is_some()) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{text} is one path to a disk: give the disk, {head}"),
            ));
        } else {
            let message = format!("no disk here is called {text:?} or has that serial");
            return Err(Error::new(ErrorKind::NotFound, message).with_hint(SEE_DISKS));
        };
        match self.disk(device.dev) {
            Some(disk) => usable(disk),
            None => Err(self.not_a_disk(text, device)),
        }
    }

    fn by_path(&self, host: &Host, text: &str) -> Result<&Device> {
        let given = Path::new(text);
        let path = host.device_node(given);
        let path = path.as_deref().unwrap_or(given);
        let unknown = || {
            let message = format!("{text} is not a disk that this host knows");
            Error::new(ErrorKind::NotFound, message).with_hint(SEE_DISKS)
        };
        let attributes = fs::metadata(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => unknown(),
            _ => Error::io("look at", given, error),
        })?;
        if attributes.file_type().is_block_device() {
            let number = DevNumber::from_dev_t(attributes.rdev());
            return self.device(number).ok_or_else(unknown);
        }
        // On a recorded host the nodes are plain files, known by their names.
        let recorded =
            (host.dev != Path::new("/dev")).then(|| self.node_through_links(host, given));
        recorded.flatten().ok_or_else(|| {
            let message = format!("{text} is not a block device");
            Error::new(ErrorKind::Usage, message).with_hint(SEE_DISKS)
        })
    }

    fn by_serial(&self, text: &str) -> Result<Option<&Disk>> {
        let mut matching = self.disks().filter(|disk| {
            [&disk.identity.serial, &disk.identity.wwn]
                .into_iter()
                .flatten()
                .any(|name| name == text)
        });
        let found = matching.next();
        if let (Some(one), Some(other)) = (found, matching.next()) {
            let (one, other) = (one.name(), other.name());
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{one} and {other} both have the serial {text}"),
            )
            .with_hint(format!(
                "if they are two disks, give one by its name; if they are two paths to one: \
                 {ONE_PATH}"
            )));
        }
        Ok(found)
    }

    fn not_a_disk(&self, text: &str, device: &Device) -> Error {
        let below: Vec<&str> = self
            .bottom(device.dev)
            .into_iter()
            .filter(|dev| *dev != device.dev)
            .filter_map(|dev| Some(self.device(dev)?.name.as_str()))
            .collect();
        let below = below.join(", ");
        if device.kind == DeviceKind::Partition {
            let message = format!("{text} is a partition of {below}");
            return Error::new(ErrorKind::Usage, message)
                .with_hint(format!("snapshots are of whole disks: give {below}"));
        }
        let what = device.kind.description();
        let error = Error::new(
            ErrorKind::Unsupported,
            format!("{text} is {what}, not a disk of its own"),
        );
        if self.has_paths(device.dev) {
            error.with_hint(format!(
                "it lies on several paths to one disk ({below}), of which none sees what is \
                 written through another: {ONE_PATH}"
            ))
        } else if below.is_empty() {
            error.with_hint(SEE_DISKS)
        } else {
            error.with_hint(format!("give what it lies on: {below}"))
        }
    }
}

fn usable(disk: &Disk) -> Result<&Disk> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Unsupported, why));
    let path = disk.path.display();
    if disk.identity.size.0 == 0 {
        return refuse(format!("{path} has no size: there is nothing in it"));
    }
    if disk.is_too_large() {
        let size = disk.identity.size;
        return refuse(format!("{path} has {size}: {TOO_LARGE}"));
    }
    Ok(disk)
}
