//! What a mirror asks of both places, exactly: what is there already is not asked for one by one,
//! and nothing is sent twice.

use super::{Source, is_clean};
use std::collections::BTreeMap;
use std::sync::Arc;
use stillpoint::engine::{Silent, mirror};
use stillpoint::store::{CountStore, MemoryStore, Vault};

fn counts(store: &CountStore) -> BTreeMap<&'static str, u64> {
    let counts = store.take().into_iter();
    counts
        .map(|(verb, count)| (verb, count.operations))
        .collect()
}

#[test]
fn the_second_time_nothing_is_sent() {
    let source = Source::new();
    let from = Arc::new(CountStore::new(source.store.clone()));
    let to = Arc::new(CountStore::new(Arc::new(MemoryStore::new())));
    let here = Vault::open(from.clone()).unwrap();
    let there = Vault::create_second(to.clone(), &here).unwrap();
    let (all, _) = (source.all(), (from.take(), to.take()));
    let first = mirror(&here, &there, &all, &Silent).unwrap();
    is_clean(&first);
    let (asked, put) = (counts(&from), counts(&to));
    // The session and each object.
    assert_eq!(put["put"], 1 + first.objects);
    // What was damaged; of segments, index objects and manifests what is there; the sessions.
    let sizes = put.get("size").copied().unwrap_or_default();
    assert!(put["list"] <= 5 && sizes <= first.objects, "{put:?}");
    // Each object is read once to be sent; index objects and manifests once before, to know what
    // is needed, and index objects once more to see that they make a whole map.
    assert!(asked["get"] <= 3 * first.objects, "{asked:?}");

    let again = mirror(&here, &there, &all, &Silent).unwrap();
    is_clean(&again);
    assert_eq!((again.there, again.objects), (4, 0));
    let (asked, put) = (counts(&from), counts(&to));
    assert_eq!(put["put"], 1, "its session: {put:?}");
    assert_eq!(
        put["get"], 1,
        "its session, among those of dead runs: {put:?}"
    );
    assert_eq!(put["delete"], 1, "its session: {put:?}");
    // Manifests and index objects, each once, and no segment.
    let indexes: std::collections::BTreeSet<_> = (source.taken.iter())
        .flat_map(|taken| &taken.manifest.disks)
        .flat_map(|disk| disk.index.iter().map(|part| part.id))
        .collect();
    assert_eq!(asked["get"], 4 + indexes.len() as u64);
    assert!(!asked.contains_key("put") && !asked.contains_key("delete"));
}
