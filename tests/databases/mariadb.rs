//! MariaDB: with its hook the copy starts with no crash recovery at all.

use super::cuts::{self, Bank, Promise, Recovery};
use super::hooks::{self, Held, Hooks};
use super::ledger::{ACCOUNTS, BALANCE, Ledger, Transfer};
use super::server::{Database, Piped, Place, Session, found, give, ledger_of, output, succeeds};
use crate::hooks::killed::wait_for;
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

#[derive(Clone, Copy)]
pub struct MariaDb;

fn client(place: &Place) -> Command {
    let mut command = Command::new(found("mariadb"));
    command
        .args(["--no-defaults", "--batch", "--skip-column-names"])
        .arg("--socket")
        .arg(place.socket());
    command
}

fn query(place: &Place, sql: &str) -> Command {
    let mut command = client(place);
    command.args(["--execute", sql]);
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
             update bank.account set balance = balance - {amount} where id = {from}; \
             update bank.account set balance = balance + {amount} where id = {to}; \
             insert into bank.transfer values ({number}, {from}, {to}, {amount}); \
             commit; select {number};"
        ));
        assert_eq!(answer, number.to_string());
    }
}

impl Database for MariaDb {
    const NAME: &'static str = "mariadb";
    const USER: &'static str = "mysql";
    const END: Signal = Signal::SIGKILL;

    fn programs(self) -> Vec<PathBuf> {
        ["mariadbd", "mariadb", "mariadb-install-db"]
            .map(found)
            .to_vec()
    }

    fn create(self, place: &Place) {
        std::fs::create_dir(&place.data).unwrap();
        give::<Self>(&place.data);
        let mut command = Command::new(found("mariadb-install-db"));
        command
            .args(["--no-defaults", "--skip-test-db", "--user=mysql"])
            .arg("--auth-root-authentication-method=socket")
            .arg("--innodb-log-file-size=8M")
            .arg(format!("--datadir={}", place.data.display()));
        output(command);
    }

    fn command(self, place: &Place) -> Command {
        let mut command = Command::new(found("mariadbd"));
        command
            .args(["--no-defaults", "--skip-networking", "--user=mysql"])
            .args(["--performance-schema=off", "--innodb-log-file-size=8M"])
            .args(["--innodb-flush-log-at-trx-commit=1"])
            .args(["--innodb-buffer-pool-size=32M", "--skip-log-bin"])
            .arg(format!("--datadir={}", place.data.display()))
            .arg(format!("--socket={}", place.socket().display()))
            .arg(format!("--tmpdir={}", place.folder.display()))
            .arg(format!(
                "--pid-file={}",
                place.folder.join("server.pid").display()
            ));
        command
    }

    fn answers(self, place: &Place) -> bool {
        succeeds(query(place, "select 1"))
    }

    fn open_accounts(self, place: &Place) {
        let sql = format!(
            "create database bank; use bank; \
             create table account (id int primary key, balance bigint) engine=innodb; \
             create table transfer (number bigint primary key, source int, target int, amount int) \
             engine=innodb; \
             insert into account select seq, {BALANCE} from seq_0_to_{};",
            ACCOUNTS - 1
        );
        output(query(place, &sql));
    }

    fn session(self, place: &Place) -> Box<dyn Session> {
        let mut command = client(place);
        command.arg("--unbuffered");
        Box::new(Sql(Piped::start(command)))
    }

    fn ledger(self, place: &Place) -> Ledger {
        let ask = |sql: &str| output(query(place, sql));
        ledger_of(
            &ask("select id, balance from bank.account order by id"),
            &ask("select number, source, target, amount from bank.transfer"),
        )
    }

    fn settings(self, place: &Place) -> String {
        format!(
            "client=(mariadb --no-defaults --socket {})\n",
            place.socket().display()
        )
    }
}

/// InnoDB and Aria say so when they read their logs; not how much of them.
fn recovery(log: &str) -> Recovery {
    if log.contains("crash recovery") || log.contains("starting recovery") {
        Recovery::Ran(None)
    } else {
        Recovery::NotNeeded
    }
}

const PROMISE: Promise = Promise {
    recovery,
    none_with: true,
    always_without: true,
};

#[test]
fn a_ledger_of_mariadb_on_ext4() {
    cuts::under_load(MariaDb, "ext4", PROMISE);
}

#[test]
fn a_ledger_of_mariadb_on_xfs() {
    cuts::under_load(MariaDb, "xfs", PROMISE);
}

#[test]
fn the_hooks_of_mariadb_hold_writes_and_let_them_go() {
    hooks::by_hand(MariaDb, Held::Yes);
}

/// Up to ten seconds after much of a table has changed the server writes statistics by itself: not
/// while it is held.
#[test]
fn nothing_is_written_by_mariadb_itself_while_it_is_held() {
    let Some(bank) = Bank::open(MariaDb, "ext4", "databases: statistics of mariadb") else {
        return;
    };
    let place = bank.server.place.clone();
    let hooks = Hooks::install(MariaDb, &place, &bank.lab.path("hooks"), "");
    let rows = || {
        let table = "mysql.innodb_table_stats where table_name = 'transfer'";
        output(query(&place, &format!("select n_rows from {table}")))
    };
    // The first statistics are written at once; the next have to wait for their time.
    for first in [1, 501, 1001] {
        let last = first + 499;
        let range = format!("seq_{first}_to_{last}");
        let sql = format!("use bank; insert into transfer select seq, 1, 2, 3 from {range}");
        output(query(&place, &sql));
        sleep(Duration::from_millis(500));
    }
    let before = rows();
    hooks.before(bank.disk.mounted.as_deref()).expect(0);
    sleep(Duration::from_secs(13));
    assert_eq!(rows(), before);
    let after = hooks.after("cut").expect(0);
    assert!(after.stdout.contains("; 0 bytes of redo log"), "{after:?}");
    // They were due.
    wait_for(|| rows() != before);
}
