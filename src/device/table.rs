//! The name that a partition table gives its disk. It only reads, and a damaged table is no table.

use super::host::Host;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Something that can be read at any place: a disk, or a test's bytes.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// Opens a disk, given its name in sysfs, for a look at its partition table. `None` when it cannot
/// be opened.
pub trait OpenDisk {
    /// The disk's bytes.
    fn open(&self, name: &str) -> Option<Box<dyn ReadSeek>>;
}

/// Opens the disks of a host through their nodes in `/dev`.
impl OpenDisk for Host {
    fn open(&self, name: &str) -> Option<Box<dyn ReadSeek>> {
        let file = File::open(self.dev.join(super::name::node_name(name))).ok()?;
        Some(Box::new(file))
    }
}

/// Opens nothing: for when table names do not matter.
pub struct NoTables;

impl OpenDisk for NoTables {
    fn open(&self, _name: &str) -> Option<Box<dyn ReadSeek>> {
        None
    }
}

/// Largest sector size of any disk here.
const SECTOR_LIMIT: u32 = 64 * 1024;

/// The GPT disk GUID (lower case, with dashes), or the MBR signature (eight hex digits), both as
/// `blkid` prints them. `None` when there is no table, or it is damaged, or it cannot be read.
pub fn table_id(disk: &mut dyn ReadSeek, sector: u32) -> Option<String> {
    if !(512..=SECTOR_LIMIT).contains(&sector) {
        return None;
    }
    let sector = u64::from(sector);
    let mut mbr = [0; 512];
    read_at(disk, 0, &mut mbr)?;
    gpt_at(disk, sector, 1).or_else(|| {
        let protective = partitions(&mbr).any(|entry| entry.get(4) == Some(&0xEE));
        if !protective {
            return mbr_signature(&mbr);
        }
        let last = disk.seek(SeekFrom::End(0)).ok()? / sector;
        gpt_at(disk, sector, last.checked_sub(1)?)
    })
}

fn read_at(disk: &mut dyn ReadSeek, offset: u64, bytes: &mut [u8]) -> Option<()> {
    disk.seek(SeekFrom::Start(offset)).ok()?;
    disk.read_exact(bytes).ok()
}

/// The GUID in the GPT header of that sector (UEFI specification, 5.3.2), when its checksum is
/// right.
fn gpt_at(disk: &mut dyn ReadSeek, sector: u64, lba: u64) -> Option<String> {
    let mut header = vec![0; usize::try_from(sector).ok()?];
    read_at(disk, lba.checked_mul(sector)?, &mut header)?;
    if !header.starts_with(b"EFI PART") {
        return None;
    }
    let length = usize::try_from(le32(&header, 12)?).ok()?;
    let stored = le32(&header, 16)?;
    if length < 92 || u64::from(le32(&header, 24)?) != lba & 0xffff_ffff {
        return None;
    }
    header.get_mut(16..20)?.fill(0);
    if crc32fast::hash(header.get(..length)?) != stored {
        return None;
    }
    let guid = header.get(56..72)?;
    let part = |bytes: &[u8], turned: bool| {
        let mut bytes = bytes.to_vec();
        if turned {
            bytes.reverse();
        }
        hex::encode(bytes)
    };
    Some(format!(
        "{}-{}-{}-{}-{}",
        part(guid.get(0..4)?, true),
        part(guid.get(4..6)?, true),
        part(guid.get(6..8)?, true),
        part(guid.get(8..10)?, false),
        part(guid.get(10..16)?, false),
    ))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn partitions(mbr: &[u8; 512]) -> impl Iterator<Item = &[u8]> {
    mbr[446..510].chunks_exact(16)
}

/// Whether a first sector truly holds a partition table: a FAT boot sector ends in 55 AA too.
pub fn has_mbr(sector: &[u8; 512]) -> bool {
    let fat = |at: usize| sector.get(at..at + 3) == Some(b"FAT");
    let boots = partitions(sector).all(|entry| matches!(entry.first(), Some(0 | 0x80)));
    let used = partitions(sector).any(|entry| entry.get(4).is_some_and(|kind| *kind != 0));
    let boot_sector = fat(54) || fat(82) || sector.get(3..7) == Some(b"NTFS");
    sector.ends_with(&[0x55, 0xAA]) && boots && used && !boot_sector
}

/// The signature at 440 of a partition table.
fn mbr_signature(mbr: &[u8; 512]) -> Option<String> {
    let signature = le32(mbr, 440).filter(|_| has_mbr(mbr))?;
    (signature != 0).then(|| format!("{signature:08x}"))
}

/// The table's name, of the disk with that name in sysfs. A disk that its driver calls offline is
/// not touched: reading it could hang.
pub(super) fn of_disk(
    folder: &Path,
    name: &str,
    sector: u32,
    open: &dyn OpenDisk,
) -> Option<String> {
    let state = Host::text(&folder.join("device/state"));
    if !matches!(state.as_deref(), None | Some("running" | "live")) {
        return None;
    }
    table_id(&mut *open.open(name)?, sector)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const GUID: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";

    fn header(sector: usize, lba: u32) -> Vec<u8> {
        let mut header = vec![0; sector];
        header[..8].copy_from_slice(b"EFI PART");
        header[12..16].copy_from_slice(&92_u32.to_le_bytes());
        header[24..28].copy_from_slice(&lba.to_le_bytes());
        header[56..72].copy_from_slice(&[
            0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e,
            0xc9, 0x3b,
        ]);
        let sum = crc32fast::hash(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    }

    fn disk(sector: usize) -> Vec<u8> {
        let mut disk = vec![0; 100 * sector];
        disk[446 + 4] = 0xEE;
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        disk[sector..2 * sector].copy_from_slice(&header(sector, 1));
        disk[99 * sector..].copy_from_slice(&header(sector, 99));
        disk
    }

    fn id(disk: &[u8], sector: u32) -> Option<String> {
        table_id(&mut Cursor::new(disk), sector)
    }

    #[test]
    fn a_gpt_is_found_whatever_the_sector_size() {
        assert_eq!(id(&disk(512), 512).as_deref(), Some(GUID));
        assert_eq!(id(&disk(4096), 4096).as_deref(), Some(GUID));
        assert_eq!(id(&disk(4096), 512), None);
    }

    #[test]
    fn the_backup_speaks_when_the_first_is_damaged() {
        let mut damaged = disk(512);
        damaged[512 + 60] ^= 1;
        assert_eq!(id(&damaged, 512).as_deref(), Some(GUID));
        damaged[99 * 512 + 60] ^= 1;
        assert_eq!(id(&damaged, 512), None);
    }

    #[test]
    fn an_mbr_is_told_from_a_boot_sector() {
        let mut mbr = vec![0; 4096];
        mbr[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
        mbr[510..512].copy_from_slice(&[0x55, 0xAA]);
        assert_eq!(id(&mbr, 512), None, "no partition in it");
        mbr[446 + 4] = 0x83;
        assert_eq!(id(&mbr, 512).as_deref(), Some("1234abcd"));
        mbr[82..85].copy_from_slice(b"FAT");
        assert_eq!(id(&mbr, 512), None, "a FAT boot sector");
    }

    #[test]
    fn nonsense_is_no_table() {
        assert_eq!(id(&[], 512), None);
        assert_eq!(id(&[0x55; 700], 512), None);
        assert_eq!(id(&disk(512), 0), None);
        let mut long = disk(512);
        long[512 + 12..512 + 16].copy_from_slice(&u32::MAX.to_le_bytes());
        long[99 * 512..].fill(0);
        assert_eq!(id(&long, 512), None);
    }
}
