//! How a disk is read out of a distant vault: with how many requests, by how many at once, and what
//! becomes of readers when the vault does not answer.

use super::image::{BLOCKS, Stage};
use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, take, vault_options};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stillpoint::ErrorKind;
use stillpoint::export::{ChunkPool, Image};
use stillpoint::format::DiskRecord;
use stillpoint::model::{BLOCK_SIZE, Bytes, Extent};
use stillpoint::store::{CountStore, FaultStore, MemoryStore, ObjectStore, Operation, Vault};

const MIB: u64 = 1 << 20;

/// A disk of noise, in a vault whose requests are counted.
struct Noise {
    counted: Arc<CountStore>,
    record: DiskRecord,
    truth: Vec<u8>,
}

impl Noise {
    fn new(size: u64) -> Self {
        let counted = Arc::new(CountStore::new(Arc::new(MemoryStore::new())));
        let vault = Arc::new(Vault::create(counted.clone(), vault_options()).unwrap());
        let disk = ModelDisk::new(0, size, 5);
        let mut chance = Chance(size);
        let words = (0..size / 8).flat_map(|_| chance.next().to_le_bytes());
        let truth: Vec<u8> = words.collect();
        disk.write(0, &truth);
        let mut taken = take(&vault, std::slice::from_ref(&disk), Take::default()).unwrap();
        let record = taken.manifest.disks.remove(0);
        Self {
            counted,
            record,
            truth,
        }
    }

    /// As a command finds it that has just begun, with `step` around each request.
    fn image(&self, step: impl Fn(Operation<'_>) + Send + Sync + 'static) -> Image {
        let store = FaultStore::new(self.counted.clone(), move |operation| {
            step(operation);
            Ok(())
        });
        let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
        let image = Image::open(&vault, &self.record, &|| Ok(())).unwrap();
        self.counted.take();
        image
    }

    /// How often the vault was asked for bytes since the last time.
    fn gets(&self) -> u64 {
        self.counted
            .take()
            .get("get")
            .map_or(0, |get| get.operations)
    }

    fn check(&self, image: &Image, offset: u64, length: usize) {
        let mut buffer = vec![9; length];
        image.read_at(Bytes(offset), &mut buffer).unwrap();
        let expected = &self.truth[offset as usize..][..length];
        assert!(buffer == expected, "{offset}, {length} bytes");
    }
}

fn is_begun_segment(operation: &Operation<'_>) -> bool {
    !operation.done && operation.name.as_str().starts_with("segments/")
}

#[test]
fn few_requests_read_what_is_small_and_scattered() {
    let noise = Noise::new(64 * MIB);
    let image = noise.image(|_| ());
    for n in 0..20 {
        noise.check(&image, n * 3 * MIB + 8192, 4096);
        // Beside it: that has come with it.
        noise.check(&image, n * 3 * MIB + 100_000, 4096);
    }
    // One each, and the ends of three segments.
    let gets = noise.gets();
    assert!(gets <= 23, "{gets} requests");
    let image = noise.image(|_| ());
    // A file of 1 MiB, as the kernel reads it.
    for n in 0..8 {
        noise.check(&image, 40 * MIB + n * 128 * 1024, 128 * 1024);
    }
    std::thread::sleep(Duration::from_millis(100));
    let gets = noise.gets();
    assert!(gets <= 6, "{gets} requests for 1 MiB");
}

#[test]
fn who_reads_on_waits_for_few_requests() {
    let noise = Noise::new(64 * MIB);
    let most = Arc::new(AtomicU64::new(0));
    let now = Arc::new(AtomicU64::new(0));
    let image = noise.image({
        let (most, now) = (Arc::clone(&most), Arc::clone(&now));
        move |operation| {
            if operation.done {
                now.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(at_once, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    for n in 0..512 {
        noise.check(&image, n * 128 * 1024, 128 * 1024);
    }
    let gets = noise.gets();
    // 2 MiB each, more of them at the beginning, and ends of segments.
    assert!(gets <= 32 + 16, "{gets} requests");
    let most = most.load(Ordering::SeqCst);
    assert!((4..=16).contains(&most), "{most} at once");
}

#[test]
fn many_who_want_one_chunk_get_it_once() {
    let noise = Noise::new(8 * MIB);
    let image = noise.image(|operation| {
        if is_begun_segment(&operation) {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (image, noise) = (&image, &noise);
            scope.spawn(move || noise.check(image, 5 * MIB + n * 512, 512));
        }
    });
    // The segment's end, and the chunk.
    assert_eq!(noise.gets(), 2);
}

#[test]
fn a_vault_that_hangs_holds_up_no_reader_for_longer_than_he_says() {
    let noise = Noise::new(64 * MIB);
    let hangs = Arc::new(AtomicBool::new(false));
    let stuck = Arc::new(Mutex::new(String::new()));
    let image = noise.image({
        let (hangs, stuck) = (Arc::clone(&hangs), Arc::clone(&stuck));
        move |operation| {
            let name = operation.name.as_str();
            while is_begun_segment(&operation)
                && hangs.load(Ordering::SeqCst)
                && [name, ""].contains(&stuck.lock().unwrap().as_str())
            {
                name.clone_into(&mut stuck.lock().unwrap());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    hangs.store(true, Ordering::SeqCst);
    let mut buffer = [0; 512];
    let begun = Instant::now();
    let patience = Duration::from_millis(200);
    let error = image
        .read_within(Bytes(0), &mut buffer, patience)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains("did not answer in time"),
        "{error}"
    );
    assert!(error.hint().is_some());
    assert!(begun.elapsed() < Duration::from_secs(3));
    // What stands elsewhere is read meanwhile.
    noise.check(&image, 60 * MIB, 4096);
    hangs.store(false, Ordering::SeqCst);
    noise.check(&image, 0, 4096);
}

#[test]
fn what_is_kept_of_all_images_together_has_a_bound() {
    let noise = Noise::new(96 * MIB);
    let vault = Arc::new(Vault::open(noise.counted.clone()).unwrap());
    let pool = Arc::new(ChunkPool::new(&vault));
    let open = || Image::open_in(&pool, &vault, &noise.record, &|| Ok(())).unwrap();
    let images = [open(), open()];
    for (n, image) in (0..48).zip(images.iter().cycle()) {
        noise.check(image, n * 2 * MIB, 2 * MIB as usize);
        assert!(pool.kept_bytes() <= Bytes(64 * MIB));
    }
    assert!(pool.kept_bytes() > Bytes(60 * MIB));
}

#[test]
fn who_hears_of_damage_hears_of_no_more_than_there_is() {
    let stage = Stage::new();
    let block = (0..BLOCKS).find(|block| stage.place(*block).is_some_and(|(_, slot)| slot == 1));
    let (block, length) = (block.unwrap(), BLOCK_SIZE as usize);
    let (segment, slot) = stage.place(block).unwrap();
    let footer = stage.vault.check_segment(segment).unwrap();
    let at = footer.slot(slot).unwrap().offset as usize;
    let name = stillpoint::store::ObjectName::segment(segment);
    stage.store.corrupt(&name, |bytes| bytes[at + 30] ^= 1);
    let image = stage.image();
    stage.counted.take();
    let start = (block - 1) * BLOCK_SIZE;
    let mut three = vec![0; 3 * length];
    let error = image.read_at(Bytes(start), &mut three).unwrap_err();
    assert_eq!(error.offset(), Some(Bytes(block * BLOCK_SIZE)));
    // Its neighbours came with the same request.
    let mut one = vec![0; length];
    for other in [block - 1, block + 1] {
        let place = (other * BLOCK_SIZE) as usize;
        image.read_at(Bytes(place as u64), &mut one).unwrap();
        assert!(one == stage.truth[place..place + length]);
    }
    assert_eq!(stage.counted.take()["get"].operations, 1);
    // It is asked for each time: it may be repaired meanwhile.
    stage.store.corrupt(&name, |bytes| bytes[at + 30] ^= 1);
    let place = (block * BLOCK_SIZE) as usize;
    image.read_at(Bytes(place as u64), &mut one).unwrap();
    assert!(one == stage.truth[place..place + length]);
}

#[test]
fn a_part_that_cannot_be_had_at_all_is_the_only_one() {
    let noise = Noise::new(64 * MIB);
    let store: Arc<dyn ObjectStore> = noise.counted.clone();
    let gone = Arc::new(Mutex::new(None::<String>));
    let faulty = FaultStore::new(store, {
        let gone = Arc::clone(&gone);
        move |operation| {
            if is_begun_segment(&operation) {
                let mut gone = gone.lock().unwrap();
                let name = operation.name.as_str();
                if gone.get_or_insert_with(|| name.to_owned()) == name {
                    let what = "it is not there";
                    return Err(stillpoint::Error::new(ErrorKind::NotFound, what));
                }
            }
            Ok(())
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let image = Image::open(&vault, &noise.record, &|| Ok(())).unwrap();
    // The segment that the first block stands in is the one that is gone.
    let mut buffer = [0; 4096];
    let error = image.read_at(Bytes(0), &mut buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let (mut lost, mut read) = (0, 0);
    for block in 0..noise.truth.len() as u64 / BLOCK_SIZE {
        let start = block * BLOCK_SIZE;
        match image.read_at(Bytes(start), &mut buffer) {
            Ok(()) => {
                assert!(
                    buffer[..] == noise.truth[start as usize..][..4096],
                    "{block}"
                );
                read += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
                assert_eq!(error.offset(), Some(Bytes(start)));
                lost += 1;
            }
        }
    }
    assert!(lost > 100 && read > 100, "{lost} lost, {read} read");
}

#[test]
fn what_stands_before_a_cut_is_read_also_where_it_is_asked_for_with_what_is_not() {
    let stage = Stage::new();
    let (segment, _) = stage.place(0).unwrap();
    let footer = stage.vault.check_segment(segment).unwrap();
    // In the middle of the sixth chunk. Where the chunks are is known from before.
    let end = footer.slot(5).unwrap().offset as usize + 100;
    let name = stillpoint::store::ObjectName::segment(segment);
    stage.store.corrupt(&name, |bytes| bytes.truncate(end));
    let image = stage.image();
    let mut whole = vec![0; 10 * BLOCK_SIZE as usize];
    let error = image.read_at(Bytes(0), &mut whole).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    for block in 0..10 {
        let slot = stage.place(block).filter(|place| place.0 == segment);
        let Some((_, slot)) = slot else { continue };
        let place = (block * BLOCK_SIZE) as usize..(block + 1) as usize * BLOCK_SIZE as usize;
        let mut one = vec![0; BLOCK_SIZE as usize];
        let read = image.read_at(Bytes(place.start as u64), &mut one);
        match slot < 5 {
            true => assert!(read.is_ok() && one == stage.truth[place], "{block}"),
            false => {
                let error = read.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Damaged);
                assert_eq!(error.offset(), Some(Bytes(place.start as u64)));
            }
        }
    }
}

/// An image of a vault that answers for no segment's bytes while it hangs, as it does now.
struct HungImage {
    image: Image,
    hangs: Arc<AtomicBool>,
}

impl HungImage {
    fn of(noise: &Noise) -> Self {
        let hangs = Arc::new(AtomicBool::new(false));
        let image = noise.image({
            let hangs = Arc::clone(&hangs);
            move |operation| {
                while is_begun_segment(&operation) && hangs.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        hangs.store(true, Ordering::SeqCst);
        Self { image, hangs }
    }
}

#[test]
fn who_says_what_he_will_ask_for_leaves_room_for_others() {
    let noise = Noise::new(96 * MIB);
    let HungImage { image, hangs } = HungImage::of(&noise);
    for n in 0..3 {
        let place = Extent::new(Bytes(n * 32 * MIB), Bytes(32 * MIB));
        image.get_ahead(place).unwrap();
        // Threads take up what they can.
        std::thread::sleep(Duration::from_millis(50));
    }
    hangs.store(false, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
    let gets = noise.gets();
    // What threads took up, what waited beside it, and the ends of segments. All would be 48.
    assert!((16..=16 + 16 + 4).contains(&gets), "{gets} requests");
}

#[test]
fn what_nobody_waits_for_any_more_is_not_got() {
    let noise = Noise::new(64 * MIB);
    let HungImage { image, hangs } = HungImage::of(&noise);
    let mut buffer = [0; 512];
    for n in 0..60 {
        let patience = Duration::from_millis(5);
        let read = image.read_within(Bytes(n * MIB), &mut buffer, patience);
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Io);
    }
    hangs.store(false, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(300));
    // Those that threads had taken up, and the ends of their segments.
    let gets = noise.gets();
    assert!(gets <= 16 + 3, "{gets} requests");
    for n in 0..60 {
        noise.check(&image, n * MIB, 512);
    }
}
