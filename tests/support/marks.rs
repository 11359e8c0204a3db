//! The maps of a tracked disk, read and put back past the tracker.

use super::host::LoopDisk;
use aya::maps::{Array, HashOfMaps, Map, MapData};
use stillpoint::track::PinDir;

/// A page of a disk's marks.
pub type Page = [u8; 4096];

fn array(pins: &PinDir, disk: &LoopDisk) -> Array<MapData, Page> {
    let disks = MapData::from_pin(pins.path().join("v2/disks")).unwrap();
    let disks: HashOfMaps<_, u32, MapData> = Map::HashOfMaps(disks).try_into().unwrap();
    let key = disk.dev().major << 20 | disk.dev().minor;
    Map::Array(disks.get(&key, 0).unwrap()).try_into().unwrap()
}

/// All pages: the header, the names, the summaries, the marks.
pub fn pages(pins: &PinDir, disk: &LoopDisk) -> Vec<Page> {
    let array = array(pins, disk);
    (0..array.len())
        .map(|n| array.get(&n, 0).unwrap())
        .collect()
}

/// Puts all back as it was, but for the count of what was written: the kernel's own, which a
/// machine that is taken back has back too, cannot be set here.
pub fn put_back(pins: &PinDir, disk: &LoopDisk, saved: &[Page]) {
    let mut array = array(pins, disk);
    let seen = array.get(&0, 0).unwrap()[128..136].to_vec();
    for (n, page) in (0..).zip(saved) {
        let mut page = *page;
        if n == 0 {
            page[128..136].copy_from_slice(&seen);
        }
        array.set(n, page, 0).unwrap();
    }
}
