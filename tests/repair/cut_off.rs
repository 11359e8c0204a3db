//! A repair that ends at every moment there is: what was whole is whole, nothing is deleted, and
//! the next repair goes on.

use super::*;
use crate::mirror::cut_off::Stopping;
use std::sync::atomic::AtomicU32;
use stillpoint::store::FaultStore;
use stillpoint::{Error, ErrorKind};

/// A vault in which something of each sort has rotted, and has been noted; its second place.
struct Rotten {
    source: Source,
    truth: Contents,
    second: Arc<MemoryStore>,
    store: Arc<MemoryStore>,
}

impl Rotten {
    fn new() -> Self {
        let source = Source::new();
        let second = copy_of(&source.store);
        let store = copy_of(&source.store);
        for folder in ["segments", "index", "snapshots", "footers"] {
            let name = names(source.store.as_ref(), folder).pop().unwrap();
            store.corrupt(&name, ACTIONS[2].1);
        }
        // Another one is noted, and can be made anew.
        let first = names(source.store.as_ref(), "segments")[0].clone();
        store.corrupt(&first, |bytes| bytes.extend_from_slice(&[7; 10]));
        verify_all(&Vault::open(store.clone()).unwrap()).unwrap();
        Self {
            truth: contents(source.store.as_ref()),
            source,
            second,
            store,
        }
    }

    /// All that was whole still is, and the next repair ends well.
    fn goes_on(&self, store: &Arc<MemoryStore>, what: &str) {
        let now = contents(store.as_ref());
        let before = contents(self.store.as_ref());
        for (name, bytes) in &self.truth {
            let is_right = now.get(name) == Some(bytes);
            assert!(
                is_right || now.get(name) == before.get(name),
                "{what}: {name}"
            );
        }
        // An index that came back before the end names segments that no `verify` has read.
        let report = repaired(store.clone(), Some(&self.second), &READ_ALL).unwrap();
        is_well(&report, what);
        let now = contents(store.as_ref());
        let differ = now
            .iter()
            .filter(|(name, bytes)| self.truth.get(*name) != Some(bytes));
        let differ: Vec<&String> = differ.map(|(name, _)| name).collect();
        assert!(now == self.truth, "{what}: {differ:?}, {report:?}");
        check_all(&Vault::open(store.clone()).unwrap(), &self.source.taken);
    }
}

#[test]
fn unplugged_at_any_moment_the_next_one_ends_well() {
    let rotten = Rotten::new();
    for once in [false, true] {
        for moment in 0.. {
            let what = format!("moment {moment}, once: {once}");
            let store = copy_of(&rotten.store);
            let fails = move |now: u64| if once { now == moment } else { now >= moment };
            let faulty = Arc::new(FaultStore::new(
                store.clone(),
                move |operation| match fails(operation.moment) {
                    true => Err(Error::new(ErrorKind::Io, "the test says so")),
                    false => Ok(()),
                },
            ));
            let ended = repaired(faulty.clone(), Some(&rotten.second), &OPTIONS);
            if faulty.moments() <= moment {
                is_well(&ended.unwrap(), &what);
                assert!(moment > 40, "only {moment} moments");
                break;
            }
            rotten.goes_on(&store, &what);
        }
    }
}

/// The second place fails at any moment.
#[test]
fn a_second_place_that_fails_leaves_the_vault_no_worse() {
    let rotten = Rotten::new();
    for moment in 0.. {
        let store = copy_of(&rotten.store);
        let faulty =
            Arc::new(FaultStore::new(
                rotten.second.clone(),
                move |operation| match operation.moment >= moment {
                    true => Err(Error::new(ErrorKind::Io, "the test says so")),
                    false => Ok(()),
                },
            ));
        let Ok(second) = Vault::open(faulty.clone()) else {
            continue;
        };
        let vault = Vault::open(store.clone()).unwrap();
        let ended = repair(&vault, Some(&second), &OPTIONS, &Silent);
        if faulty.moments() <= moment {
            is_well(&ended.unwrap(), "the end");
            assert!(moment > 5, "only {moment} moments");
            break;
        }
        drop(vault);
        rotten.goes_on(&store, &format!("moment {moment}"));
    }
}

#[test]
fn stopped_by_a_signal_it_says_what_was_done() {
    let rotten = Rotten::new();
    for question in (0..).step_by(3) {
        let store = copy_of(&rotten.store);
        let vault = Vault::open(store.clone()).unwrap();
        let second = Vault::open(rotten.second.clone()).unwrap();
        let monitor = Stopping(AtomicU32::new(0), question);
        let Err(error) = repair(&vault, Some(&second), &OPTIONS, &monitor) else {
            assert!(question > 20, "only {question} questions");
            break;
        };
        assert_eq!(error.kind(), ErrorKind::Interrupted(2), "{error}");
        let sessions = store.list_all(&ObjectName::sessions()).unwrap();
        assert!(sessions.is_empty(), "{question}: {sessions:?}");
        rotten.goes_on(&store, &format!("question {question}"));
    }
}
