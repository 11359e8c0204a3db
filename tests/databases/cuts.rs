//! Snapshots of a disk whose server is under load, each restored and a server started on it. The
//! load must never stop while a snapshot is taken.

use super::hooks::Hooks;
use super::ledger::{Book, Transfer};
use super::server::{Database, Place, Server};
use crate::cli::lab::{Disk, Lab, rounds, tool};
use crate::support::host::skipped;
use jiff::Timestamp;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Snapshots with hooks, and as many without, on each filesystem.
const CUTS: u32 = 10;
/// Clients that load the server.
const CLIENTS: usize = 3;

/// What a server has done at its start to get its data right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    NotNeeded,
    /// It read so many bytes of its log, where it tells.
    Ran(Option<u64>),
}

/// What is said of recoveries.
#[derive(Clone, Copy)]
pub struct Promise {
    /// How a server's log tells.
    pub recovery: fn(&str) -> Recovery,
    /// With hooks none is needed.
    pub none_with: bool,
    /// Without hooks there is always one.
    pub always_without: bool,
}

/// Clients that transfer until dropped, but for when they pause.
pub struct Load {
    book: Arc<Book>,
    paused: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn start<D: Database>(database: D, place: &Place) -> Self {
        let mut load = Self {
            book: Arc::default(),
            paused: Arc::default(),
            stop: Arc::default(),
            clients: Vec::new(),
        };
        let next = Arc::new(AtomicU64::new(1));
        for _ in 0..CLIENTS {
            let mut session = database.session(place);
            let (book, next) = (Arc::clone(&load.book), Arc::clone(&next));
            let (paused, stop) = (Arc::clone(&load.paused), Arc::clone(&load.stop));
            load.clients.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if paused.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    book.sent(number);
                    session.transfer(Transfer::numbered(number));
                    book.acknowledged(number);
                    // Two cores have other tests to run as well.
                    std::thread::sleep(Duration::from_micros(500));
                }
            }));
        }
        load
    }

    fn pause(&self, pause: bool) {
        self.paused.store(pause, Ordering::Relaxed);
        // A client that has ended has failed.
        assert!(!self.clients.iter().any(JoinHandle::is_finished));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}

/// Whether the programs are there; says loudly when not.
pub fn installed<D: Database>(database: D, test: &str) -> bool {
    let missing = database.programs().into_iter().find(|path| !path.exists());
    if let Some(path) = &missing {
        skipped(test, &format!("there is no {}", path.display()));
    }
    missing.is_none()
}

/// A server on a disk of its own, in a lab with a vault.
pub struct Bank<D: Database> {
    pub server: Server<D>,
    pub disk: Disk,
    pub lab: Lab,
}

impl<D: Database> Bank<D> {
    /// `None`, and said loudly, where it cannot be had.
    pub fn open(database: D, fstype: &str, test: &str) -> Option<Self> {
        if !installed(database, test) {
            return None;
        }
        let lab = Lab::with_vault(test)?;
        let mut disk = lab.disk("disk", 448 << 20);
        let mounted = disk.mount(fstype);
        let place = Place::new(&mounted, &lab.path("server"));
        database.create(&place);
        let server = Server::start(database, &place);
        database.open_accounts(&place);
        Some(Self { server, disk, lab })
    }
}

/// Restores a snapshot and starts a server on it; panics when the ledger is not what it can be.
fn check_restored<D: Database>(
    bank: &Bank<D>,
    (database, fstype): (D, &str),
    taken: &Value,
    book: &Book,
) -> String {
    let id = taken["snapshot"].as_str().unwrap();
    let image = bank.lab.path("restored");
    bank.lab
        .run(&["restore", id, &bank.lab.at("restored")])
        .expect(0);
    let device = crate::support::host::attach(&image, &["--direct-io=on"]);
    let mut disk = Disk {
        device: device.to_str().unwrap().to_owned(),
        image: image.clone(),
        mounted: None,
    };
    let options = if fstype == "xfs" { "nouuid" } else { "rw" };
    let mounted = disk.mount_again_with(fstype, options);
    let place = Place::new(&mounted, &bank.lab.path("second"));
    database.adopt(&place);
    let server = Server::start(database, &place);
    let cut: Timestamp = taken["time"].as_str().unwrap().parse().unwrap();
    let what = format!("{} on {fstype}, {}, {id}", D::NAME, taken["level"]);
    book.check(&database.ledger(&place), cut, &what);
    let log = place.log();
    drop(server);
    disk.unmount();
    drop(disk);
    std::fs::remove_file(image).unwrap();
    log
}

/// One cut under load, checked; what the server did at its start.
fn cut<D: Database>(
    bank: &Bank<D>,
    (database, fstype): (D, &str),
    load: &Load,
    hooks: Option<&Hooks>,
) -> (Value, String) {
    load.pause(false);
    std::thread::sleep(Duration::from_millis(60));
    let taken = snapshot(&bank.lab, &bank.disk, hooks);
    load.pause(true);
    let log = check_restored(bank, (database, fstype), &taken, &load.book);
    (taken, log)
}

/// A snapshot, with hooks or without.
fn snapshot(lab: &Lab, disk: &Disk, hooks: Option<&Hooks>) -> Value {
    let mut args = vec!["snapshot", &disk.device, "--json"];
    let level = if hooks.is_some() {
        "application"
    } else {
        "filesystem"
    };
    args.extend(["--level", level]);
    if let Some(hooks) = hooks {
        args.extend(["--prescript", hooks.prescript.to_str().unwrap()]);
        args.extend(["--postscript", hooks.postscript.to_str().unwrap()]);
    }
    let run = lab.run(&args);
    assert!([0, 3].contains(&run.code), "{run:?}");
    let taken = run.json();
    assert_eq!(taken["level"], level, "{taken}");
    if hooks.is_some() {
        for hook in ["prescript", "postscript"] {
            assert_eq!(taken["hooks"][hook]["status"], "ran", "{taken}");
        }
    }
    taken
}

/// A server on a filesystem, cut with hooks and without, one after the other.
pub fn under_load<D: Database>(database: D, fstype: &str, promise: Promise) {
    let test = format!("databases: {} on {fstype}", D::NAME);
    let Some(bank) = Bank::open(database, fstype, &test) else {
        return;
    };
    let hooks = Hooks::install(database, &bank.server.place, &bank.lab.path("hooks"), "");
    let load = Load::start(database, &bank.server.place);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds(CUTS) {
        for hooks in [None, Some(&hooks)] {
            let (taken, log) = cut(&bank, (database, fstype), &load, hooks);
            let recovered = (promise.recovery)(&log);
            let none = recovered == Recovery::NotNeeded;
            if hooks.is_none() {
                assert!(!none || !promise.always_without, "{test}: {taken}: {log}");
                without.push(recovered);
            } else {
                assert!(none || !promise.none_with, "{test}: {taken}: {log}");
                with.push(recovered);
            }
        }
    }
    let done = load.book.acknowledged_by(Timestamp::now());
    println!("{test}: {done} transfers; without hooks {without:?}; with hooks {with:?}");
    assert!(done > 100, "hardly a load");
}

/// The same for servers that promise nothing without their hooks.
pub fn with_hooks_only<D: Database>(database: D, fstype: &str, recovery: fn(&str) -> Recovery) {
    let test = format!("databases: {} with hooks only", D::NAME);
    let Some(bank) = Bank::open(database, fstype, &test) else {
        return;
    };
    let hooks = Hooks::install(database, &bank.server.place, &bank.lab.path("hooks"), "");
    let load = Load::start(database, &bank.server.place);
    for _ in 0..rounds(CUTS) {
        let (_, log) = cut(&bank, (database, fstype), &load, Some(&hooks));
        assert_eq!(recovery(&log), Recovery::NotNeeded, "{log}");
    }
}

/// Mounts a copy beside the disk that it is a copy of.
impl Disk {
    fn mount_again_with(&mut self, fstype: &str, options: &str) -> std::path::PathBuf {
        let place = self.image.with_extension("mnt");
        std::fs::create_dir_all(&place).unwrap();
        let (device, at) = (self.device.as_str(), place.to_str().unwrap());
        tool("mount", &["-t", fstype, "-o", options, device, at]);
        self.mounted = Some(place.clone());
        assert!(Path::new(&place).is_dir());
        place
    }
}
