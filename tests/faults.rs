//! A run that is killed, or whose store fails, at every moment there is: what was there stays
//! whole, a snapshot is there wholly or not at all, and the next run goes on.

mod at_once;
mod full;
mod lease;
mod sessions;

use crate::support::model::ModelDisk;
use crate::support::vaults::{
    Take, Taken, check, check_all, restore, take, vault_options, verify_all,
};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use stillpoint::engine::Noted;
use stillpoint::format::Manifest;
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{
    FaultStore, LocalStore, MemoryStore, ObjectName, ObjectStore, Operation, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

const VAULT: &str = "STILLPOINT_FAULTS_VAULT";
const MOMENT: &str = "STILLPOINT_FAULTS_MOMENT";
/// A moment by what has happened: how many there are before depends on how fast the run was.
const AFTER_MANIFEST: &str = "after the manifest";

/// Two disks whose contents only depend on `generation`, so that two processes agree about them.
fn disks(generation: u8) -> Vec<ModelDisk> {
    let disks = vec![
        ModelDisk::new(0, 5 * BLOCK_SIZE + 512, 1),
        ModelDisk::new(1, 2 * BLOCK_SIZE, 2),
    ];
    for disk in &disks {
        disk.scribble(10);
        disk.write(BLOCK_SIZE, &[generation + 1; 5000]);
    }
    disks
}

fn names(store: &dyn ObjectStore) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for prefix in [
        "damaged",
        "footers",
        "index",
        "segments",
        "sessions",
        "snapshots",
    ] {
        let listed = store.list_all(&ObjectName::parse(prefix).unwrap()).unwrap();
        names.extend(listed.into_iter().map(|object| object.name.to_string()));
    }
    names
}

/// One snapshot through a store into which `step` may step.
fn run_through(
    inner: Arc<dyn ObjectStore>,
    generation: u8,
    step: impl Fn(Operation<'_>) -> Result<()> + Send + Sync + 'static,
) -> (Result<Taken>, u64) {
    let store = Arc::new(FaultStore::new(inner, step));
    let taken = Vault::open(store.clone())
        .and_then(|vault| take(&Arc::new(vault), &disks(generation), Take::default()));
    (taken, store.moments())
}

/// How many moments the next run has: just as many as each run that goes on from here.
fn moments_of(inner: &Arc<dyn ObjectStore>) -> u64 {
    let (taken, moments) = run_through(Arc::clone(inner), 7, |_| Ok(()));
    let vault = Vault::open(Arc::clone(inner)).unwrap();
    let found = vault.find(&taken.unwrap().manifest.snapshot.to_string());
    vault.delete(&found.unwrap()).unwrap();
    moments
}

/// The child of the test below: does nothing when it is run as a test of its own.
#[test]
fn killed_child() {
    let (Ok(vault), Ok(moment)) = (std::env::var(VAULT), std::env::var(MOMENT)) else {
        return;
    };
    let store = Arc::new(LocalStore::open(Path::new(&vault)).unwrap());
    let (taken, _) = run_through(store, 1, move |operation| {
        let of_manifest = operation.name.as_str().starts_with("snapshots/");
        let there = operation.verb == "put" && operation.done && of_manifest;
        if moment == AFTER_MANIFEST && there || moment == operation.moment.to_string() {
            let this = nix::unistd::getpid();
            nix::sys::signal::kill(this, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        Ok(())
    });
    taken.unwrap();
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_vault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let first = {
        let vault = Arc::new(Vault::create_local(&path, vault_options()).unwrap());
        take(&vault, &disks(0), Take::default()).unwrap()
    };
    let inner: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(&path).unwrap());
    let moments = moments_of(&inner);
    assert!(moments > 20, "only {moments} moments");
    let mut there = 1;
    let mut committed = 0;
    // A snapshot that was committed is a parent to the next child, whose reads are some more or
    // fewer then: the last moment is the one after which nobody is killed.
    for moment in 0.. {
        let killed = run_child(&path, &moment.to_string());
        assert!(
            moment < 2 * moments,
            "{moment} moments instead of {moments}"
        );
        let vault = Arc::new(Vault::open_local(&path).unwrap());
        let report = verify_all(&vault).unwrap();
        assert!(report.broken.is_empty(), "{moment}: {:?}", report.broken);
        check(&vault, &first);
        let all = vault.snapshots().unwrap();
        assert!(
            all.len() == there || all.len() == there + 1,
            "moment {moment}"
        );
        for snapshot in all.iter().filter(|one| one.id != first.manifest.snapshot) {
            check_child(&vault, &vault.manifest(snapshot).unwrap());
        }
        committed += all.len() - there;
        there = all.len();
        if moment % 8 == 0 {
            // The next run is right whatever the killed one has left.
            let next = take(&vault, &disks(2), Take::default()).unwrap();
            check(&vault, &next);
            let found = vault.find(&next.manifest.snapshot.to_string()).unwrap();
            vault.delete(&found).unwrap();
        }
        if !killed {
            assert!(moment > 20, "only {moment} moments");
            break;
        }
    }
    // The last one was not killed; some may have been killed after the manifest was put.
    assert!((1..5).contains(&committed), "{committed} were committed");
    assert!(run_child(&path, AFTER_MANIFEST), "nobody put a manifest");
    let vault = Vault::open_local(&path).unwrap();
    let all = vault.snapshots().unwrap();
    assert_eq!(all.len(), there + 1, "what was put is there");
    for snapshot in all.iter().filter(|one| one.id != first.manifest.snapshot) {
        check_child(&vault, &vault.manifest(snapshot).unwrap());
    }
}

/// Whether the child was killed.
fn run_child(vault: &Path, moment: &str) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["faults::killed_child", "--exact", "--nocapture"])
        .env(VAULT, vault)
        .env(MOMENT, moment)
        .output()
        .unwrap();
    if output.status.signal() == Some(9) {
        return true;
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    false
}

/// What the child's disks held can be told without it.
fn check_child(vault: &Vault, manifest: &Manifest) {
    assert_eq!(manifest.disks.len(), 2);
    for (record, disk) in manifest.disks.iter().zip(disks(1)) {
        let truth = disk.look();
        let expected = crate::support::vaults::expected(vault, record, &truth).unwrap();
        assert!(
            restore(vault, record, false).unwrap().0 == expected,
            "wrong bytes"
        );
    }
}

/// Nothing but what copies of footers have told of to others by then, which is said, and which a
/// collector takes.
#[test]
fn an_error_at_any_moment_leaves_nothing_behind_that_nobody_may_refer_to() {
    for kind in [ErrorKind::NoSpace, ErrorKind::Io, ErrorKind::Damaged] {
        let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let vault = Arc::new(Vault::create(Arc::clone(&inner), vault_options()).unwrap());
        let first = take(&vault, &disks(0), Take::default()).unwrap();
        let moments = moments_of(&inner);
        let before = names(inner.as_ref());
        let mut told_of = 0;
        for moment in 0..moments {
            let what = format!("{kind:?} at {moment} of {moments}");
            let has_told = Arc::new(AtomicBool::new(false));
            let tells = Arc::clone(&has_told);
            let (taken, seen) = run_through(Arc::clone(&inner), 1, move |operation| {
                let of_copies = operation.name.as_str().starts_with("footers/");
                // That it failed does not say that it is not there.
                if operation.verb == "put" && of_copies {
                    tells.store(true, Ordering::SeqCst);
                }
                match operation.moment == moment {
                    true => Err(Error::new(kind, "the test says so")),
                    false => Ok(()),
                }
            });
            assert!(seen > moment, "{what}: there were only {seen}: no fault");
            let has_told = has_told.load(Ordering::SeqCst);
            let said = match taken {
                // Some damage of what is there can be done without.
                Ok(taken) => {
                    assert_eq!(kind, ErrorKind::Damaged, "{what}: the error was swallowed");
                    check(&vault, &taken);
                    let id = taken.manifest.snapshot.to_string();
                    vault.delete(&vault.find(&id).unwrap()).unwrap();
                    continue;
                }
                Err(error) => {
                    assert_eq!(error.kind(), kind, "{what}: {error}");
                    assert!(error.to_string().contains("the test says so"), "{error}");
                    error.to_string()
                }
            };
            let all = vault.snapshots().unwrap();
            assert_eq!(all.len(), 1, "{what}: something is half visible");
            if kind == ErrorKind::Damaged {
                continue;
            }
            let now = names(inner.as_ref());
            let left: Vec<&String> = now.difference(&before).collect();
            assert!(now.is_superset(&before), "{what}");
            assert!(
                has_told || left.is_empty(),
                "{what}: {left:?} was left behind"
            );
            assert_eq!(
                has_told,
                said.contains("stay in the vault, as other hosts may refer to them"),
                "{what}: {said}"
            );
            for name in left {
                assert!(
                    ["footers", "segments"].contains(&folder_of(name)),
                    "{what}: {name}"
                );
                inner.delete(&ObjectName::parse(name).unwrap()).unwrap();
            }
            told_of += u32::from(has_told);
        }
        // The copies themselves, the manifest, each before and after.
        assert!(kind == ErrorKind::Damaged || told_of >= 4, "{told_of}");
        let next = take(&vault, &disks(2), Take::default()).unwrap();
        check_all(&vault, &[first, next]);
    }
}

/// What a run asks of its store does not depend on which of its threads is faster: a fault at any
/// moment that one run had comes in every other, and a store that is paid by the request costs the
/// same each night.
#[test]
fn every_run_asks_the_same_of_its_store() {
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(Arc::clone(&inner), vault_options()).unwrap());
    take(&vault, &disks(0), Take::default()).unwrap();
    let asked = || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&log);
        let (taken, moments) = run_through(Arc::clone(&inner), 1, move |operation| {
            let name = operation.name.as_str();
            let known = operation.verb == "get";
            // What a run puts has a name of its own each time.
            let name = if known { name } else { folder_of(name) };
            let mut log = noted.lock().unwrap();
            log.push((operation.verb, name.to_owned(), operation.done));
            Ok(())
        });
        let id = taken.unwrap().manifest.snapshot.to_string();
        vault.delete(&vault.find(&id).unwrap()).unwrap();
        let mut log = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(
            log.len() as u64,
            moments,
            "each moment is one of the store's"
        );
        log.sort();
        log
    };
    let first = asked();
    let footers = first.iter().filter(|one| one.0 == "get" && one.2);
    let footers: Vec<_> = footers
        .filter(|one| one.1.starts_with("footers/"))
        .collect();
    assert_eq!(
        footers.len(),
        1,
        "one footer, wanted by two threads: {first:?}"
    );
    for _ in 0..20 {
        assert_eq!(asked(), first);
    }
}

fn folder_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

#[test]
fn when_everything_fails_from_a_moment_on_what_is_there_stays_whole() {
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(Arc::clone(&inner), vault_options()).unwrap());
    let first = take(&vault, &disks(0), Take::default()).unwrap();
    for moment in 0..moments_of(&inner) {
        let (taken, seen) = run_through(Arc::clone(&inner), 1, move |operation| {
            match operation.moment >= moment {
                true => Err(Error::new(ErrorKind::Io, "unplugged")),
                false => Ok(()),
            }
        });
        assert!(seen > moment, "{moment}: there were only {seen}: no fault");
        assert!(taken.is_err(), "{moment}: the error was swallowed");
        // The manifest may be there, when not even its deletion got through: then it is whole.
        let report = verify_all(&vault).unwrap();
        assert!(report.broken.is_empty(), "{moment}: {:?}", report.broken);
        check(&vault, &first);
        for snapshot in vault.snapshots().unwrap() {
            if snapshot.id != first.manifest.snapshot {
                check_child(&vault, &vault.manifest(&snapshot).unwrap());
                vault.delete(&snapshot).unwrap();
            }
        }
    }
}

#[test]
fn a_manifest_is_put_last_and_after_all_it_refers_to() {
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    Vault::create(Arc::clone(&inner), vault_options()).unwrap();
    for generation in 0..4 {
        let there = names(inner.as_ref());
        let log = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&log);
        let (taken, _) = run_through(Arc::clone(&inner), generation, move |operation| {
            let mut log = noted.lock().unwrap();
            log.push((operation.verb, operation.name.to_string(), operation.done));
            Ok(())
        });
        let taken = taken.unwrap();
        let log = log.lock().unwrap();
        let changes = log
            .iter()
            .filter(|(verb, ..)| matches!(*verb, "put" | "delete"));
        let changes: Vec<_> = changes.collect();
        let (last, before) = changes.split_last().unwrap();
        assert_eq!(last.0, "put");
        assert!(last.1.starts_with("snapshots/host/"), "{last:?}");
        let begun = changes
            .iter()
            .position(|one| one.1 == last.1 && !one.2)
            .unwrap();
        assert_eq!(
            begun,
            before.len() - 1,
            "something is put beside the manifest"
        );
        // What was there before was put before.
        let vault = Vault::open(Arc::clone(&inner)).unwrap();
        for name in referred(&vault, &taken.manifest) {
            let put = before
                .iter()
                .any(|one| one.0 == "put" && one.1 == name && one.2);
            assert!(
                put || there.contains(&name),
                "{name} is referred to, not put"
            );
            assert!(names(inner.as_ref()).contains(&name), "{name}");
        }
        assert!(
            before
                .iter()
                .any(|one| one.1.starts_with("segments/") && one.2)
        );
    }
}

fn referred(vault: &Vault, manifest: &Manifest) -> BTreeSet<String> {
    use stillpoint::model::{Content, block_count};
    let mut names = BTreeSet::new();
    for disk in &manifest.disks {
        names.extend(
            disk.index
                .iter()
                .map(|part| ObjectName::index(part.id).to_string()),
        );
        let map = vault
            .load_index(&disk.index, block_count(disk.identity.size))
            .unwrap();
        for run in map.iter() {
            if let Content::Data { segment, .. } = run.content {
                names.insert(ObjectName::segment(segment).to_string());
            }
        }
    }
    names
}

#[test]
fn an_error_while_reading_is_told_and_never_gives_wrong_bytes() {
    let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
    let vault = Arc::new(Vault::create(Arc::clone(&inner), vault_options()).unwrap());
    let first = take(&vault, &disks(0), Take::default()).unwrap();
    let second = take(&vault, &disks(1), Take::default()).unwrap();
    for work in ["restore", "verify"] {
        let mut moment = 0;
        loop {
            let store =
                Arc::new(FaultStore::new(
                    Arc::clone(&inner),
                    move |operation| match operation.moment == moment {
                        true => Err(Error::new(ErrorKind::Io, "the test says so")),
                        false => Ok(()),
                    },
                ));
            let result = Vault::open(store.clone()).and_then(|vault| match work {
                "verify" => verify_all(&vault).and_then(|report| {
                    assert!(report.broken.is_empty() && report.harmless.is_empty());
                    match report.noted {
                        Noted::Failed(error) => Err(error),
                        Noted::Nothing | Noted::Done => Ok(()),
                    }
                }),
                _ => [&first, &second].iter().try_for_each(|taken| {
                    for (record, truth) in taken.manifest.disks.iter().zip(&taken.truth) {
                        let (bytes, report) = restore(&vault, record, true)?;
                        assert!(bytes == truth[0].contents || !truth[0].free.is_empty());
                        assert!(report.damaged.is_empty(), "an error is not damage");
                    }
                    Ok(())
                }),
            });
            if store.moments() <= moment {
                result.unwrap();
                break;
            }
            assert_eq!(
                result.unwrap_err().kind(),
                ErrorKind::Io,
                "{work} at {moment}"
            );
            moment += 1;
        }
        assert!(moment > 10, "{work} had only {moment} moments");
    }
}

#[test]
fn two_writers_at_once_do_not_disturb_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    Vault::create_local(&path, vault_options()).unwrap();
    let write = |host: &'static str, seed: u64| {
        let vault = Arc::new(Vault::open_local(&path).unwrap());
        let disk = ModelDisk::new(0, 40 * BLOCK_SIZE, seed);
        let mut taken = Vec::new();
        for _ in 0..6 {
            disk.scribble(10);
            let options = Take {
                host: host.into(),
                ..Take::default()
            };
            taken.push(take(&vault, std::slice::from_ref(&disk), options).unwrap());
        }
        taken
    };
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        // Two of one name, as cloned machines are, and one of another.
        let hosts = [("one", 1), ("one", 2), ("two", 3)];
        let writers = hosts.map(|(host, seed)| scope.spawn(move || write(host, seed)));
        all = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
    });
    check_all(&Vault::open_local(&path).unwrap(), &all);
}
