//! Redis: with its hook its log ends with a whole command, and holds all that was acknowledged.

use super::cuts::{self, Promise, Recovery};
use super::hooks::{self, Held};
use super::ledger::{ACCOUNTS, BALANCE, Ledger, Transfer};
use super::server::{Database, Place, Session, found, give};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

/// How the server keeps its data.
#[derive(Clone, Copy)]
pub enum Redis {
    /// A log that is on the disk before anything is acknowledged.
    Always,
    /// A log that is written out every second.
    EverySecond,
    /// Nothing but dumps.
    Dumps,
}

/// A client: the protocol is lines.
struct Client {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Client {
    fn new(place: &Place) -> std::io::Result<Self> {
        let to = UnixStream::connect(place.socket())?;
        let from = BufReader::new(to.try_clone()?);
        Ok(Self { to, from })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.from.read_line(&mut line).unwrap();
        assert!(read > 0, "the server has hung up");
        line.trim_end().to_owned()
    }

    /// Sends commands, one a line.
    fn send(&mut self, commands: &str) {
        self.to.write_all(commands.as_bytes()).unwrap();
    }

    /// The strings that answer a command for an array.
    fn array(&mut self, command: &str) -> Vec<String> {
        self.send(command);
        let head = self.line();
        let count: usize = head.strip_prefix('*').expect(&head).parse().unwrap();
        let mut one = || {
            let head = self.line();
            assert!(head.starts_with('$'), "{head}");
            self.line()
        };
        (0..count).map(|_| one()).collect()
    }
}

impl Session for Client {
    fn transfer(&mut self, transfer: Transfer) {
        let Transfer {
            number,
            from,
            to,
            amount,
        } = transfer;
        self.send(&format!(
            "MULTI\r\nHINCRBY account {from} {}\r\nHINCRBY account {to} {amount}\r\n\
             RPUSH transfer {number}\r\nEXEC\r\n",
            -amount
        ));
        let lines: [String; 8] = std::array::from_fn(|_| self.line());
        assert_eq!(&lines[..5], ["+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3"]);
    }
}

impl Database for Redis {
    const NAME: &'static str = "redis";
    const USER: &'static str = "redis";
    const END: Signal = Signal::SIGKILL;

    fn programs(self) -> Vec<PathBuf> {
        ["redis-server", "redis-cli"].map(found).to_vec()
    }

    fn create(self, place: &Place) {
        std::fs::create_dir(&place.data).unwrap();
        give::<Self>(&place.data);
    }

    fn command(self, place: &Place) -> Command {
        let mut command = Command::new(found("redis-server"));
        let (log, sync) = match self {
            Self::Always => ("yes", "always"),
            Self::EverySecond => ("yes", "everysec"),
            Self::Dumps => ("no", "no"),
        };
        command
            .args(["--port", "0", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", log, "--appendfsync", sync])
            .arg("--dir")
            .arg(&place.data)
            .arg("--unixsocket")
            .arg(place.socket());
        command
    }

    fn answers(self, place: &Place) -> bool {
        let Ok(mut client) = Client::new(place) else {
            return false;
        };
        client.send("PING\r\n");
        client.line() == "+PONG"
    }

    fn open_accounts(self, place: &Place) {
        let mut client = Client::new(place).unwrap();
        for account in 0..ACCOUNTS {
            client.send(&format!("HSET account {account} {BALANCE}\r\n"));
            assert_eq!(client.line(), ":1");
        }
    }

    fn session(self, place: &Place) -> Box<dyn Session> {
        Box::new(Client::new(place).unwrap())
    }

    fn ledger(self, place: &Place) -> Ledger {
        let mut client = Client::new(place).unwrap();
        let mut balances = vec![0; ACCOUNTS];
        for pair in client.array("HGETALL account\r\n").chunks(2) {
            balances[pair[0].parse::<usize>().unwrap()] = pair[1].parse().unwrap();
        }
        let transfers = client.array("LRANGE transfer 0 -1\r\n");
        let transfers = transfers.iter().map(|number| number.parse().unwrap());
        Ledger {
            balances,
            transfers: transfers.map(Transfer::numbered).collect(),
        }
    }

    fn settings(self, place: &Place) -> String {
        format!("client=(redis-cli -s {})\n", place.socket().display())
    }
}

/// A log that does not end with a whole command is cut to one.
fn recovery(log: &str) -> Recovery {
    let broken = ["truncat", "Unexpected end", "incomplete MULTI"];
    if broken.iter().any(|word| log.contains(word)) {
        Recovery::Ran(None)
    } else {
        Recovery::NotNeeded
    }
}

const PROMISE: Promise = Promise {
    recovery,
    none_with: true,
    always_without: false,
};

#[test]
fn a_ledger_of_redis_on_ext4() {
    cuts::under_load(Redis::Always, "ext4", PROMISE);
}

#[test]
fn a_ledger_of_redis_on_xfs() {
    cuts::under_load(Redis::Always, "xfs", PROMISE);
}

#[test]
fn a_redis_that_syncs_every_second_loses_nothing_with_its_hooks() {
    cuts::with_hooks_only(Redis::EverySecond, "ext4", recovery);
}

#[test]
fn a_redis_without_a_log_loses_nothing_with_its_hooks() {
    cuts::with_hooks_only(Redis::Dumps, "xfs", recovery);
}

#[test]
fn the_hooks_of_redis_hold_writes_and_let_them_go() {
    hooks::by_hand(Redis::Always, Held::Yes);
}
