//! Many instances, some at a time. Each gets its turn in the order of the list, whatever becomes of
//! the others. It must never start more at once than it was told to, nor go on when what becomes
//! of them cannot be kept.

use super::host::FleetHost;
use super::steps::{HostResult, HostState};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;
use crossbeam_channel::bounded;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// How a batch goes.
#[derive(Clone, Copy)]
pub struct BatchOptions<'a> {
    /// So many at once.
    pub at_once: NonZeroUsize,
    /// Whether it goes on.
    pub go_on: &'a dyn Cancel,
    /// No instance is begun after this; those under way end by their own time limits.
    pub until: Option<Instant>,
}

impl BatchOptions<'_> {
    fn begins_more(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until) && self.go_on.check().is_ok()
    }
}

/// What became of the instances of a list.
#[derive(Debug)]
pub struct BatchEnd {
    /// Each of them, in the order of the list.
    pub turns: Vec<HostTurn>,
    /// Why it was stopped; `None`: it was not.
    pub stopped: Option<Error>,
}

impl BatchEnd {
    /// A row for each of `hosts`, the list that it was about.
    pub fn rows(self, hosts: &[FleetHost]) -> Vec<HostResult> {
        let rows = hosts.iter().zip(self.turns).map(|(host, turn)| match turn {
            HostTurn::Known(result) => *result,
            HostTurn::CutOff => HostResult::of(host, HostState::CutOff),
            HostTurn::NotBegun => HostResult::of(host, HostState::NotBegun),
        });
        rows.collect()
    }
}

/// What became of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTurn {
    /// This.
    Known(Box<HostResult>),
    /// It was under way when the batch was stopped.
    CutOff,
    /// Its turn has not come: the batch was stopped, or its time was over.
    NotBegun,
}

/// Visits each instance, and hands what becomes of it to `take`, as soon as it is known. Returns
/// all, in the order of the list, also where it was stopped: what is known is worth as much.
///
/// # Errors
/// The first of `visit` or `take`: no more are begun then, those under way end.
pub fn run_batch(
    hosts: &[FleetHost],
    options: BatchOptions<'_>,
    visit: &(dyn Fn(&FleetHost) -> Result<Option<HostResult>> + Sync),
    take: &mut dyn FnMut(&HostResult) -> Result<()>,
) -> Result<BatchEnd> {
    let next = AtomicUsize::new(0);
    let give_up = AtomicBool::new(false);
    let threads = options.at_once.get().min(hosts.len());
    let (ended, endings) = bounded(threads.max(1));
    let mut turns = vec![HostTurn::NotBegun; hosts.len()];
    let mut first_error = None;
    std::thread::scope(|scope| {
        for started in 0..threads {
            let (ended, next, give_up) = (ended.clone(), &next, &give_up);
            let visits = move || {
                while !give_up.load(Ordering::Relaxed) && options.begins_more() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(host) = hosts.get(number) else {
                        return;
                    };
                    // Whoever listens does so until all have ended.
                    let _ = ended.send((number, visit(host)));
                }
            };
            let thread = std::thread::Builder::new().name("fleet".into());
            if let Err(error) = thread.spawn_scoped(scope, visits) {
                // Fewer at once will do.
                if started == 0 {
                    let what = "no thread for the batch";
                    let error = Error::new(ErrorKind::Failed, what).with_source(error);
                    first_error = Some(error);
                }
                break;
            }
        }
        drop(ended);
        for (number, outcome) in endings {
            let taken = outcome.and_then(|result| {
                result.iter().try_for_each(&mut *take)?;
                if let Some(place) = turns.get_mut(number) {
                    *place =
                        result.map_or(HostTurn::CutOff, |known| HostTurn::Known(Box::new(known)));
                }
                Ok(())
            });
            if let Err(error) = taken {
                give_up.store(true, Ordering::Relaxed);
                first_error.get_or_insert(error);
            }
        }
    });
    if let Some(error) = first_error {
        let known = turns.iter();
        let known = known.filter(|turn| matches!(turn, HostTurn::Known(_)));
        let (known, all) = (known.count(), hosts.len());
        return Err(error.and_said(format!("{known} of {all} instances are done")));
    }
    let is_over = options.until.is_some_and(|until| Instant::now() >= until);
    let is_whole = turns.iter().all(|turn| matches!(turn, HostTurn::Known(_)));
    let stopped = options.go_on.check().err().filter(|_| !is_whole);
    if !is_whole && !is_over && stopped.is_none() {
        let what = "an instance was left out: a broken invariant";
        return Err(Error::new(ErrorKind::Failed, what));
    }
    Ok(BatchEnd { turns, stopped })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::sync::Barrier;

    fn hosts(count: usize) -> Vec<FleetHost> {
        let host = |n: usize| {
            let name = format!("i-{n}");
            FleetHost::of(n as u64, [&name, "", &name, "", "", ""]).unwrap()
        };
        (0..count).map(host).collect()
    }

    fn done(host: &FleetHost) -> Result<Option<HostResult>> {
        Ok(Some(HostResult::of(host, HostState::Activated)))
    }

    fn known(turn: &HostTurn) -> Option<&str> {
        match turn {
            HostTurn::Known(result) => Some(&result.instance),
            HostTurn::CutOff | HostTurn::NotBegun => None,
        }
    }

    fn at_once(count: usize, go_on: &dyn Cancel) -> BatchOptions<'_> {
        let at_once = NonZeroUsize::new(count).unwrap();
        BatchOptions {
            at_once,
            go_on,
            until: None,
        }
    }

    #[test]
    fn so_many_at_once_and_no_more_and_all_in_order() {
        let hosts = hosts(60);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        // All places are taken, or the first would wait for ever.
        let together = Barrier::new(4);
        let visit = |host: &FleetHost| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            together.wait();
            now.fetch_sub(1, Ordering::SeqCst);
            done(host)
        };
        let mut taken = HashSet::new();
        let mut take = |result: &HostResult| {
            assert!(taken.insert(result.instance.clone()));
            Ok(())
        };
        let all = run_batch(&hosts, at_once(4, &|| Ok(())), &visit, &mut take).unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert_eq!(taken.len(), 60);
        assert!(all.stopped.is_none());
        let names: Vec<&str> = all.turns.iter().map(|turn| known(turn).unwrap()).collect();
        let expected: Vec<&str> = hosts.iter().map(|host| &*host.instance).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn what_cannot_be_kept_ends_it() {
        let hosts = hosts(1000);
        let mut taken = 0;
        let mut take = |_: &HostResult| {
            taken += 1;
            match taken {
                3 => Err(Error::new(ErrorKind::NoSpace, "full")),
                _ => Ok(()),
            }
        };
        let ended = run_batch(&hosts, at_once(2, &|| Ok(())), &done, &mut take).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::NoSpace);
        assert!(taken < 20, "{taken}");
    }

    #[test]
    fn a_stop_is_told_with_how_far_it_was() {
        let hosts = hosts(100);
        let count = AtomicUsize::new(0);
        let go_on = || match count.load(Ordering::SeqCst) {
            0..5 => Ok(()),
            _ => Err(Error::new(ErrorKind::Interrupted(15), "stopped")),
        };
        let visit = |host: &FleetHost| {
            count.fetch_add(1, Ordering::SeqCst);
            done(host)
        };
        let ended = run_batch(&hosts, at_once(1, &go_on), &visit, &mut |_| Ok(())).unwrap();
        let why = ended.stopped.unwrap();
        assert_eq!(why.kind(), ErrorKind::Interrupted(15));
        let done = ended.turns.iter().filter_map(known).count();
        let cut_off = ended.turns.iter().filter(|turn| **turn == HostTurn::CutOff);
        assert_eq!((done, cut_off.count(), ended.turns.len()), (5, 0, 100));
        // One that sees the stop itself was under way.
        let visit = |_: &FleetHost| Ok(None);
        let stopped = AtomicBool::new(false);
        let go_on = || match stopped.swap(true, Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Interrupted(2), "stopped")),
        };
        let ended = run_batch(&hosts, at_once(1, &go_on), &visit, &mut |_| Ok(())).unwrap();
        assert_eq!(ended.turns[0], HostTurn::CutOff);
        assert!(
            ended.turns[1..]
                .iter()
                .all(|turn| *turn == HostTurn::NotBegun)
        );
    }

    /// Those under way go on to their end, and nothing is begun after it.
    #[test]
    fn after_the_deadline_nothing_is_begun() {
        let hosts = hosts(10_000);
        let mut options = at_once(2, &|| Ok(()));
        let until = Instant::now() + std::time::Duration::from_millis(200);
        options.until = Some(until);
        let begun = AtomicUsize::new(0);
        let visit = |host: &FleetHost| {
            begun.fetch_add(1, Ordering::SeqCst);
            // Each lasts beyond it.
            while Instant::now() < until {
                std::thread::yield_now();
            }
            done(host)
        };
        let ended = run_batch(&hosts, options, &visit, &mut |_| Ok(())).unwrap();
        assert!(ended.stopped.is_none());
        let begun = begun.load(Ordering::SeqCst);
        assert!(begun <= 2, "{begun}");
        let known = ended.turns.iter().filter_map(known).count();
        let left = ended
            .turns
            .iter()
            .filter(|turn| **turn == HostTurn::NotBegun);
        assert_eq!((known, left.count()), (begun, 10_000 - begun));
    }
}
