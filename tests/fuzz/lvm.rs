//! What LVM and md have written on disks, as `targets.rs` has the other decoders.

/// The beginning of a disk: label, head of the texts, and a text.
pub mod lvm_label {
    use crate::mount::lvm::{FIRST, LENGTH, SECOND, mend};
    use std::sync::Arc;
    use std::time::Duration;
    use stillpoint::Result;
    use stillpoint::export::{InPlace, LvmPool, MemberHome};
    use stillpoint::model::{Bytes, Extent};

    /// A disk of which the beginning is known, and all else is zero.
    pub struct Disk(pub Vec<u8>);

    impl InPlace for Disk {
        fn size(&self) -> Bytes {
            Bytes(LENGTH as u64)
        }

        fn read_within(&self, offset: Bytes, buffer: &mut [u8], _: Duration) -> Result<()> {
            assert!(offset.0 + buffer.len() as u64 <= LENGTH as u64);
            let from = (offset.0 as usize).min(self.0.len());
            let there = &self.0[from..(from + buffer.len()).min(self.0.len())];
            buffer.fill(0);
            buffer[..there.len()].copy_from_slice(there);
            Ok(())
        }
    }

    pub fn seeds() -> Vec<Vec<u8>> {
        vec![FIRST.to_vec(), SECOND.to_vec()]
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        mend(&mut bytes);
        let mut pool = LvmPool::default();
        let mut understood = true;
        for (number, head) in [&bytes[..], FIRST, SECOND].into_iter().enumerate() {
            let on = Arc::new(Disk(head.to_vec()));
            let place = Extent::new(Bytes(0), on.size());
            let home = MemberHome { number, on, place };
            understood &= pool.add(home).is_ok() || number > 0;
        }
        for volume in pool.volumes() {
            let Ok(volume) = volume.volume else { continue };
            // All of it lies on these disks, however often.
            let mut piece = vec![0; 4096];
            for at in [0, volume.size().0 / 2, volume.size().0.saturating_sub(4096)] {
                let fits = at + 4096 <= volume.size().0;
                assert_eq!(volume.read_at(Bytes(at), &mut piece).is_ok(), fits);
            }
        }
        pool.strays();
        understood
    }
}

/// The text of a group.
pub mod lvm_text {
    use crate::mount::lvm::FIRST;
    use stillpoint::export::VolumeGroup;

    pub fn seeds() -> Vec<Vec<u8>> {
        // The newest one; older ones stand before it.
        let start = 4096 + 6656;
        vec![FIRST[start..start + 1900].to_vec()]
    }

    pub fn feed(text: &[u8]) -> bool {
        let Ok(group) = VolumeGroup::parse(text) else {
            return false;
        };
        let members = group.physical.len();
        for volume in &group.logical {
            for part in volume.parts.iter().flatten() {
                assert!(part.extents > 0 && !part.areas.is_empty());
                assert!(part.areas.iter().all(|area| area.member < members));
            }
        }
        true
    }
}

/// The superblock of a disk of an array.
pub mod md_label {
    use super::lvm_label::Disk;
    use crate::mount::md::{Leg, mend};
    use std::sync::Arc;
    use stillpoint::export::{ArrayPool, InPlace, MemberHome};
    use stillpoint::model::{Bytes, Extent};

    fn seed(role: u16) -> Vec<u8> {
        let mut disk = Leg::new(role, 8 << 20).disk(&[]);
        disk.truncate(16 << 10);
        disk
    }

    pub fn seeds() -> Vec<Vec<u8>> {
        vec![seed(0), seed(1)]
    }

    pub fn feed(bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        mend(&mut bytes);
        let mut pool = ArrayPool::default();
        let mut understood = true;
        for (number, head) in [bytes, seed(1)].into_iter().enumerate() {
            let on = Arc::new(Disk(head));
            let place = Extent::new(Bytes(0), on.size());
            understood &= pool.add(MemberHome { number, on, place }).is_ok();
        }
        for array in pool.arrays() {
            let Ok(volume) = array.volume else { continue };
            let mut last = [0];
            volume
                .read_at(Bytes(volume.size().0 - 1), &mut last)
                .unwrap();
        }
        understood
    }
}
