//! `recover` where something stands in its way, or has another name by now: what cannot be read, a
//! collector's plan, rights that are missing, snapshots that have other names, what was destroyed.
//! In Ceph's radosgw.

use super::locked::{PLACE, disk, location, made, program, snapshot};
use super::proxy::{Plan, Proxy};
use super::rados::Rados;
use super::recovered::{
    assert_stands, below, contents, junk, moment, name, recovered, recovered_at, store_of,
};
use super::server::{BUCKET, KEY, SECRET, credentials, place};
use crate::support::vaults::{check, check_all, vault_options};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stillpoint::ErrorKind;
use stillpoint::engine::{
    BringBackReport, Reachable, RewriteRules, RewriteScope, Silent, plan_rewrite, rewrite,
};
use stillpoint::format::Condemned;
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{self, Blob, Collectable, Location, ObjectStore, Vault};

fn calm_proxy(server: &Rados) -> Proxy {
    let plan = Plan {
        seed: 0,
        percent: 0,
        faults: Vec::new(),
    };
    Proxy::start(&server.endpoint, plan)
}

#[test]
fn what_cannot_be_read_keeps_nothing_else_from_coming_back() {
    let test = "what_cannot_be_read_keeps_nothing_else_from_coming_back";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let vault = made(&server, "governance:20d");
    let (disks, store) = (disk(), store_of(&server));
    let taken = [snapshot(&vault, &disks), snapshot(&vault, &disks)];
    let at = moment(&server);
    let before = contents(&server);
    let segments: Vec<String> = below(&before, "segments").into_iter().cloned().collect();
    // Put over as by somebody else's key: the store gives it to nobody any more.
    let sealed = segments[0].clone();
    store
        .replace(&name(&sealed), before[&sealed].clone())
        .unwrap();
    // All others are deleted, and one version of then is in an archive.
    let deleted = before
        .keys()
        .filter(|key| **key != sealed && *key != "vault.json");
    deleted.for_each(|key| store.delete(&name(key)).unwrap());
    let archived = segments[1].clone();
    let proxy = calm_proxy(&server);
    let refuse = |archived: Option<String>, sealed: Option<String>| {
        let is_put = AtomicBool::new(false);
        proxy.refuse(move |seen, _| {
            let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
            let is = |key: &Option<String>| key.as_ref().is_some_and(|key| path.ends_with(key));
            let is_of_then = query.contains("versionId");
            match seen.method.as_str() {
                "GET" if is(&archived) && is_of_then => Some((403, "InvalidObjectState")),
                "PUT" if is(&sealed) => {
                    is_put.store(true, Ordering::SeqCst);
                    None
                }
                // What lies over it is somebody else's, until it is put over.
                "GET" | "HEAD" if is(&sealed) && !is_of_then && !is_put.load(Ordering::SeqCst) => {
                    Some((400, "InvalidRequest"))
                }
                _ => None,
            }
        });
    };
    let settings = place(&proxy.endpoint, &credentials(server.folder.path()), "").settings;
    let through = Location::parse(PLACE).unwrap().with_settings(settings);
    refuse(Some(archived.clone()), Some(sealed.clone()));
    let would = recovered_at(&through, at, true).unwrap();
    assert_eq!(would.put_count(), before.len() - 1, "{would:?}");
    let report = recovered_at(&through, at, false).unwrap();
    assert_eq!(report.failed_count, 1, "{report:?}");
    let why = report
        .failed
        .iter()
        .find(|one| one.name.as_str() == archived)
        .unwrap();
    assert!(why.why.to_string().contains("version "), "{report:?}");
    assert_eq!(report.snapshots.len(), 2, "{report:?}");
    // It is thawed: the same command goes on, and has that one to do.
    refuse(None, None);
    let report = recovered_at(&through, at, false).unwrap();
    assert_eq!(report.failed_count, 0, "{report:?}");
    assert_stands(&before, &contents(&server));
    check_all(
        &Arc::new(store::open(&location(&server, PLACE)).unwrap()),
        &taken,
    );
}

#[test]
fn what_stands_in_the_way_is_told_before_anything_is_put() {
    let test = "what_stands_in_the_way_is_told_before_anything_is_put";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_locking_bucket(BUCKET);
    let vault = made(&server, "governance:20d");
    let (disks, store) = (disk(), store_of(&server));
    let taken = snapshot(&vault, &disks);
    let at = moment(&server);
    let manifest = format!("snapshots/host/{}", taken.manifest.snapshot);
    store.delete(&name(&manifest)).unwrap();
    let place = location(&server, PLACE);
    // A collector has seen that nothing leads there any more.
    let segment = Condemned::Segment(vault_segment(&server));
    let plan = SnapshotId::generate(1);
    vault.put_plan(plan, &BTreeSet::from([segment])).unwrap();
    let would = recovered_at(&place, at, true).unwrap();
    assert!(
        would.warnings.iter().any(|one| one.contains("condemned/")),
        "{would:?}"
    );
    let error = recovered_at(&place, at, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains(&plan.to_string()), "{error}");
    assert!(store.size(&name(&manifest)).is_err(), "nothing was put");
    // Also one that nobody can read.
    store
        .replace(
            &name(&format!("condemned/{plan}-00000000")),
            Blob::from_static(b"x"),
        )
        .unwrap();
    assert_eq!(
        recovered_at(&place, at, false).unwrap_err().kind(),
        ErrorKind::Busy
    );
    store
        .delete(&name(&format!("condemned/{plan}-00000000")))
        .unwrap();
    // Rights that are missing are named.
    let proxy = calm_proxy(&server);
    let settings = super::server::place(&proxy.endpoint, &credentials(server.folder.path()), "");
    let through = Location::parse(PLACE)
        .unwrap()
        .with_settings(settings.settings);
    for (query, right) in [
        ("versions", "s3:ListBucketVersions"),
        ("versionId", "s3:GetObjectVersion"),
    ] {
        proxy.refuse(move |seen, _| {
            let (_, asked) = seen.path.split_once('?')?;
            let mut words = asked.split(['&', '=']);
            words
                .any(|word| word == query)
                .then_some((403, "AccessDenied"))
        });
        let error = recovered_at(&through, at, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.hint().unwrap().contains(right), "{error:?}");
    }
    // Who may not ask whether versions are kept is told so.
    proxy.refuse(|seen, _| {
        let (_, asked) = seen.path.split_once('?')?;
        let mut words = asked.split(['&', '=']);
        words
            .any(|word| word == "versioning")
            .then_some((403, "AccessDenied"))
    });
    let would = recovered_at(&through, at, true).unwrap();
    assert!(
        would.warnings[0].contains("s3:GetBucketVersioning"),
        "{would:?}"
    );
    assert_eq!(recovered(&server, at, false).snapshots.len(), 1);
    // Where no versions are kept nothing can come back, and that is no success.
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    server
        .owner(async |client| client.create_bucket().bucket("plain").send().await)
        .unwrap();
    let unversioned = location(&server, "s3://plain/vault");
    for place in [unversioned, Location::parse(directory).unwrap()] {
        store::create(&place, vault_options()).unwrap();
        let error = recovered_at(&place, Timestamp::now(), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("keeps no versions"), "{error}");
    }
    // A time has to be named, and it has to have come.
    let recover = |args: &[&str]| {
        let args = [&["recover", "--vault", PLACE][..], args].concat();
        program(&server.endpoint, KEY, SECRET, &args).expect(2)
    };
    assert!(recover(&[]).stderr.contains("--at"));
    // One without a zone is no time, and no day either.
    for time in ["2026-01-31T23:30:00", "2026-01-31 23:30"] {
        assert!(recover(&["--at", time]).stderr.contains("give a day"));
    }
    assert!(
        recover(&["--at", "2999-01-01"])
            .stderr
            .contains("has not come")
    );
}

fn vault_segment(server: &Rados) -> ObjectId {
    let all = contents(server);
    let segment = below(&all, "segments")[0]
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    segment.parse().unwrap()
}

/// Gives up what is mostly dead, whatever its age.
fn rewritten(vault: &Arc<Vault>) -> Vec<(SnapshotId, SnapshotId)> {
    let reachable =
        Reachable::read(vault, vault.snapshots().unwrap(), &Silent, &|_| Ok(())).unwrap();
    let mut needed = Vec::new();
    let mut take = |one: Collectable| {
        let is_needed = matches!(one.object, Condemned::Segment(id) if reachable.has_segment(id));
        needed.extend(is_needed.then_some(one));
    };
    vault.each_collectable(&|| Ok(()), &mut take).unwrap();
    let now = Timestamp::now() + SignedDuration::from_hours(24);
    let scope = RewriteScope {
        reachable: &reachable,
        needed: &needed,
        before: now,
        now,
        rules: RewriteRules {
            tolerated: 0,
            most_live: 100,
            most_moved: None,
            ..RewriteRules::USUAL
        },
    };
    let plan = plan_rewrite(vault, &scope, &Silent).unwrap();
    let done = rewrite(vault, &plan, Default::default(), &Silent).unwrap();
    assert_eq!(done.renamed.len(), 1, "{plan:?} {done:?}");
    done.renamed.iter().map(|one| (one.old, one.new)).collect()
}

/// What was put later has no say, not even that a snapshot has another name by now: it comes back
/// under that of then, and is there twice at most.
#[test]
fn what_says_that_it_is_the_same_snapshot_keeps_none_away() {
    let test = "what_says_that_it_is_the_same_snapshot_keeps_none_away";
    let Some(server) = Rados::start(test) else {
        return;
    };
    server.make_bucket();
    server.switch_versioning_on();
    let vault = Arc::new(store::create(&location(&server, PLACE), vault_options()).unwrap());
    let (disks, store) = (disk(), store_of(&server));
    let first = snapshot(&vault, &disks);
    let second = snapshot(&vault, &disks);
    let manifest = |id: SnapshotId| name(&format!("snapshots/host/{id}"));
    store.delete(&manifest(first.manifest.snapshot)).unwrap();
    let at = moment(&server);
    let old = second.manifest.snapshot;
    let before = contents(&server);
    // Forged: it shows the very same, and may be pruned sooner.
    let mut forged = second.manifest.clone();
    forged.snapshot = old.successor();
    forged.rewrites.push(old);
    forged.received = Some(Timestamp::UNIX_EPOCH);
    let bytes = forged.encode(vault.sealer()).unwrap();
    store.put(&manifest(forged.snapshot), bytes.into()).unwrap();
    store.delete(&manifest(old)).unwrap();
    let report = recovered(&server, at, false);
    let back = |report: &BringBackReport| {
        let all = report.snapshots.iter();
        all.map(|one| one.snapshot).collect::<Vec<_>>()
    };
    assert_eq!((back(&report), report.since_count), (vec![old], 1));
    assert_stands(&before, &contents(&server));
    store.delete(&manifest(forged.snapshot)).unwrap();
    // Honest: what was given up is collected, rightly, and comes back, too.
    let renamed = rewritten(&vault);
    let since = contents(&server);
    let given_up = before.keys().filter(|key| !key.contains("vault.json"));
    given_up.for_each(|key| store.delete(&name(key)).unwrap());
    let report = recovered(&server, at, false);
    assert_eq!(back(&report), [old]);
    assert_stands(&before, &contents(&server));
    assert_stands(&since, &contents(&server));
    let vault = Arc::new(store::open(&location(&server, PLACE)).unwrap());
    check(&vault, &second);
    let new = vault.snapshots().unwrap().into_iter().map(|one| one.id);
    assert!(new.into_iter().any(|id| id == renamed[0].1));

    // A segment of which the version of then was destroyed is named, also where something lies in
    // its place.
    let gone = below(&before, "segments")[0].clone();
    let key = format!("vault/{gone}");
    server.owner(async |client| {
        let list = client.list_object_versions().bucket(BUCKET).prefix(&key);
        for one in list.send().await.unwrap().versions() {
            let delete = client.delete_object().bucket(BUCKET).key(&key);
            let delete = delete.version_id(one.version_id().unwrap());
            delete.send().await.unwrap();
        }
    });
    store.replace(&name(&gone), junk(&before[&gone])).unwrap();
    for dry_run in [true, false] {
        let report = recovered_at(&location(&server, PLACE), at, dry_run).unwrap();
        assert_eq!(
            (report.failed_count, report.lost_count),
            (1, 0),
            "{report:?}"
        );
        assert_eq!(report.failed[0].name.as_str(), gone);
    }
    // The same bytes are as good as that version.
    store.replace(&name(&gone), before[&gone].clone()).unwrap();
    assert_eq!(recovered(&server, at, false).put_count(), 0);
    // Where what is put over is gone from now on, nothing is put over.
    server.owner(async |client| {
        let off = VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended);
        let put = client.put_bucket_versioning().bucket(BUCKET);
        let put = put.versioning_configuration(off.build());
        put.send().await.unwrap();
    });
    let error = recovered_at(&location(&server, PLACE), at, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("switched off"), "{error}");
    let would = recovered_at(&location(&server, PLACE), at, true).unwrap();
    assert!(would.warnings[0].contains("switched off"), "{would:?}");
}
