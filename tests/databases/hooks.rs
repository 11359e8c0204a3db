//! The example hooks, as an operator installs them, run by hand against real servers.

use super::cuts::Bank;
use super::ledger::Transfer;
use super::server::{Database, Place, Server};
use crate::cli::lab::{Run, finish};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Long enough for a write that nothing stops, short enough to wait for.
const WHILE: Duration = Duration::from_millis(400);
/// Nothing here takes so long unless it hangs.
const LONG: Duration = Duration::from_secs(60);

/// Whether hooks stop the writes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Yes,
    No,
}

/// Private copies of the hooks of a database, with settings and a state folder of their own.
pub struct Hooks {
    pub prescript: PathBuf,
    pub postscript: PathBuf,
    pub state: PathBuf,
    settings: PathBuf,
}

impl Hooks {
    pub fn install<D: Database>(database: D, place: &Place, folder: &Path, more: &str) -> Self {
        Self::install_named(D::NAME, folder, &(database.settings(place) + more))
    }

    /// The same for hooks of this name.
    pub fn install_named(name: &str, folder: &Path, settings: &str) -> Self {
        DirBuilder::new().mode(0o700).create(folder).unwrap();
        let hooks = Self {
            prescript: folder.join("prescript.sh"),
            postscript: folder.join("postscript.sh"),
            state: folder.join("state"),
            settings: folder.join("settings"),
        };
        hooks.set(settings);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/hooks");
        for (kind, to) in [("pre", &hooks.prescript), ("post", &hooks.postscript)] {
            let text = fs::read_to_string(source.join(format!("{name}-{kind}script.sh"))).unwrap();
            fs::write(to, text).unwrap();
            fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
            replace(to, "settings=", &hooks.settings);
            replace(to, "state=", &hooks.state);
        }
        hooks
    }

    /// Gives them other settings.
    pub fn set(&self, settings: &str) {
        fs::write(&self.settings, settings).unwrap();
        fs::set_permissions(&self.settings, Permissions::from_mode(0o600)).unwrap();
    }

    /// One of them, with the environment that the product gives.
    pub fn command(&self, path: &Path, phase: &str) -> Command {
        let mut command = Command::new(path);
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", "/root")
            .env("LANG", "C.UTF-8")
            .env("STILLPOINT_PHASE", phase)
            .env("STILLPOINT_RUN", "01TEST")
            .env("STILLPOINT_DISKS", "loop0")
            .env("STILLPOINT_HOOK", path)
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// Runs prescript. Its output ends when it ends, whatever it leaves behind.
    pub fn before(&self, mounted: Option<&Path>) -> Run {
        let mut command = self.command(&self.prescript, "pre");
        if let Some(mounted) = mounted {
            command.env("STILLPOINT_MOUNT_POINTS", mounted);
        }
        finish(&mut command)
    }

    /// Runs postscript.
    pub fn after(&self, outcome: &str) -> Run {
        let mut command = self.command(&self.postscript, "post");
        finish(command.env("STILLPOINT_OUTCOME", outcome))
    }
}

/// Gives a script's setting another value, if it has that setting.
pub fn replace(script: &Path, name: &str, value: &Path) {
    let text = fs::read_to_string(script).unwrap();
    if let Some(line) = text.lines().find(|line| line.starts_with(name)) {
        let text = text.replacen(line, &format!("{name}{}", value.display()), 1);
        fs::write(script, text).unwrap();
    }
}

/// A transfer in the background; says when it is done.
struct Write(Receiver<()>);

impl Write {
    fn start<D: Database>(database: D, place: &Place, number: u64) -> Self {
        let (done, receiver) = channel();
        let mut session = database.session(place);
        std::thread::spawn(move || {
            session.transfer(Transfer::numbered(number));
            let _ = done.send(());
        });
        Self(receiver)
    }

    fn waits(&self) -> bool {
        self.0.recv_timeout(WHILE) == Err(RecvTimeoutError::Timeout)
    }

    fn is_done(&self) {
        self.0.recv_timeout(LONG).expect("the write is done");
    }
}

/// A pair of hooks against a server, in every order in which they can be run.
pub fn by_hand<D: Database>(database: D, held: Held) {
    let test = format!("databases: hooks of {}", D::NAME);
    let Some(bank) = Bank::open(database, "ext4", &test) else {
        return;
    };
    let place = bank.server.place.clone();
    let hooks = Hooks::install(database, &place, &bank.lab.path("hooks"), "");
    let mounted = bank.disk.mounted.clone();
    one_pair(database, &hooks, &place, held);
    println!("{test}: twice, and without each other");
    hooks.before(None).expect(0);
    hooks.before(mounted.as_deref()).expect(0);
    hooks.after("cut").expect(0);
    hooks.after("failed").expect(0);
    hooks.after("cut").expect(1);
    Write::start(database, &place, 2).is_done();
    elsewhere(&hooks, bank.lab.dir.path());
    if held == Held::Yes {
        another_run(database, &hooks, &place);
        lost_postscript(database, &hooks, &place);
    }
    unsafe_places(&hooks);
    let server = started_anew(&hooks, bank.server);
    down(&hooks, server);
}

/// Between the two nothing is written, where they say so; afterwards everything is.
fn one_pair<D: Database>(database: D, hooks: &Hooks, place: &Place, held: Held) {
    let before = hooks.before(None).expect(0);
    assert!(!before.stdout.is_empty(), "it says nothing");
    assert_eq!(before.stderr, "");
    let write = Write::start(database, place, 1);
    if held == Held::Yes {
        assert!(write.waits(), "a write went through");
    } else {
        write.is_done();
    }
    let after = hooks.after("cut").expect(0);
    assert!(!after.stdout.is_empty(), "it says nothing");
    assert_eq!(after.stderr, "");
    if held == Held::Yes {
        write.is_done();
    }
}

/// A server whose data lies on other disks is none of this snapshot's.
fn elsewhere(hooks: &Hooks, other: &Path) {
    let run = hooks.before(Some(other)).expect(1);
    assert!(run.stderr.contains("these disks"), "{run:?}");
    hooks.after("failed").expect(0);
}

/// A second run waits a little, gives up, and its postscript leaves the first alone.
fn another_run<D: Database>(database: D, hooks: &Hooks, place: &Place) {
    hooks.before(None).expect(0);
    let mut second = hooks.command(&hooks.prescript, "pre");
    let run = finish(second.env("STILLPOINT_RUN", "01OTHER")).expect(1);
    assert!(
        run.stderr.contains("another run") && run.stderr.contains("01TEST"),
        "{run:?}"
    );
    let mut second = hooks.command(&hooks.postscript, "post");
    second.env("STILLPOINT_OUTCOME", "failed");
    finish(second.env("STILLPOINT_RUN", "01OTHER")).expect(0);
    let write = Write::start(database, place, 3);
    assert!(write.waits(), "the second run let the writes go");
    hooks.after("cut").expect(0);
    write.is_done();
}

/// Without postscript the writes go on after the limit, and a late postscript says so.
fn lost_postscript<D: Database>(database: D, hooks: &Hooks, place: &Place) {
    hooks.set(&(database.settings(place) + "limit=2\n"));
    hooks.before(None).expect(0);
    let write = Write::start(database, place, 4);
    assert!(write.waits(), "a write went through");
    write.is_done();
    std::thread::sleep(Duration::from_secs(1));
    let run = hooks.after("cut").expect(1);
    assert!(run.stderr.contains("too early"), "{run:?}");
    hooks.set(&database.settings(place));
}

/// Whoever owns or can write to their folders or settings has no say.
fn unsafe_places(hooks: &Hooks) {
    let refused = |path: &Path, mode: u32, words: &str| {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let run = hooks.before(None).expect(1);
        assert!(run.stderr.contains(words), "{run:?}");
        fs::set_permissions(path, before).unwrap();
    };
    refused(&hooks.state, 0o770, "mode 0700");
    refused(&hooks.settings, 0o622, "nobody else may write");
    let nobody = Some(nix::unistd::Uid::from_raw(65534));
    nix::unistd::chown(&hooks.settings, nobody, None).unwrap();
    let run = hooks.before(None).expect(1);
    assert!(run.stderr.contains("belong to root"), "{run:?}");
    let root = Some(nix::unistd::Uid::from_raw(0));
    nix::unistd::chown(&hooks.settings, root, None).unwrap();
    let aside = hooks.state.with_extension("aside");
    fs::rename(&hooks.state, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &hooks.state).unwrap();
    let run = hooks.before(None).expect(1);
    assert!(run.stderr.contains("directory"), "{run:?}");
    fs::remove_file(&hooks.state).unwrap();
    fs::rename(&aside, &hooks.state).unwrap();
}

/// A server that dies in between was not held; postscript must not say that it was.
fn started_anew<D: Database>(hooks: &Hooks, server: Server<D>) -> Server<D> {
    hooks.before(None).expect(0);
    let server = server.crash();
    let run = hooks.after("cut").expect(1);
    assert!(!run.stderr.is_empty());
    hooks.before(None).expect(0);
    hooks.after("cut").expect(0);
    server
}

/// No server: words, at once, and nothing left behind.
fn down<D: Database>(hooks: &Hooks, server: Server<D>) {
    drop(server);
    let begun = Instant::now();
    let run = hooks.before(None).expect(1);
    assert!(begun.elapsed() < LONG / 2, "slow to notice");
    let last = run.stderr.lines().last().unwrap();
    assert!(last.starts_with(D::NAME), "{run:?}");
    hooks.after("failed").expect(0);
    let run = hooks.after("cut").expect(1);
    assert!(!run.stderr.is_empty());
}
