//! `recover` where somebody was there before the time that it is given: what a name proves comes
//! back all the same, and of all else it is told that more than one thing lay there. In Ceph's
//! radosgw.

use super::locked::{PLACE, disk, location, made, snapshot};
use super::rados::Rados;
use super::recovered::{
    assert_stands, below, contents, forged, junk, moment, name, recovered, recovered_at, store_of,
};
use super::server::BUCKET;
use crate::support::vaults::check_all;
use std::sync::Arc;
use stillpoint::ErrorKind;
use stillpoint::engine::BringBackReport;
use stillpoint::format::VaultInfo;
use stillpoint::store::{self, Blob, ObjectStore};

/// Bytes of the same length, others for each number.
fn other_junk(bytes: &Blob, number: u8) -> Blob {
    let mut other = junk(bytes).to_vec();
    other[0] = number;
    other.into()
}

#[test]
fn who_came_early_hides_nothing_that_a_name_proves() {
    let test = "who_came_early_hides_nothing_that_a_name_proves";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let vault = made(&server, "governance:20d");
    let (disks, store) = (disk(), store_of(&server));
    let taken = [snapshot(&vault, &disks), snapshot(&vault, &disks)];
    let ids = taken.each_ref().map(|one| one.manifest.snapshot);
    let before = contents(&server);
    // Each object is put over by so many versions that neither the newest nor the oldest ones hold
    // all of them, or hidden, or both.
    let proven = [below(&before, "index"), below(&before, "segments")].concat();
    assert!(proven.len() > 3, "{proven:?}");
    for (number, key) in proven.iter().enumerate() {
        let (key, bytes) = (name(key), &before[*key]);
        let versions = [40, 1, 0][number % 3];
        for number in 0..versions {
            store.replace(&key, other_junk(bytes, number)).unwrap();
        }
        if versions < 40 {
            store.delete(&key).unwrap();
        }
    }
    // A manifest that nobody has touched in the end.
    let manifest = name(&format!("snapshots/host/{}", ids[0]));
    let true_one = before[manifest.as_str()].clone();
    store.replace(&manifest, forged(&vault, ids[0])).unwrap();
    store.replace(&manifest, true_one).unwrap();
    let at = moment(&server);
    let attacked = contents(&server);
    let told = |report: &BringBackReport| (report.put_count(), report.objects, report.bytes);
    let would = recovered(&server, at, true);
    assert!(contents(&server) == attacked, "a dry run puts nothing");
    let did = recovered(&server, at, false);
    assert_eq!(told(&would), told(&did));
    assert_eq!((did.put_count(), did.objects), (proven.len(), proven.len()));
    for report in [&would, &did] {
        let warned = report.warnings.join("\n");
        assert!(warned.contains(manifest.as_str()), "{warned}");
        assert!(warned.contains("look at an earlier one"), "{warned}");
        assert_eq!(report.warnings.len(), 1, "{warned}");
    }
    assert_stands(&before, &contents(&server));
    let vault = Arc::new(store::open(&location(&server, PLACE)).unwrap());
    check_all(&vault, &taken);
    // All of it stands: also at a later time, with all that lies beneath.
    assert_eq!(recovered(&server, at, false).put_count(), 0);
    assert_eq!(recovered(&server, moment(&server), false).put_count(), 0);

    // A rule that nobody has made would lock all that is put, and time alone ends a lock.
    let info = name("vault.json");
    let mut other = VaultInfo::decode(&before["vault.json"]).unwrap();
    other.lock = "governance:3000d".parse().ok();
    store
        .replace(&info, other.encode().unwrap().into())
        .unwrap();
    let late = moment(&server);
    store.delete(&name(proven[0])).unwrap();
    let place = location(&server, PLACE);
    let error = recovered_at(&place, late, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("vault.json"), "{error}");
    assert!(store.size(&name(proven[0])).is_err(), "nothing was put");
    let would = recovered(&server, late, true);
    assert!(would.warnings[0].contains("vault.json"), "{would:?}");
    assert_eq!(would.put_count(), 1, "{would:?}");
    // The earlier time puts right what a later one would have left.
    let did = recovered(&server, at, false);
    assert_eq!((did.opened_by, did.objects), (vec![info], 1));
    assert_stands(&before, &contents(&server));

    // Where no version is true that is told, whether something stands there or nothing.
    let gone = name(proven[0]);
    server.owner(async |client| {
        let key = format!("vault/{gone}");
        let list = client.list_object_versions().bucket(BUCKET).prefix(&key);
        for one in list.send().await.unwrap().versions() {
            let delete = client.delete_object().bucket(BUCKET).key(&key);
            let delete = delete.version_id(one.version_id().unwrap());
            delete
                .bypass_governance_retention(true)
                .send()
                .await
                .unwrap();
        }
    });
    for stands in [true, false] {
        match stands {
            true => store.replace(&gone, junk(&before[proven[0]])).unwrap(),
            false => store.delete(&gone).unwrap(),
        }
        let at = moment(&server);
        for dry_run in [true, false] {
            let report = recovered_at(&location(&server, PLACE), at, dry_run).unwrap();
            let failed: Vec<&str> = report.failed.iter().map(|one| one.name.as_str()).collect();
            // What has always stood so is found where it is read: a map is.
            let expected: &[&str] = if stands { &[] } else { &[gone.as_str()] };
            assert_eq!(failed, expected, "{report:?}");
            assert!(!report.unknown.is_empty(), "{report:?}");
            assert_eq!(report.put_count(), 0, "{report:?}");
        }
    }
}
