//! A mirror of md's (RAID 1) inside a snapshot, by the superblocks of its disks
//! (`include/uapi/linux/raid/md_p.h`): which of them is up to date, and where its data lies.
//! Nothing is assembled: the kernel's md sees nothing of it. What is in doubt is not shown.

use super::fields::{u16_at, u32_at, u64_at};
use super::in_place::InPlace;
use super::mapped::{AssembledVolume, MappedArea, MappedPart, MappedVolume, MemberHome};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Extent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Each read ends within this time.
const WITHIN: Duration = Duration::from_secs(60);
/// md counts in sectors.
const SECTOR: u64 = 512;
/// Most bytes of a superblock: its fields, and two for each of md's 1920 disks.
const LENGTH: u64 = 4096;
const FIELDS: usize = 256;
const MAGIC: u32 = 0xa92b_4efc;
/// The features with which a disk's data is where it is looked for: a bitmap, a list of bad blocks,
/// the layout of a RAID 0 (`MD_FEATURE_*`).
const KNOWN: u32 = 1 | 8 | 4096;
/// Roles from here on are none: spare, faulty, journal.
const NO_ROLE: u16 = 0xfff0;
/// Where the superblocks of 1.2 and 1.1 are.
const PLACES: [u64; 2] = [4096, 0];

/// What a disk of an array says of itself and of the array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrayLabel {
    /// The array's UUID.
    pub array: [u8; 16],
    /// The array's name: `host:name`.
    pub name: String,
    level: i32,
    /// How long the array is.
    size: u64,
    features: u32,
    /// Where the data begins on this disk, and how much room it has.
    data: Extent,
    /// The disk's role; none: it has none.
    role: Option<u16>,
    /// The roles that are filled.
    roles: BTreeSet<u16>,
    /// The more, the newer.
    events: u64,
    has_bad_blocks: bool,
    /// Whether it may lag behind the others (`WriteMostly1`).
    may_lag: bool,
}

impl ArrayLabel {
    /// Reads the superblock of that part of a disk.
    ///
    /// # Errors
    /// `Format`: it is none of version 1 at the beginning, or damaged. Else as reading has it.
    pub fn read(disk: &dyn InPlace, place: Extent) -> Result<Self> {
        for at in PLACES {
            let length = LENGTH.min(place.length.0.saturating_sub(at));
            let bytes = read(disk, place, at, length)?;
            if u32_at(&bytes, 0) == MAGIC && u64_at(&bytes, 144) == at / SECTOR {
                let mut label = Self::decode(&bytes)?;
                if label.features & 8 != 0 {
                    label.has_bad_blocks = has_bad_blocks(disk, place, &bytes, at)?;
                }
                return Ok(label);
            }
        }
        Err(bad(
            "its superblock is at its end, or of a version that is not read here",
        ))
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let most = u32_at(bytes, 220) as usize;
        let length = most
            .checked_mul(2)
            .and_then(|roles| roles.checked_add(FIELDS));
        let whole = length.and_then(|length| bytes.get(..length));
        let whole = whole.ok_or_else(|| bad("its superblock is longer than any"))?;
        if u32_at(whole, 4) != 1 || u32_at(whole, 216) != sum(whole) {
            return Err(bad("its superblock is damaged"));
        }
        let sectors = |at: usize| u64_at(whole, at).checked_mul(SECTOR);
        let place = sectors(128).zip(sectors(136)).zip(sectors(80));
        let ((data, room), size) = place.ok_or_else(|| bad("it lies behind the end of all"))?;
        let role = |number: usize| u16_at(whole, FIELDS + 2 * number);
        let number = u32_at(whole, 160) as usize;
        let own = (number < most).then(|| role(number));
        let name = whole.get(32..64).unwrap_or_default();
        let end = name.iter().position(|byte| *byte == 0);
        let name = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
        let filled = (0..most).map(role).filter(|role| *role < NO_ROLE);
        Ok(Self {
            array: whole
                .get(16..32)
                .unwrap_or_default()
                .try_into()
                .unwrap_or_default(),
            name: String::from_utf8_lossy(name).into_owned(),
            level: u32_at(whole, 72).cast_signed(),
            size,
            features: u32_at(whole, 8),
            data: Extent::new(Bytes(data), Bytes(room)),
            role: own.filter(|role| *role < NO_ROLE),
            roles: filled.collect(),
            events: u64_at(whole, 200),
            has_bad_blocks: false,
            may_lag: whole.get(184).is_none_or(|flags| flags & 1 != 0),
        })
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::Format, what)
}

fn read(disk: &dyn InPlace, place: Extent, at: u64, length: u64) -> Result<Vec<u8>> {
    let end = at.checked_add(length);
    if end.is_none_or(|end| end > place.length.0) || length > LENGTH {
        return Err(bad("it says that something lies behind its end"));
    }
    let mut bytes = vec![0; length as usize];
    disk.read_within(Bytes(place.offset.0 + at), &mut bytes, WITHIN)?;
    Ok(bytes)
}

/// Whether the list of blocks that could not be read or written has any.
fn has_bad_blocks(disk: &dyn InPlace, place: Extent, block: &[u8], at: u64) -> Result<bool> {
    if u16_at(block, 186) == 0 {
        return Ok(false);
    }
    let offset = i64::from(u32_at(block, 188).cast_signed()).checked_mul(SECTOR as i64);
    let at = offset.and_then(|offset| at.checked_add_signed(offset));
    let at = at.ok_or_else(|| bad("its list of bad blocks lies nowhere"))?;
    Ok(u64_at(&read(disk, place, at, 8)?, 0) != u64::MAX)
}

/// `calc_sb_1_csum` of `drivers/md/md.c`.
fn sum(block: &[u8]) -> u32 {
    let words = block.chunks(4).enumerate();
    let sum: u64 = words
        .filter(|(number, _)| *number != 216 / 4)
        .map(|(_, word)| match word.len() {
            2 => u64::from(u16_at(word, 0)),
            _ => u64::from(u32_at(word, 0)),
        })
        .sum();
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

struct FoundDisk {
    home: MemberHome,
    label: ArrayLabel,
}

/// The disks of arrays in a snapshot.
#[derive(Default)]
pub struct ArrayPool(BTreeMap<[u8; 16], Vec<FoundDisk>>);

impl ArrayPool {
    /// Takes one that was found.
    ///
    /// # Errors
    /// As [`ArrayLabel::read`].
    pub fn add(&mut self, home: MemberHome) -> Result<()> {
        let label = ArrayLabel::read(&*home.on, home.place)?;
        let disks = self.0.entry(label.array).or_default();
        disks.push(FoundDisk { home, label });
        Ok(())
    }

    /// The arrays.
    pub fn arrays(&self) -> Vec<AssembledVolume> {
        let each = self.0.iter().map(|(uuid, disks)| {
            let named = disks.iter().find(|disk| !disk.label.name.is_empty());
            let name = named.map_or_else(|| hex::encode(uuid), |disk| disk.label.name.clone());
            AssembledVolume {
                device: device(&name),
                name: format!("md/{name}"),
                on: disks.iter().map(|disk| disk.home.number).collect(),
                volume: assemble(disks).map(Arc::new),
            }
        });
        each.collect()
    }
}

/// What md calls the device of an array whose name is a number, on the host that has made it.
fn device(name: &str) -> Option<String> {
    let number = name.rsplit_once(':').map_or(name, |(_, number)| number);
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("md{number}"))
}

fn assemble(disks: &[FoundDisk]) -> std::result::Result<MappedVolume, String> {
    let newest = disks.iter().map(|disk| disk.label.events).max();
    let is_current = |disk: &&FoundDisk| Some(disk.label.events) == newest;
    let mut current: Vec<&FoundDisk> = disks.iter().filter(is_current).collect();
    // Where it is being made equal, md reads the first one.
    current.sort_by_key(|disk| disk.label.role);
    let told = current.first().ok_or("nothing is left of it")?;
    if told.label.level != 1 {
        let level = told.label.level;
        return Err(format!(
            "it is a RAID of level {level}, which is not opened here"
        ));
    }
    // Who was thrown out knows nothing of it: only who was in it at last can say that it was.
    let present: BTreeSet<u16> = disks.iter().filter_map(|disk| disk.label.role).collect();
    if present.len()
        < disks
            .iter()
            .filter(|disk| disk.label.role.is_some())
            .count()
    {
        return Err("two of its disks have the same place in it".into());
    }
    if told.label.roles.iter().any(|role| !present.contains(role)) {
        return Err(
            "another disk of it, which may be newer, is not among those that are looked at".into(),
        );
    }
    let fits = |disk: &&&FoundDisk| {
        let label = &disk.label;
        let is_known = label.features & !KNOWN == 0 && !label.has_bad_blocks && !label.may_lag;
        is_known
            && label
                .role
                .is_some_and(|role| told.label.roles.contains(&role))
    };
    let disk = current.iter().find(fits).ok_or(
        "none of its disks has all of it by itself: it is being rebuilt or reshaped, or has bad \
         blocks",
    )?;
    let MemberHome { on, place, .. } = &disk.home;
    let ArrayLabel { data, size, .. } = &disk.label;
    let end = data.offset.0.checked_add(*size);
    if *size > data.length.0 || end.is_none_or(|end| end > place.length.0) {
        return Err("it lies behind the end of its disk".into());
    }
    let part = MappedPart {
        length: Bytes(*size),
        areas: vec![MappedArea {
            below: Arc::clone(on),
            offset: Bytes(place.offset.0 + data.offset.0),
        }],
        stripe: Bytes(0),
    };
    MappedVolume::new(vec![part]).map_err(|error| error.to_string())
}
