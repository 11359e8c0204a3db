//! What cannot be read is told, and counted, and hides nothing else.

use super::yard::{Known, Yard, info_by, info_of};
use crate::sealed::{given, key, writer_of};
use crate::support::vaults::{session_record, vault_options};
use jiff::SignedDuration;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use stillpoint::engine::{Holding, Silent, VaultHoldings, look_at_holdings};
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{FaultStore, ObjectName, ObjectStore, Vault, VaultOptions};
use stillpoint::{Error, ErrorKind};

/// A snapshot, one upon it, and one upon that; of a host with one disk.
fn line() -> (Yard, [Known; 3]) {
    for seed in 0.. {
        let mut yard = Yard::new(seed);
        let first = yard.snapshot_of(0, None);
        let second = yard.snapshot_of(0, Some(&first));
        let third = yard.snapshot_of(0, Some(&second));
        let lengths = [&first, &second, &third].map(|one| one.disks[0].index.len());
        if lengths == [1, 2, 3] {
            return (yard, [first, second, third]);
        }
    }
    unreachable!()
}

fn holding(found: &VaultHoldings, known: &Known) -> Holding {
    let mut all = found.snapshots.iter();
    all.find(|one| one.id == known.id).unwrap().holding
}

fn unread(found: &VaultHoldings) -> BTreeSet<SnapshotId> {
    let all = found.snapshots.iter().filter(|one| one.is_unread);
    all.map(|one| one.id).collect()
}

fn segments_of(known: &Known) -> BTreeSet<ObjectId> {
    known.disks[0]
        .map
        .iter()
        .filter_map(|run| run.segment())
        .collect()
}

#[test]
fn a_manifest_that_cannot_be_read_is_told_and_the_others_are_judged() {
    let (yard, [first, second, third]) = line();
    let name = ObjectName::manifest("host0", second.id);
    yard.store.corrupt(&name, |bytes| bytes[60] ^= 1);
    let found = yard.info();
    assert!(found.has_damage);
    assert_eq!((found.unread_manifests, found.unread_snapshots()), (1, 1));
    assert_eq!(found.unread.len(), 1);
    assert_eq!(found.unread[0].snapshot, second.id);
    assert!(
        found.unread[0]
            .why
            .to_string()
            .contains(&second.id.to_string())
    );
    let there: Vec<_> = found.snapshots.iter().map(|one| one.id).collect();
    assert_eq!(there, [third.id, first.id]);
    assert!(holding(&found, &first).logical.0 > 0);
}

/// It is not known what an unread snapshot needs: what is called unneeded may be its.
#[test]
fn what_an_unread_snapshot_alone_needs_is_counted_and_the_snapshot_is_told() {
    let (yard, [.., third]) = line();
    assert_eq!(yard.info().unneeded.all().objects, 0);
    let name = ObjectName::manifest("host0", third.id);
    yard.store.corrupt(&name, |bytes| bytes[60] ^= 1);
    let found = yard.info();
    assert_eq!(
        (found.unneeded.indexes.objects, found.unread_snapshots()),
        (1, 1)
    );
}

#[test]
fn an_index_object_that_cannot_be_read_is_told_for_all_that_need_it() {
    for gone in [false, true] {
        let (yard, [first, second, third]) = line();
        let whole = yard.info();
        let name = ObjectName::index(second.disks[0].index[1].id);
        match gone {
            false => yard.store.corrupt(&name, |bytes| bytes[60] ^= 1),
            true => yard.store.delete(&name).unwrap(),
        }
        let found = yard.info();
        assert!(found.has_damage);
        assert_eq!(unread(&found), BTreeSet::from([second.id, third.id]));
        assert_eq!(found.unread_snapshots(), 2);
        assert_eq!(found.unread.len(), 1);
        let said = found.unread[0].why.to_string();
        assert!(
            said.contains(name.as_str().strip_prefix("index/").unwrap()),
            "{said}"
        );
        assert_eq!(
            holding(&found, &first).logical,
            holding(&whole, &first).logical
        );
        assert_eq!(found.missing.objects, usize::from(gone));
        // What the first one needs is not called unneeded by what nobody could read.
        let needed = found.needed.segments.objects;
        assert!(needed >= segments_of(&first).len());
    }
}

#[test]
fn a_segment_that_is_missing_or_cut_is_told() {
    let (yard, [first, ..]) = line();
    let segments: Vec<ObjectId> = segments_of(&first).into_iter().collect();
    let name = ObjectName::segment(segments[0]);
    yard.store.corrupt(&name, |bytes| bytes.truncate(321));
    let cut = yard.info();
    assert!(cut.has_damage && cut.unread.is_empty());
    let told = [format!("segment {}", segments[0])];
    assert_eq!((cut.missing.objects, cut.missing.first), (1, told.to_vec()));
    yard.store.delete(&name).unwrap();
    let missing = yard.info();
    assert_eq!(
        (missing.missing.objects, missing.missing.first),
        (1, told.to_vec())
    );
}

#[test]
fn a_manifest_that_is_listed_and_not_there_is_told() {
    let (yard, [_, second, _]) = line();
    let name = ObjectName::manifest("host0", second.id);
    let lying = FaultStore::new(yard.store.clone(), move |operation| {
        match operation.verb == "get" && *operation.name == name {
            true => Err(Error::new(ErrorKind::NotFound, "the proxy says so")),
            false => Ok(()),
        }
    });
    let found = info_of(Arc::new(lying));
    assert_eq!((found.unread_manifests, found.snapshots.len()), (1, 2));
    assert!(
        found.has_damage
            && found.unread[0]
                .why
                .to_string()
                .contains("lists the manifest")
    );
}

/// A run commits while it is looked: what it refers to came after the listing.
#[test]
fn what_came_after_the_listing_is_asked_for_by_its_name() {
    let (mut yard, [_, _, third]) = line();
    let before = yard.store.list_all(&ObjectName::segments()).unwrap();
    let known: BTreeSet<ObjectName> = before.into_iter().map(|object| object.name).collect();
    let mut later = third.clone();
    while segments_of(&later)
        .iter()
        .all(|id| known.contains(&ObjectName::segment(*id)))
    {
        later = yard.snapshot_of(0, Some(&later));
    }
    let late: Vec<ObjectName> = yard.names("segments");
    let late: Vec<ObjectName> = late
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect();
    // They are held back until the snapshots were listed.
    let aside: Vec<_> = late
        .iter()
        .map(|name| (name.clone(), yard.store.get(name, u64::MAX).unwrap()))
        .collect();
    late.iter()
        .for_each(|name| yard.store.delete(name).unwrap());
    let store = yard.store.clone();
    let snapshots = ObjectName::snapshots();
    let late_store = FaultStore::new(yard.store.clone(), move |operation| {
        if operation.verb == "list" && *operation.name == snapshots && !operation.done {
            for (name, bytes) in &aside {
                let _ = store.put(name, bytes.clone());
            }
        }
        Ok(())
    });
    let found = info_of(Arc::new(late_store));
    assert_eq!(found.missing.objects, 0, "{:?}", found.missing);
    assert!(!found.has_damage);
}

#[test]
fn what_a_run_at_work_has_put_is_not_called_left_behind() {
    let (yard, _) = line();
    let stray = |age: i64| {
        let name = ObjectName::segment(ObjectId::generate());
        yard.store.put(&name, vec![0; 1000].into()).unwrap();
        yard.store.age(&name, SignedDuration::from_hours(age));
    };
    let before = yard.info();
    stray(0);
    stray(50);
    let alone = yard.info();
    let (was, is) = (before.unneeded.segments, alone.unneeded.segments);
    assert_eq!(
        (is.objects - was.objects, is.bytes.0 - was.bytes.0),
        (2, 2000)
    );
    let session = yard
        .vault
        .begin_session(SnapshotId::generate(7), session_record());
    let found = yard.info();
    assert_eq!(found.runs.len(), 1);
    assert!(found.runs[0].what.contains("snapshot on host") && !found.runs[0].is_silent);
    let at_work = found.at_work.segments.objects;
    assert_eq!(at_work + found.unneeded.segments.objects, is.objects);
    assert!(at_work >= 1 && found.unneeded.segments.objects >= 1);
    // A run that was killed: its session stays, and is not heard of any more.
    for name in yard.names("sessions") {
        yard.store.age(&name, SignedDuration::from_hours(30));
    }
    let killed = yard.info();
    assert!(killed.runs[0].is_silent);
    assert_eq!(killed.at_work.all().objects, 0);
    assert_eq!(killed.unneeded.segments.objects, is.objects);
    drop(session.unwrap());
}

#[test]
fn of_an_encrypted_vault_a_writers_key_tells_the_same() {
    let options = VaultOptions {
        encrypt: Some(key("first")),
        ..vault_options()
    };
    let mut yard = Yard::with(3, options);
    yard.live();
    let by_reader = info_by(yard.store.clone(), &given("first"));
    let by_writer = info_by(yard.store.clone(), &writer_of(&yard.vault));
    let told = |found: &VaultHoldings| {
        let all = found.snapshots.iter().map(|one| (one.id, one.holding));
        (all.collect::<Vec<_>>(), found.needed, found.unneeded)
    };
    assert_eq!(told(&by_reader), told(&by_writer));
    assert_eq!(by_writer.snapshots.len(), yard.all.len());
    assert!(
        by_writer
            .snapshots
            .iter()
            .any(|one| one.holding.freed.0 > 1000)
    );
    assert!(by_reader.side.objects > 0, "the key");
}

#[test]
fn a_signal_ends_it_and_an_outage_is_an_error() {
    let (yard, _) = line();
    let name = ObjectName::indexes();
    for kind in [ErrorKind::Io, ErrorKind::Interrupted(15)] {
        let name = name.clone();
        let broken = FaultStore::new(yard.store.clone(), move |operation| {
            let is_index = operation.name.components().next() == name.components().next();
            match operation.verb == "get" && is_index {
                true => Err(Error::new(kind, "the test says so")),
                false => Ok(()),
            }
        });
        let vault = Vault::open(Arc::new(broken)).unwrap();
        let error = look_at_holdings(&vault, &Silent).err().unwrap();
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn a_snapshot_that_is_deleted_meanwhile_is_not_told() {
    let (yard, [_, second, _]) = line();
    let (name, store) = (ObjectName::manifest("host0", second.id), yard.store.clone());
    let snapshots = ObjectName::snapshots();
    let deleting = FaultStore::new(yard.store.clone(), move |operation| {
        match operation.verb == "list" && *operation.name == snapshots && operation.done {
            true => store.delete(&name),
            false => Ok(()),
        }
    });
    let found = info_of(Arc::new(deleting));
    assert!(!found.has_damage && found.unread.is_empty());
    assert_eq!((found.unread_manifests, found.snapshots.len()), (0, 2));
    assert_eq!(found.manifests, yard.info().manifests);
}

/// Vaults of every version of the format, as they were written then.
#[test]
fn vaults_of_every_version_are_told() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["vault-v1", "vault-v2"] {
        let vault = Vault::open_local(&fixtures.join(name)).unwrap();
        let found = look_at_holdings(&vault, &Silent).unwrap();
        assert!(
            !found.has_damage,
            "{name}: {:?} {:?}",
            found.unread, found.missing
        );
        assert_eq!(found.snapshots.len(), vault.snapshots().unwrap().len());
        assert!(
            found.snapshots.iter().all(|one| one.holding.logical.0 > 0),
            "{name}"
        );
    }
}
