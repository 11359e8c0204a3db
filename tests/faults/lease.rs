//! A run that was taken for dead, or may have been, makes no snapshot: what it has put may be gone.
//! Whoever slept, was paused, or lost its session hears of it at the latest when it commits.

use crate::support::host::{LoopDisk, Mount, format};
use crate::support::model::ModelDisk;
use crate::support::rig::{Rig, Watching};
use crate::support::vaults::{Take, Taken, check_all, session_record, take, vault_options};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use stillpoint::format::FooterCopies;
use stillpoint::model::{BLOCK_SIZE, ObjectId, SnapshotId};
use stillpoint::store::{
    Blob, Draft, FaultStore, MemoryStore, ObjectName, ObjectStore, Operation, Session, SessionPace,
    Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// So long nothing here takes.
const NEVER: Duration = Duration::from_secs(600);
const HOUR: u64 = 3600;

/// A vault in memory, a disk, and a clock that goes on when it is told to.
struct Stage {
    inner: Arc<MemoryStore>,
    vault: Arc<Vault>,
    disk: [ModelDisk; 1],
    /// Seconds.
    clock: Arc<AtomicU64>,
}

impl Stage {
    /// `step` is told of each operation on what is not the vault itself.
    fn new(step: impl Fn(Operation<'_>) -> Result<()> + Send + Sync + 'static) -> Self {
        let inner = Arc::new(MemoryStore::new());
        Vault::create(inner.clone(), vault_options()).unwrap();
        let store = FaultStore::new(inner.clone(), step);
        let disk = [ModelDisk::new(0, 5 * BLOCK_SIZE, 1)];
        disk[0].write(0, &[7; 3 * BLOCK_SIZE as usize]);
        Self {
            inner,
            vault: Arc::new(Vault::open(Arc::new(store)).unwrap()),
            disk,
            clock: Arc::new(AtomicU64::new(10 * HOUR)),
        }
    }

    fn session(&self, every: Duration) -> Session {
        let clock = Arc::clone(&self.clock);
        let pace = SessionPace {
            every,
            again: Duration::from_millis(1),
            clock: Arc::new(move || Ok(Duration::from_secs(clock.load(Ordering::SeqCst)))),
        };
        let run = SnapshotId::generate(1_800_000_000_000);
        self.vault
            .begin_session_at(pace, run, session_record())
            .unwrap()
    }

    fn sleep(&self, hours: u64) {
        self.clock.fetch_add(hours * HOUR, Ordering::SeqCst);
    }

    fn take(&self, session: Session) -> Result<Taken> {
        let options = Take {
            session: Some(session),
            ..Take::default()
        };
        take(&self.vault, &self.disk, options)
    }

    /// A run that is refused says so, and leaves nothing that nobody knows of. The next is good.
    fn is_refused(&self, run: Result<Taken>, why: &str) {
        let Err(error) = run else {
            panic!("a run that may be taken for dead has committed");
        };
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(error.hint().unwrap().contains("run it again"), "{error:?}");
        assert_eq!(left(self.inner.as_ref()), Vec::<String>::new());
        let next = take(&self.vault, &self.disk, Take::default()).unwrap();
        check_all(&self.vault, &[next]);
    }
}

/// What is left, but for segments of which copies of footers have told: others may refer to them.
fn left(store: &dyn ObjectStore) -> Vec<String> {
    let below = |folder: &str| store.list_all(&ObjectName::parse(folder).unwrap()).unwrap();
    let mut told_of = BTreeSet::new();
    for copies in below("footers") {
        let bytes = store.get(&copies.name, copies.size).unwrap();
        let copies = FooterCopies::decode(&bytes, copies.size).unwrap();
        told_of.extend(copies.iter().map(|(id, _)| ObjectName::segment(id)));
    }
    let all = ["segments", "index", "snapshots", "sessions"].map(below);
    let all = all.into_iter().flatten().map(|object| object.name);
    let all = all.filter(|name| !told_of.contains(name));
    all.map(|name| name.to_string()).collect()
}

/// As a collector does that takes the run for dead.
fn end_sessions(store: &dyn ObjectStore) {
    for beat in store.list_all(&ObjectName::sessions()).unwrap() {
        store.delete(&beat.name).unwrap();
    }
}

fn is_below(operation: &Operation<'_>, folder: &str) -> bool {
    operation.name.components().next() == Some(folder)
}

fn by_the_session() -> bool {
    std::thread::current().name() == Some("session")
}

fn put_something(draft: &Draft) -> Result<()> {
    draft.put_segment(ObjectId::generate(), Blob::from_static(b"bytes"), &[])
}

#[test]
fn a_run_whose_session_was_deleted_does_not_commit() {
    let stage = Stage::new(|_| Ok(()));
    let session = stage.session(NEVER);
    end_sessions(stage.inner.as_ref());
    stage.is_refused(stage.take(session), "session is gone");
}

#[test]
fn a_run_that_slept_for_too_long_does_not_commit() {
    let stage = Stage::new(|_| Ok(()));
    let session = stage.session(NEVER);
    stage.sleep(12);
    let taken = stage.take(session).unwrap();
    check_all(&stage.vault, &[taken]);

    let stage = Stage::new(|_| Ok(()));
    let session = stage.session(NEVER);
    stage.sleep(13);
    stage.is_refused(stage.take(session), "13 hours");
}

/// The store's answer, and the manifest, may be on their way while the host sleeps.
#[test]
fn a_run_that_slept_while_it_committed_takes_its_manifest_back() {
    for (verb, folder) in [("size", "sessions"), ("put", "snapshots")] {
        for done in [false, true] {
            let clock = Arc::new(Mutex::new(None::<Arc<AtomicU64>>));
            let told = Arc::clone(&clock);
            let stage = Stage::new(move |operation| {
                let is_it = operation.verb == verb && is_below(&operation, folder);
                if is_it
                    && operation.done == done
                    && let Some(clock) = told.lock().unwrap().take()
                {
                    clock.fetch_add(30 * HOUR, Ordering::SeqCst);
                }
                Ok(())
            });
            let session = stage.session(NEVER);
            *clock.lock().unwrap() = Some(Arc::clone(&stage.clock));
            stage.is_refused(stage.take(session), "30 hours");
        }
    }
}

#[test]
fn each_beat_begins_the_lease_anew_and_none_begins_it_again() {
    let (say, said) = channel();
    let stage = Stage::new(move |operation| {
        if is_below(&operation, "sessions") {
            let _ = say.send((operation.verb, operation.done));
        }
        Ok(())
    });
    let beats = || {
        // What was begun before does not count.
        while said.try_recv().is_ok() {}
        for _ in 0..3 {
            while said.recv_timeout(NEVER).unwrap() != ("put", true) {}
        }
    };
    let session = stage.session(Duration::from_millis(1));
    for _ in 0..5 {
        beats();
        stage.sleep(11);
    }
    beats();
    let draft = Draft::begin_in(&stage.vault, session, None);
    put_something(&draft).unwrap();
    drop(draft);
    let session = stage.session(NEVER);
    stage.sleep(13);
    let draft = Draft::begin_in(&stage.vault, session, None);
    put_something(&draft).unwrap_err();
    // Whatever the clock says then: others have judged.
    stage.clock.fetch_sub(13 * HOUR, Ordering::SeqCst);
    let error = put_something(&draft).unwrap_err();
    assert!(error.to_string().contains("13 hours"), "{error}");
}

/// A host that was paused by its hypervisor notices nothing by its clock.
#[test]
fn a_beat_that_finds_the_one_before_gone_ends_the_run() {
    let ended = Arc::new(AtomicBool::new(false));
    let (say, said) = channel();
    let told = Arc::clone(&ended);
    let stage = Stage::new(move |operation| {
        if is_below(&operation, "sessions") && told.load(Ordering::SeqCst) && !operation.done {
            let _ = say.send(operation.verb);
        }
        Ok(())
    });
    let session = stage.session(Duration::from_millis(1));
    let draft = Draft::begin_in(&stage.vault, session, None);
    put_something(&draft).unwrap();
    // Until one falls between a beat that was put and the next question.
    let error = loop {
        end_sessions(stage.inner.as_ref());
        if let Err(error) = put_something(&draft) {
            break error;
        }
    };
    assert!(error.to_string().contains("session is gone"), "{error}");
    // It asks no more, and puts no beat that would say that it lives.
    ended.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(said.try_iter().next(), None);
    drop(draft);
    assert_eq!(left(stage.inner.as_ref()), Vec::<String>::new());
}

/// While its machine stands still, a run's clocks do, too. Whatever was on its way when others took
/// the run for dead, it looks afterwards.
#[test]
fn a_run_that_stood_still_on_its_way_looks_afterwards() {
    for at in ["snapshots", "sessions"] {
        let inner = Arc::new(Mutex::new(None::<Arc<MemoryStore>>));
        let found = Arc::clone(&inner);
        let (say, ended) = channel();
        let stage = Stage::new(move |operation| {
            let own = at != "sessions" || by_the_session();
            let is_it = operation.verb == "put" && is_below(&operation, at) && own;
            if is_it
                && !operation.done
                && let Some(inner) = found.lock().unwrap().take()
            {
                end_sessions(inner.as_ref());
            }
            // What it has put in vain is taken out.
            if operation.verb == "delete" && is_below(&operation, "sessions") && operation.done {
                let _ = say.send(());
            }
            Ok(())
        });
        let every = match at {
            "sessions" => Duration::from_millis(1),
            _ => NEVER,
        };
        let session = stage.session(every);
        *inner.lock().unwrap() = Some(Arc::clone(&stage.inner));
        if at == "sessions" {
            while inner.lock().unwrap().is_some() {}
            ended.recv_timeout(NEVER).unwrap();
        }
        stage.is_refused(stage.take(session), "session is gone");
    }
}

#[test]
fn one_answer_of_a_copy_that_lags_behind_ends_nothing() {
    for misses in [2, 3] {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let stage = Stage::new(move |operation| {
            let is_it = operation.verb == "size" && is_below(&operation, "sessions");
            if is_it && !operation.done && counted.fetch_add(1, Ordering::SeqCst) < misses {
                return Err(Error::new(ErrorKind::NotFound, "the test says so"));
            }
            Ok(())
        });
        let run = stage.take(stage.session(NEVER));
        // Where it is found in the end, it is asked for once more after the manifest was put.
        assert_eq!(asked.load(Ordering::SeqCst), 3 + u64::from(misses == 2));
        match misses {
            3 => stage.is_refused(run, "session is gone"),
            _ => check_all(&stage.vault, &[run.unwrap()]),
        }
    }
}

/// The run's own thread may put the next beat while the store is asked for this one.
#[test]
fn a_beat_that_has_a_successor_is_not_missed() {
    let (say, said) = channel();
    let said = Mutex::new(said);
    let waited = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&waited);
    let stage = Stage::new(move |operation| {
        if !is_below(&operation, "sessions") {
            return Ok(());
        }
        let own = by_the_session();
        if own && operation.verb == "delete" && operation.done {
            let _ = say.send(());
        }
        if !own && operation.verb == "size" && !operation.done && !waits.load(Ordering::SeqCst) {
            waits.store(true, Ordering::SeqCst);
            let said = said.lock().unwrap();
            while said.try_recv().is_ok() {}
            // The one that is asked for is gone after two.
            for _ in 0..2 {
                said.recv_timeout(NEVER).unwrap();
            }
        }
        Ok(())
    });
    let session = stage.session(Duration::from_millis(5));
    let taken = stage.take(session).unwrap();
    assert!(waited.load(Ordering::SeqCst));
    check_all(&stage.vault, &[taken]);
}

#[test]
fn a_store_that_does_not_say_whether_it_is_there_makes_no_snapshot() {
    let stage = Stage::new(|operation| {
        match operation.verb == "size" && is_below(&operation, "sessions") {
            true => Err(Error::new(ErrorKind::Io, "the test says so")),
            false => Ok(()),
        }
    });
    let Err(error) = stage.take(stage.session(NEVER)) else {
        panic!("it has committed");
    };
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(left(stage.inner.as_ref()), Vec::<String>::new());
}

/// A whole run on a live disk, whose session is deleted when it has put its first segment. It asks
/// while nothing is frozen: a store that hangs would hold it.
#[test]
fn a_live_run_asks_after_the_thaw_and_is_refused() {
    let Some(rig) = Rig::new("lease: a live run") else {
        return;
    };
    let disk = LoopDisk::new(24 << 20);
    format("ext4", disk.path().to_str().unwrap());
    let mount = Mount::somewhere(disk.path(), "defaults");
    for deletes in [false, true] {
        std::fs::write(mount.place.join("file"), [deletes as u8 + 1; 100_000]).unwrap();
        // Odd while all stands still: it is told at the begin and at the end of each.
        let told = Arc::new(AtomicU64::new(0));
        let (still, asked) = (Arc::clone(&told), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&asked);
        let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        Vault::create(Arc::clone(&inner), vault_options()).unwrap();
        let thief = Arc::clone(&inner);
        let store = FaultStore::new(Arc::clone(&inner), move |operation| {
            // The session's own thread asks when it likes.
            let asks = operation.verb == "size" && is_below(&operation, "sessions");
            if asks && !operation.done && !by_the_session() {
                noted.lock().unwrap().push(still.load(Ordering::SeqCst));
            }
            let has_put = operation.verb == "put" && is_below(&operation, "segments");
            if deletes && has_put && operation.done {
                end_sessions(thief.as_ref());
            }
            Ok(())
        });
        let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
        let counted = Arc::clone(&told);
        let run = rig.snapshot_to(
            &vault,
            &[&disk],
            |_| (),
            |inner| {
                Box::new(Watching {
                    inner,
                    disks: Vec::new(),
                    sights: Arc::default(),
                    also: Box::new(move |_| {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }),
                })
            },
        );
        // At the begin and the end of a freeze and of a thaw.
        let calls = told.load(Ordering::SeqCst);
        assert!(calls >= 4 && calls.is_multiple_of(4), "{calls}");
        let asked = asked.lock().unwrap().clone();
        assert!(asked.iter().all(|at| *at == calls), "{asked:?} of {calls}");
        match deletes {
            false => {
                assert_eq!((asked.len(), run.unwrap().disks.len()), (2, 1));
            }
            true => {
                let error = run.unwrap_err();
                assert!(error.to_string().contains("session is gone"), "{error}");
                assert_eq!(left(inner.as_ref()), Vec::<String>::new());
            }
        }
    }
}
