//! What the tracker asks sysfs of a disk, by device number. It must never open the disk.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, DevNumber, SECTOR_SIZE};
use std::io;
use std::path::{Path, PathBuf};

fn directory(dev: DevNumber) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{dev}"))
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

fn number(path: &Path) -> Result<Option<u64>> {
    read(path)?
        .map(|text| {
            text.parse().map_err(|_| {
                let message = format!("{} holds no number: {text:?}", path.display());
                Error::new(ErrorKind::Failed, message)
            })
        })
        .transpose()
}

/// The kernel's disk sequence number; none before 5.15, or when there is no such disk.
pub(super) fn diskseq(dev: DevNumber) -> Result<Option<u64>> {
    number(&directory(dev).join("diskseq"))
}

/// Whether a disk has this device number.
pub(super) fn exists(dev: DevNumber) -> bool {
    directory(dev).exists()
}

/// The disk's size; none when there is no such disk.
pub(super) fn size(dev: DevNumber) -> Result<Option<Bytes>> {
    let sectors = number(&directory(dev).join("size"))?;
    Ok(sectors.map(|sectors| Bytes(sectors.saturating_mul(SECTOR_SIZE))))
}

/// How many sectors the kernel counts as written or discarded on the disk since it appeared. `None`
/// when it does not count (`queue/iostats` is off) or there is no such disk.
pub(super) fn changed_sectors(dev: DevNumber) -> Result<Option<u64>> {
    let directory = directory(dev);
    if number(&directory.join("queue/iostats"))? != Some(1) {
        return Ok(None);
    }
    let path = directory.join("stat");
    Ok(read(&path)?.and_then(|text| parse_stat(&text)))
}

/// Documentation/block/stat.rst: sectors written are the seventh number, sectors discarded (4.18
/// on) the fourteenth.
fn parse_stat(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let written = numbers.nth(6)?.ok()?;
    let discarded = numbers.nth(6)?.ok()?;
    written.checked_add(discarded)
}

/// Fails with the reason when the block layer does not tell of every change to such a disk.
pub(super) fn check_trackable(dev: DevNumber) -> Result<()> {
    check_trackable_in(&directory(dev), dev)
}

fn check_trackable_in(directory: &Path, dev: DevNumber) -> Result<()> {
    let refuse = |why: &str, hint: &str| {
        let message = format!("disk {dev} cannot be tracked: {why}");
        Err(Error::new(ErrorKind::Unsupported, message).with_hint(hint.to_owned()))
    };
    if !directory.exists() {
        let message = format!("there is no disk {dev}");
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    if directory.join("partition").exists() {
        return refuse("it is a partition", "track the whole disk it lies on");
    }
    if !directory.join("mq").exists() {
        return refuse(
            "its driver completes no requests that could be seen (device-mapper, md, zram, pmem, \
             NVMe multipath)",
            "track the disks below it, or take snapshots of it by comparing",
        );
    }
    match read(&directory.join("queue/zoned"))?.as_deref() {
        None | Some("none") => Ok(()),
        Some(_) => refuse(
            "it is a zoned disk, whose requests do not say what they change",
            "take snapshots of it by comparing",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_their_columns() {
        let text = "1 2 3 4 5 6 700 8 9 10 11 12 13 1400 15 16 17";
        assert_eq!(parse_stat(text), Some(2100));
        assert_eq!(parse_stat("1 2 3 4 5 6 700 8 9 10 11"), None);
    }

    #[test]
    fn only_whole_ordinary_request_based_disks_are_tracked() {
        let dev = DevNumber { major: 1, minor: 2 };
        let root = tempfile::tempdir().unwrap();
        let disk = root.path().join("disk");
        let kind = || check_trackable_in(&disk, dev).map_err(|error| error.kind());
        assert_eq!(kind(), Err(ErrorKind::NotFound));
        std::fs::create_dir_all(disk.join("queue")).unwrap();
        assert_eq!(kind(), Err(ErrorKind::Unsupported));
        std::fs::create_dir(disk.join("mq")).unwrap();
        assert_eq!(kind(), Ok(()));
        std::fs::write(disk.join("queue/zoned"), "none\n").unwrap();
        assert_eq!(kind(), Ok(()));
        std::fs::write(disk.join("queue/zoned"), "host-managed\n").unwrap();
        assert_eq!(kind(), Err(ErrorKind::Unsupported));
        std::fs::remove_file(disk.join("queue/zoned")).unwrap();
        std::fs::write(disk.join("partition"), "1\n").unwrap();
        assert_eq!(kind(), Err(ErrorKind::Unsupported));
    }
}
