//! A prune that ends at any moment there is: what stays is there, and the next one finishes it.

use super::*;
use crate::support::vaults::verify_all;
use stillpoint::Error;
use stillpoint::store::{FaultStore, KeepTerm};

/// Two hosts, one of which has a newest snapshot that is no good, an ended keep, and a hold.
fn vault() -> (World, Vec<SnapshotId>) {
    let world = World::new();
    let days = world.days(8);
    let of_b = |manifest: &mut Manifest| manifest.host = "b".into();
    let others = (0..8).rev().map(|day| world.put(ago(day * DAY), of_b));
    let others: Vec<SnapshotId> = others.collect();
    let keep = |id: SnapshotId, term| {
        let found = world.vault.find(&id.to_string()).unwrap();
        world.vault.put_keep(&found, term, "h").unwrap();
    };
    keep(days[1], KeepTerm::Until(world.now - seconds(DAY)));
    keep(others[2], KeepTerm::Hold("x".into()));
    let stay = [&days[6..], &others[6..], &others[2..3]].concat();
    (world, stay)
}

/// Prunes through a store into which `step` may step; returns how many moments there were.
fn prune_through(
    world: &World,
    step: impl Fn(u64) -> Result<()> + Send + Sync + 'static,
) -> (Result<Vec<String>>, u64) {
    let inner: Arc<dyn ObjectStore> = world.store.clone();
    let store = Arc::new(FaultStore::new(inner, move |operation| {
        step(operation.moment)
    }));
    let result =
        Vault::open(store.clone()).and_then(|vault| prune(&vault, &world.options(last(2))));
    (result, store.moments())
}

#[test]
fn whenever_it_ends_what_stays_is_there_and_the_next_one_goes_on() {
    let (world, _) = vault();
    let (done, moments) = prune_through(&world, |_| Ok(()));
    done.unwrap();
    assert!(moments > 80, "{moments}");
    for cut_off in [true, false] {
        for moment in 0..moments {
            let (world, stay) = vault();
            let (ended, seen) = prune_through(&world, move |now| {
                match now == moment || (cut_off && now > moment) {
                    true => Err(Error::new(ErrorKind::Io, "unplugged")),
                    false => Ok(()),
                }
            });
            assert!(seen > moment, "{moment}: no fault");
            let left = world.left();
            assert!(set(&stay).is_subset(&left), "{moment}: something is lost");
            match ended {
                Err(error) => assert!(error.to_string().contains("unplugged"), "{error}"),
                // What is left over does no harm, and is told.
                Ok(warnings) => {
                    assert_eq!(left, set(&stay), "{moment}");
                    assert_eq!(warnings.len(), 1, "{moment}: {warnings:?}");
                }
            }
            assert!(verify_all(&world.vault).unwrap().broken.is_empty());
            assert_eq!(world.prune(last(2)), set(&stay), "{moment}");
        }
    }
}

#[test]
fn an_error_tells_how_much_is_gone() {
    let (world, _) = vault();
    let inner: Arc<dyn ObjectStore> = world.store.clone();
    let store = FaultStore::new(inner, |operation| match operation.verb {
        "delete" => Err(Error::new(ErrorKind::Unsupported, "denied")),
        _ => Ok(()),
    });
    let vault = Vault::open(Arc::new(store)).unwrap();
    let error = prune(&vault, &world.options(last(2))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("0 of 11 that go were deleted"),
        "{error}"
    );
    assert_eq!(world.left().len(), 16);
}
