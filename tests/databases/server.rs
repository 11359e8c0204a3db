//! A database server of a test's own: a process without privileges, on a socket in a folder of its
//! own. It goes away when dropped, also when a test fails.

use super::ledger::{Ledger, Transfer};
use crate::cli::lab::LONG;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown};
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What a kind of database does in its own way.
pub trait Database: Copy + Send + Sync + 'static {
    /// The name that its hooks have.
    const NAME: &'static str;
    /// The user of the system that its server runs as.
    const USER: &'static str;
    /// What ends its server at once, with no chance to write anything.
    const END: Signal;

    /// Programs without which nothing can be tested.
    fn programs(self) -> Vec<PathBuf>;
    /// Makes an empty data directory that a server can be started on.
    fn create(self, place: &Place);
    /// The server.
    fn command(self, place: &Place) -> Command;
    /// Takes away what says that a server runs on these data, in a copy on the same machine.
    fn adopt(self, _place: &Place) {}
    /// Whether it answers.
    fn answers(self, place: &Place) -> bool;
    /// Makes the accounts.
    fn open_accounts(self, place: &Place);
    /// A session of the load.
    fn session(self, place: &Place) -> Box<dyn Session>;
    /// All that it has.
    fn ledger(self, place: &Place) -> Ledger;
    /// What the hooks have to be told.
    fn settings(self, place: &Place) -> String;
}

/// One client of a server.
pub trait Session: Send {
    /// One transfer in one transaction; comes back when it is acknowledged.
    fn transfer(&mut self, transfer: Transfer);
}

/// Where a server has its things.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its data, on the disk under test.
    pub data: PathBuf,
    /// A folder for its socket and its log; not on that disk.
    pub folder: PathBuf,
}

impl Place {
    /// A place for a server with its data below this mount point.
    pub fn new(mounted: &Path, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        // Its user has to get there.
        let open = Permissions::from_mode(0o711);
        fs::set_permissions(folder.parent().unwrap(), open).unwrap();
        Self {
            data: mounted.join("data"),
            folder: folder.to_owned(),
        }
    }

    /// The socket, where one file is.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("socket")
    }

    /// What the server has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

/// Gives a folder to the user of a database.
pub fn give<D: Database>(folder: &Path) {
    let user = User::from_name(D::USER).unwrap().unwrap();
    chown(folder, Some(user.uid), Some(user.gid)).unwrap();
}

/// The command, as the user of a database.
pub fn unprivileged<D: Database>(mut command: Command) -> Command {
    let user = User::from_name(D::USER).unwrap().unwrap();
    command
        .uid(user.uid.as_raw())
        .gid(user.gid.as_raw())
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// A server that runs.
pub struct Server<D: Database> {
    pub place: Place,
    child: Child,
    database: D,
}

impl<D: Database> Server<D> {
    /// Starts it, and waits until it answers.
    pub fn start(database: D, place: &Place) -> Self {
        give::<D>(&place.folder);
        let log = File::create(place.folder.join("log")).unwrap();
        let child = unprivileged::<D>(database.command(place))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self {
            place: place.clone(),
            child,
            database,
        };
        let until = Instant::now() + LONG;
        while !database.answers(place) {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{}: {}", D::NAME, place.log());
            assert!(Instant::now() < until, "{}: {}", D::NAME, place.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Kills it, as a power cut would, and starts it again.
    pub fn crash(self) -> Self {
        let (database, place) = (self.database, self.place.clone());
        drop(self);
        Self::start(database, &place)
    }
}

impl<D: Database> Drop for Server<D> {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let _ = kill(pid, D::END);
        let until = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > until {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A client of the command line that is fed through a pipe and answers line by line.
pub struct Piped {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Piped {
    pub fn start(mut command: Command) -> Self {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        Self {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Sends a line and reads the one that comes back.
    pub fn ask(&mut self, line: &str) -> String {
        let mut answer = String::new();
        let sent = writeln!(self.to, "{line}");
        if sent.is_err() || self.from.read_line(&mut answer).unwrap_or(0) == 0 {
            let mut words = String::new();
            let said = self.child.stderr.take().unwrap();
            let _ = std::io::Read::read_to_string(&mut { said }, &mut words);
            panic!("a client of the load has ended: {words}");
        }
        answer.trim_end().to_owned()
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answer of a client that runs once; it must succeed.
pub fn output(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether one can be asked, and says yes.
pub fn succeeds(mut command: Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let ended = command.stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}

/// Numbers with tabs or bars between them: the answer to a query.
pub fn rows(text: &str) -> Vec<Vec<i64>> {
    let numbers = |line: &str| {
        let words = line.split(['\t', '|']);
        words.map(|word| word.parse().expect(line)).collect()
    };
    text.lines().map(numbers).collect()
}

/// A ledger from rows of accounts (number, balance), in order, and rows of transfers.
pub fn ledger_of(accounts: &str, transfers: &str) -> Ledger {
    let transfer = |row: Vec<i64>| Transfer {
        number: row[0].cast_unsigned(),
        from: row[1] as usize,
        to: row[2] as usize,
        amount: row[3],
    };
    Ledger {
        balances: rows(accounts).into_iter().map(|row| row[1]).collect(),
        transfers: rows(transfers).into_iter().map(transfer).collect(),
    }
}

/// The path of a program, if it is there.
pub fn found(name: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/sbin", "/bin"];
    let paths = folders.map(|folder| Path::new(folder).join(name));
    let there = paths.iter().find(|path| path.exists());
    there.cloned().unwrap_or_else(|| PathBuf::from(name))
}
