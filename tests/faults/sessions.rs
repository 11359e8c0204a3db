//! What killed runs leave in a vault that says who is writing to it: the next run of the same host
//! takes it away, and nothing that may belong to a live one.

use crate::support::vaults::vault_options;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use stillpoint::format::{Sealer, SessionRecord};
use stillpoint::model::{ObjectId, SnapshotId};
use stillpoint::store::{
    Blob, Draft, FaultStore, LocalStore, MemoryStore, ObjectName, ObjectStore, Operation, Session,
    SessionPace, SleeplessClock, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// No vault of these tests is encrypted.
const SEALER: Sealer = Sealer::without_keys();

const VAULT: &str = "STILLPOINT_SESSIONS_VAULT";

/// A session of a host's boot that was heard of so many hours ago.
fn record(host: &str, boot_id: &str, hours: i64) -> SessionRecord {
    let then = Timestamp::now() - SignedDuration::from_hours(hours);
    SessionRecord {
        host: host.into(),
        // Of a process that lives: the number says nothing.
        pid: std::process::id(),
        boot_id: boot_id.into(),
        command: "snapshot".into(),
        started: then,
        heartbeat: then,
    }
}

fn new_id() -> SnapshotId {
    SnapshotId::generate(1_800_000_000_000)
}

fn begin(vault: &Vault, host: &str, boot_id: &str) -> Session {
    let session = vault.begin_session(new_id(), record(host, boot_id, 0));
    session.unwrap()
}

fn sessions(store: &dyn ObjectStore) -> BTreeSet<ObjectName> {
    let listed = store.list_all(&ObjectName::sessions()).unwrap();
    listed.into_iter().map(|object| object.name).collect()
}

#[test]
fn only_sessions_of_this_hosts_dead_runs_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    Vault::create_local(&path, vault_options()).unwrap();
    let store = LocalStore::open(&path).unwrap();
    let put = |record: &SessionRecord| {
        let name = ObjectName::session(new_id(), 3);
        let bytes = record.encode(&SEALER).unwrap();
        store.put(&name, bytes.into()).unwrap();
        name
    };
    let gone = [
        put(&record("here", "now", 0)),
        put(&record("here", "now", 100)),
        put(&record("here", "before", 25)),
    ];
    let stay = [
        // Another of this name, which cannot be told from this host's past.
        put(&record("here", "before", 23)),
        put(&record("there", "now", 100)),
        put(&record("there", "before", 100)),
    ];
    let damaged = ObjectName::session(new_id(), 0);
    store.put(&damaged, Blob::from_static(b"rubbish")).unwrap();
    // Another process on the same machine, as far as locks go.
    let live = begin(&Vault::open_local(&path).unwrap(), "here", "now");
    let before = sessions(&store);
    assert!(gone.iter().all(|name| !before.contains(name)), "{before:?}");
    assert!(stay.iter().all(|name| before.contains(name)), "{before:?}");
    assert!(before.contains(&damaged));
    assert_eq!(before.len(), stay.len() + 2);
    let other = begin(&Vault::open_local(&path).unwrap(), "here", "now");
    assert!(sessions(&store).is_superset(&before), "a live one is gone");
    assert_eq!(sessions(&store).len(), before.len() + 1);
    drop(live);
    drop(other);
    assert_eq!(sessions(&store).len(), stay.len() + 1);
}

/// Without a boot's name nothing is known to be of this boot.
#[test]
fn an_unknown_boot_is_not_the_same_boot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    Vault::create_local(&path, vault_options()).unwrap();
    let store = LocalStore::open(&path).unwrap();
    let bytes = record("here", "", 1).encode(&SEALER).unwrap();
    let name = ObjectName::session(new_id(), 0);
    store.put(&name, bytes.into()).unwrap();
    let _session = begin(&Vault::open_local(&path).unwrap(), "here", "");
    assert!(sessions(&store).contains(&name));
}

/// The child of the test below: does nothing when it is run as a test of its own.
#[test]
fn killed_session_child() {
    let Ok(path) = std::env::var(VAULT) else {
        return;
    };
    let _session = begin(&Vault::open_local(Path::new(&path)).unwrap(), "here", "now");
    let this = nix::unistd::getpid();
    nix::sys::signal::kill(this, nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_killed_process_lets_go_of_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    Vault::create_local(&path, vault_options()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["faults::sessions::killed_session_child", "--exact"])
        .env(VAULT, &path)
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let store = LocalStore::open(&path).unwrap();
    let left = sessions(&store);
    assert_eq!(left.len(), 1);
    let session = begin(&Vault::open_local(&path).unwrap(), "here", "now");
    assert!(sessions(&store).is_disjoint(&left));
    drop(session);
    assert!(sessions(&store).is_empty());
}

/// A run that is seen before it could lock its session, by one that cannot see its process.
#[test]
fn a_session_that_is_taken_away_too_early_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    Vault::create_local(&path, vault_options()).unwrap();
    let store = Arc::new(LocalStore::open(&path).unwrap());
    let thief = Arc::clone(&store);
    let inner: Arc<dyn ObjectStore> = store.clone();
    let faulty = FaultStore::new(inner, move |operation| {
        let is_first = operation.name.as_str().ends_with("-00000000");
        if operation.verb == "put" && operation.done && is_first {
            thief.delete(operation.name)?;
        }
        Ok(())
    });
    let session = begin(&Vault::open(Arc::new(faulty)).unwrap(), "here", "now");
    let names = sessions(store.as_ref());
    assert_eq!(names.len(), 1);
    assert!(names.first().unwrap().as_str().ends_with("-00000001"));
    drop(session);
    assert!(sessions(store.as_ref()).is_empty());
}

/// Where there are no locks, a session is a lease, and the store's clock says how old it is.
#[test]
fn without_locks_a_session_ends_with_its_lease() {
    let store = Arc::new(MemoryStore::new());
    let vault = Vault::create(store.clone(), vault_options()).unwrap();
    let put = |host: &str, run: SnapshotId, beat: u32, hours: i64| {
        // Hosts may say what they like: their clocks do not count.
        let bytes = record(host, "now", 100 - hours).encode(&SEALER).unwrap();
        let name = ObjectName::session(run, beat);
        store.put(&name, bytes.into()).unwrap();
        store.age(&name, SignedDuration::from_hours(hours));
        name
    };
    let beating = new_id();
    let gone = put("here", new_id(), 7, 25);
    let stay = [
        put("here", new_id(), 7, 23),
        put("there", new_id(), 7, 100),
        // The old beat of a run that has put a newer one, and could not delete this.
        put("here", beating, 7, 25),
        put("here", beating, 8, 0),
    ];
    let _session = begin(&vault, "here", "now");
    let left = sessions(store.as_ref());
    assert!(!left.contains(&gone), "{left:?}");
    assert!(stay.iter().all(|name| left.contains(name)), "{left:?}");
}

/// Where nothing can be locked, what a host has written of its clock says nothing.
#[test]
fn a_store_without_locks_keeps_them_all() {
    let store = Arc::new(MemoryStore::new());
    let vault = Vault::create(store.clone(), vault_options()).unwrap();
    let bytes = record("here", "now", 100).encode(&SEALER).unwrap();
    let name = ObjectName::session(new_id(), 0);
    store.put(&name, bytes.into()).unwrap();
    let _session = begin(&vault, "here", "now");
    assert!(sessions(store.as_ref()).contains(&name));
}

/// The time between two beats in these tests, which wait for beats and not for times.
const SOON: Duration = Duration::from_millis(1);
/// So long nothing here takes: what is waited for longer does not come.
const NEVER: Duration = Duration::from_secs(60);

/// A vault in memory whose operations on sessions `step` is told of, and its store.
fn watched(
    step: impl Fn(Operation<'_>) -> Result<()> + Send + Sync + 'static,
) -> (Arc<dyn ObjectStore>, Arc<Vault>) {
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    Vault::create(Arc::clone(&inner), vault_options()).unwrap();
    let store = FaultStore::new(Arc::clone(&inner), move |operation| {
        match operation.name.as_str().starts_with("sessions/") {
            true => step(operation),
            false => Ok(()),
        }
    });
    let vault = Arc::new(Vault::open(Arc::new(store)).unwrap());
    (inner, vault)
}

fn begin_beating(vault: &Vault) -> Session {
    begin_beating_by(vault, Arc::new(|| Ok(Duration::ZERO)))
}

fn begin_beating_by(vault: &Vault, clock: SleeplessClock) -> Session {
    let pace = SessionPace {
        every: SOON,
        again: SOON,
        clock,
    };
    let begun = vault.begin_session_at(pace, new_id(), record("here", "now", 5));
    begun.unwrap()
}

fn beat_of(operation: Operation<'_>) -> u32 {
    operation
        .name
        .as_str()
        .rsplit('-')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

fn wait_for<T: PartialEq>(said: &Receiver<T>, what: &T) {
    while said.recv_timeout(NEVER).expect("it does not come") != *what {}
}

fn put_something(draft: &Draft) -> Result<()> {
    draft.put_segment(ObjectId::generate(), Blob::from_static(b"bytes"), &[])
}

#[test]
fn a_run_that_stores_nothing_says_that_it_is_there() {
    let (say, said) = channel();
    let (inner, vault) = watched(move |operation| {
        let _ = say.send((operation.verb, operation.done, beat_of(operation)));
        Ok(())
    });
    let session = begin_beating(&vault);
    wait_for(&said, &("put", true, 3));
    wait_for(&said, &("delete", false, 2));
    // The old record goes when the new one is there: at no moment is there none.
    let now = sessions(inner.as_ref());
    assert!(!now.is_empty());
    for name in now {
        let Ok(bytes) = inner.get(&name, u64::MAX) else {
            continue;
        };
        let record = SessionRecord::decode(&bytes, &SEALER).unwrap();
        let heard = record.heartbeat.duration_since(record.started);
        assert!(heard > SignedDuration::from_hours(4), "{heard}");
    }
    drop(session);
    assert!(sessions(inner.as_ref()).is_empty());
    // The thread is gone, and with it the store that it had.
    drop(vault);
    assert_eq!(Arc::strong_count(&inner), 1);
}

#[test]
fn one_beat_that_fails_costs_nothing() {
    let (say, said) = channel();
    let (inner, vault) = watched(move |operation| {
        let beat = beat_of(operation);
        let _ = say.send((operation.verb, operation.done, beat));
        match (operation.verb, beat) {
            ("put", 1) => Err(Error::new(ErrorKind::Io, "the test says so")),
            _ => Ok(()),
        }
    });
    let draft = Draft::begin_in(&vault, begin_beating(&vault), None);
    // The record before it stays until there is another.
    wait_for(&said, &("put", false, 2));
    wait_for(&said, &("delete", true, 0));
    put_something(&draft).unwrap();
    drop(draft);
    assert!(sessions(inner.as_ref()).is_empty());
}

/// Its objects may be taken for those of a dead run by then.
#[test]
fn a_run_whose_beats_all_fail_ends_with_why() {
    let (say, said) = channel();
    let (inner, vault) = watched(move |operation| {
        let beat = beat_of(operation);
        let _ = say.send((operation.verb, beat));
        match (operation.verb, beat) {
            ("put", 1..) => Err(Error::new(ErrorKind::Io, "the test says so")),
            _ => Ok(()),
        }
    });
    let hours = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&hours);
    let clock = move || Ok(Duration::from_secs(3600 * clock.load(Ordering::SeqCst)));
    let draft = Draft::begin_in(&vault, begin_beating_by(&vault, Arc::new(clock)), None);
    // The third is tried: two have failed, and are known to have.
    wait_for(&said, &("put", 3));
    put_something(&draft).unwrap();
    hours.store(13, Ordering::SeqCst);
    let error = put_something(&draft).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("13 hours"), "{error}");
    assert!(error.to_string().contains("the test says so"), "{error}");
    let left = sessions(inner.as_ref());
    assert_eq!(left.len(), 1, "the first record stays: {left:?}");
    drop(draft);
    assert!(sessions(inner.as_ref()).is_empty());
}

#[test]
fn a_vault_that_hangs_does_not_keep_a_run_from_its_end() {
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (say, said) = channel();
    let (inner, vault) = watched(move |operation| {
        let step = (operation.verb, operation.done, beat_of(operation));
        let _ = say.send(step);
        if step == ("put", false, 1) {
            // Until the gate is opened: it hangs up.
            let _ = gate.lock().unwrap().recv();
        }
        Ok(())
    });
    let session = begin_beating(&vault);
    wait_for(&said, &("put", false, 1));
    let (ended, has_ended) = channel();
    let end = std::thread::spawn(move || {
        drop(session);
        ended.send(()).unwrap();
    });
    let ended = has_ended.recv_timeout(NEVER);
    // When it answers again, the record is taken away all the same.
    drop(open);
    end.join().unwrap();
    ended.expect("the run's end waits for the vault");
    wait_for(&said, &("delete", true, 1));
    assert!(sessions(inner.as_ref()).is_empty());
}
