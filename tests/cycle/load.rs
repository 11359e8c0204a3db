//! What is done to the disks while they are copied: everything that changes a disk. It must never
//! write to a raw disk while the gate is shut, so that the disk can be looked at.

use crate::support::host::run;
use nix::fcntl::{FallocateFlags, fallocate};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use stillpoint::model::BLOCK_SIZE;

const SECTOR: u64 = 512;

/// Shut while a raw disk is looked at. What holds the lock writes.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<bool>>);

impl Gate {
    pub fn shut(&self, shut: bool) {
        *self.0.lock().unwrap() = shut;
    }
}

/// Threads that load disks until it is dropped.
#[derive(Default)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Does `one` thing after another.
    fn go(&mut self, mut one: impl FnMut() + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                one();
            }
        }));
    }

    /// Files of all sorts, below `place`.
    pub fn files(&mut self, place: &Path, seed: u64) {
        let (place, mut random) = (place.to_owned(), SmallRng::seed_from_u64(seed));
        self.go(move || {
            one_on_files(&place, &mut random);
            std::thread::sleep(Duration::from_millis(6));
        });
    }

    /// Writes through memory.
    pub fn mapped(&mut self, place: &Path) {
        if Command::new("fio").arg("--version").output().is_err() {
            crate::support::rig::told("SKIPPED: mapped writes: no fio");
            return;
        }
        let file = place.join("mapped");
        self.go(move || {
            let file = format!("--filename={}", file.display());
            let fixed = ["--name=m", "--ioengine=mmap", "--rw=randwrite", "--bs=4k"];
            let mut fio = Command::new("fio");
            fio.args(fixed).args(["--size=8m", "--io_size=1m"]);
            fio.args(["--randrepeat=0", "--rate_iops=300", "--sync=0", &file]);
            let status = fio.stdin(Stdio::null()).stdout(Stdio::null()).status();
            assert!(status.unwrap().success(), "fio");
        });
    }

    /// Bursts of writes and discards on a disk that has no filesystem.
    pub fn raw(&mut self, device: &str, size: u64, gate: &Gate, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut raw = Raw::open(device, size);
        let gate = gate.clone();
        self.go(move || {
            for _ in 0..random.random_range(1..12) {
                let shut = gate.0.lock().unwrap();
                if *shut {
                    break;
                }
                raw.one(&mut random);
            }
            std::thread::sleep(Duration::from_millis(random.random_range(100..300)));
        });
    }

    /// Whether all threads still run.
    pub fn is_going(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

/// Discards all free space, a moment later.
pub fn trim(place: &Path) -> JoinHandle<()> {
    let place = place.to_str().unwrap().to_owned();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(40));
        run("fstrim", &[&place]);
    })
}

/// Random bytes; sometimes zeros, sometimes what compresses.
fn bytes(random: &mut SmallRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    match random.random_range(0..6) {
        0 => {}
        1 => bytes.fill(random.random()),
        _ => random.fill_bytes(&mut bytes),
    }
    bytes
}

fn one_on_files(place: &Path, random: &mut SmallRng) {
    let path = |random: &mut SmallRng| place.join(format!("f{}", random.random_range(0..40)));
    let file = path(random);
    let open = || {
        File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&file)
    };
    match random.random_range(0..60) {
        0..24 => {
            let (at, length) = (
                random.random_range(0..600_000),
                random.random_range(1..150_000),
            );
            open()
                .unwrap()
                .write_all_at(&bytes(random, length), at)
                .unwrap();
        }
        24..32 => open().unwrap().sync_all().unwrap(),
        32..38 => drop(fs::remove_file(&file)),
        38..42 => drop(fs::rename(&file, path(random))),
        42..46 => open()
            .unwrap()
            .set_len(random.random_range(0..500_000))
            .unwrap(),
        46..58 => {
            let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let ways = [
                FallocateFlags::empty(),
                keep,
                keep | FallocateFlags::FALLOC_FL_PUNCH_HOLE,
                keep | FallocateFlags::FALLOC_FL_ZERO_RANGE,
            ];
            let way = ways[random.random_range(0..ways.len())];
            let (at, length) = (
                random.random_range(0..500_000),
                random.random_range(1..200_000),
            );
            // Not every filesystem knows every way.
            let _ = fallocate(open().unwrap(), way, at, length);
        }
        _ => {
            let file = File::open(place).unwrap();
            nix::unistd::syncfs(&file).unwrap();
        }
    }
}

/// A disk without a filesystem.
pub struct Raw {
    device: PathBuf,
    size: u64,
    direct: File,
    cached: File,
}

impl Raw {
    pub fn open(device: &str, size: u64) -> Self {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let cached = options.open(device).unwrap();
        let direct = options.custom_flags(libc::O_DIRECT).open(device).unwrap();
        Self {
            device: device.into(),
            size,
            direct,
            cached,
        }
    }

    /// Writes past every cache; in sectors.
    pub fn write(&self, sector: u64, bytes: &[u8]) {
        let mut space = vec![0; bytes.len() + 4096];
        let start = space.as_ptr().align_offset(4096);
        let aligned = &mut space[start..start + bytes.len()];
        aligned.copy_from_slice(bytes);
        self.direct.write_all_at(aligned, sector * SECTOR).unwrap();
    }

    fn place(&self, random: &mut SmallRng, longest: u64) -> (u64, u64) {
        let sectors = self.size / SECTOR;
        let from = random.random_range(0..sectors);
        let count = random.random_range(1..=longest.min(sectors - from));
        (from, count)
    }

    /// One thing that changes the disk, over when this returns.
    pub fn one(&mut self, random: &mut SmallRng) {
        let sectors = self.size / SECTOR;
        let per_block = BLOCK_SIZE / SECTOR;
        match random.random_range(0..12) {
            0..4 => {
                let (from, count) = self.place(random, 300);
                self.write(from, &bytes(random, (count * SECTOR) as usize));
            }
            4 => {
                // Not even whole sectors.
                let length = random.random_range(1..100_000);
                let at = random.random_range(0..self.size - length);
                let bytes = bytes(random, length as usize);
                self.cached.write_all_at(&bytes, at).unwrap();
                self.cached.sync_data().unwrap();
            }
            5 => self.write(0, &bytes(random, SECTOR as usize)),
            6 => {
                let count = random.random_range(1..5);
                self.write(sectors - count, &bytes(random, (count * SECTOR) as usize));
            }
            7 => {
                let block = random.random_range(1..sectors / per_block);
                self.write(block * per_block - 1, &bytes(random, 2 * SECTOR as usize));
            }
            8 | 9 => {
                let (from, count) = self.place(random, 4000);
                let zeroes = random.random_bool(0.5);
                let mut command = Command::new("blkdiscard");
                command.arg("-f").args(zeroes.then_some("-z"));
                command.args(["-o", &(from * SECTOR).to_string()]);
                command.args(["-l", &(count * SECTOR).to_string()]);
                command.arg(&self.device).stderr(Stdio::null());
                assert!(command.status().unwrap().success(), "{command:?}");
            }
            _ => {
                let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let (from, count) = self.place(random, 2000);
                let way = match random.random_bool(0.5) {
                    true => keep | FallocateFlags::FALLOC_FL_PUNCH_HOLE,
                    false => keep | FallocateFlags::FALLOC_FL_ZERO_RANGE,
                };
                let (at, length) = ((from * SECTOR) as i64, (count * SECTOR) as i64);
                match fallocate(&self.cached, way, at, length) {
                    // The file below is on a filesystem that cannot make a hole.
                    Ok(()) | Err(nix::Error::EOPNOTSUPP) => {}
                    Err(error) => panic!("fallocate {way:?}: {error}"),
                }
            }
        }
    }
}
