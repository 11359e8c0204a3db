//! Answers that are late or wrong: a listing that shows what was just deleted, one that does not
//! show the beats of a machine that has just gone on, and "not there" of what is there.

use super::stage::{GRACE, Stage};
use super::world::{Broken, Who, World, pace};
use crate::support::vaults::session_record;
use jiff::SignedDuration;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stillpoint::engine::{CollectPace, CollectReport, PlanOutcome, Silent, collect_at, mirror};
use stillpoint::format::Condemned;
use stillpoint::model::SnapshotId;
use stillpoint::store::{FaultStore, ObjectName, ObjectStore, SessionPace, Vault};
use stillpoint::{Error, ErrorKind, Result};

fn missing() -> Error {
    Error::new(ErrorKind::NotFound, "the test says so")
}

fn gc_at(world: &World, vault: &Arc<Vault>) -> CollectReport {
    let wait = |long: Duration| {
        world.pass(SignedDuration::try_from(long).unwrap());
        Ok(())
    };
    let pace = CollectPace {
        session: pace(),
        wait: &wait,
    };
    collect_at(&pace, vault, GRACE, &Silent).unwrap()
}

fn gc(vault: &Arc<Vault>) -> Result<CollectReport> {
    let pace = CollectPace {
        session: pace(),
        wait: &|_| Ok(()),
    };
    collect_at(&pace, vault, GRACE, &Silent)
}

#[test]
fn a_mirror_does_not_rely_on_what_was_just_deleted() {
    let stage = Stage::new();
    let first = stage.snapshot(&[0, 1], None);
    stage.snapshot(&[2], None);
    let here = stage.vault();
    let world = World::new(3, Broken::Nothing);
    let there = Arc::new(Vault::create_second(world.of(Who::Deleter), &here).unwrap());
    let send = || mirror(&here, &there, &here.snapshots().unwrap(), &Silent).unwrap();
    let sent = send();
    assert_eq!(sent.sent.len(), 2, "{sent:?}");
    world.pass(SignedDuration::from_hours(1));
    let found = there.find(&first.run.to_string()).unwrap();
    there.delete(&found).unwrap();
    world.pass(SignedDuration::from_hours(60));
    assert!(gc_at(&world, &there).planned.is_some());
    world.pass(SignedDuration::from_hours(25));
    let done = gc_at(&world, &there);
    let PlanOutcome::CarriedOut { deleted, stays, .. } = &done.earlier[0].outcome else {
        panic!("{done:?}");
    };
    assert_eq!((deleted.segments.objects, *stays), (2, true));
    let needs: BTreeSet<ObjectName> =
        (first.segments().into_iter().map(ObjectName::segment)).collect();
    let listed = world.of(Who::Deleter).list_all(&ObjectName::segments());
    let listed: BTreeSet<_> = listed.unwrap().into_iter().map(|one| one.name).collect();
    assert!(needs.is_subset(&listed), "listings are late");
    // It waits, for the plan says what listings do not.
    let waits = send();
    assert!(
        waits.sent.is_empty() && waits.warnings.len() == 1,
        "{waits:?}"
    );
    gc_at(&world, &there);
    assert!(world.names("condemned/").is_empty());
    let sent = send();
    assert_eq!(sent.sent, [first.run], "{sent:?}");
    assert!(needs.is_subset(&world.names("segments/")));
}

/// Waits until a run has as many beats.
fn until_beats(world: &World, run: SnapshotId, count: usize) {
    let folder = format!("sessions/{run}");
    while world.names(&folder).len() < count {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_machine_that_goes_on_after_a_lease_misses_its_old_beats_while_no_listing_shows_new_ones() {
    let stage = Stage::new();
    let world = World::new(5, Broken::Nothing);
    Vault::create_second(world.of(Who::Deleter), &stage.vault()).unwrap();
    let (beat, beats) = channel::<()>();
    let beats = Mutex::new(beats);
    let gated = FaultStore::new(world.of(Who::Writer(1)), move |operation| {
        let own = std::thread::current().name() == Some("session");
        if own && operation.verb == "put" && !operation.done {
            let ended = |_| Error::new(ErrorKind::Io, "the test has ended");
            beats.lock().unwrap().recv().map_err(ended)?;
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(gated)).unwrap());
    let run = SnapshotId::generate(1);
    let every = Duration::from_millis(1);
    let quick = SessionPace { every, ..pace() };
    let session = vault
        .begin_session_at(quick, run, session_record())
        .unwrap();
    let put = |from: usize, to: usize| {
        (from..to).for_each(|_| beat.send(()).unwrap());
        until_beats(&world, run, to);
    };
    put(1, 6);
    session.ask().unwrap();
    // It is paused, in the middle of a put.
    world.pass(SignedDuration::from_hours(25));
    let judge = Arc::new(Vault::open(world.of(Who::Collector(2))).unwrap());
    let own = SnapshotId::generate(2);
    let mut record = session_record();
    record.command = "gc".into();
    let _judges = judge.begin_session_at(pace(), own, record).unwrap();
    world.pass(SignedDuration::from_mins(15));
    put(6, 9);
    assert!(judge.end_silent_sessions(own, &|| Ok(())).unwrap());
    let seen = judge.sessions_seen(own, &|| Ok(())).unwrap();
    let lease = SignedDuration::from_hours(24);
    let old = |heard| seen.now.unwrap().duration_since(heard) > lease;
    let all_old = seen.live.iter().all(|one| old(one.heard));
    assert!(all_old, "no listing shows the new ones yet");
    assert!(!world.names(&format!("sessions/{run}")).is_empty());
    let error = session.ask().err().unwrap();
    assert!(error.to_string().contains("session is gone"), "{error}");
    drop(beat);
}

/// A vault in which what is asked for below a folder is not there so many times.
fn not_there(stage: &Stage, folder: &'static str, times: u64) -> Arc<Vault> {
    let asked = AtomicU64::new(0);
    let store = FaultStore::new(stage.store.clone(), move |operation| {
        let is_it = operation.verb == "get" && operation.name.as_str().starts_with(folder);
        match is_it && !operation.done && asked.fetch_add(1, Ordering::SeqCst) < times {
            true => Err(missing()),
            false => Ok(()),
        }
    });
    Arc::new(Vault::open(Arc::new(store)).unwrap())
}

#[test]
fn a_listed_manifest_that_is_not_there_is_asked_for_again_and_stops_it() {
    let stage = Stage::new();
    let kept = stage.snapshot(&[0, 1], None);
    stage.pass(60);
    let report = gc(&not_there(&stage, "snapshots/", 2)).unwrap();
    assert!(
        report.planned.is_none() && report.snapshots == 1,
        "{report:?}"
    );
    let error = gc(&not_there(&stage, "snapshots/", u64::MAX))
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let said = error.to_string();
    assert!(
        said.contains("lists the manifest") && said.contains("needs is not known"),
        "{said}"
    );
    assert!(stage.names("condemned").is_empty());
    // One that is deleted between the listing and the question stops nothing.
    let (store, id) = (stage.store.clone(), kept.run.to_string());
    let vault = FaultStore::new(stage.store.clone(), move |operation| {
        let of_it = operation.verb == "get" && operation.name.as_str().ends_with(&id);
        if of_it && !operation.done {
            store.delete(operation.name).unwrap();
        }
        Ok(())
    });
    let report = gc(&Arc::new(Vault::open(Arc::new(vault)).unwrap())).unwrap();
    assert_eq!(report.snapshots, 0);
    assert!(report.planned.is_some());
}

#[test]
fn a_plan_that_is_listed_and_not_there_is_asked_for_again_and_not_taken_for_seen() {
    let stage = Stage::new();
    let parent = stage.snapshot(&[0], None);
    let segment = parent.segments().pop_first().unwrap();
    let named = BTreeSet::from([Condemned::Segment(segment)]);
    let plan = SnapshotId::generate(1);
    stage.vault().put_plan(plan, &named).unwrap();
    let heeds = stage.begin_on(not_there(&stage, "condemned/", 2), None);
    assert!(heeds.vault.is_condemned(Condemned::Segment(segment)));
    heeds.commit().unwrap();
    let mut deceived = stage.begin_on(not_there(&stage, "condemned/", 3), None);
    assert!(!deceived.vault.is_condemned(Condemned::Segment(segment)));
    deceived.refer(3, segment);
    let vault = stage.vault();
    let mut stands = vault.plans().unwrap().pop().unwrap();
    vault.put_awaited(&mut stands, BTreeSet::new()).unwrap();
    let error = deceived.commit().err().unwrap();
    assert!(error.to_string().contains("has not waited"), "{error}");
}
