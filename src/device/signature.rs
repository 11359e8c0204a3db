//! What a disk or a part of one holds, known by the bytes that filesystems and the like put at
//! fixed places, as `blkid` does. It only reads. That none is found is no proof that nothing is
//! there.

use super::table::{ReadSeek, table_id};
use crate::error::{IoContext, Result};
use crate::model::{Bytes, Extent};
use std::io::SeekFrom;
use std::path::Path;

/// How much of both ends is looked at: partition tables, boot loaders, RAID members.
const END: u64 = 1 << 20;
/// How many places between are looked at, and how much of each: what a table that was wiped has
/// left behind.
const PLACES: u64 = 64;
const PLACE: u64 = 64 << 10;

/// Something known that stands somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// `ext4`, `xfs`, `btrfs`, `swap`, `LVM member`, ...
    pub kind: &'static str,
    /// Its UUID as `blkid` prints it, of those that have one that is known here.
    pub uuid: Option<String>,
}

/// What a whole device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The name of its partition table (see [`table_id`]).
    pub table: Option<String>,
    /// What stands on it where there is no table.
    pub signature: Option<Signature>,
    /// Whether nothing but zeros was seen: in the first and the last MiB, where the first partition
    /// mostly begins, and in places spread over the whole.
    pub only_zeros: bool,
}

impl Contents {
    /// Whether nothing was found that anyone could miss.
    pub fn is_blank(&self) -> bool {
        self.table.is_none() && self.signature.is_none() && self.only_zeros
    }
}

/// Looks at a device of `size`.
///
/// # Errors
/// When it cannot be read at one of these places.
pub fn contents(
    device: &mut dyn ReadSeek,
    path: &Path,
    size: Bytes,
    sector: u32,
) -> Result<Contents> {
    let ends = [0, size.0.saturating_sub(END)].map(|start| (start, END));
    let between = (0..PLACES).map(|place| size.0 / PLACES * place / PLACE * PLACE);
    let between = std::iter::once(END).chain(between);
    let between = between.map(|start| (start, PLACE));
    let mut only_zeros = true;
    for (start, length) in ends.into_iter().chain(between) {
        let length = length.min(size.0.saturating_sub(start));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        device
            .seek(SeekFrom::Start(start))
            .and_then(|_| device.read_exact(&mut bytes))
            .io_context("read", path)?;
        only_zeros &= bytes.iter().all(|byte| *byte == 0);
        if !only_zeros {
            break;
        }
    }
    Ok(Contents {
        table: table_id(device, sector),
        signature: signature(device, Extent::new(Bytes(0), size)),
        only_zeros,
    })
}

/// A magic number: so many bytes from the start, these bytes, that kind.
type Magic = (u64, &'static [u8], &'static str);

/// Offsets as in `util-linux/libblkid/src/superblocks`.
const MAGICS: &[Magic] = &[
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"XFSB", "xfs"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (512, b"LABELONE", "LVM member"),
    (0, b"LABELONE", "LVM member"),
    (1024, b"LABELONE", "LVM member"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "RAID member"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "RAID member"),
    // At the end of a page, as large as they were where it was made.
    (4086, b"SWAPSPACE2", "swap"),
    (8182, b"SWAPSPACE2", "swap"),
    (16374, b"SWAPSPACE2", "swap"),
    (32758, b"SWAPSPACE2", "swap"),
    (65526, b"SWAPSPACE2", "swap"),
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (54, b"FAT", "vfat"),
    (82, b"FAT32", "vfat"),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], "f2fs"),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], "erofs"),
    (0, b"hsqs", "squashfs"),
    (0x8001, b"CD001", "iso9660"),
];

/// What stands in that part of a device, as far as it is known.
pub fn signature(device: &mut dyn ReadSeek, place: Extent) -> Option<Signature> {
    let mut read = |at: u64, length: usize| {
        let mut bytes = vec![0; length];
        let end = at.checked_add(length as u64)?;
        let inside = end <= place.length.0;
        let from = SeekFrom::Start(place.offset.0.checked_add(at)?);
        inside.then(|| device.seek(from)).and_then(Result::ok)?;
        device.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    if let Some(kind) = read(1024, 1024).as_deref().and_then(ext) {
        let uuid = read(1024 + 0x68, 16).map(|uuid| dashed(&uuid));
        return Some(Signature { kind, uuid });
    }
    for (at, magic, kind) in MAGICS {
        if read(*at, magic.len()).as_deref() == Some(*magic) {
            let uuid = match *kind {
                "xfs" => read(32, 16),
                "btrfs" => read(0x1_0020, 16),
                "swap" => read(1024 + 12, 16),
                _ => None,
            };
            let uuid = uuid.map(|uuid| dashed(&uuid));
            return Some(Signature { kind, uuid });
        }
    }
    // An older RAID has its superblock in the last 64 to 128 KiB.
    let old = (place.length.0 & !0xffff).checked_sub(0x1_0000)?;
    let new = (place.length.0 & !0xfff).checked_sub(0x2000)?;
    let found = [old, new]
        .iter()
        .any(|at| read(*at, 4).as_deref() == Some(&[0xfc, 0x4e, 0x2b, 0xa9]));
    found.then_some(Signature {
        kind: "RAID member",
        uuid: None,
    })
}

/// By the features in an ext superblock (`fs/ext4/ext4.h`): a journal, extents and younger ones.
fn ext(superblock: &[u8]) -> Option<&'static str> {
    if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
        return None;
    }
    let flags = |at: usize| {
        let bytes = superblock.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (compat, incompat, read_only) = (flags(0x5c)?, flags(0x60)?, flags(0x64)?);
    Some(if incompat & !0x1f != 0 || read_only & !0x7 != 0 {
        "ext4"
    } else if compat & 0x4 != 0 {
        "ext3"
    } else {
        "ext2"
    })
}

fn dashed(uuid: &[u8]) -> String {
    let text = hex::encode(uuid);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    let parts = [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn of(at: usize, bytes: &[u8]) -> Option<&'static str> {
        let mut disk = vec![0; 300_000];
        disk[4096 + at..4096 + at + bytes.len()].copy_from_slice(bytes);
        let place = Extent::new(Bytes(4096), Bytes(200_000));
        signature(&mut Cursor::new(disk), place).map(|found| found.kind)
    }

    #[test]
    fn each_is_known_by_its_magic_at_its_place() {
        for (at, magic, kind) in MAGICS {
            assert_eq!(of(*at as usize, magic), Some(*kind));
            assert_eq!(of(*at as usize + 7, magic), None, "{kind} elsewhere");
        }
        assert_eq!(of(131_072, &[0xfc, 0x4e, 0x2b, 0xa9]), Some("RAID member"));
        assert_eq!(of(0, &[]), None);
    }

    /// As after `sgdisk --zap-all`, or `dd` over the beginning.
    #[test]
    fn what_a_wiped_table_leaves_behind_is_not_blank() {
        let size = 100 << 20;
        let looks_blank = |at: Option<usize>| {
            let mut disk = vec![0; size];
            at.into_iter().for_each(|at| disk[at] = 1);
            let path = Path::new("disk");
            let found = contents(&mut Cursor::new(disk), path, Bytes(size as u64), 512);
            found.unwrap().is_blank()
        };
        assert!(looks_blank(None));
        let place = size / 64 * 40;
        for at in [0, size - 1, (1 << 20) + 1080, place / 65536 * 65536 + 4096] {
            assert!(!looks_blank(Some(at)), "{at}");
        }
    }

    #[test]
    fn what_is_outside_the_part_is_not_seen() {
        let mut disk = vec![0; 1 << 20];
        disk[0x1_0040..0x1_0048].copy_from_slice(b"_BHRfS_M");
        let mut disk = Cursor::new(disk);
        let whole = Extent::new(Bytes(0), Bytes(1 << 20));
        assert_eq!(signature(&mut disk, whole).unwrap().kind, "btrfs");
        let short = Extent::new(Bytes(0), Bytes(0x1_0000));
        assert_eq!(signature(&mut disk, short), None);
    }
}
