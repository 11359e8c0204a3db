//! What a physical volume of LVM has at its beginning: a label with its name, and where the texts
//! lie that describe its group (`lib/label/label.h`, `lib/format_text/layout.h`). The bytes come
//! from a vault: every place and length in them is checked before it is read.

use crate::error::{Error, ErrorKind, Result};
use crate::export::fields::{u32_at, u64_at};
use crate::export::in_place::InPlace;
use crate::model::{Bytes, Extent};
use std::time::Duration;

/// Each read ends within this time.
const WITHIN: Duration = Duration::from_secs(60);
/// A label is in one of the first sectors.
const SECTOR: usize = 512;
const SECTORS: usize = 4;
/// How long a text may be.
const MOST_TEXT: u64 = 8 << 20;
/// With what LVM's checksums begin.
const FIRST_SUM: u32 = 0xf597_a6cf;
/// How the header of a text area begins, behind its checksum.
const MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
/// Of a text that was put aside.
const IGNORED: u32 = 1;
/// How many text areas there are at most.
const MOST_AREAS: usize = 2;

/// A physical volume: what it says of itself.
#[derive(Debug)]
pub struct PhysicalLabel {
    /// Its name: 32 letters and digits.
    pub uuid: String,
    /// The texts of its group that it has, as they stand there; there may be none.
    pub texts: Vec<Vec<u8>>,
    /// Why a text could not be had.
    pub trouble: Option<Error>,
}

impl PhysicalLabel {
    /// Reads what stands at the beginning of that part of a disk.
    ///
    /// # Errors
    /// `Format`: it is not as LVM writes it, or is more than is read here. Else as reading has it.
    pub fn read(disk: &dyn InPlace, place: Extent) -> Result<Self> {
        let device = LabelledDevice { disk, place };
        let head = device.read(0, SECTOR * SECTORS)?;
        let label = (0..SECTORS).find_map(|number| {
            let sector = head.get(number * SECTOR..(number + 1) * SECTOR)?;
            is_label(sector, number as u64).then_some(sector)
        });
        let label = label.ok_or_else(|| bad("its label is damaged"))?;
        let header = u32_at(label, 20) as usize;
        let mut fields = label.get(header..).unwrap_or_default();
        let uuid = fields.get(..32).and_then(|uuid| {
            let is_plain = uuid.iter().all(u8::is_ascii_alphanumeric);
            std::str::from_utf8(uuid).ok().filter(|_| is_plain)
        });
        let uuid = uuid.ok_or_else(|| bad("its label has no name"))?.to_owned();
        // The size of the device comes behind it.
        fields = fields.get(40..).unwrap_or_default();
        let (_, rest) = areas(fields)?;
        let (texts, _) = areas(rest)?;
        let mut found = Self {
            uuid,
            texts: Vec::new(),
            trouble: None,
        };
        for area in texts.into_iter().take(MOST_AREAS) {
            match device.text(area) {
                Ok(text) => found.texts.extend(text),
                Err(error) => found.trouble = Some(error),
            }
        }
        Ok(found)
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::Format, what)
}

fn is_label(sector: &[u8], number: u64) -> bool {
    sector.get(..8) == Some(b"LABELONE")
        && sector.get(24..32) == Some(b"LVM2 001")
        && u64_at(sector, 8) == number
        && u32_at(sector, 16) == sum(FIRST_SUM, sector.get(20..).unwrap_or_default())
        && u32_at(sector, 20) >= 32
}

/// LVM's checksum, going on from one.
fn sum(before: u32, bytes: &[u8]) -> u32 {
    // It neither begins nor ends by turning the bits over, as the crate does.
    let mut hasher = crc32fast::Hasher::new_with_initial(!before);
    hasher.update(bytes);
    !hasher.finalize()
}

/// A list of places, which ends with one at zero; and what stands behind it.
fn areas(fields: &[u8]) -> Result<(Vec<Extent>, &[u8])> {
    let mut found = Vec::new();
    let mut rest = fields;
    loop {
        let Some((one, behind)) = rest.split_at_checked(16) else {
            return Err(bad("its label has a list without an end"));
        };
        rest = behind;
        match u64_at(one, 0) {
            0 => return Ok((found, rest)),
            offset => found.push(Extent::new(Bytes(offset), Bytes(u64_at(one, 8)))),
        }
    }
}

struct LabelledDevice<'a> {
    disk: &'a dyn InPlace,
    place: Extent,
}

impl LabelledDevice<'_> {
    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let end = at.checked_add(length as u64);
        if end.is_none_or(|end| end > self.place.length.0) {
            return Err(bad("it says that something lies behind its end"));
        }
        let mut bytes = vec![0; length];
        let from = Bytes(self.place.offset.0 + at);
        self.disk.read_within(from, &mut bytes, WITHIN)?;
        Ok(bytes)
    }

    /// The text that a text area has now.
    fn text(&self, area: Extent) -> Result<Option<Vec<u8>>> {
        let header = self.read(area.offset.0, SECTOR)?;
        let is_whole = u32_at(&header, 0) == sum(FIRST_SUM, header.get(4..).unwrap_or_default())
            && header.get(4..20) == Some(MAGIC)
            && u32_at(&header, 20) == 1
            && u64_at(&header, 24) == area.offset.0
            && u64_at(&header, 32) == area.length.0;
        if !is_whole {
            return Err(bad("the head of its list of volumes is damaged"));
        }
        let (offset, length) = (u64_at(&header, 40), u64_at(&header, 48));
        let (wanted, flags) = (u32_at(&header, 56), u32_at(&header, 60));
        if offset == 0 || flags & IGNORED != 0 {
            return Ok(None);
        }
        if length > MOST_TEXT {
            return Err(bad("its list of volumes is longer than is read here"));
        }
        if offset < SECTOR as u64 || offset >= area.length.0 || length > area.length.0 {
            return Err(bad("its list of volumes lies nowhere"));
        }
        // What does not fit in goes on behind the header.
        let first = length.min(area.length.0 - offset);
        let mut text = self.read(area.offset.0 + offset, first as usize)?;
        let rest = (length - first) as usize;
        if rest > 0 {
            text.extend(self.read(area.offset.0 + SECTOR as u64, rest)?);
        }
        match sum(FIRST_SUM, &text) == wanted {
            true => Ok(Some(text)),
            false => Err(bad("its list of volumes is damaged")),
        }
    }
}
