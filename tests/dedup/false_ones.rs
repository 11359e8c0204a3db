//! Segments that do not hold what they say: found, not used, and noted for the next run of any
//! host. And segments that cannot be looked into, which are no lies.

use super::doubts::stores_all;
use super::failed::failing;
use super::*;
use crate::support::vaults::Notes;
use stillpoint::device::read::{BufferPool, DiskReader, Limits, ReadStats, Sink};
use stillpoint::format::{FooterCopiesWriter, Packed, Trailer};
use stillpoint::model::{Bytes, Extent};
use stillpoint::store::{Draft, FaultStore};
use stillpoint::{Error, ErrorKind};

/// Puts a segment whose footer names the image's blocks, and of which all chunks but the first so
/// many are something else; and the copy of it. Whoever may put can do that, a writer's key in
/// hand.
fn lie(fleet: &Fleet, honest: usize) -> ObjectId {
    let vault = fleet.vault();
    let draft = Draft::begin_in(&vault, session(&vault), None);
    let sealer = draft.sealer();
    let mut writer = sealer.create_segment(Vec::new()).unwrap();
    let mut packed = Packed::default();
    let image = noise(BLOCKS * BLOCK_SIZE, 1);
    let other = noise(BLOCK_SIZE, 666);
    for (number, block) in image.chunks(BLOCK_SIZE as usize).enumerate() {
        packed.clear();
        let hash = sealer.hash_of_data(block).unwrap();
        let put = if number < honest { block } else { &other };
        let chunk = sealer.encode_hashed(put, hash, &mut packed).unwrap();
        writer.push(&chunk, &packed);
    }
    let (id, bytes) = writer.finish();
    let trailer = Trailer::decode(&bytes, bytes.len() as u64).unwrap();
    let mut copies = FooterCopiesWriter::default();
    copies.push(id, &bytes[trailer.footer_offset as usize..]);
    let put = |name: &ObjectName, bytes: Vec<u8>| fleet.store.put(name, bytes.into()).unwrap();
    put(&ObjectName::segment(id), bytes);
    let run = SnapshotId::generate(1_700_000_000_000);
    let name = ObjectName::parse(&format!("footers/{run}-00000000")).unwrap();
    put(&name, copies.take().unwrap());
    id
}

/// Which chunks of a segment are noted as damaged.
fn noted(fleet: &Fleet, segment: ObjectId) -> Vec<u32> {
    let damage = fleet.vault().known_damage().unwrap().damage;
    damage.within(segment, 0..BLOCKS as u32)
}

#[test]
fn a_segment_that_does_not_hold_what_it_says_is_found_and_noted() {
    let fleet = Fleet::new();
    let false_one = lie(&fleet, 0);
    let taken = stores_all(&fleet, "second");
    let warning = &taken.manifest.warnings[0];
    assert!(warning.contains("do not hold what they say"), "{warning}");
    assert!(warning.contains("verify --all"), "{warning}");
    assert_eq!(noted(&fleet, false_one), Vec::from_iter(0..BLOCKS as u32));
    // Nobody looks into it again.
    let third = take_on(&fleet.vault(), "third", &disk_of(1));
    assert!(third.manifest.warnings.is_empty());
    assert_eq!(segments_of(&fleet.vault(), &third.manifest).len(), 1);
    assert_eq!(counts(&third), [0, BLOCKS - 19]);
}

#[test]
fn which_chunk_is_compared_cannot_be_known_before() {
    // Each finds it 15 times of 16.
    for _ in 0..8 {
        let fleet = Fleet::new();
        let false_one = lie(&fleet, 1);
        let taken = try_on(&fleet.vault(), "second", &disk_of(1), |_| ()).unwrap();
        if counts(&taken) == [BLOCKS - 20, 0] {
            // So many that the whole segment is named.
            assert_eq!(noted(&fleet, false_one).len(), BLOCKS as usize);
            return;
        }
    }
    panic!("a liar knows what is compared");
}

/// A reader that fails after so many reads.
struct Stumbling {
    inner: Box<dyn DiskReader>,
    left: u32,
}

impl DiskReader for Stumbling {
    fn size(&self) -> Bytes {
        self.inner.size()
    }

    fn logical_block(&self) -> u32 {
        self.inner.logical_block()
    }

    fn engine_name(&self) -> String {
        self.inner.engine_name()
    }

    fn set_pool(&mut self, pool: &BufferPool) -> Result<()> {
        self.inner.set_pool(pool)
    }

    fn read(
        &mut self,
        extents: &mut dyn Iterator<Item = Extent>,
        limits: &Limits<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ReadStats> {
        let left = &mut self.left;
        self.inner.read(extents, limits, &mut |extent, buffer| {
            let next = left.checked_sub(1);
            *left = next.ok_or_else(|| Error::new(ErrorKind::Io, "the test says so"))?;
            sink(extent, buffer)
        })
    }
}

#[test]
fn it_is_noted_by_a_run_that_fails_before_anything_is_held() {
    let fleet = Fleet::new();
    let false_one = lie(&fleet, 0);
    let failed = try_on(&fleet.vault(), "second", &disk_of(1), |take| {
        take.reader = Box::new(|inner| Box::new(Stumbling { inner, left: 15 }));
    });
    assert!(failed.is_err());
    assert_eq!(noted(&fleet, false_one).len(), BLOCKS as usize);
}

/// Runs of one host, of which the first has failed and the store has rotted what it had put.
#[test]
fn what_a_run_finds_rotten_of_one_that_was_cut_off_it_does_not_find_elsewhere() {
    const BLOCKS: u64 = 1600;
    let fleet = Fleet::new();
    let notes = tempfile::tempdir().unwrap();
    let disk = ModelDisk::new(900, BLOCKS * BLOCK_SIZE, 1);
    disk.write(0, &noise(BLOCKS * BLOCK_SIZE, 1));
    let with_notes = |take: &mut Take| {
        take.notes = Some(Notes {
            directory: notes.path().join("sent"),
            machine: Some("machine"),
        });
    };
    let failed = try_on(&failing(&fleet, || ()), "first", &disk, with_notes);
    let error = failed.err().unwrap().to_string();
    assert!(error.contains("goes on from what is left"), "{error}");
    let rotten = fleet.names("segments");
    assert_eq!(rotten.len(), 4);
    for name in &rotten {
        // All but the first chunk and the last ones, which stand before the footer.
        fleet.store.corrupt(name, |bytes| {
            let end = bytes.len() - (1 << 17);
            let chunks = (128 + 66_000..end).step_by(1 << 15);
            chunks.for_each(|at| bytes[at] ^= 1);
        });
    }
    let taken = try_on(&fleet.vault(), "first", &disk, with_notes).unwrap();
    check(&fleet.vault(), &taken);
    let record = &taken.manifest.disks[0];
    assert_eq!((record.resumed_bytes.0, record.shared_bytes.0), (0, 0));
    let warnings = taken.manifest.warnings.join("\n");
    assert!(warnings.contains("has not kept it as it was"), "{warnings}");
    assert!(!warnings.contains("do not hold"), "{warnings}");
    // 16 chunks were looked at, in 4 segments: most of these are noted.
    let damage = fleet.vault().known_damage().unwrap().damage;
    assert!(damage.segments().len() >= 2, "{damage:?}");
}

#[test]
fn what_cannot_be_looked_into_is_stored_anew_and_no_lie() {
    use ErrorKind::{Archived, Format, NotFound, Unsupported};
    for verb in ["size", "get"] {
        for kind in [Archived, Format, NotFound, Unsupported] {
            let fleet = Fleet::new();
            take_on(&fleet.vault(), "first", &disk_of(1));
            let known = fleet.names("segments").remove(0);
            let store = fleet.store.clone();
            let faulty = FaultStore::new(fleet.store.clone(), move |operation| {
                if operation.verb != verb || *operation.name != known {
                    return Ok(());
                }
                if kind == NotFound {
                    return store.delete(&known);
                }
                Err(Error::new(kind, "the test says so"))
            });
            let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
            let taken = try_on(&vault, "second", &disk_of(1), |_| ()).unwrap();
            check(&fleet.vault(), &taken);
            assert_eq!(counts(&taken), [BLOCKS - 20, 0], "{verb} {kind:?}");
            let warnings = &taken.manifest.warnings;
            assert!(warnings.is_empty(), "{verb} {kind:?}: {warnings:?}");
            assert!(fleet.names("damaged").is_empty());
        }
    }
}

#[test]
fn what_changes_while_it_is_copied_is_stored() {
    let fleet = Fleet::new();
    take_on(&fleet.vault(), "first", &disk_of(1));
    let disk = disk_of(1);
    disk.write(130 * BLOCK_SIZE, &noise(100 * BLOCK_SIZE, 2));
    let image = noise(230 * BLOCK_SIZE, 1)[130 * BLOCK_SIZE as usize..].to_vec();
    let changed = disk.clone();
    let faulty = FaultStore::new(fleet.store.clone(), move |operation| {
        // The first block of the first pass was found.
        if operation.verb == "size" && operation.name.as_str().starts_with("segments/") {
            changed.write(130 * BLOCK_SIZE, &image);
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(faulty)).unwrap());
    let taken = try_on(&vault, "second", &disk, |take| {
        take.window = Bytes(1 << 20);
    });
    let taken = taken.unwrap();
    check(&fleet.vault(), &taken);
    let [stored, shared] = counts(&taken);
    assert_eq!(shared, BLOCKS - 19 - 100);
    assert!(stored >= 100, "{stored}");
}
