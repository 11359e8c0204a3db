//! What somebody keeps: it adds up, needs no more than to put, and is refused to whoever deletes.

use super::*;
use stillpoint::Error;
use stillpoint::engine::{CollectOptions, RewriteRules, kept_now, plan_collection, refuse_kept};
use stillpoint::format::KeepRecord;
use stillpoint::store::{FaultStore, KeepTerm, SnapshotRef};

fn find(world: &World, id: SnapshotId) -> SnapshotRef {
    world.vault.find(&id.to_string()).unwrap()
}

fn until(world: &World, days: i64) -> KeepTerm {
    KeepTerm::Until(world.now + seconds(days * DAY))
}

fn go_on() -> Result<()> {
    Ok(())
}

/// Whether the snapshot may be deleted so many days from now.
fn is_kept(world: &World, id: SnapshotId, days: i64) -> bool {
    let now = world.now + seconds(days * DAY);
    let refused = refuse_kept(&world.vault, &find(world, id), now, &go_on);
    if let Err(error) = &refused {
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        assert!(error.to_string().contains("is kept"), "{error}");
    }
    refused.is_err()
}

fn keep_names(world: &World) -> Vec<ObjectName> {
    let listed = world.store.list_all(&ObjectName::keeps()).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

#[test]
fn keeps_add_up_and_end_by_themselves_or_by_release() {
    let world = World::new();
    let old = world.days(3)[0];
    let one = find(&world, old);
    assert!(!is_kept(&world, old, 0));
    world.vault.put_keep(&one, until(&world, 30), "h").unwrap();
    world.vault.put_keep(&one, until(&world, 5), "h").unwrap();
    // A shorter one makes none shorter.
    assert!(is_kept(&world, old, 29) && !is_kept(&world, old, 31));
    for _ in 0..2 {
        world
            .vault
            .put_keep(&one, KeepTerm::Hold("audit".into()), "h")
            .unwrap();
    }
    world
        .vault
        .put_keep(&one, KeepTerm::Hold("law".into()), "h")
        .unwrap();
    let kept = kept_now(&world.vault, &one, world.now, &go_on)
        .unwrap()
        .unwrap();
    assert!(
        kept.to_string()
            .ends_with(r#"by the hold "audit", by the hold "law""#),
        "{kept}"
    );
    assert_eq!(world.vault.release(old, "audit", &go_on).unwrap(), 2);
    assert_eq!(world.vault.release(old, "audit", &go_on).unwrap(), 0);
    assert!(is_kept(&world, old, 3000));
    world.vault.release(old, "law", &go_on).unwrap();
    assert!(is_kept(&world, old, 29) && !is_kept(&world, old, 31));
}

#[test]
fn a_prune_leaves_what_is_kept_and_says_so_and_takes_it_later() {
    let world = World::new();
    let days = world.days(5);
    world
        .vault
        .put_keep(&find(&world, days[0]), until(&world, 30), "h")
        .unwrap();
    world
        .vault
        .put_keep(&find(&world, days[1]), KeepTerm::Hold("x".into()), "h")
        .unwrap();
    let said = world.put(ago(10 * DAY), |manifest| {
        manifest.keep_seconds = Some(20 * 86400)
    });
    let plan = world.plan(last(1));
    let kept = plan
        .judged
        .iter()
        .filter(|one| matches!(one.stays[..], [StayReason::Kept(_)]));
    let kept: BTreeSet<_> = kept.map(|one| one.snapshot.id).collect();
    assert_eq!(kept, set(&[days[0], days[1], said]));
    let left = world.prune(last(1));
    assert_eq!(left, set(&[days[0], days[1], days[4], said]));
    let mut options = world.options(last(1));
    options.now = world.now + seconds(11 * DAY);
    prune(&world.vault, &options).unwrap();
    assert_eq!(world.left(), set(&[days[0], days[1], days[4]]));
    world.vault.release(days[1], "x", &go_on).unwrap();
    options.now = world.now + seconds(31 * DAY);
    prune(&world.vault, &options).unwrap();
    assert_eq!(world.left(), set(&[days[4]]));
    assert_eq!(keep_names(&world), [], "keeps go with their snapshots");
}

/// The host's clock was behind: what counts is the later time, and nobody keeps for ever by it.
#[test]
fn a_manifest_keeps_from_its_cut_and_from_when_it_came() {
    let world = World::new();
    let term = |manifest: &mut Manifest| manifest.keep_seconds = Some(10 * 86400);
    let behind = world.put(
        Ago {
            cut: 400 * DAY,
            received: 0,
        },
        term,
    );
    assert!(is_kept(&world, behind, 9) && !is_kept(&world, behind, 11));
    let ever = world.put(ago(DAY), |manifest| manifest.keep_seconds = Some(u64::MAX));
    assert!(is_kept(&world, ever, 3640) && !is_kept(&world, ever, 3651));
}

#[test]
fn a_keep_that_cannot_be_read_keeps() {
    let world = World::new();
    let days = world.days(3);
    world
        .vault
        .put_keep(&find(&world, days[0]), until(&world, 1), "h")
        .unwrap();
    let [name] = &keep_names(&world)[..] else {
        panic!()
    };
    world.store.corrupt(name, |bytes| bytes[70] ^= 1);
    // The keep of another snapshot says nothing of this one.
    let bytes = world.store.get(name, 1 << 20).unwrap();
    assert!(is_kept(&world, days[0], 3000));
    let moved = ObjectName::keep(days[1], SnapshotId::generate(1));
    world.store.put(&moved, bytes).unwrap();
    assert!(is_kept(&world, days[1], 3000));
    let left = world.prune(last(1));
    assert_eq!(left, set(&days));
    // So many that nobody reads them all.
    let of_all = find(&world, days[2]);
    for _ in 0..70 {
        world
            .vault
            .put_keep(&of_all, until(&world, 1), "h")
            .unwrap();
    }
    assert!(is_kept(&world, days[2], 3000));
}

/// A store that permits to list, get and put, and nothing else.
#[test]
fn whoever_may_only_put_can_keep_and_cannot_release() {
    let world = World::new();
    let old = world.days(2)[0];
    let one = find(&world, old);
    let store = FaultStore::new(world.store.clone(), |operation| match operation.verb {
        "delete" | "replace" => Err(Error::new(ErrorKind::Unsupported, "denied")),
        _ => Ok(()),
    });
    let host = Vault::open(Arc::new(store)).unwrap();
    host.put_keep(&one, KeepTerm::Hold("mine".into()), "h")
        .unwrap();
    assert!(is_kept(&world, old, 0));
    let error = host.release(old, "mine", &go_on).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // Nor does anything that it may put end it.
    host.put_keep(&one, until(&world, -5), "h").unwrap();
    assert!(is_kept(&world, old, 3000));
}

#[test]
fn what_is_gone_is_not_kept() {
    let world = World::new();
    let days = world.days(2);
    let one = find(&world, days[0]);
    world.vault.delete(&one).unwrap();
    let error = world
        .vault
        .put_keep(&one, until(&world, 9), "h")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(keep_names(&world), []);
}

/// Between the plan and the deed.
#[test]
fn what_is_kept_meanwhile_stays() {
    let world = World::new();
    let days = world.days(4);
    let ended = find(&world, days[0]);
    world
        .vault
        .put_keep(&ended, until(&world, -1), "h")
        .unwrap();
    let mut plan = world.plan(last(1));
    for id in &days[..2] {
        let found = find(&world, *id);
        world
            .vault
            .put_keep(&found, KeepTerm::Hold("x".into()), "h")
            .unwrap();
    }
    assert_eq!(plan.going().count(), 3);
    let warnings = carry_out_prune(&world.vault, &mut plan, &Silent).unwrap();
    assert_eq!(warnings, [""; 0]);
    let gone: Vec<SnapshotId> = plan.going().map(|one| one.snapshot.id).collect();
    assert_eq!(gone, [days[2]], "what is reported is what was done");
    assert_eq!(world.left(), set(&[days[0], days[1], days[3]]));
    assert!(is_kept(&world, days[0], 3000) && is_kept(&world, days[1], 3000));
}

/// A prune was killed between snapshots and their keeps, or they were deleted by hand.
#[test]
fn keeps_of_snapshots_that_are_gone_are_cleared_away() {
    let world = World::new();
    let days = world.days(4);
    let keep = |id| {
        world
            .vault
            .put_keep(&find(&world, id), until(&world, -1), "h")
    };
    days.iter().for_each(|id| keep(*id).unwrap());
    world.vault.delete(&find(&world, days[0])).unwrap();
    world.prune(last(2));
    let left: BTreeSet<String> = keep_names(&world).iter().map(ToString::to_string).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    for id in &days[2..] {
        assert!(
            left.iter().any(|name| name.contains(&id.to_string())),
            "{left:?}"
        );
    }
}

/// Whoever may put can put a manifest under any host's name: of two of one ID each is judged.
#[test]
fn two_snapshots_of_one_name_are_both_kept() {
    let world = World::new();
    let kept = world.manifest(ago(9 * DAY), |manifest| {
        manifest.keep_seconds = Some(90 * 86400);
    });
    for host in [&kept.host[..], "zz"] {
        let mut one = kept.clone();
        if host == "zz" {
            one.keep_seconds = None;
            one.host = host.into();
        }
        let name = ObjectName::manifest(host, one.snapshot);
        let bytes = one.encode(world.vault.sealer()).unwrap();
        world.store.put(&name, bytes.into()).unwrap();
    }
    world.put(ago(0), |manifest| manifest.host = "zz".into());
    world.days(2);
    prune(&world.vault, &world.options(last(1))).unwrap();
    let name = ObjectName::manifest(&kept.host, kept.snapshot);
    assert!(world.store.size(&name).is_ok(), "what is kept has gone");
}

/// A keep may lie of whose snapshot it is: it takes no other one with it.
#[test]
fn a_keep_of_no_host_takes_no_hold_away() {
    let world = World::new();
    let days = world.days(2);
    // The snapshot is not listed yet when the prune asks.
    let snapshot = find(&world, days[0]);
    let term = KeepTerm::Hold("audit".into());
    world.vault.put_keep(&snapshot, term, "h").unwrap();
    let hold = keep_names(&world).pop().unwrap();
    let lie = KeepRecord {
        snapshot: days[0],
        host: "nowhere".into(),
        until: Some(world.now),
        hold: None,
        time: world.now,
        by: "h".into(),
    };
    let lie = lie.encode(world.vault.sealer()).unwrap();
    let name = ObjectName::keep(days[0], SnapshotId::generate(1));
    world.store.put(&name, lie.into()).unwrap();
    let keeps = world.vault.list_keeps(&|_| true).unwrap();
    let gone = world.vault.orphaned(keeps, 9, &go_on).unwrap();
    world.vault.delete_keeps(&gone, &go_on).unwrap();
    assert_eq!(keep_names(&world), [hold]);
}

/// A collector has given it another name, and was killed before it put the keep for that one.
#[test]
fn what_keeps_an_old_name_keeps_the_new_one() {
    let world = World::new();
    let old = world.days(4)[0];
    let was = find(&world, old);
    let hold = KeepTerm::Hold("audit".into());
    world.vault.put_keep(&was, hold, "h").unwrap();
    let mut manifest = world.vault.manifest(&was).unwrap();
    manifest.snapshot = old.successor();
    manifest.rewrites = vec![old];
    let name = ObjectName::manifest(&manifest.host, manifest.snapshot);
    let bytes = manifest.encode(world.vault.sealer()).unwrap();
    world.store.put(&name, bytes.into()).unwrap();
    world.vault.delete(&was).unwrap();
    let new = manifest.snapshot;
    assert!(is_kept(&world, new, 0));
    let keeps = keep_names(&world);
    let left = world.prune(last(1));
    assert!(left.contains(&new) && left.len() == 2, "{left:?}");
    assert_eq!(keep_names(&world), keeps, "it is nobody else's");
    for keep in &keeps {
        world.store.age(keep, seconds(9 * DAY));
    }
    let options = CollectOptions {
        grace: seconds(DAY),
        rewrite: RewriteRules::NEVER,
    };
    let told = plan_collection(&world.vault, options, &Silent).unwrap();
    assert_eq!(told.needed.keeps.objects, 1, "{told:?}");
}
