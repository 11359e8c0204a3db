//! Where the partitions of a disk are, by the beginning of its bytes. A table that is damaged or
//! not understood has none.

use super::table::{entries, used};
use crate::device::has_mbr;
use crate::model::{Bytes, Extent};
use gpt::disk::LogicalBlockSize;
use gpt::header::read_header_from_arbitrary_device;
use std::io::Cursor;

/// A partition, by its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePartition {
    /// Its number, from 1.
    pub number: u32,
    /// Where it lies on the disk.
    pub place: Extent,
    /// Whether its type says that no filesystem is in it: a boot loader's own place.
    pub is_loaders: bool,
    /// Whether its type says that firmware starts a machine from it (an EFI system partition).
    pub is_esp: bool,
}

/// Of a GPT, the types of partitions that no filesystem is in, as they are stored: BIOS boot, PReP
/// boot, Microsoft's reserved.
const OF_LOADERS: [[u8; 16]; 3] = [
    *b"Hah!IdontNeedEFI",
    [
        0x38, 0x2d, 0x1a, 0x9e, 0x12, 0xc6, 0x16, 0x43, 0xaa, 0x26, 0x8b, 0x49, 0x52, 0x1e, 0x5a,
        0x8b,
    ],
    [
        0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d, 0x81, 0x7d, 0xf9, 0x2d, 0xf0, 0x02, 0x15,
        0xae,
    ],
];
/// The same of an MBR: PReP boot.
const OF_LOADERS_MBR: u8 = 0x41;
/// The type of an EFI system partition, as it is stored in a GPT.
const ESP: [u8; 16] = [
    0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
];
/// The same in an MBR.
const ESP_MBR: u8 = 0xEF;

/// The partitions by the table in `head`, the beginning of a disk with sectors of `sector` bytes,
/// by their place. Of an MBR the primary ones, an extended one as a whole.
pub fn partitions(head: &[u8], sector: u32) -> Vec<TablePartition> {
    let mut found = match head.first_chunk::<512>().filter(|first| has_mbr(first)) {
        Some(mbr) if !entries(mbr).any(|entry| entry[4] == 0xEE) => of_mbr(mbr, sector),
        _ => of_gpt(head, sector).unwrap_or_default(),
    };
    found.sort_by_key(|one| one.place);
    found
}

fn of_mbr(mbr: &[u8; 512], sector: u32) -> Vec<TablePartition> {
    let number = |at: &[u8]| at.try_into().map_or(0, u32::from_le_bytes);
    let each = entries(mbr).zip(1..).filter(|(entry, _)| entry[4] != 0);
    let each = each.map(|(entry, at)| {
        let (start, count) = (number(&entry[8..12]), number(&entry[12..16]));
        let bytes = |sectors: u32| Bytes(u64::from(sectors) * u64::from(sector));
        TablePartition {
            number: at,
            place: Extent::new(bytes(start), bytes(count)),
            is_loaders: entry[4] == OF_LOADERS_MBR,
            is_esp: entry[4] == ESP_MBR,
        }
    });
    let is_one =
        |place: Extent| place.length.0 > 0 && place.offset.0.checked_add(place.length.0).is_some();
    each.filter(|one| is_one(one.place)).collect()
}

fn of_gpt(head: &[u8], sector: u32) -> Option<Vec<TablePartition>> {
    let sector = u64::from(sector);
    let lb = LogicalBlockSize::try_from(sector).ok()?;
    let header = read_header_from_arbitrary_device(&mut Cursor::new(head), lb).ok()?;
    let size = usize::try_from(header.part_size)
        .ok()
        .filter(|size| *size >= 128)?;
    let start = usize::try_from(header.part_start.checked_mul(sector)?).ok()?;
    let length = size.checked_mul(usize::try_from(header.num_parts).ok()?)?;
    let array = head.get(start..start.checked_add(length)?)?;
    if crc32fast::hash(array) != header.crc32_parts {
        return None;
    }
    let found = used(array, size).filter_map(|(number, first, last)| {
        let count = last.checked_sub(first)?.checked_add(1)?;
        let (first, length) = (first.checked_mul(sector)?, count.checked_mul(sector)?);
        // One that ends past all numbers is none.
        first.checked_add(length)?;
        let place = Extent::new(Bytes(first), Bytes(length));
        let entry = array.chunks_exact(size).nth(number as usize - 1);
        let kind = entry.and_then(|entry| entry.first_chunk());
        Some(TablePartition {
            number,
            place,
            is_loaders: kind.is_some_and(|kind| OF_LOADERS.contains(kind)),
            is_esp: kind == Some(&ESP),
        })
    });
    Some(found.collect())
}
