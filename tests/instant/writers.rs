//! Writers whose every 4 KiB says what it is, so that a copy of their files tells which writes it
//! holds. It must never write anything that could not be told from every other write.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a record.
pub const RECORD: usize = 4096;
/// Where the checksum is.
const SUM: usize = RECORD - 32;
const MAGIC: &[u8; 8] = b"stillpnt";
/// Files of the churn that are there at any time.
pub const KEPT: u64 = 12;

/// What a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub writer: u32,
    pub disk: u32,
    pub sequence: u64,
    pub offset: u64,
}

/// The finaliser of splitmix64: spreads numbers.
pub fn spread(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Bytes that nothing else has, the same for the same seed.
fn fill(bytes: &mut [u8], seed: u64) {
    for (n, word) in (0..).zip(bytes.chunks_mut(8)) {
        let value = spread(seed.wrapping_add(n)).to_le_bytes();
        word.copy_from_slice(&value[..word.len()]);
    }
}

impl Record {
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = vec![0; RECORD];
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.writer.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.disk.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&(time.as_nanos() as u64).to_le_bytes());
        // Half of it does not compress.
        fill(&mut bytes[40..2048], self.sequence << 8);
        let sum = blake3::hash(&bytes[..SUM]);
        bytes[SUM..].copy_from_slice(sum.as_bytes());
        bytes
    }

    /// `None`: never written. An error: torn, or not a record at all.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if bytes.len() != RECORD || &bytes[..8] != MAGIC {
            return Err("neither a record nor zeros".into());
        }
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let record = Self {
            writer: word(8),
            disk: word(12),
            sequence: long(16),
            offset: long(24),
        };
        if blake3::hash(&bytes[..SUM]).as_bytes() != &bytes[SUM..] {
            return Err(format!("a torn record: {record:?}"));
        }
        Ok(Some(record))
    }
}

/// A writer that makes one write after another, each to the next of its files, at a place that its
/// number tells. What it has written is always the first so many of its writes.
#[derive(Clone)]
pub struct Chain {
    pub writer: u32,
    /// Below the mount points, in the order of the disks.
    pub name: String,
    /// The disks it writes to in turn.
    pub disks: Vec<usize>,
    /// Places in each file.
    pub slots: u64,
    /// It syncs after this many writes.
    pub sync_every: u64,
    /// How many writes have begun, and how many have been done and synced.
    pub begun: Arc<AtomicU64>,
    pub done: Arc<AtomicU64>,
}

impl Chain {
    pub fn new(writer: u32, disks: &[usize], slots: u64, sync_every: u64) -> Self {
        Self {
            writer,
            name: format!("chain-{writer}"),
            disks: disks.to_vec(),
            slots,
            sync_every,
            begun: Arc::default(),
            done: Arc::default(),
        }
    }

    /// The record with this number.
    pub fn record(&self, sequence: u64) -> Record {
        let disk = self.disks[(sequence % self.disks.len() as u64) as usize];
        let slot = spread(sequence ^ u64::from(self.writer) << 40) % self.slots;
        Record {
            writer: self.writer,
            disk: disk as u32,
            sequence,
            offset: slot * RECORD as u64,
        }
    }

    /// Writes until it is told to stop.
    pub fn start(&self, mounts: &[PathBuf], stop: &Arc<AtomicBool>) -> JoinHandle<()> {
        let (chain, stop) = (self.clone(), Arc::clone(stop));
        let open = |mount: &PathBuf| File::create(mount.join(&self.name)).unwrap();
        let files: Vec<File> = mounts.iter().map(open).collect();
        std::thread::spawn(move || {
            for sequence in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let record = chain.record(sequence);
                let file = &files[record.disk as usize];
                chain.begun.store(sequence + 1, Ordering::SeqCst);
                file.write_all_at(&record.encode(), record.offset).unwrap();
                if sequence % chain.sync_every == 0 {
                    file.sync_data().unwrap();
                }
                chain.done.store(sequence + 1, Ordering::SeqCst);
                // Or it changes more than one window takes.
                std::thread::sleep(std::time::Duration::from_micros(500));
            }
        })
    }
}

/// What a file of the churn holds.
pub fn churned(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; 1 + (spread(number) % 150_000) as usize];
    fill(&mut bytes, number << 32);
    bytes
}

/// Makes files, gives them their names, and removes the oldest, in this order; and makes a mess of
/// others.
pub fn churn(folder: &Path, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (folder, stop) = (folder.to_owned(), Arc::clone(stop));
    fs::create_dir_all(&folder).unwrap();
    std::thread::spawn(move || {
        for number in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let open = folder.join(format!("open-{number}"));
            let bytes = churned(number);
            let file = File::create_new(&open).unwrap();
            for (n, part) in (0..).zip(bytes.chunks(17_000)) {
                file.write_all_at(part, n * 17_000).unwrap();
            }
            if number % 2 == 0 {
                file.sync_all().unwrap();
            }
            fs::rename(&open, folder.join(format!("done-{number}"))).unwrap();
            if number >= KEPT {
                fs::remove_file(folder.join(format!("done-{}", number - KEPT))).unwrap();
            }
            mess(&folder, number);
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    })
}

fn mess(folder: &Path, number: u64) {
    use nix::fcntl::{FallocateFlags, fallocate};
    let options = &mut File::options();
    let path = folder.join(format!("mess-{}", number % 5));
    let file = options.create(true).write(true).truncate(false).open(path);
    let file = file.unwrap();
    let at = spread(number) % 400_000;
    file.write_all_at(&churned(number), at).unwrap();
    let ways = [
        FallocateFlags::empty(),
        FallocateFlags::FALLOC_FL_KEEP_SIZE,
        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
    ];
    let way = ways[(number % 3) as usize];
    fallocate(&file, way, (at / 2) as i64, 70_000).unwrap();
    if number.is_multiple_of(4) {
        file.set_len(at).unwrap();
    }
}
