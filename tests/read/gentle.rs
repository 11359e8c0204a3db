//! How gently disks are read, and when: slowly and behind everybody else while nothing is held, and
//! before everybody else while all stands still.

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check_all, take, vault_options};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stillpoint::Result;
use stillpoint::device::read::{BufferPool, DiskReader, IoPriority, Limits, ReadStats, Sink};
use stillpoint::engine::Gentle;
use stillpoint::model::{BLOCK_SIZE, Bytes, Extent, Mode};
use stillpoint::store::{MemoryStore, Vault};
use stillpoint::sys::io_priority;

/// How one extent was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct How {
    /// Everything stood still.
    held: bool,
    /// The thread's, as the kernel says.
    priority: Option<IoPriority>,
}

type Log = Arc<Mutex<Vec<How>>>;

/// A reader, and how it is used.
struct Watched {
    inner: Box<dyn DiskReader>,
    log: Log,
}

impl DiskReader for Watched {
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
        let held = limits.deadline.is_some();
        let read = self.inner.read(extents, limits, &mut |extent, buffer| {
            let priority = io_priority::of(0).unwrap();
            self.log.lock().unwrap().push(How { held, priority });
            sink(extent, buffer)
        });
        assert_eq!(io_priority::of(0).unwrap(), None, "it is given back");
        read
    }
}

/// A full and an incremental of a disk that is written to, read so gently; what was read how, of
/// each.
fn snapshots(gentle: &Gentle) -> Vec<Vec<How>> {
    let vault = Arc::new(Vault::create(Arc::new(MemoryStore::new()), vault_options()).unwrap());
    let disks = [ModelDisk::new(0, 90 * BLOCK_SIZE, 3)];
    let mut taken = Vec::new();
    let mut all = Vec::new();
    for mode in [Mode::Full, Mode::Incremental] {
        disks[0].write(7 * BLOCK_SIZE, &[7; 9 * BLOCK_SIZE as usize]);
        let log = Log::default();
        let watched = Arc::clone(&log);
        let options = Take {
            gentle: gentle.clone(),
            reader: Box::new(move |inner| {
                let log = Arc::clone(&watched);
                Box::new(Watched { inner, log })
            }),
            // The last blocks are read while all is held.
            before: Box::new(|disks| disks[0].write(0, &[8; 100])),
            ..Take::default()
        };
        let one = take(&vault, &disks, options).unwrap();
        assert_eq!(one.manifest.disks[0].mode, mode);
        taken.push(one);
        all.push(std::mem::take(&mut *log.lock().unwrap()));
    }
    check_all(&vault, &taken);
    all
}

#[test]
fn nearly_all_is_read_behind_everybody_else_and_the_window_before_everybody_else() {
    for log in snapshots(&Gentle::new(true, None)) {
        let held: Vec<&How> = log.iter().filter(|how| how.held).collect();
        assert!(!held.is_empty(), "nothing was read in the window");
        let urgent = |how: &&How| how.priority == Some(IoPriority::Urgent);
        assert!(held.iter().all(urgent), "{held:?}");
        let idle = |how: &&How| how.priority == Some(IoPriority::Idle);
        assert!(log.iter().any(|how| idle(&how)), "{log:?}");
        // What has to catch up with who writes waits for nobody.
        let last = log.iter().rposition(|how| idle(&how)).unwrap();
        let first = log.iter().position(|how| how.held).unwrap();
        assert!(last < first, "{log:?}");
    }
    for log in snapshots(&Gentle::default()) {
        assert!(log.iter().all(|how| how.priority != Some(IoPriority::Idle)));
    }
}

#[test]
fn a_pace_is_kept_until_the_window_and_the_snapshot_is_whole() {
    let begun = Instant::now();
    // 90 blocks at 30 MiB a second.
    let gentle = Gentle::new(true, Some(Bytes(30 << 20)));
    let logs = snapshots(&gentle);
    assert!(logs.iter().flatten().any(|how| how.held));
    let waited = gentle.waited();
    assert!(
        waited > Duration::ZERO && waited <= begun.elapsed(),
        "{waited:?}"
    );
}
