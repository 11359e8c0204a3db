//! What sysfs says of one block device now, by its number. It never opens the device. A failure to
//! read is an error here, as what is missing must not pass for what is not so.

use super::host::Host;
use super::obstacle::DiskObstacle;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, DevNumber, Sectors};
use std::path::{Path, PathBuf};

/// A device's directory in sysfs.
#[derive(Clone, Debug)]
pub struct Attributes(PathBuf);

/// What the kernel counts of a disk since it appeared, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorCounts {
    /// Written, zeroes among them.
    pub written: u64,
    /// Discarded.
    pub discarded: u64,
}

impl Attributes {
    /// Those of the device with that number, which need not be there.
    pub fn of(host: &Host, dev: DevNumber) -> Self {
        Self(host.sys.join(format!("dev/block/{dev}")))
    }

    /// Those in that directory.
    pub(super) fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        let path = self.0.join(name);
        let text = Host::attribute(&path)?;
        let number = text.map(|text| {
            text.parse().map_err(|_| {
                let message = format!("{} holds no number: {text:?}", path.display());
                Error::new(ErrorKind::Failed, message)
            })
        });
        number.transpose()
    }

    /// Whether there is such a device.
    pub fn exist(&self) -> bool {
        self.0.exists()
    }

    /// The kernel's name of the device, as its log has it; `None` when there is no such device.
    pub fn kernel_name(&self) -> Option<String> {
        let directory = self.0.canonicalize().ok()?;
        let name = directory.file_name()?.to_string_lossy();
        Some(name.replace('!', "/"))
    }

    /// The kernel's disk sequence number; `None` before 5.15, or when there is no such disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn diskseq(&self) -> Result<Option<u64>> {
        self.number("diskseq")
    }

    /// The device's size; `None` when there is no such device.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn size(&self) -> Result<Option<Bytes>> {
        Ok(self.number("size")?.map(|size| Sectors(size).bytes()))
    }

    /// What the kernel counts as written or discarded. `None` when it does not count
    /// (`queue/iostats` is off), or there is no such disk.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn changed_sectors(&self) -> Result<Option<SectorCounts>> {
        if self.number("queue/iostats")? != Some(1) {
            return Ok(None);
        }
        let text = Host::attribute(&self.0.join("stat"))?;
        Ok(text.and_then(|text| parse_stat(&text)))
    }

    /// What keeps the changes of this device from being tracked; `None` for a disk that can be.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn obstacle(&self) -> Result<Option<DiskObstacle>> {
        if self.0.join("partition").exists() {
            return Ok(Some(DiskObstacle::Partition));
        }
        if !self.0.join("mq").exists() {
            return Ok(Some(match self.is_nvme() {
                true => DiskObstacle::NvmeHead,
                false => DiskObstacle::NoRequests,
            }));
        }
        let zoned = Host::attribute(&self.0.join("queue/zoned"))?;
        if zoned.is_some_and(|zoned| zoned != "none") {
            return Ok(Some(DiskObstacle::Zoned));
        }
        let is_uncounted = self.number("queue/iostats")? == Some(0);
        Ok(is_uncounted.then_some(DiskObstacle::Uncounted))
    }

    /// Whether its driver is NVMe's, which names it: the directory is a link to one of that name.
    fn is_nvme(&self) -> bool {
        let at = self.0.canonicalize().unwrap_or_default();
        let name = at.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("nvme")
    }
}

/// Documentation/block/stat.rst: sectors written are the seventh number, sectors discarded (4.18
/// on) the fourteenth.
fn parse_stat(text: &str) -> Option<SectorCounts> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let written = numbers.nth(6)?.ok()?;
    let discarded = numbers.nth(6)?.ok()?;
    Some(SectorCounts { written, discarded })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_their_columns() {
        let text = "1 2 3 4 5 6 700 8 9 10 11 12 13 1400 15 16 17";
        let (written, discarded) = (700, 1400);
        let expected = SectorCounts { written, discarded };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("1 2 3 4 5 6 700 8 9 10 11"), None);
    }

    #[test]
    fn only_whole_ordinary_request_based_disks_are_tracked() {
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("disk");
        let obstacle = || Attributes::at(&disk).obstacle().unwrap();
        assert!(!Attributes::at(&disk).exist());
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        assert_eq!(obstacle(), Some(DiskObstacle::NoRequests));
        std::fs::create_dir(disk.join("mq")).unwrap();
        assert_eq!(obstacle(), None);
        std::fs::write(disk.join("queue/zoned"), "none\n").unwrap();
        assert_eq!(obstacle(), None);
        std::fs::write(disk.join("queue/zoned"), "host-managed\n").unwrap();
        assert_eq!(obstacle(), Some(DiskObstacle::Zoned));
        std::fs::remove_file(disk.join("queue/zoned")).unwrap();
        std::fs::write(disk.join("queue/iostats"), "0\n").unwrap();
        assert_eq!(obstacle(), Some(DiskObstacle::Uncounted));
        std::fs::write(disk.join("queue/iostats"), "1\n").unwrap();
        assert_eq!(obstacle(), None);
        std::fs::write(disk.join("partition"), "1\n").unwrap();
        assert_eq!(obstacle(), Some(DiskObstacle::Partition));
    }

    #[test]
    fn the_head_of_a_multipath_is_refused_with_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let (head, link) = (root.path().join("nvme0n1"), root.path().join("259:1"));
        std::fs::create_dir_all(head.join("queue")).unwrap();
        std::os::unix::fs::symlink(&head, &link).unwrap();
        let found = Attributes::at(&link).obstacle().unwrap().unwrap();
        assert_eq!(found, DiskObstacle::NvmeHead);
        let remedy = found.remedy("nvme0n1");
        assert!(remedy.contains("nvme_core.multipath=N"), "{remedy}");
        // A disk of one path completes its requests itself.
        std::fs::create_dir(head.join("mq")).unwrap();
        assert_eq!(Attributes::at(&link).obstacle().unwrap(), None);
    }
}
