//! A vault of many snapshots of many hosts: what `info` asks for and takes.
//! `STILLPOINT_TEST_ROUNDS=100` makes it 10,000 snapshots of 100 hosts.

use crate::collect::fleet::{Counted, fleet, peak};
use std::time::Instant;
use stillpoint::engine::{Silent, look_at_holdings};

#[test]
fn many_snapshots_of_many_hosts_are_looked_at_once_each() {
    let fleet = fleet();
    let before = peak();
    let Counted { store, vault } = fleet.open();
    let started = Instant::now();
    let found = look_at_holdings(&vault, &Silent).unwrap();
    let took = started.elapsed();
    let counts = store.take();
    let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
    eprintln!(
        "info of {} snapshots of {} hosts, {} segments, {} index objects: {} get, {} list, \
         {took:?}; memory {} MiB, {} MiB before; {} needed, {} dead, {} unneeded",
        fleet.snapshots,
        fleet.hosts,
        fleet.segments,
        fleet.parts,
        of("get"),
        of("list"),
        peak() >> 10,
        before >> 10,
        found.needed.all().bytes,
        found.dead,
        found.unneeded.all().bytes,
    );
    // Each manifest and each index object once.
    assert_eq!(of("get"), fleet.snapshots + fleet.parts as u64);
    // Segments, index objects, copies of footers, keeps; plans, damage, samples, keys; sessions,
    // twice in a directory; snapshots.
    assert_eq!(of("list"), 11);
    assert_eq!(of("put") + of("delete") + of("size"), 0, "{counts:?}");
    assert_eq!(found.snapshots.len() as u64, fleet.snapshots);
    assert_eq!(found.hosts.len() as u64, fleet.hosts);
    let needed = found.needed.segments.objects + found.unneeded.segments.objects;
    assert_eq!(needed, fleet.segments);
    assert!(!found.has_damage, "{:?}", found.missing);
    let room = found.room.unwrap();
    assert!(room.free <= room.all && room.all.0 > 0);
}
