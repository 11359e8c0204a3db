//! Many instances, some at a time. Each gets its turn in the order of the list, whatever becomes of
//! the others. It must never start more at once than it was told to, nor go on when what becomes
//! of them cannot be kept.

use super::host::FleetHost;
use super::steps::HostResult;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;
use crossbeam_channel::bounded;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How a batch goes.
#[derive(Clone, Copy)]
pub struct BatchOptions<'a> {
    /// So many at once.
    pub at_once: NonZeroUsize,
    /// Whether it goes on.
    pub go_on: &'a dyn Cancel,
}

/// Visits each instance, and hands what becomes of it to `take`, as soon as it is known. Returns
/// all, in the order of the list.
///
/// # Errors
/// The first of `visit` or `take`: no more are begun then, those under way end. When it was
/// stopped, what `go_on` says.
pub fn run_batch(
    hosts: &[FleetHost],
    options: BatchOptions<'_>,
    visit: &(dyn Fn(&FleetHost) -> Result<Option<HostResult>> + Sync),
    take: &mut dyn FnMut(&HostResult) -> Result<()>,
) -> Result<Vec<HostResult>> {
    let next = AtomicUsize::new(0);
    let give_up = AtomicBool::new(false);
    let threads = options.at_once.get().min(hosts.len());
    let (ended, endings) = bounded(threads.max(1));
    let mut results: Vec<Option<HostResult>> = vec![None; hosts.len()];
    let mut first_error = None;
    std::thread::scope(|scope| {
        for started in 0..threads {
            let (ended, next, give_up) = (ended.clone(), &next, &give_up);
            let turns = move || {
                while !give_up.load(Ordering::Relaxed) && options.go_on.check().is_ok() {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(host) = hosts.get(number) else {
                        return;
                    };
                    // Whoever listens does so until all have ended.
                    let _ = ended.send((number, visit(host)));
                }
            };
            let thread = std::thread::Builder::new().name("fleet".into());
            if let Err(error) = thread.spawn_scoped(scope, turns) {
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
                let Some(result) = result else { return Ok(()) };
                take(&result)?;
                if let Some(place) = results.get_mut(number) {
                    *place = Some(result);
                }
                Ok(())
            });
            if let Err(error) = taken {
                give_up.store(true, Ordering::Relaxed);
                first_error.get_or_insert(error);
            }
        }
    });
    let known = results.iter().flatten().count();
    let so_far = format!("{known} of {} instances are done", hosts.len());
    if let Some(error) = first_error {
        return Err(error.and_said(so_far));
    }
    if known < hosts.len() {
        options
            .go_on
            .check()
            .map_err(|error| error.and_said(so_far))?;
        return Err(Error::new(
            ErrorKind::Failed,
            "an instance was left out: a broken invariant",
        ));
    }
    Ok(results.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::super::steps::HostState;
    use super::*;
    use jiff::Timestamp;
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
        Ok(Some(HostResult {
            instance: host.instance.clone(),
            name: String::new(),
            address: None,
            state: HostState::Activated,
            version: None,
            last_snapshot: None,
            problems: Vec::new(),
            done: Vec::new(),
            failure: None,
            time: Timestamp::UNIX_EPOCH,
        }))
    }

    fn at_once(count: usize, go_on: &dyn Cancel) -> BatchOptions<'_> {
        let at_once = NonZeroUsize::new(count).unwrap();
        BatchOptions { at_once, go_on }
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
        let names: Vec<&str> = all.iter().map(|result| &*result.instance).collect();
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
        let ended = run_batch(&hosts, at_once(1, &go_on), &visit, &mut |_| Ok(())).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::Interrupted(15));
        assert!(ended.to_string().contains("5 of 100 instances"), "{ended}");
    }
}
