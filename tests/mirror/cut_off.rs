//! A mirror that ends at every moment there is, by a kill, a store that fails, or a signal: what is
//! visible is whole, and the next mirror goes on.

use super::*;
use crate::s3::confirmed::Forgetful;
use crate::support::vaults::verify_all;
use std::os::unix::process::ExitStatusExt;

const FROM: &str = "STILLPOINT_MIRROR_FROM";
const TO: &str = "STILLPOINT_MIRROR_TO";
const MOMENT: &str = "STILLPOINT_MIRROR_MOMENT";

/// Whatever snapshots can be seen in the second place are whole; returns how many there are.
fn all_seen_are_whole(store: &Arc<dyn ObjectStore>, taken: &[Taken], what: &str) -> usize {
    let Ok(vault) = Vault::open(Arc::clone(store)) else {
        assert_eq!(contents_but_sessions(store.as_ref()), 0, "{what}");
        return 0;
    };
    let report = verify_all(&vault).unwrap();
    assert!(report.broken.is_empty(), "{what}: {:?}", report.broken);
    let seen = vault.snapshots().unwrap();
    for one in taken {
        if seen.iter().any(|seen| seen.id == one.manifest.snapshot) {
            check(&vault, one);
        }
    }
    seen.len()
}

fn contents_but_sessions(store: &dyn ObjectStore) -> usize {
    let folders = ["index", "segments", "snapshots"];
    let listed = folders.map(|folder| store.list_all(&ObjectName::parse(folder).unwrap()));
    listed.into_iter().map(|listed| listed.unwrap().len()).sum()
}

#[test]
fn unplugged_at_any_moment_it_leaves_whole_snapshots() {
    let source = Source::new();
    for once in [false, true] {
        let mut seen_before = 0;
        for moment in 0.. {
            let what = format!("moment {moment}, once: {once}");
            let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
            let fails = move |now: u64| if once { now == moment } else { now >= moment };
            let faulty = Arc::new(FaultStore::new(
                Arc::clone(&store),
                move |operation| match fails(operation.moment) {
                    true => Err(Error::new(ErrorKind::Io, "the test says so")),
                    false => Ok(()),
                },
            ));
            let ended = source.mirror_to(faulty.clone());
            if faulty.moments() <= moment {
                is_clean(&ended.unwrap());
                assert!(moment > 30, "only {moment} moments");
                break;
            }
            let seen = all_seen_are_whole(&store, &source.taken, &what);
            match ended {
                // A note that could not be taken away, for one.
                Ok(report) => assert_eq!((report.sent.len(), seen), (4, 4), "{what}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}"),
            }
            seen_before = seen_before.max(seen);
            let report = source.mirror_to(Arc::clone(&store)).unwrap();
            is_clean(&report);
            assert_eq!(report.there, seen, "{what}");
            check_all(&Vault::open(store).unwrap(), &source.taken);
        }
        assert_eq!(seen_before, 4);
    }
}

/// The child of the test below: does nothing when it is run as a test of its own.
#[test]
fn killed_child() {
    let set = [FROM, TO, MOMENT].map(|name| std::env::var(name).ok());
    let [Some(from), Some(to), Some(moment)] = set else {
        return;
    };
    let moment: u64 = moment.parse().unwrap();
    let inner = Arc::new(LocalStore::create(Path::new(&to)).unwrap());
    let store = Arc::new(FaultStore::new(inner, move |operation| {
        if operation.moment == moment {
            let this = nix::unistd::getpid();
            nix::sys::signal::kill(this, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        Ok(())
    }));
    let source = Vault::open_local(Path::new(&from)).unwrap();
    let target = second(store, &source).unwrap();
    mirror(&source, &target, &source.snapshots().unwrap(), &Silent).unwrap();
}

#[test]
fn killed_at_any_moment_it_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let memory = Source::new();
    // The source in a directory is a mirror itself.
    let source = Arc::new(LocalStore::create(&from).unwrap());
    memory.mirror_to(source).unwrap();
    let mut moment = 0;
    loop {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["mirror::cut_off::killed_child", "--exact", "--nocapture"])
            .envs([(FROM, &from), (TO, &to)])
            .env(MOMENT, moment.to_string())
            .output()
            .unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{output:?}");
        let what = format!("moment {moment}");
        let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(&to).unwrap());
        all_seen_are_whole(&store, &memory.taken, &what);
        if !killed {
            break;
        }
        // Each kill leaves a little more: the next one comes late in what is left to do.
        moment = if moment < 40 { moment + 1 } else { moment + 5 };
        if moment % 8 == 0 {
            std::fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(moment > 10, "only {moment} moments");
    check_all(&Vault::open_local(&to).unwrap(), &memory.taken);
}

/// Stops what asks it at the given question.
pub struct Stopping(pub AtomicU32, pub u32);

impl Monitor for Stopping {
    fn tell(&self, _: Event) {}
}

impl Cancel for Stopping {
    fn check(&self) -> Result<()> {
        match self.0.fetch_add(1, Ordering::SeqCst) >= self.1 {
            true => Err(Error::new(ErrorKind::Interrupted(2), "stopped by a signal")),
            false => Ok(()),
        }
    }
}

#[test]
fn stopped_by_a_signal_it_keeps_what_is_whole() {
    let source = Source::new();
    for question in 0.. {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        let target = second(Arc::clone(&store), &source.vault).unwrap();
        let monitor = Stopping(AtomicU32::new(0), question);
        let ended = mirror(&source.vault, &target, &source.all(), &monitor);
        let what = format!("question {question}");
        let seen = all_seen_are_whole(&store, &source.taken, &what);
        let Err(error) = ended else {
            assert!(question > 10, "only {question} questions");
            break;
        };
        assert_eq!(error.kind(), ErrorKind::Interrupted(2), "{what}: {error}");
        let said = error
            .to_string()
            .contains("had come to the second place before");
        assert_eq!(said, seen > 0, "{error}");
        let sessions = store.list_all(&ObjectName::sessions()).unwrap();
        assert!(sessions.is_empty(), "{what}: {sessions:?}");
    }
}

#[test]
fn a_store_that_keeps_less_than_it_says_is_found_out() {
    let source = Source::new();
    for folder in ["segments", "index", "snapshots"] {
        for cuts in [true, false] {
            let what = format!("{folder}, cuts: {cuts}");
            let store = Arc::new(Forgetful::new(folder, cuts));
            second(store.clone(), &source.vault).unwrap();
            store.forget_from_now_on();
            let error = source.mirror_to(store.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Failed, "{what}: {error}");
            assert!(error.to_string().contains(folder), "{what}: {error}");
            store.remember_again();
            // What it has cut is named, and is put right.
            let report = source.mirror_to(store.clone()).unwrap();
            assert_eq!(report.wrong.is_empty(), !cuts, "{what}: {report:?}");
            assert!(
                report.wrong.iter().all(|wrong| wrong.replaced),
                "{report:?}"
            );
            check_all(&Vault::open(store).unwrap(), &source.taken);
        }
    }
}
