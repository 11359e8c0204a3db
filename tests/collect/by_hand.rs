//! `gc` step by step: what it plans, when it deletes, what it leaves, and what stops it.

use super::stage::{BLOCKS, Done, GRACE, Stage};
use jiff::SignedDuration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stillpoint::engine::{
    CollectOptions, PlanOutcome, Reachable, RewriteRules, Silent, collect, plan_collection,
};
use stillpoint::format::Condemned;
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{CountStore, FaultStore, ObjectName, ObjectStore, Vault};
use stillpoint::{Error, ErrorKind};

/// Two snapshots that share a segment, and one that is deleted; all of it old.
fn with_garbage() -> (Stage, Done) {
    let stage = Stage::new();
    let first = stage.snapshot(&[0, 1, 2], None);
    let second = stage.snapshot(&[1], Some(&first));
    stage.delete(&first);
    stage.pass(60);
    (stage, second)
}

#[test]
fn what_nothing_needs_goes_with_the_second_collection_after_the_grace() {
    let (stage, second) = with_garbage();
    let planned = stage.gc().unwrap();
    // Block 1 of the first snapshot, and its copies of footers; its index object is the second's.
    let objects = planned.planned.unwrap().objects;
    assert_eq!((objects.segments.objects, objects.all().objects), (1, 2));
    assert_eq!(planned.needed.segments.objects, 3);
    assert_eq!(stage.names("segments").len(), 4, "a plan deletes nothing");
    for hours in [0, 23] {
        stage.pass(hours);
        let young = stage.gc().unwrap();
        assert!(
            matches!(young.earlier[0].outcome, PlanOutcome::TooYoung(_)),
            "{young:?}"
        );
        assert!(young.planned.is_none(), "{young:?}");
        assert_eq!(stage.names("segments").len(), 4);
    }
    stage.pass(2);
    let done = stage.gc().unwrap();
    let PlanOutcome::CarriedOut {
        deleted,
        needed,
        stays,
    } = &done.earlier[0].outcome
    else {
        panic!("{done:?}");
    };
    assert_eq!((deleted.segments.objects, *needed, *stays), (1, 0, false));
    assert!(stage.has_just(&[&second]));
    assert!(stage.names("condemned").is_empty() && stage.names("sessions").is_empty());
    let again = stage.gc().unwrap();
    assert!(again.earlier.is_empty() && again.planned.is_none());
}

#[test]
fn a_dry_run_changes_nothing_and_asks_for_little() {
    let (stage, _) = with_garbage();
    let before = stage.all();
    let counted = Arc::new(CountStore::new(stage.store.clone()));
    let vault = Vault::open(counted.clone()).unwrap();
    counted.take();
    let would = plan_collection(&vault, GRACE, &Silent).unwrap();
    assert_eq!(stage.all(), before);
    assert_eq!(would.planned.unwrap().objects.segments.objects, 1);
    let counts = counted.take();
    let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
    // Plans, sessions; segments, index objects, copies of footers, keeps; snapshots.
    assert_eq!(of("list"), 7);
    // The manifest and its two index objects.
    assert_eq!(of("get"), 3);
    assert_eq!(of("put") + of("delete") + of("size"), 0, "{counts:?}");
}

#[test]
fn a_collection_asks_for_little_more() {
    let (stage, _) = with_garbage();
    let counted = Arc::new(CountStore::new(stage.store.clone()));
    let ask = |expected: [u64; 5]| {
        let vault = Arc::new(Vault::open(counted.clone()).unwrap());
        counted.take();
        collect(&vault, GRACE, &Silent).unwrap();
        // The session's end comes from a thread of its own, which has been waited for.
        let counts = counted.take();
        let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
        let asked = ["put", "get", "size", "list", "delete"].map(of);
        assert_eq!(asked, expected, "{counts:?}");
    };
    // Puts its session and the plan; of sessions it lists the dead of this host, of all, and the
    // live ones; asks whether its session stands.
    ask([2, 3, 1, 9, 1]);
    stage.pass(25);
    // Puts its session and for whom the plan waits; reads the plan; asks for its session and the
    // plan before it deletes and for its session before the plan goes; deletes a segment, copies of
    // footers, the two parts of the plan, its session.
    ask([2, 4, 3, 10, 5]);
}

#[test]
fn what_is_young_and_what_may_be_a_live_runs_is_not_named() {
    let stage = Stage::new();
    let first = stage.snapshot(&[0], None);
    stage.delete(&first);
    stage.pass(23);
    let report = stage.gc().unwrap();
    assert!(report.planned.is_none());
    assert_eq!(report.left_alone.segments.objects, 1);
    // A run that has been at work for three days: its record says so.
    let mut run = stage.begin(None);
    run.put(&[1]);
    stage.pass(40);
    let report = stage.gc().unwrap();
    assert_eq!(
        report.at_work.len(),
        0,
        "it was not heard of for 40 hours, and is over"
    );
    assert!(report.planned.is_some());
}

#[test]
fn a_plan_waits_for_the_runs_that_may_not_know_of_it() {
    let (stage, second) = with_garbage();
    // It has seen no plan, and goes on from what a run has left that was cut off.
    let left = stage.names("segments").into_iter().find(|name| {
        !second
            .segments()
            .iter()
            .any(|id| ObjectName::segment(*id) == *name)
    });
    let left: ObjectId = left.unwrap().components().last().unwrap().parse().unwrap();
    let mut early = stage.begin(Some(&second));
    early.refer(5, left);
    stage.gc().unwrap();
    assert_eq!(stage.names("condemned").len(), 1);
    stage.pass_beating(25);
    let waits = stage.gc().unwrap();
    let PlanOutcome::Awaits(runs) = &waits.earlier[0].outcome else {
        panic!("{waits:?}");
    };
    assert!(
        runs.len() == 1 && runs[0].contains("snapshot on host"),
        "{runs:?}"
    );
    // One that begins now has seen it: it is not waited for, and refers to nothing of it.
    let late = stage.begin(Some(&second));
    assert!(late.vault.is_condemned(Condemned::Segment(left)));
    let early = early.commit().unwrap();
    let done = stage.gc().unwrap();
    let PlanOutcome::CarriedOut {
        deleted, needed, ..
    } = &done.earlier[0].outcome
    else {
        panic!("{done:?}");
    };
    assert_eq!((deleted.segments.objects, *needed), (0, 1));
    assert!(stage.is_whole(&early));
    drop(late);
}

#[test]
fn a_run_that_slept_past_the_grace_makes_no_snapshot() {
    let (stage, second) = with_garbage();
    let mut sleeper = stage.begin(Some(&second));
    sleeper.put(&[3]);
    let asleep = sleeper.run;
    stage.gc().unwrap();
    stage.pass(25);
    let done = stage.gc().unwrap();
    assert!(
        matches!(done.earlier[0].outcome, PlanOutcome::CarriedOut { .. }),
        "{done:?}"
    );
    let error = sleeper.commit().err().unwrap();
    assert!(error.to_string().contains("may be deleted"), "{error}");
    let found = stage.vault().snapshots().unwrap();
    assert!(found.iter().all(|one| one.id != asleep));
    assert!(stage.is_whole(&second));
}

#[test]
fn a_run_that_was_passed_over_makes_no_snapshot() {
    let (stage, second) = with_garbage();
    let run = stage.begin(Some(&second));
    stage.gc().unwrap();
    let vault = stage.vault();
    let mut plan = vault.plans().unwrap().pop().unwrap();
    vault
        .put_awaited(&mut plan, BTreeSet::from([run.run]))
        .unwrap();
    let named = stage.begin(Some(&second));
    let mut other = vault.plans().unwrap().pop().unwrap();
    vault.put_awaited(&mut other, BTreeSet::new()).unwrap();
    let error = run.commit().err().unwrap();
    assert!(
        error.to_string().contains("has not waited for this run"),
        "{error}"
    );
    // It knew of the plan when it began.
    named.commit().unwrap();
}

/// A parent is deleted and collected while a run builds on it.
#[test]
fn a_parent_that_goes_meanwhile_stays_as_long_as_it_is_built_on() {
    let stage = Stage::new();
    let parent = stage.snapshot(&[0, 1], None);
    stage.pass(60);
    let mut child = stage.begin(Some(&parent));
    stage.delete(&parent);
    stage.gc().unwrap();
    for _ in 0..3 {
        stage.pass_beating(25);
        stage.gc().unwrap();
    }
    child.put(&[1]);
    let child = child.commit().unwrap();
    assert!(stage.is_whole(&child));
    for _ in 0..3 {
        stage.pass(25);
        stage.gc().unwrap();
    }
    assert!(stage.has_just(&[&child]));
}

#[test]
fn what_cannot_be_read_stops_it() {
    for folder in ["snapshots", "index"] {
        let (stage, second) = with_garbage();
        stage.gc().unwrap();
        stage.pass(25);
        let before = stage.names("segments");
        let name = stage.names(folder).pop_first().unwrap();
        stage.store.corrupt(&name, |bytes| bytes[60] ^= 1);
        let error = stage.gc().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        let (said, id) = (error.to_string(), second.run.to_string());
        assert!(
            said.contains("nothing can be called unneeded") && said.contains(&id),
            "{said}"
        );
        assert!(error.hint().unwrap().contains("delete"), "{error:?}");
        assert_eq!(stage.names("segments"), before);
        // Giving it up helps.
        stage.delete(&second);
        for _ in 0..3 {
            stage.pass(25);
            stage.gc().unwrap();
        }
        assert!(stage.has_just(&[]), "{:?}", stage.all());
    }
}

#[test]
fn a_plan_that_was_never_finished_or_cannot_be_read_is_taken_away() {
    let (stage, second) = with_garbage();
    let vault = stage.vault();
    let objects: BTreeSet<_> = second
        .segments()
        .into_iter()
        .map(Condemned::Segment)
        .collect();
    let plan = SnapshotId::generate(1);
    vault.put_plan(plan, &objects).unwrap();
    let name = ObjectName::plan_part(plan, 0);
    stage.store.corrupt(&name, |bytes| bytes[60] ^= 1);
    let error = vault.heed_plans(SnapshotId::generate(2)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let report = stage.gc().unwrap();
    assert!(
        matches!(report.earlier[0].outcome, PlanOutcome::Withdrawn(_)),
        "{report:?}"
    );
    assert!(!stage.names("condemned").contains(&name));
    // One whose first part is missing.
    vault.put_plan(plan, &objects).unwrap();
    stage
        .store
        .put(&ObjectName::plan_part(plan, 1), vault_part(&stage, &name))
        .unwrap();
    stage.store.delete(&name).unwrap();
    stage.pass(25);
    let report = stage.gc().unwrap();
    let voided = report.earlier.iter().find(|one| one.id == plan).unwrap();
    assert!(
        matches!(voided.outcome, PlanOutcome::Withdrawn(_)),
        "{report:?}"
    );
    assert!(stage.is_whole(&second));
}

fn vault_part(stage: &Stage, name: &ObjectName) -> stillpoint::store::Blob {
    stage.store.get(name, 1 << 20).unwrap()
}

#[test]
fn while_another_collector_is_there_a_plan_stays() {
    let (stage, second) = with_garbage();
    stage.gc().unwrap();
    stage.pass(25);
    let vault = stage.vault();
    let mut record = crate::support::vaults::session_record();
    record.command = "gc".into();
    let other = vault
        .begin_session(SnapshotId::generate(1), record)
        .unwrap();
    let report = stage.gc().unwrap();
    let stays = matches!(
        report.earlier[0].outcome,
        PlanOutcome::CarriedOut { stays: true, .. }
    );
    assert!(stays, "{report:?}");
    assert!(stage.has_just(&[&second]));
    assert_eq!(stage.names("condemned").len(), 2);
    drop(other);
    stage.gc().unwrap();
    assert!(stage.names("condemned").is_empty());
}

#[test]
fn what_keeps_a_snapshot_goes_after_it() {
    let (stage, second) = with_garbage();
    let keep = |snapshot| ObjectName::keep(snapshot, SnapshotId::generate(1));
    let (good, gone) = (keep(second.run), keep(SnapshotId::generate(5)));
    for name in [&good, &gone] {
        stage.store.put(name, vec![1].into()).unwrap();
    }
    stage.pass(50);
    stage.gc().unwrap();
    stage.pass(25);
    stage.gc().unwrap();
    assert_eq!(stage.names("keeps"), BTreeSet::from([good]));
}

#[test]
fn a_grace_of_less_than_an_hour_is_refused() {
    let stage = Stage::new();
    let options = CollectOptions {
        rewrite: RewriteRules::NEVER,
        grace: SignedDuration::from_mins(59),
    };
    for error in [
        collect(&stage.vault(), options, &Silent).err().unwrap(),
        plan_collection(&stage.vault(), options, &Silent)
            .err()
            .unwrap(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

/// Killed at any operation on the store, before or after it was done, and run again.
#[test]
fn killed_at_any_moment_the_next_one_goes_on() {
    let mut moments = [0, 0];
    for (phase, hours) in [(0, 0), (1, 25)] {
        for moment in 0.. {
            let (stage, second) = with_garbage();
            if phase == 1 {
                stage.gc().unwrap();
                stage.pass(hours);
            }
            let killed = FaultStore::new(stage.store.clone(), move |operation| {
                match operation.moment >= moment {
                    true => Err(Error::new(ErrorKind::Io, "it was killed")),
                    false => Ok(()),
                }
            });
            let ended = Vault::open(Arc::new(killed))
                .map(Arc::new)
                .and_then(|vault| collect(&vault, GRACE, &Silent));
            assert!(stage.is_whole(&second), "{phase} {moment}");
            for _ in 0..4 {
                stage.pass(25);
                stage.gc().unwrap();
            }
            assert!(
                stage.has_just(&[&second]),
                "{phase} {moment}: {:?}",
                stage.all()
            );
            let left = (stage.names("condemned"), stage.names("sessions"));
            assert_eq!(left, Default::default(), "{phase} {moment}");
            if ended.is_ok() {
                moments[phase] = moment;
                break;
            }
        }
    }
    assert!(moments[0] > 25 && moments[1] > 35, "{moments:?}");
}

/// Random histories: what the walk through trees says of each slot is what the maps say.
#[test]
fn what_is_reachable_is_what_the_maps_say() {
    let mut random = crate::support::model::Chance(7);
    for _ in 0..60 {
        let stage = Stage::new();
        let mut all: Vec<Done> = Vec::new();
        for _ in 0..12 {
            let parent = all.last().filter(|_| random.below(5) > 0).cloned();
            let blocks: Vec<u64> = (0..random.below(4)).map(|_| random.below(BLOCKS)).collect();
            all.push(stage.snapshot(&blocks, parent.as_ref()));
        }
        for _ in 0..random.below(8) {
            let place = random.below(all.len() as u64) as usize;
            stage.delete(&all.remove(place));
        }
        let vault = stage.vault();
        let found = {
            let all = vault.snapshots().unwrap();
            Reachable::read(&vault, all, &Silent, &|_| Ok(())).unwrap()
        };
        let mut needed: BTreeMap<ObjectId, BTreeSet<SnapshotId>> = BTreeMap::new();
        for one in &all {
            for segment in one.segments() {
                needed.entry(segment).or_default().insert(one.run);
            }
        }
        let reached: BTreeSet<ObjectId> = found.segments().collect();
        assert_eq!(reached, needed.keys().copied().collect());
        assert!(reached.iter().all(|id| found.live_slots(*id) == 1));
        let named = |one: &Done| one.index.iter().all(|part| found.has_index(part.id));
        assert!(all.iter().all(named));
    }
}
