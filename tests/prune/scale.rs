//! What a prune asks of its store, and what it takes of memory and time.

use super::*;
use std::time::Instant;
use stillpoint::store::{CountStore, Vault};

/// Snapshots of so many hosts, one a day.
fn fleet(hosts: i64, days: i64) -> World {
    let world = World::new();
    for host in 0..hosts {
        for day in 0..days {
            let when = ago(day * DAY + host);
            world.put(when, |manifest| manifest.host = format!("host-{host}"));
        }
    }
    world
}

/// How often each verb was used by a plan, and by the deed; and how many went.
fn counted(world: &World, rules: RetentionRules) -> ([[u64; 5]; 2], usize) {
    let store = Arc::new(CountStore::new(world.store.clone()));
    let vault = Vault::open(store.clone()).unwrap();
    let take = || {
        let counts = store.take();
        let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
        ["put", "get", "size", "list", "delete"].map(of)
    };
    take();
    let begun = Instant::now();
    let mut plan = plan_prune(&vault, &world.options(rules), &Silent).unwrap();
    let (planned, took) = (take(), begun.elapsed());
    let going = plan.going().count();
    println!("{} judged, {going} go, in {took:.1?}", plan.judged.len());
    carry_out_prune(&vault, &mut plan, &Silent).unwrap();
    ([planned, take()], going)
}

#[test]
fn a_prune_of_a_thousand_asks_for_each_manifest_once() {
    let world = fleet(10, 100);
    let ([planned, done], going) = counted(&world, daily(7));
    assert_eq!(going, 930);
    // Each manifest; of each host the newest one again, and the index objects of its two disks.
    // The snapshots, the keeps, what is known to be damaged. The one segment of each disk.
    assert_eq!(planned, [0, 1000 + 10 * (2 + 2), 10 * 2, 3, 0]);
    // Before each 256 what is kept is looked at again.
    assert_eq!(done, [0, 0, 0, 4, 930]);
    // When nothing goes, nothing else is asked.
    let ([planned, done], going) = counted(&world, daily(7));
    assert_eq!((planned, done, going), ([0, 70, 0, 1, 0], [0; 5], 0));
}

#[test]
fn ten_thousand_of_a_hundred_hosts_are_judged() {
    let world = fleet(100, 100);
    let rules = RetentionRules {
        weekly: 5,
        monthly: 3,
        ..daily(7)
    };
    let ([planned, done], going) = counted(&world, rules);
    assert!(going > 8000, "{going}");
    assert_eq!(planned, [0, 10_000 + 100 * 4, 100 * 2, 3, 0]);
    let looks = going.div_ceil(256) as u64;
    assert_eq!(done, [0, 0, 0, looks, going as u64]);
}
