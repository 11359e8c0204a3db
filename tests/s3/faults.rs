//! Thousands of operations through a proxy that does what networks do, beside a model: what was
//! reported done is there, byte by byte; what was reported damaged is no lie.

use super::proxy::{Fault, LIES, Plan, Proxy, USUAL};
use super::server::{Server, place};
use crate::support::model::{Chance, ModelDisk};
use crate::support::vaults::{Take, check, restore, rounds, take, vault_options, verify_all};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stillpoint::ErrorKind;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{
    ObjectName, ObjectStore, Patience, RetryPolicy, RetryStore, S3Store, Vault,
};

/// Many tries, and no time lost.
const HASTY: RetryPolicy = RetryPolicy {
    tries: 30,
    first_tries: 30,
    first_pause: Duration::from_micros(100),
    longest_pause: Duration::from_millis(2),
    end: Duration::from_secs(60),
};

/// A store behind a proxy.
fn store(server: &Server, proxy: &Proxy) -> Arc<dyn ObjectStore> {
    let mut place = place(&proxy.endpoint, &server.credentials(), "vault");
    place.settings.patience = Patience {
        stalled: Duration::from_secs(20),
        ..Patience::default()
    };
    Arc::new(RetryStore::new(
        Arc::new(S3Store::open(place).unwrap()),
        HASTY,
    ))
}

#[test]
fn what_is_done_through_a_bad_network_is_done() {
    let server = Server::start();
    for seed in 0..u64::from(rounds()) {
        let plan = Plan {
            seed,
            percent: 30,
            faults: USUAL.to_vec(),
        };
        let proxy = Proxy::start(&server.endpoint, plan);
        let store = store(&server, &proxy);
        let mut chance = Chance(seed);
        let mut model: BTreeMap<ObjectName, Vec<u8>> = BTreeMap::new();
        for step in 0..1500 {
            one_step(store.as_ref(), &mut model, &mut chance, seed << 32 | step);
        }
        assert!(proxy.faults() > 300, "{} faults", proxy.faults());
        proxy.calm(true);
        for (name, bytes) in &model {
            assert_eq!(store.get(name, 1 << 20).unwrap(), bytes, "{name}");
            store.delete(name).unwrap();
        }
        assert!(
            store
                .list_all(&ObjectName::parse("index").unwrap())
                .unwrap()
                .is_empty()
        );
    }
}

/// Does one operation and compares it with the model. With so many tries, each is done.
fn one_step(
    store: &dyn ObjectStore,
    model: &mut BTreeMap<ObjectName, Vec<u8>>,
    chance: &mut Chance,
    number: u64,
) {
    let picked = chance.below(model.len().max(1) as u64) as usize;
    let picked = model.iter().nth(picked);
    match (chance.below(10), picked) {
        (0..=2, _) | (_, None) => {
            let name = ObjectName::parse(&format!("index/{number:016x}")).unwrap();
            let length = chance.below(1 + chance.0 % 200_000);
            let bytes: Vec<u8> = (0..length).map(|_| chance.next() as u8).collect();
            store.put(&name, bytes.clone().into()).unwrap();
            model.insert(name, bytes);
        }
        (3 | 4, Some((name, bytes))) => {
            assert_eq!(store.get(name, 1 << 20).unwrap(), bytes);
        }
        (5 | 6, Some((name, bytes))) => {
            let start = chance.below(bytes.len() as u64 + 1);
            let length = chance.below(bytes.len() as u64 - start + 1);
            let part = store.get_range(name, start, length).unwrap();
            assert_eq!(part, bytes[start as usize..(start + length) as usize]);
        }
        (7, Some((name, bytes))) => {
            let tail = bytes.len().saturating_sub(100);
            // A store without bytes has no last ones.
            if !bytes.is_empty() {
                let (found, whole) = store.get_tail(name, 100).unwrap();
                assert_eq!((&found[..], whole), (&bytes[tail..], bytes.len() as u64));
            }
            assert_eq!(store.size(name).unwrap(), bytes.len() as u64);
        }
        (8, Some((name, _))) => {
            let name = name.clone();
            store.delete(&name).unwrap();
            model.remove(&name);
            assert_eq!(store.get(&name, 9).unwrap_err().kind(), ErrorKind::NotFound);
        }
        (_, Some(_)) => {
            let index = ObjectName::parse("index").unwrap();
            // A page that is lost in its middle is asked for again; a whole one came once.
            let found = store.list_all(&index).unwrap();
            let found: BTreeMap<_, _> = found.into_iter().map(|o| (o.name, o.size)).collect();
            let there = model
                .iter()
                .map(|(name, bytes)| (name.clone(), bytes.len() as u64));
            assert_eq!(found, there.collect());
        }
    }
}

#[test]
fn a_snapshot_that_was_reported_is_there_whatever_the_store_said() {
    let server = Server::start();
    let faults = [USUAL, LIES, &[Fault::ErrorIn200; 4]].concat();
    let plan = Plan {
        seed: 1,
        percent: 0,
        faults,
    };
    let proxy = Proxy::start(&server.endpoint, plan);
    let store = store(&server, &proxy);
    Vault::create(Arc::clone(&store), vault_options()).unwrap();
    proxy.worse(12);
    let disks = [ModelDisk::new(0, 40 * BLOCK_SIZE + 512, 5)];
    let (mut done, mut failed, mut read) = (Vec::new(), 0, 0);
    for _ in 0..30 * rounds() {
        disks[0].scribble(12);
        // Opening, too, meets faults.
        let vault = match Vault::open(Arc::clone(&store)) {
            Ok(vault) => Arc::new(vault),
            Err(_) => {
                failed += 1;
                continue;
            }
        };
        match take(&vault, &disks, Take::default()) {
            Ok(taken) => done.push(taken),
            Err(_) => failed += 1,
        }
        // What is read back is right, or said to be wrong.
        if let Some(last) = done.last()
            && let Ok((contents, report)) = restore(&vault, &last.manifest.disks[0], false)
        {
            assert!(report.damaged.is_empty());
            let truths = last.truth[0].iter();
            let is_right = |truth: &crate::support::model::Still| {
                crate::support::vaults::expected(&vault, &last.manifest.disks[0], truth)
                    == Some(contents.clone())
            };
            proxy.calm(true);
            assert!(truths.into_iter().any(is_right));
            proxy.calm(false);
            read += 1;
        }
    }
    println!(
        "{} snapshots, {failed} failed runs, {read} reads",
        done.len()
    );
    assert!(
        done.len() > 5 && failed > 0 && read > 0,
        "{} {failed} {read}",
        done.len()
    );
    proxy.calm(true);
    let vault = Vault::open(store).unwrap();
    assert!(vault.snapshots().unwrap().len() >= done.len());
    for taken in &done {
        check(&vault, taken);
    }
    assert!(verify_all(&vault).unwrap().broken.is_empty());
}
