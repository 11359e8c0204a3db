//! Who is at work beside a collector that gives up segments, and what that asks of the vault.

use super::rewriting::{REWRITING, half_dead};
use super::stage::GRACE;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stillpoint::Result;
use stillpoint::engine::{PlanOutcome, Silent, collect, plan_collection};
use stillpoint::format::Condemned;
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{CountStore, FaultStore, ObjectName, ObjectStore, Vault};

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
    // It looks at ends of segments, manifests and index objects before, and has a session.
    assert!(
        (told.gets..told.gets + 15).contains(&reads),
        "{told:?} {reads}"
    );
    assert!(
        (told.puts..told.puts + 8).contains(&puts),
        "{told:?} {puts}"
    );
    // The two old names, and the session of who rewrites.
    assert_eq!(more(4), 3);
    Ok(())
}
