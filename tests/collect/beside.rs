//! Who is at work beside a collector that gives up segments, and what that asks of the vault.

use super::rewriting::{REWRITING, half_dead, now, shown};
use super::stage::GRACE;
use super::world::{Broken, Who, World, pace};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use stillpoint::Result;
use stillpoint::engine::{
    CollectPace, PlanOutcome, RetentionOptions, RetentionRules, Silent, carry_out_prune, collect,
    collect_at, mirror, plan_collection, plan_prune,
};
use stillpoint::format::Condemned;
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{CacheStore, CountStore, FaultStore, ObjectName, ObjectStore, Vault};

#[test]
fn other_collectors_wait_for_it() {
    let half = half_dead();
    let stage = &half.stage;
    let unused = BTreeSet::from([Condemned::Segment(ObjectId::generate())]);
    let old = SnapshotId::generate(1);
    let other = stage.vault();
    let awaited = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&awaited);
    let store = stage.store.clone();
    let steps = FaultStore::new(stage.store.clone(), move |operation| {
        let is_segment = operation.name.as_str().starts_with("segments/");
        if operation.verb == "put" && is_segment && !waits.load(Ordering::Relaxed) {
            other.put_plan(old, &unused)?;
            for part in store.list_all(&ObjectName::condemned())? {
                store.age(&part.name, jiff::SignedDuration::from_hours(30));
            }
            let told = plan_collection(&other, GRACE, &Silent)?;
            let plan = told.earlier.iter().find(|plan| plan.id == old);
            let outcome = &plan.unwrap().outcome;
            let words = format!("{outcome:?}");
            let is_it = matches!(outcome, PlanOutcome::Awaits(_)) && words.contains("rewriting");
            waits.store(is_it, Ordering::Relaxed);
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
    // It has not waited for this run, nor has this run seen it: what it makes counts all the same.
    collect(&vault, REWRITING, &Silent).unwrap();
    assert!(awaited.load(Ordering::Relaxed));
    half.check();
}

#[test]
fn it_asks_for_what_it_says() -> Result<()> {
    let half = half_dead();
    let counted = Arc::new(CountStore::new(half.stage.store.clone()));
    let vault = Arc::new(Vault::open(counted.clone())?);
    let ask = |options| -> Result<[u64; 5]> {
        counted.take();
        collect(&vault, options, &Silent)?;
        let counts = counted.take();
        let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
        Ok(["put", "get", "size", "list", "delete"].map(of))
    };
    let told = plan_collection(&vault, REWRITING, &Silent)?;
    let told = told.rewriting.unwrap().plan.cost;
    let without = ask(GRACE)?;
    let with = ask(REWRITING)?;
    let more = |verb: usize| with[verb] - without[verb];
    let (reads, puts) = (more(1) + more(2), more(0) + more(3));
    // It looks at ends of segments, manifests and index objects before, has a session, and looks at
    // all once more to plan what it has given up.
    assert!(
        (told.gets..told.gets + 25).contains(&reads),
        "{told:?} {reads}"
    );
    assert!(
        (told.puts..told.puts + 20).contains(&puts),
        "{told:?} {puts}"
    );
    // The two old names, the session of who rewrites, and one name that was never there.
    assert_eq!(more(4), 4);
    Ok(())
}

fn rules(last: u32) -> RetentionOptions {
    RetentionOptions {
        rules: RetentionRules {
            last,
            ..RetentionRules::default()
        },
        host: None,
        disk: None,
        tags: BTreeMap::new(),
        take_last_good: true,
        now: Timestamp::now(),
    }
}

/// Between the last question for the new name and the end of the old one.
#[test]
fn a_prune_takes_no_name_of_what_stays() {
    let (mut together, mut lone) = (0, 0);
    for _ in 0..12 {
        let half = half_dead();
        let stage = &half.stage;
        let (pruner, third) = (stage.vault(), half.third.run);
        let seen = Arc::new(AtomicU32::new(0));
        let both = Arc::clone(&seen);
        let steps = FaultStore::new(stage.store.clone(), move |operation| {
            let name = operation.name.as_str();
            if operation.verb == "delete" && name.ends_with(&third.to_string()) && !operation.done {
                let mut plan = plan_prune(&pruner, &rules(1), &Silent)?;
                let of_it = plan.judged.iter();
                let of_it = of_it
                    .filter(|one| one.snapshot.id.is_akin_to(third))
                    .count();
                both.store(of_it as u32, Ordering::Relaxed);
                carry_out_prune(&pruner, &mut plan, &Silent)?;
            }
            Ok(())
        });
        let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
        collect(&vault, REWRITING, &Silent).unwrap();
        match seen.load(Ordering::Relaxed) {
            2 => together += 1,
            _ => lone += 1,
        }
        assert_eq!(shown(stage, &now(stage, &half.third)), half.shown[1]);
    }
    assert_eq!((together, lone), (12, 0));
}

/// A listing still shows the old name, and a cache what it was.
#[test]
fn a_prune_that_a_cache_and_a_late_listing_mislead_loses_nothing() {
    let mut both = 0;
    for seed in 0..12 {
        let half = half_dead();
        let here = half.stage.vault();
        let world = World::new(seed, Broken::Nothing);
        let there = Arc::new(Vault::create_second(world.of(Who::Deleter), &here).unwrap());
        mirror(&here, &there, &here.snapshots().unwrap(), &Silent).unwrap();
        world.pass(SignedDuration::from_hours(60));
        let folder = tempfile::tempdir().unwrap();
        let cache = CacheStore::open(world.of(Who::Pruner), &folder.path().join("cache"));
        let pruner = Vault::open(Arc::new(cache.unwrap())).unwrap();
        let first = plan_prune(&pruner, &rules(9), &Silent).unwrap();
        assert_eq!(first.judged.len(), 2);
        // It does not wait for listings: the prune comes meanwhile.
        let wait = |long: Duration| {
            if long < Duration::from_secs(15 * 60) {
                world.pass(SignedDuration::try_from(long).unwrap());
            }
            Ok(())
        };
        let pace = CollectPace {
            session: pace(),
            wait: &wait,
        };
        let done = collect_at(&pace, &there, REWRITING, &Silent).unwrap();
        assert_eq!(done.rewriting.unwrap().done.unwrap().renamed.len(), 2);
        let third = half.third.run;
        for _ in 0..16 {
            let mut plan = plan_prune(&pruner, &rules(1), &Silent).unwrap();
            let of_it = plan.judged.iter();
            let of_it = of_it.filter(|one| one.snapshot.id.is_akin_to(third));
            both += u32::from(of_it.count() == 2);
            carry_out_prune(&pruner, &mut plan, &Silent).unwrap();
            let left = world.names("snapshots/");
            let is_left = |name: &ObjectName| {
                let id: SnapshotId = name.components().last().unwrap().parse().unwrap();
                id.is_akin_to(third)
            };
            assert!(left.iter().any(is_left), "{left:?}");
            world.pass(SignedDuration::from_mins(1));
        }
    }
    assert!(both > 10, "{both}");
}

/// Who has seen both names, and deleted the old one by hand.
#[test]
fn the_new_name_stays_when_the_old_one_has_gone() {
    let half = half_dead();
    let stage = &half.stage;
    let (other, third) = (stage.vault(), half.third.run);
    let old = other.find(&third.to_string()).unwrap();
    let steps = FaultStore::new(stage.store.clone(), move |operation| {
        let akin = other.snapshots()?.into_iter();
        let akin = akin.filter(|one| one.id.is_akin_to(third)).count();
        if akin == 2 && operation.verb != "delete" {
            other.delete(&old)?;
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
    let done = collect(&vault, REWRITING, &Silent).unwrap();
    let warnings = done.rewriting.unwrap().done.unwrap().warnings;
    assert!(warnings[0].contains("delete that, too"), "{warnings:?}");
    assert_eq!(shown(stage, &now(stage, &half.third)), half.shown[1]);
}

/// Who has seen both names, and deleted the new one by hand.
#[test]
fn the_old_name_stays_when_the_new_one_has_gone() {
    let half = half_dead();
    let stage = &half.stage;
    let (other, third) = (stage.vault(), half.third.run);
    let steps = FaultStore::new(stage.store.clone(), move |operation| {
        let akin = other.snapshots()?.into_iter();
        let akin: Vec<_> = akin.filter(|one| one.id.is_akin_to(third)).collect();
        let is_question = operation.verb == "list" && operation.name.as_str().starts_with("keeps/");
        if akin.len() == 2 && is_question {
            let new = akin.into_iter().find(|one| one.id != third);
            other.delete(&new.unwrap())?;
        }
        Ok(())
    });
    let vault = Arc::new(Vault::open(Arc::new(steps)).unwrap());
    let done = collect(&vault, REWRITING, &Silent).unwrap();
    let warnings = done.rewriting.unwrap().done.unwrap().warnings;
    assert!(warnings[0].contains("its new name"), "{warnings:?}");
    assert_eq!(shown(stage, &now(stage, &half.third)), half.shown[1]);
}

/// A name with a wrong end is that of nobody, though it is like one's.
#[test]
fn a_former_name_finds_the_new_one_and_a_mistyped_one_nothing() {
    let half = half_dead();
    let stage = &half.stage;
    let old = half.third.run;
    collect(&stage.vault(), REWRITING, &Silent).unwrap();
    let new = now(stage, &half.third).id;
    assert_ne!(new, old);
    let vault = stage.vault();
    assert_eq!(vault.find(&old.to_string()).unwrap().id, new);
    let mistyped = old.successor().successor();
    assert!(mistyped.is_akin_to(old) && mistyped != new);
    vault.find(&mistyped.to_string()).unwrap_err();
}
