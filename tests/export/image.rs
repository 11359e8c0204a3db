//! A disk of a snapshot, read at offsets, against what restoring it gives.

use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, restore, take, vault_options};
use std::path::Path;
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::export::Image;
use stillpoint::format::DiskRecord;
use stillpoint::model::{BLOCK_SIZE, BlockIndex, Bytes, Content, ObjectId, block_count};
use stillpoint::store::{CountStore, MemoryStore, ObjectName, Vault};

pub const BLOCKS: u64 = 40;
pub const SIZE: u64 = BLOCKS * BLOCK_SIZE + 512;

/// A disk of a snapshot that is made of several runs and segments, with free blocks and zeros.
pub struct Stage {
    pub store: Arc<MemoryStore>,
    pub counted: Arc<CountStore>,
    pub vault: Arc<Vault>,
    pub record: DiskRecord,
    pub truth: Vec<u8>,
}

impl Stage {
    pub fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let counted = Arc::new(CountStore::new(store.clone()));
        let vault = Arc::new(Vault::create(counted.clone(), vault_options()).unwrap());
        let disk = ModelDisk::new(0, SIZE, 5);
        let mut chance = Chance(11);
        let mut taken = None;
        for round in 0..3 {
            for block in 0..BLOCKS {
                // A stretch of neighbours at the beginning, and others all over.
                if block < 10 && round == 0 || block > 12 && chance.below(3) == 0 {
                    let noise: Vec<u8> = (0..BLOCK_SIZE).map(|_| chance.next() as u8).collect();
                    disk.write(block * BLOCK_SIZE, &noise);
                }
            }
            disk.write(SIZE - 100, &[round + 1; 100]);
            disk.free(20);
            taken = Some(take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap());
        }
        let record = taken.unwrap().manifest.disks.remove(0);
        let (truth, report) = restore(&vault, &record, false).unwrap();
        assert!(report.damaged.is_empty());
        Self {
            store,
            counted,
            vault,
            record,
            truth,
        }
    }

    pub fn image(&self) -> Image {
        Image::open(&self.vault, &self.record, &|| Ok(())).unwrap()
    }

    /// The segment and slot that a block's bytes are in.
    pub fn place(&self, block: u64) -> Option<(ObjectId, u32)> {
        let blocks = block_count(self.record.identity.size);
        let map = self.vault.load_index(&self.record.index, blocks).unwrap();
        match map.get(BlockIndex(block)) {
            Some(Content::Data { segment, slot }) => Some((segment, slot)),
            _ => None,
        }
    }
}

#[test]
fn any_bytes_of_a_disk_are_what_restoring_it_gives() {
    let stage = Stage::new();
    let image = stage.image();
    assert_eq!(image.size(), Bytes(SIZE));
    let mut whole = vec![9; SIZE as usize];
    image.read_at(Bytes(0), &mut whole).unwrap();
    assert!(whole == stage.truth, "the whole disk");
    let image = stage.image();
    let mut chance = Chance(3);
    for _ in 0..2000 {
        let offset = chance.below(SIZE + 1);
        // Few bytes as a rule, and many now and then.
        let most = (SIZE - offset).min([1, 700, 3 * BLOCK_SIZE, SIZE][chance.below(4) as usize]);
        let mut buffer = vec![9; chance.below(most + 1) as usize];
        image.read_at(Bytes(offset), &mut buffer).unwrap();
        let end = offset as usize + buffer.len();
        assert!(
            buffer == stage.truth[offset as usize..end],
            "{offset}..{end}"
        );
    }
    for (offset, length) in [(SIZE, 1), (SIZE - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 9)] {
        let error = image
            .read_at(Bytes(offset), &mut vec![0; length])
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    image.read_at(Bytes(SIZE), &mut []).unwrap();
}

#[test]
fn neighbours_come_with_one_request_and_are_kept() {
    let stage = Stage::new();
    let image = stage.image();
    let (segment, _) = stage.place(0).unwrap();
    assert!((1..10).all(|block| stage.place(block).unwrap().0 == segment));
    let mut buffer = vec![0; 10 * BLOCK_SIZE as usize];
    stage.counted.take();
    image.read_at(Bytes(0), &mut buffer).unwrap();
    assert_eq!(stage.counted.take()["get"].operations, 1);
    image.read_at(Bytes(777), &mut buffer[..200_000]).unwrap();
    assert!(stage.counted.take().is_empty());
}

#[test]
fn damage_is_an_error_that_says_where_and_neighbours_are_read() {
    let stage = Stage::new();
    let block = (0..BLOCKS).find(|block| stage.place(*block).is_some_and(|(_, slot)| slot == 0));
    let block = block.unwrap();
    let (segment, _) = stage.place(block).unwrap();
    // A byte of the first chunk.
    let name = ObjectName::segment(segment);
    stage.store.corrupt(&name, |bytes| bytes[200] ^= 1);
    let image = stage.image();
    for other in (0..=BLOCKS).filter(|other| *other != block) {
        let start = other * BLOCK_SIZE;
        let mut buffer = vec![9; BLOCK_SIZE.min(SIZE - start) as usize];
        image.read_at(Bytes(start), &mut buffer).unwrap();
        let end = start as usize + buffer.len();
        assert!(buffer == stage.truth[start as usize..end], "block {other}");
    }
    let first = block.saturating_sub(1);
    let mut buffer = vec![0; 3 * BLOCK_SIZE as usize];
    let error = stage
        .image()
        .read_at(Bytes(first * BLOCK_SIZE), &mut buffer)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert_eq!(error.offset(), Some(Bytes(block * BLOCK_SIZE)));
    assert_eq!(error.path(), Some(Path::new(&stage.record.identity.name)));
    assert_eq!(error.operation(), Some("read"));
    let start = block * BLOCK_SIZE;
    let place = format!("bytes {start}..{}", start + BLOCK_SIZE);
    assert!(error.to_string().contains(&place), "{error}");
    // A segment that is gone is damage, too.
    stage.store.corrupt(&name, |bytes| bytes.clear());
    let error = stage.image().read_at(Bytes(start), &mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
}
