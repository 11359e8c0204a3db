//! What killed runs leave in a vault that says who is writing to it: the next run of the same host
//! takes it away, and nothing that may belong to a live one.

use crate::support::vaults::vault_options;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use stillpoint::format::SessionRecord;
use stillpoint::model::SnapshotId;
use stillpoint::store::{
    Blob, FaultStore, LocalStore, MemoryStore, ObjectName, ObjectStore, Session, Vault,
};

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
    let listed = store.list(&ObjectName::sessions()).unwrap();
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
        let bytes = record.encode().unwrap();
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
    let bytes = record("here", "", 1).encode().unwrap();
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

/// Where nothing can be locked nothing can be told.
#[test]
fn a_store_without_locks_keeps_them_all() {
    let store = Arc::new(MemoryStore::new());
    let vault = Vault::create(store.clone(), vault_options()).unwrap();
    let bytes = record("here", "now", 100).encode().unwrap();
    let name = ObjectName::session(new_id(), 0);
    store.put(&name, bytes.into()).unwrap();
    let _session = begin(&vault, "here", "now");
    assert!(sessions(store.as_ref()).contains(&name));
}
