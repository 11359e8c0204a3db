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

/// The kernel's name of the disk, as its log has it; none when there is no such disk.
pub(super) fn name(dev: DevNumber) -> Option<String> {
    let directory = directory(dev).canonicalize().ok()?;
    let name = directory.file_name()?.to_string_lossy();
    Some(name.replace('!', "/"))
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

/// What the kernel counts of a disk since it appeared, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SectorCounts {
    /// Written, zeroes among them.
    pub written: u64,
    /// Discarded.
    pub discarded: u64,
}

/// What the kernel counts as written or discarded on the disk. `None` when it does not count
/// (`queue/iostats` is off) or there is no such disk.
pub(super) fn changed_sectors(dev: DevNumber) -> Result<Option<SectorCounts>> {
    let directory = directory(dev);
    if number(&directory.join("queue/iostats"))? != Some(1) {
        return Ok(None);
    }
    let path = directory.join("stat");
    Ok(read(&path)?.and_then(|text| parse_stat(&text)))
}

/// Documentation/block/stat.rst: sectors written are the seventh number, sectors discarded (4.18
/// on) the fourteenth.
fn parse_stat(text: &str) -> Option<SectorCounts> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let written = numbers.nth(6)?.ok()?;
    let discarded = numbers.nth(6)?.ok()?;
    Some(SectorCounts { written, discarded })
}

/// Disks of which the kernel does not count what is written to them.
pub(super) fn uncounted() -> Vec<PathBuf> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten();
    let disks = disks.flatten().map(|disk| disk.path());
    let is = |disk: &PathBuf, name: &str, value| number(&disk.join(name)).ok().flatten() == value;
    disks
        .filter(|disk| disk.join("mq").exists() && !is(disk, "size", Some(0)))
        .filter(|disk| is(disk, "queue/iostats", Some(0)))
        .collect()
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
    if !directory.join("mq").exists() && is_nvme(directory) {
        return refuse(
            "it is the head of an NVMe multipath, whose requests complete on paths that are hidden",
            "boot with nvme_core.multipath=N on the kernel's command line, unless several paths \
             lead to it",
        );
    }
    if !directory.join("mq").exists() {
        return refuse(
            "its driver completes no requests that could be seen (device-mapper, md, zram, pmem)",
            "of LVM, RAID and encryption, name the disks they lie on; of the others no snapshot \
             can be taken",
        );
    }
    let iostats = directory.join("queue/iostats");
    if number(&iostats)? == Some(0) {
        return refuse(
            "the kernel does not count what is written to it, and could not tell lost marks",
            &format!("echo 1 > {}", iostats.display()),
        );
    }
    match read(&directory.join("queue/zoned"))?.as_deref() {
        None | Some("none") => Ok(()),
        Some(_) => refuse(
            "it is a zoned disk, whose requests do not say what they change",
            "leave it out: this version cannot take a snapshot of it",
        ),
    }
}

/// Whether its driver is NVMe's, which names it: the directory is a link to one of that name.
fn is_nvme(directory: &Path) -> bool {
    let at = directory.canonicalize().unwrap_or_default();
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("nvme")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_their_columns() {
        let text = "1 2 3 4 5 6 700 8 9 10 11 12 13 1400 15 16 17";
        let (written, discarded) = (700, 1400);
        assert_eq!(parse_stat(text), Some(SectorCounts { written, discarded }));
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
        std::fs::write(disk.join("queue/iostats"), "0\n").unwrap();
        assert_eq!(kind(), Err(ErrorKind::Unsupported));
        std::fs::write(disk.join("queue/iostats"), "1\n").unwrap();
        assert_eq!(kind(), Ok(()));
        std::fs::write(disk.join("partition"), "1\n").unwrap();
        assert_eq!(kind(), Err(ErrorKind::Unsupported));
    }

    #[test]
    fn the_head_of_a_multipath_is_refused_with_the_remedy() {
        let dev = DevNumber {
            major: 259,
            minor: 1,
        };
        let root = tempfile::tempdir().unwrap();
        let (head, link) = (root.path().join("nvme0n1"), root.path().join("259:1"));
        std::fs::create_dir_all(head.join("queue")).unwrap();
        std::os::unix::fs::symlink(&head, &link).unwrap();
        let error = check_trackable_in(&link, dev).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let hint = error.hint().unwrap();
        assert!(hint.contains("nvme_core.multipath=N"), "{hint}");
        // A disk of one path completes its requests itself.
        std::fs::create_dir(head.join("mq")).unwrap();
        assert_eq!(check_trackable_in(&link, dev).map_err(|e| e.kind()), Ok(()));
    }
}
