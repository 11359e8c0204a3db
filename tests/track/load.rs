//! Under load: whoever copies what is marked until the disk is quiet has exactly what is on it.

use crate::support::host::{LoopDisk, skipped};
use crate::support::tracked::{PrivateTracker, differing};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stillpoint::model::{BLOCK_SIZE, BlockSet, Bytes, Extent};
use stillpoint::track::{ChangeSource, DiskTracker, Epoch, Moment, ProofFailure, unbroken};

const SIZE: u64 = 192 << 20;

/// A child process with threads, gone at the end.
struct Writer(Child);

impl Writer {
    fn is_done(&mut self) -> bool {
        let status = self.0.try_wait().unwrap();
        assert!(status.is_none_or(|status| status.success()), "fio failed");
        status.is_some()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_writer(disk: &LoopDisk) -> Writer {
    let mut command = Command::new("fio");
    command
        .args([
            "--name=w",
            "--direct=1",
            "--rw=randwrite",
            "--ioengine=libaio",
        ])
        .args([
            "--bsrange=512-128k",
            "--thread",
            "--numjobs=4",
            "--iodepth=16",
        ])
        .args([
            "--blockalign=512",
            "--time_based",
            "--runtime=1",
            "--rate=20m",
        ])
        .args(["--refill_buffers", "--randrepeat=0"])
        .arg(format!("--filename={}", disk.device))
        .arg(format!("--size={SIZE}"))
        .current_dir(disk.file.parent().unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Writer(command.spawn().expect("fio runs"))
}

/// One chain of copies of the disk.
struct Chain {
    changes: DiskTracker,
    since: Epoch,
    copy: Vec<u8>,
    copied: u64,
}

impl Chain {
    fn new(mut changes: DiskTracker) -> Self {
        let since = changes.advance().unwrap();
        Self {
            changes,
            since,
            copy: vec![0; SIZE as usize],
            copied: 0,
        }
    }

    /// Copies what has changed since the last pass; says how much that was.
    fn pass(&mut self, disk: &LoopDisk) -> u64 {
        let next = self.changes.advance().unwrap();
        let changed = self.changes.changed_since(self.since).unwrap();
        self.since = next;
        // From below: what has completed on the disk is in the file.
        let file = std::fs::File::open(&disk.file).unwrap();
        for range in changed.ranges(64) {
            let extent = Extent::of_blocks(range, Bytes(SIZE));
            let (start, end) = (extent.offset.0 as usize, extent.end().0 as usize);
            file.read_exact_at(&mut self.copy[start..end], extent.offset.0)
                .unwrap();
        }
        self.copied += changed.len();
        changed.len()
    }

    fn until_quiet(&mut self, disk: &LoopDisk) {
        self.pass(disk);
        assert_eq!(self.pass(disk), 0, "something still writes");
    }
}

#[test]
fn copying_what_is_marked_gives_the_disk() {
    let Some(mut tracker) = PrivateTracker::start("copying_what_is_marked") else {
        return;
    };
    if Command::new("fio").arg("--version").output().is_err() {
        skipped("copying_what_is_marked", "no fio");
        return;
    }
    let disk = LoopDisk::within("/dev/shm", SIZE, &[]);
    let mut often = Chain::new(disk.track(&mut tracker));
    let mut seldom = Chain::new(disk.track(&mut tracker));
    let identity = disk.identity();
    let before = often.changes.witness().unwrap();
    for round in 0..6 {
        let mut writer = start_writer(&disk);
        let mut passes = 0;
        while !writer.is_done() {
            often.pass(&disk);
            passes += 1;
            if passes == 5 {
                seldom.pass(&disk);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Every write has been reported to the writer. (To stop it instead would not do: a write
        // can be in the file already while nobody has been told of its end, nor the tracker.)
        often.until_quiet(&disk);
        let now = disk.contents();
        let witness = often.changes.witness().unwrap();
        let differ = differing(&often.copy, &now);
        if witness.unaccounted == before.unaccounted {
            assert_eq!(differ, BlockSet::new(), "round {round}");
        } else {
            // This kernel keeps programs away from some contexts. The tracker has to know it.
            println!(
                "round {round}: the kernel hid events from its programs, {} blocks differ: \
                 {before:?} {witness:?}",
                differ.len()
            );
            let moment = |witness| Moment {
                disk: &identity,
                witness,
            };
            let proof = unbroken(moment(&before), moment(&witness));
            assert_eq!(proof, Err(ProofFailure::Missed));
            return;
        }
        if round % 2 == 1 {
            seldom.until_quiet(&disk);
            assert_eq!(differing(&seldom.copy, &now), BlockSet::new(), "{round}");
        }
    }
    let after = often.changes.witness().unwrap();
    assert!(
        often.copied > 1000,
        "fio wrote only {} blocks",
        often.copied
    );
    println!(
        "{} MiB copied by the one chain, {} by the other; misses {:?} -> {:?}",
        (often.copied * BLOCK_SIZE) >> 20,
        (seldom.copied * BLOCK_SIZE) >> 20,
        before.misses,
        after.misses
    );
    assert_eq!(before.voids, after.voids);
    assert_eq!(before.unaccounted, after.unaccounted);
}
