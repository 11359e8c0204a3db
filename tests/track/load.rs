//! Under load: whoever copies what is marked until the disk is quiet has exactly what is on it.

use crate::support::tracked::{LoopDisk, PrivateTracker, differing};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use stillpoint::model::{BLOCK_SIZE, BlockSet, Bytes, Extent};
use stillpoint::track::{ChangeSource, DiskTracker, Epoch};

const SIZE: u64 = 192 << 20;

/// A child process with threads, gone at the end.
struct Writer(Child);

impl Writer {
    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Returns when none of its threads runs any more and the disk has nothing left to do.
    fn stop(&self, disk: &LoopDisk) {
        self.signal(nix::sys::signal::Signal::SIGSTOP);
        let name = disk.device.trim_start_matches("/dev/");
        let inflight = format!("/sys/block/{name}/inflight");
        for _ in 0..500 {
            let queued = std::fs::read_to_string(&inflight).unwrap();
            let idle = queued.split_whitespace().all(|count| count == "0");
            // Twice, for a thread could have sent something between the two looks.
            if idle && self.all_stopped() && std::fs::read_to_string(&inflight).unwrap() == queued {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the writer does not stop");
    }

    fn all_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id()));
        let mut states = threads.unwrap().flatten().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        });
        states.all(|state| state == 'T' || state == 'Z')
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
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
            "--runtime=60",
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
        assert_eq!(self.pass(disk), 0, "the stopped writer still writes");
    }
}

#[test]
fn copying_what_is_marked_gives_the_disk() {
    let Some(mut tracker) = PrivateTracker::start("copying_what_is_marked") else {
        return;
    };
    if Command::new("fio").arg("--version").output().is_err() {
        println!("SKIPPED: copying_what_is_marked: no fio");
        return;
    }
    let disk = LoopDisk::new("/dev/shm", SIZE, &[]);
    let mut often = Chain::new(disk.track(&mut tracker));
    let mut seldom = Chain::new(disk.track(&mut tracker));
    let before = often.changes.witness().unwrap();
    let writer = start_writer(&disk);
    for cut in 0..6 {
        for pass in 0..8 {
            often.pass(&disk);
            if pass == 3 {
                seldom.pass(&disk);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        writer.stop(&disk);
        often.until_quiet(&disk);
        let now = disk.contents();
        assert_eq!(differing(&often.copy, &now), BlockSet::new(), "cut {cut}");
        if cut % 2 == 1 {
            seldom.until_quiet(&disk);
            assert_eq!(differing(&seldom.copy, &now), BlockSet::new(), "cut {cut}");
        }
        writer.signal(nix::sys::signal::Signal::SIGCONT);
    }
    drop(writer);
    let after = often.changes.witness().unwrap();
    assert!(
        often.copied > 1000,
        "fio wrote only {} blocks",
        often.copied
    );
    println!(
        "{} MiB copied by the one chain, {} by the other; misses {:?} -> {:?}, unseen {:?} -> {:?}",
        (often.copied * BLOCK_SIZE) >> 20,
        (seldom.copied * BLOCK_SIZE) >> 20,
        before.misses,
        after.misses,
        before.unseen,
        after.unseen
    );
    assert_eq!(before.voids, after.voids);
    if after.misses == [0, 0] {
        // Copy B knew every single event of copy A again.
        assert_eq!(after.unseen, Some(0));
    }
}
