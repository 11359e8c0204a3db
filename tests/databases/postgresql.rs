//! PostgreSQL: it always recovers from its log; with its hook there is little to recover.

use super::cuts::{self, Promise, Recovery};
use super::hooks::{self, Held};
use super::ledger::{ACCOUNTS, BALANCE, Ledger, Transfer};
use super::server::{
    Database, Piped, Place, Session, found, give, ledger_of, output, succeeds, unprivileged,
};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::process::Command;

#[derive(Clone, Copy)]
pub struct Postgres;

/// Debian keeps the server's programs apart, one folder a version.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let paths = versions.into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = paths
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    paths.sort();
    paths.pop().unwrap_or_else(|| found(name))
}

fn client(place: &Place) -> Command {
    let mut command = Command::new(program("psql"));
    command
        .args(["-X", "-q", "-A", "-t", "-w", "-d", "postgres"])
        .args(["-v", "ON_ERROR_STOP=1", "-h"])
        .arg(&place.folder);
    // The server knows its user by the socket.
    unprivileged::<Postgres>(command)
}

fn query(place: &Place, sql: &str) -> Command {
    let mut command = client(place);
    command.args(["-c", sql]);
    command
}

/// The client of the command line.
struct Sql(Piped);

impl Session for Sql {
    fn transfer(&mut self, transfer: Transfer) {
        let Transfer {
            number,
            from,
            to,
            amount,
        } = transfer;
        let answer = self.0.ask(&format!(
            "begin; \
             update account set balance = balance - {amount} where id = {from}; \
             update account set balance = balance + {amount} where id = {to}; \
             insert into transfer values ({number}, {from}, {to}, {amount}); \
             commit; select {number};"
        ));
        assert_eq!(answer, number.to_string());
    }
}

impl Database for Postgres {
    const NAME: &'static str = "postgresql";
    const USER: &'static str = "postgres";
    // Its processes end with it; nothing is written.
    const END: Signal = Signal::SIGQUIT;

    fn programs(self) -> Vec<PathBuf> {
        ["postgres", "initdb", "psql"].map(program).to_vec()
    }

    fn create(self, place: &Place) {
        std::fs::create_dir(&place.data).unwrap();
        give::<Self>(&place.data);
        let mut command = Command::new(program("initdb"));
        command
            .args(["--auth=peer", "--no-sync", "--wal-segsize=1", "-D"])
            .arg(&place.data);
        output(unprivileged::<Self>(command));
    }

    fn command(self, place: &Place) -> Command {
        let mut command = Command::new(program("postgres"));
        let sockets = format!("unix_socket_directories={}", place.folder.display());
        command.arg("-D").arg(&place.data).args([
            "-c",
            "listen_addresses=",
            "-c",
            &sockets,
            "-c",
            "fsync=on",
            "-c",
            "synchronous_commit=on",
            "-c",
            "shared_buffers=32MB",
        ]);
        command
    }

    fn adopt(self, place: &Place) {
        // It names the process of the server that was copied, which still runs on this machine.
        std::fs::remove_file(place.data.join("postmaster.pid")).unwrap();
    }

    fn answers(self, place: &Place) -> bool {
        succeeds(query(place, "select 1"))
    }

    fn open_accounts(self, place: &Place) {
        let sql = format!(
            "create table account (id int primary key, balance bigint); \
             create table transfer (number bigint primary key, source int, target int, amount int);
             insert into account select id, {BALANCE} from generate_series(0, {}) as id;",
            ACCOUNTS - 1
        );
        output(query(place, &sql));
    }

    fn session(self, place: &Place) -> Box<dyn Session> {
        Box::new(Sql(Piped::start(client(place))))
    }

    fn ledger(self, place: &Place) -> Ledger {
        let ask = |sql: &str| output(query(place, sql));
        ledger_of(
            &ask("select id, balance from account order by id"),
            &ask("select number, source, target, amount from transfer"),
        )
    }

    fn settings(self, place: &Place) -> String {
        let psql = program("psql");
        format!(
            "client=({} -h {})\n",
            psql.display(),
            place.folder.display()
        )
    }
}

/// A place in the log: `0/1A2B3C`.
fn position(text: &str) -> u64 {
    let word = text.split_whitespace().next().unwrap();
    let (high, low) = word.split_once('/').expect(text);
    let number = |text| u64::from_str_radix(text, 16).expect(word);
    number(high) << 32 | number(low)
}

/// How much of its log a server has read at its start.
fn recovery(log: &str) -> Recovery {
    let after = |words: &str| log.split_once(words).map(|(_, rest)| position(rest));
    if let (Some(start), Some(end)) = (after("redo starts at "), after("redo done at ")) {
        Recovery::Ran(Some(end - start))
    } else if log.contains("automatic recovery in progress") {
        Recovery::Ran(Some(0))
    } else {
        Recovery::NotNeeded
    }
}

const PROMISE: Promise = Promise {
    recovery,
    none_with: false,
    always_without: true,
};

#[test]
fn a_ledger_of_postgresql_on_ext4() {
    cuts::under_load(Postgres, "ext4", PROMISE);
}

#[test]
fn a_ledger_of_postgresql_on_xfs() {
    cuts::under_load(Postgres, "xfs", PROMISE);
}

#[test]
fn the_hooks_of_postgresql_write_a_checkpoint() {
    hooks::by_hand(Postgres, Held::No);
}
