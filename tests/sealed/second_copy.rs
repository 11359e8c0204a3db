//! What a second copy of an encrypted vault gets of keys, and what a mirror without a key does with
//! what is odd, damaged or false in either place.

use super::*;
use crate::support::vaults::{check, rounds, verify_all};
use stillpoint::ErrorKind;
use stillpoint::engine::{MirrorReport, Silent, mirror, mirror_sealed};
use stillpoint::model::SnapshotId;
use stillpoint::store::{CountStore, FaultStore};

/// A vault and its second place.
struct Two {
    first: Safe,
    second: Arc<MemoryStore>,
}

impl Two {
    /// Mirrored once, without a key.
    fn new() -> Self {
        let two = Self {
            first: Safe::new(),
            second: Arc::new(MemoryStore::new()),
        };
        two.first.take(&two.first.vault);
        let source = two.source(two.first.store.clone());
        Vault::create_second(two.second.clone(), &source).unwrap();
        let report = two.carry();
        assert_eq!((report.sent.len(), report.warnings.len()), (1, 0));
        two
    }

    fn source(&self, store: Arc<dyn ObjectStore>) -> Vault {
        Vault::open_by(store, &KeySource::NotWanted).unwrap()
    }

    /// Mirrors without a key.
    fn carry(&self) -> MirrorReport {
        self.carry_from(self.first.store.clone())
    }

    fn carry_from(&self, store: Arc<dyn ObjectStore>) -> MirrorReport {
        let target = self.source(self.second.clone());
        mirror_sealed(&self.source(store), Some(&target), false, &Silent).unwrap()
    }

    fn opens(&self, by: &str) -> bool {
        Vault::open_by(self.second.clone(), &given(by)).is_ok()
    }

    fn one(&self, folder: &str) -> ObjectName {
        self.first.names(folder).remove(0)
    }
}

#[test]
fn keys_come_with_each_mirror_also_by_who_has_one() {
    let two = Two::new();
    let target = Arc::clone(&two.second);
    two.first.vault.add_key(&key("later")).unwrap();
    assert!(!two.opens("later"));
    let target = Vault::open_by(target, &given("first")).unwrap();
    let source = &two.first.vault;
    mirror(source, &target, &source.snapshots().unwrap(), &Silent).unwrap();
    assert!(two.opens("later"));
    // And where somebody has lost them.
    for name in two.first.names("keys") {
        two.second.delete(&name).unwrap();
    }
    two.carry();
    assert!(two.opens("later") && two.opens("first"));
}

#[test]
fn a_damaged_key_is_put_right_there_and_not_carried() {
    let two = Two::new();
    let name = two.one("keys");
    two.second.corrupt(&name, |bytes| bytes[60] ^= 1);
    assert!(!two.opens("first"));
    assert!(two.carry().warnings.is_empty());
    assert!(two.opens("first"));
    // In the source it is damaged: said, and the other place is left alone.
    two.first.store.corrupt(&name, |bytes| bytes[60] ^= 1);
    let report = two.carry();
    assert!(report.warnings[0].contains(name.as_str()), "{report:?}");
    assert!(two.opens("first"));
    // None in either place: nothing comes there.
    two.second.delete(&name).unwrap();
    let target = two.source(two.second.clone());
    let source = two.source(two.first.store.clone());
    let error = refused(mirror_sealed(&source, Some(&target), false, &Silent));
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

#[test]
fn verify_looks_at_keys() {
    let safe = Safe::new();
    safe.take(&safe.vault);
    let writer = safe.open(&writer_of(&safe.vault)).unwrap();
    assert!(verify_all(&writer).unwrap().keys.bad.is_empty());
    let second = safe.vault.add_key(&key("second")).unwrap();
    safe.store
        .corrupt(&ObjectName::key(second), |bytes| bytes[60] ^= 1);
    let report = verify_all(&writer).unwrap();
    assert!(report.keys.bad[0].contains(&second.to_string()));
    assert!(!report.keys.none_left);
    for name in safe.names("keys") {
        safe.store.delete(&name).unwrap();
    }
    assert!(verify_all(&writer).unwrap().keys.none_left);
}

/// Who can write to the source has put another manifest, whole as far as anyone sees without a key.
#[test]
fn a_whole_manifest_of_the_second_copy_is_never_overwritten() {
    let two = Two::new();
    let name = two.one("snapshots");
    let good = two.first.bytes(&name);
    let forged = two.first.vault.sealer();
    let forged = forged.seal_object(stillpoint::format::ObjectKind::Manifest, &[b'x'; 99]);
    let forged = forged.unwrap();
    two.first
        .store
        .corrupt(&name, |bytes| *bytes = forged.clone());
    let report = two.carry();
    let kept = two.second.get(&name, 1 << 20).unwrap();
    assert!(kept.to_vec() == good, "it was overwritten");
    assert!(
        report.wrong[0].what.contains("both are whole"),
        "{report:?}"
    );
    assert!(!report.wrong[0].replaced && report.sent.is_empty());
    // One that is damaged there is put right.
    two.first
        .store
        .corrupt(&name, |bytes| *bytes = good.clone());
    two.second.corrupt(&name, |bytes| bytes.truncate(90));
    let report = two.carry();
    assert!(report.wrong[0].replaced, "{report:?}");
    assert!(two.second.get(&name, 1 << 20).unwrap().to_vec() == good);
    // One that is not sealed is none.
    let plain = stillpoint::format::Sealer::without_keys();
    let plain = plain.seal_object(stillpoint::format::ObjectKind::Manifest, b"{}");
    let plain = plain.unwrap();
    let other = ObjectName::parse("snapshots/host/01M8M287NRXNW0M50R3VCFK117").unwrap();
    two.first.store.put(&other, plain.into()).unwrap();
    let report = two.carry();
    assert!(report.warnings[0].contains("damaged"), "{report:?}");
    assert!(two.second.get(&other, 1 << 20).is_err());
}

/// What no snapshot needs holds none back.
#[test]
fn odd_names_and_what_is_whole_there_hold_nothing_back() {
    let two = Two::new();
    let first = two.first.take(&two.first.vault);
    for odd in [
        "segments/README",
        "segments/aa/notes",
        "index/x.tmp",
        "snapshots/notes",
    ] {
        let name = ObjectName::parse(odd).unwrap();
        two.first.store.put(&name, b"odd".to_vec().into()).unwrap();
    }
    // Damaged here, whole there.
    let mut both = two.first.names("segments").into_iter();
    let cut = both.find(|name| two.second.size(name).is_ok()).unwrap();
    two.first.store.corrupt(&cut, |bytes| bytes.truncate(500));
    let report = two.carry();
    assert_eq!(
        (report.sent.len(), report.damaged.len()),
        (1, 0),
        "{report:?}"
    );
    assert!(report.warnings[0].contains("whole in the second place"));
    let opened = Vault::open_by(two.second.clone(), &given("first")).unwrap();
    check(&Arc::new(opened), &first);
    // A bad manifest holds back itself alone.
    two.first.take(&two.first.vault);
    two.first.take(&two.first.vault);
    let snapshots = two.first.names("snapshots").into_iter();
    let newest = snapshots
        .filter(|name| name.components().count() == 3)
        .max();
    let newest = newest.unwrap();
    two.first.store.corrupt(&newest, |bytes| bytes[70] ^= 1);
    let report = two.carry();
    assert_eq!(
        (report.sent.len(), report.damaged.len()),
        (1, 0),
        "{report:?}"
    );
}

/// A store that lists what it says is not there.
#[test]
fn what_is_listed_and_not_there_holds_manifests_back() {
    let two = Two::new();
    two.first.disks[0].scribble(9);
    two.first.take(&two.first.vault);
    let hidden = two.first.names("segments");
    let there = two.second.clone();
    let hidden = hidden.into_iter().find(|name| there.size(name).is_err());
    let hidden = hidden.unwrap();
    let faulty = FaultStore::new(two.first.store.clone(), move |operation| {
        match operation.verb == "get" && *operation.name == hidden {
            true => Err(Error::new(ErrorKind::NotFound, "the test says so")),
            false => Ok(()),
        }
    });
    let report = two.carry_from(Arc::new(faulty));
    assert_eq!(
        (report.sent.len(), report.damaged.len()),
        (0, 1),
        "{report:?}"
    );
    assert!(report.warnings[0].contains("not there"), "{report:?}");
}

/// What a mirror without a key asks for, of the first and the second place: for so many snapshots
/// at first, and when all are there.
fn asked_for(snapshots: u64) -> [[u64; 5]; 4] {
    let two = Two::new();
    // Nothing of a manifest says to who has no key which snapshot it is of.
    let bytes = two.first.bytes(&two.one("snapshots"));
    let (mut second, names) = (0, 1..snapshots);
    for number in names {
        let name = ObjectName::manifest("many", SnapshotId::generate(number * 1000));
        two.first.store.put(&name, bytes.clone().into()).unwrap();
        // Half of them are there, under another name: that of one that `gc` has rewritten.
        if number % 2 == 0 {
            let name = ObjectName::manifest("many", id_of(&name).successor());
            two.second.put(&name, bytes.clone().into()).unwrap();
            second += 1;
        }
    }
    let stores = [&two.first.store, &two.second];
    let stores = stores.map(|store| Arc::new(CountStore::new(store.clone())));
    let mut all = Vec::new();
    for sent in [snapshots - 1, 0] {
        let [source, target] = stores.each_ref().map(|store| two.source(store.clone()));
        stores.iter().for_each(|store| drop(store.take()));
        let report = mirror_sealed(&source, Some(&target), false, &Silent).unwrap();
        assert_eq!(report.sent.len() as u64, sent);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        for store in &stores {
            let counts = store.take();
            let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
            all.push(["put", "get", "size", "list", "delete"].map(of));
        }
    }
    let there = two.second.list_all(&ObjectName::snapshots()).unwrap();
    assert_eq!(there.len() as u64, snapshots + second);
    all.try_into().unwrap()
}

fn id_of(name: &ObjectName) -> SnapshotId {
    name.components().last().unwrap().parse().unwrap()
}

/// With `STILLPOINT_TEST_ROUNDS=20` of ten thousand snapshots.
#[test]
fn without_a_key_each_snapshot_more_costs_the_same_few_requests() {
    let count = 500 * u64::from(rounds());
    let [few, many] = [count, 2 * count].map(asked_for);
    let [from, to, from_again, to_again] = [0, 1, 2, 3].map(|at| {
        let more = few[at].iter().zip(&many[at]);
        more.map(|(few, many)| (many - few, count))
            .collect::<Vec<_>>()
    });
    let each = |all: [u64; 5]| all.map(|one| (one * count, count)).to_vec();
    // Each manifest is got once.
    assert_eq!(from, each([0, 1, 0, 0, 0]));
    // Each is put, after a look at what collectors mean to delete there; whether the session stands
    // is asked before and after it.
    assert_eq!(to, each([1, 0, 2, 1, 0]));
    assert_eq!((from_again, to_again), (each([0; 5]), each([0; 5])));
}
