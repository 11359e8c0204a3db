//! A partition table on a disk that is larger than the one it was made for: the backup GPT moves to
//! the new end, and the last partition may grow. All of it in memory; entries keep their places and
//! their bytes. A table that is not understood is left as it is, and that is said.
//!
//! The `gpt` crate reads and writes the headers with their checksums. Its `GptDisk::write` is not
//! used: it moves the entries to the front of the array, which renumbers partitions.

use super::ends::Ends;
use crate::device::has_mbr;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Extent};
use gpt::disk::LogicalBlockSize;
use gpt::header::{Header, read_header_from_arbitrary_device};
use std::ops::Range;

/// Partitions end at a multiple of this.
const ALIGNMENT: u64 = 1 << 20;
/// "A minimum of 16,384 bytes of space must be reserved for the GPT Partition Entry Array." (UEFI
/// specification, 5.3.1)
const RESERVED: u64 = 16_384;

/// A disk whose table may be changed.
#[derive(Clone, Copy, Debug)]
pub struct TableFit {
    /// Bytes in a logical sector.
    pub sector: u32,
    /// The size of the disk that the table was made for.
    pub old: Bytes,
    /// The size of the disk that it shall fit.
    pub new: Bytes,
    /// Whether the last partition shall grow to the new end.
    pub grow: bool,
}

/// What sort of table there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// GPT.
    Gpt,
    /// MBR, also called DOS.
    Mbr,
    /// None.
    None,
}

/// A partition that was made larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Its number, from 1.
    pub number: u32,
    /// Where it is now.
    pub place: Extent,
    /// How large it was.
    pub before: Bytes,
}

/// What is to be written besides what the snapshot holds.
#[derive(Clone, Debug)]
pub struct TableChange {
    /// What sort of table there is.
    pub kind: TableKind,
    /// The beginning of the disk, instead of the snapshot's.
    pub head: Vec<u8>,
    /// The end of the disk; empty when nothing is to be written there.
    pub tail: Vec<u8>,
    /// Where the backup GPT was, to be zeroed before the tail is written.
    pub old_backup: Option<Extent>,
    /// Whether the backup GPT has another place now.
    pub moved: bool,
    /// The partition that grew.
    pub grown: Option<Grown>,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl TableChange {
    fn none(kind: TableKind, head: Vec<u8>, note: Option<String>) -> Self {
        Self {
            kind,
            head,
            tail: Vec::new(),
            old_backup: None,
            moved: false,
            grown: None,
            notes: note.into_iter().collect(),
        }
    }
}

/// Fits the table in `head`, the beginning of a disk, to another size.
///
/// # Errors
/// `Unsupported` when the last partition is to grow and is an extended one. Nothing was written.
pub fn fit_table(head: Vec<u8>, fit: TableFit) -> Result<TableChange> {
    let sector = u64::from(fit.sector);
    let at = |at: usize| head.get(at..at + 8) == Some(b"EFI PART");
    let mbr = head.first_chunk::<512>().filter(|first| has_mbr(first));
    let protective = mbr.is_some_and(|mbr| entries(mbr).any(|entry| entry[4] == 0xEE));
    if at(sector as usize) || protective {
        return Ok(fit_gpt(head.clone(), fit)
            .unwrap_or_else(|why| TableChange::none(TableKind::Gpt, head, Some(why))));
    }
    if mbr.is_some() {
        return fit_mbr(head, fit);
    }
    Ok(TableChange::none(TableKind::None, head, None))
}

pub(super) fn entries(mbr: &[u8; 512]) -> impl Iterator<Item = &[u8; 16]> {
    mbr[446..510].as_chunks().0.iter()
}

/// A GPT as far as it matters here, in sectors.
struct Table {
    header: Header,
    array: Range<usize>,
    sector: u64,
    array_sectors: u64,
    reserved_sectors: u64,
}

fn read_table(ends: &mut Ends, head_len: usize, fit: TableFit) -> Result<Table, String> {
    let left = "the partition table was left as it was";
    let sector = u64::from(fit.sector);
    let lb = LogicalBlockSize::try_from(sector)
        .map_err(|_| format!("sectors of {sector} bytes: {left}"))?;
    let header = read_header_from_arbitrary_device(ends, lb)
        .map_err(|error| format!("the GPT is damaged ({error}): {left}"))?;
    let length = u64::from(header.num_parts) * u64::from(header.part_size);
    let start = header.part_start.saturating_mul(sector);
    let end = start.saturating_add(length);
    let inside = header.current_lba == 1 && header.part_start >= 2 && end <= head_len as u64;
    if !inside || header.part_size < 128 || header.num_parts == 0 {
        return Err(format!("the GPT's entries are at an unusual place: {left}"));
    }
    let array_sectors = length.div_ceil(sector);
    Ok(Table {
        header,
        array: start as usize..end as usize,
        sector,
        array_sectors,
        reserved_sectors: array_sectors.max(RESERVED / sector),
    })
}

/// Number, first and last sector of each used entry.
pub(super) fn used(array: &[u8], entry_size: usize) -> impl Iterator<Item = (u32, u64, u64)> {
    let each = (1..).zip(array.chunks_exact(entry_size));
    let used = each.filter(|(_, entry)| entry[..16].iter().any(|byte| *byte != 0));
    used.map(|(number, entry)| (number, le64(&entry[32..40]), le64(&entry[40..48])))
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

/// `Err` says why the table is left as it is.
fn fit_gpt(head: Vec<u8>, fit: TableFit) -> Result<TableChange, String> {
    let head_len = head.len();
    let mut ends = Ends::new(head, Vec::new(), fit.new.0);
    let mut table = read_table(&mut ends, head_len, fit)?;
    let (mut head, _) = ends.into_parts();
    let entry_size = table.header.part_size as usize;
    let array = head[table.array.clone()].to_vec();
    if crc32fast::hash(&array) != table.header.crc32_parts {
        return Err("the GPT's entries are damaged: the partition table was left as it was".into());
    }
    let last_used = used(&array, entry_size).map(|(_, _, last)| last).max();
    let sector = fit.sector as usize;
    let last_sector = (fit.new.0 / table.sector).saturating_sub(1);
    let backup_array = last_sector.saturating_sub(table.reserved_sectors);
    let front = table
        .header
        .first_usable
        .max(table.array.end.div_ceil(sector) as u64);
    if backup_array <= front {
        return Err("there is no room for the backup GPT: it was left where it was".into());
    }
    if last_used.is_some_and(|last| last >= backup_array) {
        return Err(
            "a partition reaches to the end: the partition table was left as it was".into(),
        );
    }
    let old_header = table.header.clone();
    // Also where it was not moved, nothing may grow into it.
    let last_usable = table.header.last_usable.min(backup_array - 1);
    let moved = old_header.backup_lba != last_sector;
    table.header.last_usable = last_usable;
    if moved {
        table.header.backup_lba = last_sector;
        table.header.last_usable = backup_array - 1;
        fit_protective(&mut head, last_sector);
    }
    let grown = fit
        .grow
        .then(|| grow_gpt(&mut head[table.array.clone()], &table))
        .flatten();
    if !moved && grown.is_none() {
        let note = fit.grow.then(|| NOT_GROWN.to_owned());
        return Ok(TableChange::none(TableKind::Gpt, head, note));
    }
    let (head, tail) = write_both(head, &table, backup_array, fit)?;
    let behind = last_used.map_or(0, |last| last + 1);
    let free = behind.max(old_header.first_usable)..backup_array;
    let old_backup = moved
        .then(|| old_backup(&old_header, &table, free, fit.old))
        .flatten();
    Ok(TableChange {
        tail,
        old_backup,
        moved,
        grown,
        ..TableChange::none(
            TableKind::Gpt,
            head,
            (fit.grow && grown.is_none()).then(|| NOT_GROWN.to_owned()),
        )
    })
}

const NOT_GROWN: &str = "no partition grew: there is no room behind the last one";

/// Extends the partition that ends last.
fn grow_gpt(array: &mut [u8], table: &Table) -> Option<Grown> {
    let entry_size = table.header.part_size as usize;
    let (number, first, last) = used(array, entry_size).max_by_key(|(_, _, last)| *last)?;
    let per = ALIGNMENT / table.sector;
    let end = (table.header.last_usable + 1) / per * per;
    if end <= last.checked_add(1)? || last < first {
        return None;
    }
    let entry = array
        .chunks_exact_mut(entry_size)
        .nth(number as usize - 1)?;
    entry[40..48].copy_from_slice(&(end - 1).to_le_bytes());
    let bytes = |sectors: u64| Bytes(sectors * table.sector);
    Some(Grown {
        number,
        place: Extent::new(bytes(first), bytes(end - first)),
        before: bytes(last + 1 - first),
    })
}

/// "Set to the size of the disk minus one. Set to 0xFFFFFFFF if the size of the disk is too large
/// to be represented in this field." (UEFI specification, 5.2.3) A hybrid MBR is left alone.
fn fit_protective(head: &mut [u8], last_sector: u64) {
    let entries = head[446..510].as_chunks_mut::<16>().0;
    let mut used = entries.iter_mut().filter(|entry| entry[4] != 0);
    if let (Some(entry), None) = (used.next(), used.next())
        && entry[4] == 0xEE
        && entry[8..12] == [1, 0, 0, 0]
    {
        let size = u32::try_from(last_sector).unwrap_or(u32::MAX);
        entry[12..16].copy_from_slice(&size.to_le_bytes());
    }
}

/// Both headers and both arrays.
fn write_both(
    head: Vec<u8>,
    table: &Table,
    backup_array: u64,
    fit: TableFit,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let failed = |error| format!("the partition table was left as it was: {error}");
    let lb = LogicalBlockSize::try_from(table.sector).map_err(|error| failed(error.to_string()))?;
    let mut tail = vec![0; ((table.reserved_sectors + 1) * table.sector) as usize];
    let array = &head[table.array.clone()];
    tail[..array.len()].copy_from_slice(array);
    // A disk's size is a multiple of its sectors, but who knows.
    let size = fit.new.0 / table.sector * table.sector;
    let mut ends = Ends::new(head, tail, size);
    let mut primary = table.header.clone();
    let mut backup = Header {
        current_lba: primary.backup_lba,
        backup_lba: primary.current_lba,
        part_start: backup_array,
        ..primary.clone()
    };
    let written = primary
        .write_primary(&mut ends, lb)
        .and_then(|_| backup.write_backup(&mut ends, lb));
    written.map_err(|error| failed(error.to_string()))?;
    Ok(ends.into_parts())
}

/// The part of the old backup that is in `free`, the sectors behind all partitions and before the
/// new backup. `size`: the old disk's.
fn old_backup(old: &Header, table: &Table, free: Range<u64>, size: Bytes) -> Option<Extent> {
    let end = old.backup_lba.checked_add(1)?.min(free.end);
    let start = old.backup_lba.checked_sub(table.array_sectors)?;
    let start = start.max(free.start);
    let inside = start < end && end.checked_mul(table.sector)? <= size.0;
    inside.then(|| {
        Extent::new(
            Bytes(start * table.sector),
            Bytes((end - start) * table.sector),
        )
    })
}

fn fit_mbr(mut head: Vec<u8>, fit: TableFit) -> Result<TableChange> {
    if !fit.grow {
        return Ok(TableChange::none(TableKind::Mbr, head, None));
    }
    let sector = u64::from(fit.sector);
    let le32 = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
    let entries = head[446..510].as_chunks_mut::<16>().0;
    let used = (1..).zip(entries).filter(|(_, entry)| entry[4] != 0);
    let place = |entry: &[u8; 16]| {
        (
            u64::from(le32(&entry[8..12])),
            u64::from(le32(&entry[12..])),
        )
    };
    let end_of = |entry: &[u8; 16]| place(entry).0 + place(entry).1;
    let Some((number, entry)) = used.max_by_key(|(_, entry)| end_of(entry)) else {
        return Ok(TableChange::none(TableKind::Mbr, head, None));
    };
    if matches!(entry[4], 0x05 | 0x0f | 0x85) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the last partition, {number}, is an extended one, which is not grown here; \
                 nothing was written"
            ),
        )
        .with_hint("restore without --grow, then use a partition editor such as parted"));
    }
    let (start, length) = place(entry);
    let per = ALIGNMENT / sector;
    // Sectors are numbered with 32 bits there.
    let most = (fit.new.0 / sector).min(u64::from(u32::MAX));
    let end = most / per * per;
    if end <= start + length {
        let note = Some(NOT_GROWN.to_owned());
        return Ok(TableChange::none(TableKind::Mbr, head, note));
    }
    let sectors = u32::try_from(end - start).unwrap_or(u32::MAX);
    entry[12..16].copy_from_slice(&sectors.to_le_bytes());
    // "Beyond what cylinders can say", as every partition tool writes it.
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    let grown = Grown {
        number,
        place: Extent::new(Bytes(start * sector), Bytes((end - start) * sector)),
        before: Bytes(length * sector),
    };
    let beyond = fit.new.0 / sector > u64::from(u32::MAX);
    let note =
        beyond.then(|| "an MBR ends at 2^32 sectors: what is beyond stays unused".to_owned());
    Ok(TableChange {
        grown: Some(grown),
        ..TableChange::none(TableKind::Mbr, head, note)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: u64 = 64 << 20;

    /// The beginning of a disk with a GPT and two partitions.
    fn head() -> Vec<u8> {
        let disk = std::io::Cursor::new(vec![0; OLD as usize]);
        let config = gpt::GptConfig::new().writable(true);
        let mut table = config.create_from_device(disk, None).unwrap();
        for (number, first, length) in [(1, 2048, 4096), (2, 8192, 100_000)] {
            let kind = gpt::partition_types::LINUX_FS;
            let added = table.add_partition_at("", number, first, length, kind, 0);
            added.unwrap();
        }
        let mut disk = table.write().unwrap();
        let mbr = gpt::mbr::ProtectiveMBR::with_lb_size((OLD / 512 - 1) as u32);
        mbr.overwrite_lba0(&mut disk).unwrap();
        let mut head = disk.into_inner();
        head.truncate(1 << 20);
        head
    }

    fn fit(new: u64, grow: bool) -> TableFit {
        TableFit {
            sector: 512,
            old: Bytes(OLD),
            new: Bytes(new),
            grow,
        }
    }

    /// Both headers have right sums.
    fn seal(head: &mut [u8]) {
        let length = head[512 + 80..512 + 84]
            .try_into()
            .map_or(0, u32::from_le_bytes) as usize;
        let entries = head.get(1024..1024 + length.min(8000) * 128);
        let sum = crc32fast::hash(entries.unwrap_or_default());
        head[512 + 88..512 + 92].copy_from_slice(&sum.to_le_bytes());
        head[512 + 16..512 + 20].fill(0);
        let sum = crc32fast::hash(&head[512..512 + 92]);
        head[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn the_usual_table_moves_and_grows() {
        let change = fit_table(head(), fit(2 * OLD, true)).unwrap();
        assert!(change.moved && change.notes.is_empty());
        let grown = change.grown.unwrap();
        assert_eq!(grown.number, 2);
        assert_eq!(grown.place.end(), Bytes(2 * OLD - (1 << 20)));
        assert_eq!(change.tail.len(), 33 * 512);
        let old = change.old_backup.unwrap();
        assert_eq!(old, Extent::new(Bytes(OLD - 33 * 512), Bytes(33 * 512)));
        // On a disk of the same size there is room behind the last one, too.
        let change = fit_table(head(), fit(OLD, true)).unwrap();
        assert!(!change.moved && change.grown.is_some() && change.old_backup.is_none());
    }

    #[test]
    fn a_header_that_promises_too_much_room_is_not_believed() {
        let mut lying = head();
        lying[512 + 48..512 + 56].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
        seal(&mut lying);
        let change = fit_table(lying, fit(OLD, true)).unwrap();
        assert!(!change.moved);
        assert!(change.grown.unwrap().place.end().0 <= OLD - 33 * 512);
    }

    proptest! {
        /// Whatever a header says, nothing is written outside the disk or into the backup, no
        /// partition but the last changes, and nothing panics.
        #[test]
        fn no_table_does_harm(
            fields in prop::collection::vec(
                (
                    prop::sample::select(&[
                        24_usize, 32, 40, 48, 72, 80, 84, 512 + 32, 512 + 40,
                    ][..]),
                    prop_oneof![
                        any::<u64>(), 0..300_000_u64, Just(u64::MAX), Just(0), Just(1 << 32)
                    ],
                ),
                0..4,
            ),
            new in prop_oneof![
                Just(OLD), 1_u64..1 << 20, OLD..4 * OLD, Just(3 << 40), Just(u64::MAX)
            ],
            grow: bool,
            sector in prop::sample::select(&[512_u32, 4096, 520][..]),
        ) {
            let mut head = head();
            for (at, value) in fields {
                head[512 + at..512 + at + 8].copy_from_slice(&value.to_le_bytes());
            }
            seal(&mut head);
            let before = head.clone();
            let new = (new / 4096 * 4096).max(4096);
            let fit = TableFit { sector, ..fit(new, grow) };
            let change = fit_table(head, fit).unwrap();
            prop_assert!(change.tail.len() as u64 <= fit.new.0);
            let backup_at = fit.new.0 - change.tail.len() as u64;
            if let Some(grown) = change.grown {
                prop_assert!(grow && grown.place.length > grown.before);
                prop_assert!(grown.place.end().0 <= backup_at);
            }
            if let Some(old) = change.old_backup {
                prop_assert!(old.end().0 <= backup_at && old.offset.0 >= 1024);
            }
            prop_assert_eq!(change.head.len(), before.len());
            prop_assert_eq!(&change.head[..446], &before[..446]);
            prop_assert_eq!(&change.head[1024 + 16384..], &before[1024 + 16384..]);
        }
    }
}
