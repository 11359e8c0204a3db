//! What every store must do, for each of them alike: a directory, memory, S3.

use super::server::Server;
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::store::{Blob, LocalStore, MemoryStore, ObjectName, ObjectStore};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

/// Names and sizes of what is listed, in their order.
fn listed(store: &dyn ObjectStore, prefix: &str) -> Vec<(String, u64)> {
    let found = store.list_all(&name(prefix)).unwrap();
    let mut found: Vec<_> = found
        .iter()
        .map(|object| (object.name.to_string(), object.size))
        .collect();
    found.sort();
    found
}

/// Whether a put of a taken name is refused.
pub enum Taken {
    Refused,
    Unknown,
}

/// All of it, on an empty store.
pub fn obeys(store: &dyn ObjectStore, taken: &Taken) {
    let (one, long) = (name("index/one"), name("segments/ab/ab01"));
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    // Nothing is there yet.
    for missing in [&one, &name("snapshots/host/none")] {
        assert_eq!(
            store.get(missing, 9).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(store.size(missing).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(
            store.get_tail(missing, 4).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        let part = store.get_range(missing, 0, 1).unwrap_err();
        assert_eq!(part.kind(), ErrorKind::NotFound);
        store.delete(missing).unwrap();
    }
    assert!(listed(store, "index").is_empty());

    store.put(&one, Blob::from_static(b"12345")).unwrap();
    store.put(&long, bytes.clone().into()).unwrap();
    store.put(&name("index/empty"), Blob::new()).unwrap();
    store
        .put(&name("snapshots/a%20b/x"), Blob::from_static(b"x"))
        .unwrap();
    if let Taken::Refused = taken {
        let again = store.put(&one, Blob::from_static(b"other")).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
    }
    // What is known to be wrong is replaced in one step, whether it is there or not.
    let wrong = name("index/wrong");
    for bytes in ["one", "another"] {
        store.replace(&wrong, bytes.into()).unwrap();
        assert_eq!(store.get(&wrong, 9).unwrap(), bytes);
    }
    store.delete(&wrong).unwrap();

    assert_eq!(store.get(&one, 5).unwrap(), "12345");
    assert_eq!(store.get(&one, 4).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(store.get(&name("index/empty"), 4).unwrap(), "");
    assert_eq!(store.get(&name("snapshots/a%20b/x"), 4).unwrap(), "x");
    assert_eq!(store.get(&long, 1 << 20).unwrap(), bytes);
    assert_eq!(store.size(&long).unwrap(), 300_000);

    assert_eq!(store.get_range(&one, 1, 3).unwrap(), "234");
    assert_eq!(store.get_range(&one, 5, 0).unwrap(), "");
    for (offset, length) in [(0, 6), (3, 3), (5, 1), (9, 1), (6, 0), (u64::MAX, 2)] {
        let past = store.get_range(&one, offset, length).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::Damaged, "{offset} {length}");
    }
    let mut room = vec![7; 100];
    store.get_range_into(&long, 1000, 50, &mut room).unwrap();
    assert_eq!(room, bytes[1000..1050]);

    assert_eq!(
        store.get_tail(&one, 2).unwrap(),
        (Blob::from_static(b"45"), 5)
    );
    assert_eq!(
        store.get_tail(&one, 9).unwrap(),
        (Blob::from_static(b"12345"), 5)
    );
    assert_eq!(store.get_tail(&one, 0).unwrap(), (Blob::new(), 5));

    let whole = [("index/empty".into(), 0), ("index/one".into(), 5)];
    assert_eq!(listed(store, "index"), whole);
    assert_eq!(
        listed(store, "segments"),
        [("segments/ab/ab01".into(), 300_000)]
    );
    assert_eq!(listed(store, "segments/a"), []);
    assert_eq!(
        listed(store, "snapshots"),
        [("snapshots/a%20b/x".into(), 1)]
    );
    assert_eq!(store.list_some(&name("index"), 1).unwrap().len(), 1);
    let age = jiff::Timestamp::now() - store.list_all(&name("index")).unwrap()[0].modified;
    assert!(age.total(jiff::Unit::Hour).unwrap().abs() < 1.0, "{age}");

    store.delete(&one).unwrap();
    store.delete(&one).unwrap();
    assert_eq!(store.get(&one, 5).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(listed(store, "index"), [("index/empty".into(), 0)]);
}

#[test]
fn each_store_keeps_the_rules() {
    obeys(&MemoryStore::new(), &Taken::Refused);
    let folder = tempfile::tempdir().unwrap();
    obeys(&LocalStore::open(folder.path()).unwrap(), &Taken::Refused);
    let server = Server::start();
    obeys(&server.store(""), &Taken::Unknown);
    obeys(&server.store("deep/er"), &Taken::Unknown);
}

#[test]
fn a_listing_of_many_pages_is_whole() {
    let server = Server::start();
    let store = server.store("many");
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    // By hand: thousands of requests would be slow.
    let folder = server.files("many/index");
    std::fs::create_dir_all(&folder).unwrap();
    for at in 0..2500 {
        std::fs::write(folder.join(format!("{at:05}")), b"x").unwrap();
    }
    let found = listed(store.as_ref(), "index");
    assert_eq!(found.len(), 2500);
    assert_eq!(found[2499], ("index/02499".into(), 1));
}
