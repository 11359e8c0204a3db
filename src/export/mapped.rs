//! A volume that is put together of parts of other things: one after the other, or in stripes. It
//! is no device, and the kernel knows nothing of it. Each byte of it is one of what lies below.

use super::in_place::InPlace;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Extent};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a part of a volume lies.
#[derive(Clone)]
pub struct MappedArea {
    /// In what.
    pub below: Arc<dyn InPlace>,
    /// From where on.
    pub offset: Bytes,
}

/// A part of a volume.
#[derive(Clone)]
pub struct MappedPart {
    /// How long it is.
    pub length: Bytes,
    /// Where it lies: in one area, or in stripes over several.
    pub areas: Vec<MappedArea>,
    /// How long a stripe is, where there are several areas.
    pub stripe: Bytes,
}

impl MappedPart {
    /// How much of each area it takes; `None` where stripes do not come out even.
    fn share(&self) -> Option<u64> {
        let count = self.areas.len() as u64;
        match count {
            0 => None,
            1 => Some(self.length.0),
            _ => {
                let row = self.stripe.0.checked_mul(count).filter(|row| *row > 0)?;
                (self.length.0.is_multiple_of(row)).then(|| self.length.0 / count)
            }
        }
    }

    fn is_within(&self) -> bool {
        let Some(share) = self.share().filter(|share| *share > 0) else {
            return false;
        };
        self.areas.iter().all(|area| {
            let end = area.offset.0.checked_add(share);
            end.is_some_and(|end| end <= area.below.size().0)
        })
    }

    /// Which area a byte of it is in, where in that, and how many bytes follow it there.
    fn find(&self, at: u64) -> Option<(&MappedArea, u64, u64)> {
        if let [only] = self.areas.as_slice() {
            return Some((only, only.offset.0 + at, self.length.0 - at));
        }
        let (stripe, count) = (self.stripe.0, self.areas.len() as u64);
        let (number, within) = (at / stripe, at % stripe);
        let area = self.areas.get((number % count) as usize)?;
        let offset = area.offset.0 + number / count * stripe + within;
        Some((area, offset, stripe - within))
    }
}

/// Where a part of something that spans disks was found.
#[derive(Clone)]
pub struct MemberHome {
    /// Which one it is to whoever has found it.
    pub number: usize,
    /// What it is on.
    pub on: Arc<dyn InPlace>,
    /// Which part of that.
    pub place: Extent,
}

/// Something that lies on such parts.
pub struct AssembledVolume {
    /// Its name.
    pub name: String,
    /// The name of its device on the host, below `/dev`, if that is known.
    pub device: Option<String>,
    /// The numbers of the parts that it lies on, as far as they were found.
    pub on: BTreeSet<usize>,
    /// It; or why it is not opened, in a sentence's end.
    pub volume: std::result::Result<Arc<MappedVolume>, String>,
}

/// A volume.
pub struct MappedVolume {
    /// Where each part begins.
    starts: Vec<u64>,
    parts: Vec<MappedPart>,
    size: Bytes,
}

impl MappedVolume {
    /// Puts parts together, one after the other.
    ///
    /// # Errors
    /// `Format`: there are none, or one does not lie within what it is in.
    pub fn new(parts: Vec<MappedPart>) -> Result<Self> {
        let refused = |what: &str| Err(Error::new(ErrorKind::Format, what));
        let mut starts = Vec::with_capacity(parts.len());
        let mut size = 0_u64;
        for part in &parts {
            if !part.is_within() {
                return refused("a part of it does not lie within what it is on");
            }
            starts.push(size);
            let Some(end) = size.checked_add(part.length.0) else {
                return refused("it is longer than anything can be");
            };
            size = end;
        }
        match parts.is_empty() {
            true => refused("it has no parts"),
            false => Ok(Self {
                starts,
                parts,
                size: Bytes(size),
            }),
        }
    }

    /// The part that a byte is in, where in that, and how much of it is left.
    fn part(&self, at: u64) -> Option<(&MappedPart, u64)> {
        let number = self.starts.partition_point(|start| *start <= at);
        let number = number.checked_sub(1)?;
        let start = self.starts.get(number)?;
        Some((self.parts.get(number)?, at - start))
    }
}

impl InPlace for MappedVolume {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read_within(&self, offset: Bytes, buffer: &mut [u8], patience: Duration) -> Result<()> {
        let place = Extent::new(offset, Bytes(buffer.len() as u64));
        let end = place.offset.0.checked_add(place.length.0);
        if end.is_none_or(|end| end > self.size.0) {
            let what = format!(
                "the volume ends at {}, before what is to be read",
                self.size
            );
            return Err(Error::new(ErrorKind::Usage, what));
        }
        let until = Instant::now() + patience;
        let (mut at, mut rest) = (offset.0, buffer);
        while !rest.is_empty() {
            let found = self.part(at).and_then(|(part, within)| {
                let (area, from, follow) = part.find(within)?;
                Some((area, from, follow.min(part.length.0 - within)))
            });
            let Some((area, from, follow)) = found else {
                return Err(Error::new(ErrorKind::Failed, "a volume has a hole: a bug"));
            };
            let length = usize::try_from(follow).map_or(rest.len(), |most| most.min(rest.len()));
            let (now, later) = rest.split_at_mut(length);
            let left = until.saturating_duration_since(Instant::now());
            area.below.read_within(Bytes(from), now, left)?;
            at += length as u64;
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Memory(Vec<u8>);

    impl InPlace for Memory {
        fn size(&self) -> Bytes {
            Bytes(self.0.len() as u64)
        }

        fn read_within(&self, offset: Bytes, buffer: &mut [u8], _: Duration) -> Result<()> {
            let from = offset.0 as usize;
            buffer.copy_from_slice(&self.0[from..from + buffer.len()]);
            Ok(())
        }
    }

    fn memory(seed: u8) -> Arc<dyn InPlace> {
        let bytes = (0..4096_u32).map(|at| (at * 7 % 251) as u8 ^ seed);
        Arc::new(Memory(bytes.collect()))
    }

    fn area(below: &Arc<dyn InPlace>, offset: u64) -> MappedArea {
        MappedArea {
            below: Arc::clone(below),
            offset: Bytes(offset),
        }
    }

    fn part(length: u64, stripe: u64, areas: Vec<MappedArea>) -> MappedPart {
        MappedPart {
            length: Bytes(length),
            areas,
            stripe: Bytes(stripe),
        }
    }

    proptest! {
        #[test]
        fn each_byte_is_where_a_slow_count_finds_it(from in 0..700_usize, length in 0..700_usize) {
            let disks = [memory(0), memory(90), memory(170)];
            let [a, b, c] = &disks;
            let volume = MappedVolume::new(vec![
                part(100, 0, vec![area(a, 1000)]),
                part(360, 40, vec![area(c, 8), area(a, 0), area(b, 512)]),
                part(240, 1, vec![area(b, 100), area(b, 3000)]),
            ]).unwrap();
            // One byte after the other, dealt out in rows.
            let mut truth = Vec::new();
            let mut put = |disk: &Arc<dyn InPlace>, at: u64| {
                let mut byte = [0];
                disk.read_at(Bytes(at), &mut byte).unwrap();
                truth.push(byte[0]);
            };
            (0..100).for_each(|at| put(a, 1000 + at));
            for row in 0..3 {
                for (disk, start) in [(c, 8), (a, 0), (b, 512)] {
                    (0..40).for_each(|at| put(disk, start + row * 40 + at));
                }
            }
            for row in 0..120 {
                put(b, 100 + row);
                put(b, 3000 + row);
            }
            prop_assert_eq!(volume.size(), Bytes(700));
            let end = (from + length).min(700);
            let mut seen = vec![0; end - from];
            volume.read_at(Bytes(from as u64), &mut seen).unwrap();
            prop_assert_eq!(&seen, &truth[from..end]);
        }
    }

    #[test]
    fn what_does_not_lie_within_is_refused() {
        let disk = memory(0);
        for bad in [
            vec![],
            vec![part(10, 0, vec![])],
            vec![part(0, 0, vec![area(&disk, 0)])],
            vec![part(97, 0, vec![area(&disk, 4000)])],
            vec![part(1, 0, vec![area(&disk, u64::MAX)])],
            vec![part(20, 0, vec![area(&disk, 0), area(&disk, 50)])],
            vec![part(20, 8, vec![area(&disk, 0), area(&disk, 50)])],
            vec![part(32, u64::MAX, vec![area(&disk, 0), area(&disk, 50)])],
        ] {
            assert!(MappedVolume::new(bad).is_err());
        }
        let volume = MappedVolume::new(vec![part(96, 0, vec![area(&disk, 4000)])]).unwrap();
        for (at, length) in [(96, 1), (0, 97), (u64::MAX, 1)] {
            assert!(volume.read_at(Bytes(at), &mut vec![0; length]).is_err());
        }
    }
}
