//! What a mirror asks of both places, exactly: what is there already is not asked for one by one,
//! and nothing is sent twice.

use super::*;
use stillpoint::store::CountStore;

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
    // What was damaged; of segments, index objects and manifests what is there; the sessions; what
    // collectors mean to delete, at first and before each manifest. Its own session is asked for
    // before and after each manifest.
    let sizes = put["size"] - 2 * all.len() as u64;
    assert!(
        put["list"] <= 6 + all.len() as u64 && sizes <= first.objects,
        "{put:?}"
    );
    // Each object is read once to be sent; index objects and manifests once before, to know what
    // is needed, and index objects once more to see that they make a whole map.
    assert!(asked["get"] <= 3 * first.objects, "{asked:?}");

    let again = mirror(&here, &there, &all, &Silent).unwrap();
    is_clean(&again);
    assert_eq!((again.there, again.objects), (4, 0));
    let (asked, put) = (counts(&from), counts(&to));
    assert_eq!(put["put"], 1, "its session: {put:?}");
    assert!(!put.contains_key("get"), "{put:?}");
    assert_eq!(put["delete"], 1, "its session: {put:?}");
    // Manifests and index objects, each once, and no segment.
    let indexes: std::collections::BTreeSet<_> = (source.taken.iter())
        .flat_map(|taken| &taken.manifest.disks)
        .flat_map(|disk| disk.index.iter().map(|part| part.id))
        .collect();
    assert_eq!(asked["get"], 4 + indexes.len() as u64);
    assert!(!asked.contains_key("put") && !asked.contains_key("delete"));
}

/// Whoever collects what nothing refers to sees that somebody is at work there.
#[test]
fn while_it_puts_and_looks_it_has_a_session() {
    let source = Source::new();
    let inner = Arc::new(MemoryStore::new());
    second(inner.clone(), &source.vault).unwrap();
    let (seen, sessions) = (Arc::new(AtomicU32::new(0)), Arc::clone(&inner));
    let counted = Arc::clone(&seen);
    let watched = FaultStore::new(inner.clone(), move |operation| {
        let folder = operation.name.components().next();
        if ["segments", "index", "snapshots", "damaged"].contains(&folder.unwrap()) {
            let there = sessions.list_all(&ObjectName::sessions()).unwrap();
            assert_eq!(there.len(), 1, "{operation:?}");
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let report = source.mirror_to(Arc::new(watched)).unwrap();
    is_clean(&report);
    assert!(u64::from(seen.load(Ordering::SeqCst)) > 2 * report.objects);
    assert!(inner.list_all(&ObjectName::sessions()).unwrap().is_empty());
}
