//! From the records of `FS_IOC_GETFSMAP` to whole blocks of a disk. A block that any record of
//! something else touches is never free.

use crate::model::{BlockSet, Bytes, DevNumber, Extent};
use crate::sys::fsmap::{FsmapRecord, encode_device};

/// Collects records into blocks.
pub(super) struct FreeMap {
    place: Extent,
    disk_size: Bytes,
    device: u32,
    free: BlockSet,
    used: BlockSet,
    /// Free bytes of the device, from and to, that the next record may continue.
    run: (u64, u64),
    /// All bytes that records call free, of whole blocks or not.
    bytes: u64,
    /// Where the last of them ends.
    end: u64,
}

impl FreeMap {
    pub(super) fn new(place: Extent, disk_size: Bytes, dev: DevNumber) -> Self {
        Self {
            place,
            disk_size,
            device: encode_device(dev.major, dev.minor),
            free: BlockSet::new(),
            used: BlockSet::new(),
            run: (0, 0),
            bytes: 0,
            end: 0,
        }
    }

    /// All bytes that records call free, of whole blocks or not.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }

    /// Where the last free byte of the device ends.
    pub(super) fn end(&self) -> Bytes {
        Bytes(self.end)
    }

    pub(super) fn add(&mut self, record: &FsmapRecord) {
        if record.device != self.device {
            return;
        }
        let end = record.physical.saturating_add(record.length);
        if !record.is_free() {
            if let Some(extent) = self.on_disk(record.physical, end.min(self.place.length.0)) {
                self.used.insert_touched(extent);
            }
            return;
        }
        self.bytes = self.bytes.saturating_add(record.length);
        self.end = self.end.max(end);
        if record.physical == self.run.1 {
            self.run.1 = end;
        } else {
            self.end_run();
            self.run = (record.physical, end);
        }
    }

    /// Where bytes of the device are on the disk; `None` for what is not inside it.
    fn on_disk(&self, start: u64, end: u64) -> Option<Extent> {
        let inside = start < end && end <= self.place.length.0;
        let extent = inside
            .then(|| Extent::new(self.place.offset + Bytes(start), Bytes(end) - Bytes(start)))?;
        (extent.end() <= self.disk_size).then_some(extent)
    }

    fn end_run(&mut self) {
        let (start, end) = std::mem::take(&mut self.run);
        if let Some(extent) = self.on_disk(start, end) {
            self.free.insert_inside(extent, self.disk_size);
        }
    }

    pub(super) fn finish(mut self) -> BlockSet {
        self.end_run();
        self.free.remove(&self.used);
        self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BLOCK_SIZE;

    const DEV: DevNumber = DevNumber { major: 8, minor: 1 };
    const B: u64 = BLOCK_SIZE;

    /// On a partition 4 KiB past a block's edge, of 100 blocks, on a disk of 200.
    fn free(records: &[(bool, u64, u64)]) -> BlockSet {
        let place = Extent::new(Bytes(4096), Bytes(100 * B));
        let mut space = FreeMap::new(place, Bytes(200 * B), DEV);
        for (free, physical, length) in records {
            space.add(&FsmapRecord {
                device: encode_device(8, 1),
                flags: FsmapRecord::SPECIAL_OWNER,
                physical: *physical,
                owner: if *free { FsmapRecord::OWNER_FREE } else { 3 },
                length: *length,
                ..FsmapRecord::default()
            });
        }
        space.finish()
    }

    #[test]
    fn neighbours_make_whole_blocks_together() {
        assert_eq!(
            free(&[(true, 0, B), (true, B, B)]),
            BlockSet::from_range(1..2)
        );
        assert_eq!(free(&[(true, 0, B)]), BlockSet::new());
        assert_eq!(free(&[(true, B - 4096, B)]), BlockSet::from_range(1..2));
        let apart = [(true, 0, B), (false, B, 4096), (true, B + 4096, B)];
        assert_eq!(free(&apart), BlockSet::new());
    }

    #[test]
    fn what_another_record_touches_is_not_free() {
        let overlap = [(true, 0, 10 * B), (false, 5 * B, 1)];
        let mut expected = BlockSet::from_range(1..10);
        expected.remove(&BlockSet::from_range(5..6));
        assert_eq!(free(&overlap), expected);
    }

    #[test]
    fn nothing_outside_the_partition_is_free() {
        assert_eq!(free(&[(true, 99 * B, 50 * B)]), BlockSet::new());
        assert_eq!(free(&[(true, u64::MAX - 5, u64::MAX)]), BlockSet::new());
        let other = FsmapRecord {
            device: encode_device(8, 2),
            flags: FsmapRecord::SPECIAL_OWNER,
            owner: FsmapRecord::OWNER_FREE,
            length: 50 * B,
            ..FsmapRecord::default()
        };
        let place = Extent::new(Bytes(0), Bytes(100 * B));
        let mut space = FreeMap::new(place, Bytes(200 * B), DEV);
        space.add(&other);
        assert_eq!(space.finish(), BlockSet::new());
    }
}
