//! Which slots of a segment snapshots need, and how long each chunk must be: so that a segment that
//! is read whole is compared with all maps at once, and its footer is not got by itself.

use crate::error::{Error, ErrorKind, Result};
use crate::format::Footer;
use crate::model::{BLOCK_SIZE, Bytes, ObjectId, Run};
use std::collections::BTreeMap;
use std::ops::Range;

/// The segments that are needed.
pub(super) type Segments = BTreeMap<ObjectId, NeededSlots>;

/// Segments, some or all of those that are needed.
pub(super) type SomeSegments = Vec<(ObjectId, NeededSlots)>;

/// So many ranges are put in order and joined.
const MANY: usize = 64;

/// The slots of a segment that are needed.
#[derive(Clone, Debug, Default)]
pub(super) struct NeededSlots {
    /// In no order, and they may overlap.
    ranges: Vec<Range<u32>>,
    /// How many ranges there were when they were joined last.
    joined: usize,
    /// Slots of the last blocks of disks, which may be shorter, and how long those are.
    short: Vec<(u32, u32)>,
}

impl NeededSlots {
    /// Needs what a run of a disk of this size needs, whose first block is in `slot`.
    pub(super) fn add(&mut self, run: Run, slot: u32, size: Bytes) {
        let mut slots = slot..slot + run.count as u32;
        let rest = (size.0 % BLOCK_SIZE) as u32;
        if rest > 0 && run.end() * BLOCK_SIZE > size.0 {
            slots.end -= 1;
            if !self.short.contains(&(slots.end, rest)) {
                self.short.push((slots.end, rest));
            }
        }
        let mut ranges = self.ranges.iter_mut();
        if slots.is_empty() || ranges.any(|range| joins(range, &slots)) {
            return;
        }
        self.ranges.push(slots);
        if self.ranges.len() >= MANY.max(2 * self.joined) {
            self.join();
        }
    }

    fn join(&mut self) {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let mut joined: Vec<Range<u32>> = Vec::new();
        for range in self.ranges.drain(..) {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        self.joined = joined.len();
        self.ranges = joined;
    }

    /// About how many bytes stand in them: what overlaps may be counted more than once.
    pub(super) fn bytes(&self) -> Bytes {
        let full = self
            .ranges
            .iter()
            .map(|range| u64::from(range.end - range.start));
        let short = self.short.iter().map(|(_, length)| u64::from(*length));
        Bytes(full.sum::<u64>() * BLOCK_SIZE + short.sum::<u64>())
    }

    /// Whether a segment with this footer has all of them, each as long as it must be.
    pub(super) fn check(&self, footer: &Footer) -> Result<()> {
        let full = self.ranges.iter().cloned().flatten();
        let full = full.map(|slot| (slot, BLOCK_SIZE as u32));
        for (slot, length) in full.chain(self.short.iter().copied()) {
            let found = footer.slot(slot)?.plain_len;
            if found != length {
                let what = format!("slot {slot} holds {found} bytes of a block of {length}");
                return Err(Error::new(ErrorKind::Damaged, what));
            }
        }
        Ok(())
    }
}

/// Whether `slots` are within a range, or go on at its end, which they do then.
fn joins(range: &mut Range<u32>, slots: &Range<u32>) -> bool {
    if range.end == slots.start {
        range.end = slots.end;
        return true;
    }
    range.start <= slots.start && slots.end <= range.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Packed, Sealer, Trailer};
    use crate::model::{BlockIndex, Content};
    use std::collections::BTreeSet;

    fn run(start: u64, count: u64) -> Run {
        Run {
            start: BlockIndex(start),
            count,
            content: Content::Zero,
        }
    }

    /// A footer of chunks of these lengths.
    fn footer(lengths: &[u32]) -> Footer {
        let sealer = Sealer::without_keys();
        let (mut writer, mut packed) = (
            sealer.create_segment(Vec::new()).unwrap(),
            Packed::default(),
        );
        for length in lengths {
            packed.clear();
            let chunk = sealer.encode_chunk(&vec![7; *length as usize], &mut packed);
            writer.push(&chunk.unwrap(), &packed);
        }
        let (id, bytes) = writer.finish();
        let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
        let tail = &bytes[trailer.footer_offset as usize..];
        sealer.open_footer(tail, trailer, id).unwrap()
    }

    #[test]
    fn what_is_needed_is_what_was_added() {
        let (mut needed, mut truth) = (NeededSlots::default(), BTreeSet::new());
        let size = Bytes(1000 * BLOCK_SIZE);
        for n in 0..5000_u32 {
            let (slot, count) = (n.wrapping_mul(2_654_435_761) % 700, 1 + n % 9);
            needed.add(run(0, u64::from(count)), slot, size);
            truth.extend(slot..slot + count);
        }
        assert!(needed.ranges.len() < 500);
        needed.join();
        assert_eq!(needed.bytes(), Bytes::of_blocks(truth.len() as u64));
        let found: BTreeSet<u32> = needed.ranges.iter().cloned().flatten().collect();
        assert_eq!(found, truth);
    }

    #[test]
    fn the_last_block_of_a_disk_may_be_shorter_and_no_other() {
        let whole = BLOCK_SIZE as u32;
        let size = Bytes(2 * BLOCK_SIZE + 512);
        let mut needed = NeededSlots::default();
        needed.add(run(0, 3), 1, size);
        assert_eq!(needed.bytes(), size);
        needed.check(&footer(&[9, whole, whole, 512])).unwrap();
        for bad in [
            &[9, whole, whole][..],
            &[9, whole, 512, 512],
            &[9, whole, whole, whole],
            &[9, 1, whole, 512],
        ] {
            let error = needed.check(&footer(bad)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{bad:?}");
        }
    }
}
