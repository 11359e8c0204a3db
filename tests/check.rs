//! `check` on stores that refuse, lie and hang: each is told in words, nothing else is touched, and
//! nothing is left behind, or what is left is named.

use crate::cli::lab::{LONG, PROGRAM, Run, finish, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use stillpoint::store::{
    CheckOptions, FaultStore, MemoryStore, ObjectName, ObjectStore, Operation, RowState,
    StoreCheck, check_store,
};
use stillpoint::{Error, ErrorKind, Result};

/// As a user has it, but for how long is waited.
fn soon() -> CheckOptions {
    CheckOptions {
        small: Duration::from_millis(500),
        large: Duration::from_secs(60),
        late: Duration::from_millis(300),
        stop: || Ok(()),
    }
}

/// A store in memory whose moments a test steps into, and all that is in it afterwards.
fn checked(
    step: impl Fn(Operation<'_>) -> Result<()> + Send + Sync + 'static,
) -> (StoreCheck, Vec<String>) {
    let memory = Arc::new(MemoryStore::new());
    let faulty = FaultStore::new(memory.clone(), step);
    let found = check_store(Arc::new(faulty), soon()).unwrap();
    let left = memory.list_all(&ObjectName::checks()).unwrap();
    let left = left.iter().map(|object| object.name.to_string());
    (found, left.collect())
}

fn state(found: &StoreCheck, name: &str) -> Option<RowState> {
    let row = found.rows.iter().find(|row| row.name == name)?;
    assert!(!row.found.is_empty());
    Some(row.state)
}

#[test]
fn a_store_that_does_all_is_good_and_empty_afterwards() {
    let (found, left) = checked(|_| Ok(()));
    assert_eq!(found.worst(), RowState::Good, "{:#?}", found.rows);
    assert!(left.is_empty() && found.left_behind.is_empty(), "{left:?}");
    let names: Vec<&str> = found.rows.iter().map(|row| row.name).collect();
    let all = [
        "list",
        "put",
        "get",
        "range",
        "size",
        "listed",
        "clock",
        "missing",
        "round_trip",
        "largest",
        "delete",
    ];
    assert_eq!(names, all);
    assert!(found.round_trip.is_some());
}

#[test]
fn what_a_store_refuses_is_told() {
    let refuses = |verb: &'static str| {
        checked(move |operation| match operation.verb == verb {
            true => {
                let error = Error::new(ErrorKind::Unsupported, format!("{verb}: AccessDenied"));
                Err(error.with_hint("ask the owner"))
            }
            false => Ok(()),
        })
    };
    for (verb, bad) in [
        ("list", &["list"][..]),
        ("put", &["put"]),
        ("get", &["get", "range"]),
        ("size", &["size"]),
    ] {
        let (found, left) = refuses(verb);
        assert_eq!(found.worst(), RowState::Bad, "{verb}");
        let rows = found.rows.iter().filter(|row| row.state == RowState::Bad);
        let rows: Vec<_> = rows.collect();
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names, bad, "{verb}");
        for row in rows {
            assert!(row.found.contains("AccessDenied"), "{row:?}");
            assert_eq!(row.remedy.as_deref(), Some("ask the owner"));
        }
        assert!(
            left.is_empty() && found.left_behind.is_empty(),
            "{verb}: {left:?}"
        );
    }
    // Snapshots can be taken without it: a warning, and what stays is named.
    let (found, left) = refuses("delete");
    assert_eq!(found.worst(), RowState::Warning);
    assert_eq!(state(&found, "delete"), Some(RowState::Warning));
    assert_eq!(state(&found, "left_behind"), Some(RowState::Warning));
    assert!(!left.is_empty());
    assert_eq!(found.left_behind, left);
}

/// What is said to be done and is not, or only later.
#[test]
fn what_a_store_hides_is_told() {
    // Nothing is there for a while after it was put.
    let late = |verb: &'static str, times: u64| {
        let count = Arc::new(AtomicU64::new(0));
        let (found, left) = checked(move |operation| {
            let hides = operation.verb == verb && !operation.done;
            // The listing before anything was put is none of these.
            let nth = || count.fetch_add(1, Ordering::SeqCst);
            let skip = u64::from(verb == "list");
            if hides && (skip..times + skip).contains(&nth()) {
                return Err(Error::new(ErrorKind::NotFound, "it is not there"));
            }
            Ok(())
        });
        assert!(left.is_empty(), "{left:?}");
        found
    };
    assert_eq!(state(&late("get", 1), "get"), Some(RowState::Bad));
    assert_eq!(state(&late("get", 1000), "get"), Some(RowState::Bad));
    let found = late("size", 1);
    assert_eq!(state(&found, "size"), Some(RowState::Bad));
    // A store that takes what it is given and keeps nothing.
    struct Liar(MemoryStore);
    impl ObjectStore for Liar {
        fn location(&self) -> String {
            "liar".into()
        }
        fn capabilities(&self) -> stillpoint::store::Capabilities {
            self.0.capabilities()
        }
        fn put(&self, _: &ObjectName, _: stillpoint::store::Blob) -> Result<()> {
            Ok(())
        }
        fn replace(&self, name: &ObjectName, bytes: stillpoint::store::Blob) -> Result<()> {
            self.put(name, bytes)
        }
        fn get(&self, name: &ObjectName, limit: u64) -> Result<stillpoint::store::Blob> {
            self.0.get(name, limit)
        }
        fn get_range(
            &self,
            name: &ObjectName,
            offset: u64,
            length: u64,
        ) -> Result<stillpoint::store::Blob> {
            self.0.get_range(name, offset, length)
        }
        fn get_tail(
            &self,
            name: &ObjectName,
            length: u64,
        ) -> Result<(stillpoint::store::Blob, u64)> {
            self.0.get_tail(name, length)
        }
        fn list(
            &self,
            prefix: &ObjectName,
            each: &mut dyn FnMut(stillpoint::store::ObjectInfo) -> Result<()>,
        ) -> Result<()> {
            self.0.list(prefix, each)
        }
        fn delete(&self, name: &ObjectName) -> Result<()> {
            self.0.delete(name)
        }
    }
    let found = check_store(Arc::new(Liar(MemoryStore::new())), soon()).unwrap();
    for name in ["get", "range", "size", "listed"] {
        assert_eq!(state(&found, name), Some(RowState::Bad), "{name}");
    }
}

#[test]
fn a_store_that_hangs_is_given_up() {
    for verb in ["list", "put", "get", "delete"] {
        let begun = std::time::Instant::now();
        let (found, _) = checked(move |operation| {
            if operation.verb == verb && !operation.done {
                std::thread::sleep(Duration::from_secs(3600));
            }
            Ok(())
        });
        let amiss = found
            .rows
            .iter()
            .filter(|row| row.state >= RowState::Warning);
        let words: Vec<&str> = amiss.map(|row| row.found.as_str()).collect();
        let says = words
            .iter()
            .any(|what| what.contains("did not answer within"));
        assert!(says, "{verb}: {words:?}");
        assert!(begun.elapsed() < LONG, "{verb}");
        // What the thread that was given up may still put is named.
        let hangs = matches!(verb, "put" | "delete");
        assert_eq!(
            found.left_behind.is_empty(),
            !hangs,
            "{verb}: {:?}",
            found.left_behind
        );
    }
}

#[test]
fn one_that_is_stopped_leaves_nothing_or_names_it() {
    static STOP: AtomicBool = AtomicBool::new(false);
    for deletes in [true, false] {
        STOP.store(false, Ordering::SeqCst);
        let memory = Arc::new(MemoryStore::new());
        let faulty = FaultStore::new(memory.clone(), move |operation| {
            if operation.verb == "size" {
                STOP.store(true, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(300));
            }
            match operation.verb == "delete" && !deletes {
                true => Err(Error::new(ErrorKind::Unsupported, "AccessDenied")),
                false => Ok(()),
            }
        });
        let options = CheckOptions {
            small: Duration::from_secs(60),
            stop: || match STOP.load(Ordering::SeqCst) {
                true => Err(Error::new(ErrorKind::Interrupted(2), "stopped")),
                false => Ok(()),
            },
            ..soon()
        };
        let error = check_store(Arc::new(faulty), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
        let left = memory.list_all(&ObjectName::checks()).unwrap();
        assert_eq!(left.is_empty(), deletes);
        match left.first() {
            None => assert!(error.to_string().contains("nothing was left"), "{error}"),
            Some(one) => assert!(error.hint().unwrap().contains(one.name.as_str())),
        }
    }
}

fn check(vault: &Path, args: &[&str]) -> Run {
    finish(command(vault).args(args))
}

fn command(vault: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg("check")
        .env("STILLPOINT_VAULT", vault)
        .env("STILLPOINT_CONFIG_DIR", "/nowhere")
        .env("STILLPOINT_RUN_DIR", vault.with_extension("run"))
        .stdin(Stdio::null());
    command
}

/// Names of everything below a folder.
pub fn all_below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(all_below(&path));
        }
        found.insert(path.display().to_string());
    }
    found
}

fn row<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut rows = document["rows"].as_array().unwrap().iter();
    rows.find(|row| row["name"] == name)
        .unwrap_or_else(|| panic!("no row {name}: {document:#}"))
}

#[test]
fn a_directory_is_told_and_left_as_it_was() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let vault = folder.path().join("vault");
    std::fs::create_dir(&vault).unwrap();
    let found = check(&vault, &["--json"]);
    assert!([0, 3].contains(&found.code), "{found:?}");
    let document = found.json();
    assert!(all_below(&vault).is_empty());
    assert!(
        row(&document, "place")["found"]
            .as_str()
            .unwrap()
            .contains("init")
    );
    for name in [
        "filesystem",
        "space",
        "fsync",
        "unnamed_files",
        "locks",
        "disk",
        "largest",
    ] {
        assert_ne!(row(&document, name)["state"], "bad", "{document:#}");
    }
    assert_eq!(document["left_behind"], serde_json::json!([]));
    assert!(
        document["requests"]["put"].as_u64().unwrap() >= 3,
        "{document}"
    );
    let settings = document["settings"].to_string();
    assert!(settings.contains(&format!("{:?}", vault.display().to_string()).replace('"', "\\\"")));

    // A vault is as it was.
    let mut init = Command::new(PROGRAM);
    let init = init.args(["init", vault.to_str().unwrap(), "--name", "mine"]);
    finish(init.env("STILLPOINT_CONFIG_DIR", "/nowhere")).expect(0);
    let before = all_below(&vault);
    let found = check(&vault, &[]);
    assert!([0, 3].contains(&found.code), "{found:?}");
    assert!(found.stdout.contains("\"mine\""), "{found:?}");
    assert!(
        found.stdout.lines().last().unwrap().contains("can be kept"),
        "{found:?}"
    );
    assert_eq!(all_below(&vault), before);

    // Among other things nothing is put.
    std::fs::remove_file(vault.join("vault.json")).unwrap();
    std::fs::write(vault.join("thesis.txt"), "x").unwrap();
    let document = check(&vault, &["--json"]).expect(1).json();
    assert_eq!(row(&document, "place")["state"], "bad");
    assert_eq!(
        document["rows"].as_array().unwrap().len(),
        2,
        "{document:#}"
    );
    let missing = check(&folder.path().join("nosuch"), &["--json"])
        .expect(1)
        .json();
    assert_eq!(missing["error"]["kind"], "not_found");
}

#[test]
fn one_in_memory_and_one_that_is_full_are_warned_of() {
    if !crate::support::host::available("one_in_memory_and_one_that_is_full_are_warned_of") {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let small = folder.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let at = small.to_str().unwrap();
    crate::cli::lab::tool("mount", &["-t", "tmpfs", "-o", "size=16m", "none", at]);
    let found = check(&small, &["--json"]);
    let left = all_below(&small);
    crate::cli::lab::tool("umount", &[at]);
    let document = found.expect(1).json();
    assert_eq!(row(&document, "filesystem")["state"], "warning");
    assert_eq!(row(&document, "space")["state"], "warning");
    // The largest object has no room.
    assert_eq!(row(&document, "largest")["state"], "bad");
    assert_eq!(row(&document, "delete")["state"], "good");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn one_on_a_disk_that_is_snapshotted_is_warned_of() {
    let Some(lab) = crate::cli::lab::Lab::new("one_on_a_disk_that_is_snapshotted_is_warned_of")
    else {
        return;
    };
    let mut disk = lab.disk("a", 96 << 20);
    let vault = disk.mount("ext4").join("vault");
    std::fs::create_dir(&vault).unwrap();
    let told = || {
        let args = ["check", "--json", "--vault", vault.to_str().unwrap()];
        let document = lab.run(&args).expect(3).json();
        row(&document, "disk").clone()
    };
    let before = told();
    assert_eq!(before["state"], "good");
    assert!(
        before["found"].as_str().unwrap().contains(disk.name()),
        "{before}"
    );
    lab.run(&["track", "start", &disk.device]).expect(0);
    assert_eq!(told()["state"], "warning");
}

/// A signal ends it as it ends every command, and nothing stays.
#[test]
fn a_check_that_is_stopped_by_a_signal_cleans_up() {
    use crate::s3::proxy::{Fault, Plan, Proxy};
    use crate::s3::server::{Server, environment};
    let server = Server::start();
    let plan = Plan {
        seed: 0,
        percent: 0,
        faults: vec![Fault::Silence],
    };
    let proxy = Proxy::start(&server.endpoint, plan);
    let mut command = command(Path::new("s3://bucket/vault"));
    environment(&mut command, &proxy.endpoint);
    command
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Once something was put, nothing is answered.
    let mut puts = 0;
    while puts == 0 {
        puts = proxy
            .seen()
            .iter()
            .filter(|one| one.method == "PUT")
            .count();
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    proxy.worse(100);
    std::thread::sleep(Duration::from_millis(200));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    // What it deletes is answered again.
    std::thread::sleep(Duration::from_millis(300));
    proxy.calm(true);
    let status = wait(&mut child, "check");
    assert_eq!(crate::cli::lab::code_of(status), 130);
    let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let document: Value = serde_json::from_str(&said).unwrap();
    let folder = server.files("vault/check");
    let left = if folder.exists() {
        all_below(&folder)
    } else {
        BTreeSet::new()
    };
    let hint = document["error"]["hint"].as_str().unwrap();
    for path in left {
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        assert!(hint.contains(name), "{document:#}: {name}");
    }
}

/// A check that ends takes the folder away into which another one puts.
#[test]
fn a_folder_that_went_away_is_made_again() {
    let first = AtomicBool::new(true);
    let (found, left) = checked(move |operation| {
        let is_first = operation.verb == "put" && first.swap(false, Ordering::SeqCst);
        match is_first {
            true => Err(Error::new(ErrorKind::NotFound, "no such folder")),
            false => Ok(()),
        }
    });
    assert_eq!(found.worst(), RowState::Good, "{:#?}", found.rows);
    assert!(left.is_empty());
    let (found, _) = checked(|operation| match operation.verb {
        "put" => Err(Error::new(ErrorKind::NotFound, "no such folder")),
        _ => Ok(()),
    });
    assert_eq!(state(&found, "put"), Some(RowState::Bad));
}

/// Checks of one directory at the same time are in no one's way.
#[test]
fn two_checks_at_once_are_both_good() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let place = folder.path().to_owned();
    let checks: Vec<_> = (0..4)
        .map(|_| {
            let place = place.clone();
            std::thread::spawn(move || check(&place, &["--json"]).json())
        })
        .collect();
    for one in checks {
        let document = one.join().unwrap();
        for name in ["place", "put", "get", "listed", "largest", "delete"] {
            assert_eq!(row(&document, name)["state"], "good", "{document:#}");
        }
        assert_eq!(document["left_behind"], serde_json::json!([]));
    }
    assert!(all_below(&place).is_empty());
}
