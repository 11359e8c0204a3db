//! What is far away is got ahead, in large parts and many at once, in bounded memory; the target is
//! written in its order all the same.

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, take, vault_options};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use stillpoint::format::Manifest;
use stillpoint::model::{BLOCK_SIZE, Bytes, Extent, block_count};
use stillpoint::restore::{CopyOptions, Target, copy};
use stillpoint::store::{
    Blob, Capabilities, MemoryStore, ObjectInfo, ObjectName, ObjectStore, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// Parts that are got at once, and how long each is at most.
const AT_ONCE: usize = 16;
const PART: u64 = 4 << 20;
/// So long nothing waits that will come.
const NEVER: Duration = Duration::from_secs(30);

/// Lets the first gets of segments wait for one another.
#[derive(Default)]
struct FarStore {
    memory: MemoryStore,
    flights: Mutex<Flights>,
    changed: Condvar,
}

#[derive(Default)]
struct Flights {
    begun: usize,
    now: usize,
    bytes: u64,
    most: usize,
    most_bytes: u64,
    /// Gets of this one fail.
    broken: Option<usize>,
}

impl FarStore {
    fn fly(&self, name: &ObjectName, length: u64) -> Result<Blob> {
        let mut flights = self.flights.lock().unwrap();
        let number = flights.begun;
        flights.begun += 1;
        flights.now += 1;
        flights.bytes += length;
        flights.most = flights.most.max(flights.now);
        flights.most_bytes = flights.most_bytes.max(flights.bytes);
        self.changed.notify_all();
        let waits = |flights: &mut Flights| flights.begun < AT_ONCE;
        let waited = self.changed.wait_timeout_while(flights, NEVER, waits);
        let (mut flights, timed_out) = waited.unwrap();
        if timed_out.timed_out() {
            let what = format!("{} at once, of {} so far", flights.most, flights.begun);
            return Err(Error::new(ErrorKind::Failed, what));
        }
        flights.now -= 1;
        flights.bytes -= length;
        match flights.broken == Some(number) {
            true => Err(Error::new(
                ErrorKind::Io,
                format!("{name}: the test says so"),
            )),
            false => Ok(Blob::new()),
        }
    }
}

impl ObjectStore for FarStore {
    fn location(&self) -> String {
        self.memory.location()
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.memory.put(name, bytes)
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.memory.replace(name, bytes)
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        self.memory.get(name, limit)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        if name.as_str().starts_with("segments/") {
            self.fly(name, length)?;
        }
        self.memory.get_range(name, offset, length)
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        self.memory.get_tail(name, length)
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        self.memory.list(prefix, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.memory.delete(name)
    }
}

/// A target that must be written in its order.
#[derive(Default)]
struct InOrder(Mutex<Vec<u8>>);

impl Target for InOrder {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        let mut contents = self.0.lock().unwrap();
        assert_eq!(offset.0, contents.len() as u64);
        blocks
            .iter()
            .for_each(|block| contents.extend_from_slice(block));
        Ok(())
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        let mut contents = self.0.lock().unwrap();
        assert_eq!(extent.offset.0, contents.len() as u64);
        contents.resize(extent.end().0 as usize, 0);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A disk of more parts than are got at once, with holes, in a vault far away; and what it holds.
fn far_away() -> (Arc<FarStore>, Vec<u8>, Manifest) {
    let store = Arc::new(FarStore::default());
    let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
    let size = 24 * PART + 512;
    let of_block = |block: u64| vec![1 + (block % 250) as u8; BLOCK_SIZE as usize];
    let mut contents: Vec<u8> = (0..size.div_ceil(BLOCK_SIZE)).flat_map(of_block).collect();
    contents.truncate(size as usize);
    for hole in [0, 3 * PART, 9 * PART + 2 * BLOCK_SIZE] {
        contents[hole as usize..][..3 * BLOCK_SIZE as usize].fill(0);
    }
    let disk = ModelDisk::new(0, size, 3);
    disk.write(0, &contents);
    let taken = take(&vault, &[disk], Take::default()).unwrap();
    let truth = taken.truth[0][0].contents.clone();
    (store, truth, taken.manifest)
}

fn restored(store: &Arc<FarStore>, manifest: &Manifest) -> Result<Vec<u8>> {
    let vault = Vault::open(store.clone()).unwrap();
    let record = &manifest.disks[0];
    let size = record.identity.size;
    let map = vault.load_index(&record.index, block_count(size))?;
    vault.know_footers(&record.footers, &map);
    let target = InOrder::default();
    let options = CopyOptions {
        workers: 2,
        keep_going: false,
        cancel: &|| Ok(()),
        progress: &|_| {},
    };
    copy(&vault, &map, size, &target, options)?;
    Ok(target.0.into_inner().unwrap())
}

#[test]
fn much_is_got_ahead_and_written_in_order() {
    let (store, truth, manifest) = far_away();
    let contents = restored(&store, &manifest).unwrap();
    assert!(contents == truth);
    let flights = store.flights.lock().unwrap();
    assert_eq!(flights.most, AT_ONCE);
    let most = AT_ONCE as u64 * (PART + PART / 64);
    assert!(flights.most_bytes <= most, "{}", flights.most_bytes);
    // A part ends where a segment, a hole or the disk does, and else when it is long enough.
    assert!(flights.begun <= 24 + 4 + 3 + 1, "{}", flights.begun);
}

#[test]
fn one_that_fails_ends_all_that_wait_for_their_turn() {
    let (store, _, manifest) = far_away();
    for broken in [0, 1, AT_ONCE - 1, AT_ONCE] {
        *store.flights.lock().unwrap() = Flights {
            broken: Some(broken),
            ..Flights::default()
        };
        let error = restored(&store, &manifest).unwrap_err();
        assert!(error.to_string().contains("the test says so"), "{error}");
    }
}
