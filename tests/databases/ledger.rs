//! Transfers between accounts, what the load was told of them, and what must be there of them at a
//! cut. It must never count a transfer as acknowledged that no server has answered.

use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

/// How many accounts there are, numbered from 0.
pub const ACCOUNTS: usize = 40;
/// What each has at the beginning.
pub const BALANCE: i64 = 1000;

/// One transaction: takes from one account, gives to another, and writes itself down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transfer {
    pub number: u64,
    pub from: usize,
    pub to: usize,
    pub amount: i64,
}

impl Transfer {
    /// The transfer of this number. `from` is the smaller one, so that no two can deadlock.
    pub fn numbered(number: u64) -> Self {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let from = mixed as usize % (ACCOUNTS - 1);
        let to = from + 1 + (mixed >> 8) as usize % (ACCOUNTS - 1 - from);
        let amount = (mixed >> 16) as i64 % 100 - 50;
        Self {
            number,
            from,
            to,
            amount,
        }
    }
}

/// What a server has.
#[derive(Debug, Default)]
pub struct Ledger {
    pub balances: Vec<i64>,
    pub transfers: Vec<Transfer>,
}

/// What the load has asked for, and been told; outside of the disk under test.
#[derive(Default)]
pub struct Book(Mutex<HashMap<u64, (Timestamp, Option<Timestamp>)>>);

impl Book {
    /// A transfer is about to be asked for.
    pub fn sent(&self, number: u64) {
        let mut book = self.0.lock().unwrap();
        book.insert(number, (Timestamp::now(), None));
    }

    /// The server has said that it is done.
    pub fn acknowledged(&self, number: u64) {
        let now = Timestamp::now();
        self.0.lock().unwrap().get_mut(&number).unwrap().1 = Some(now);
    }

    /// How many were acknowledged up to a moment.
    pub fn acknowledged_by(&self, moment: Timestamp) -> usize {
        let book = self.0.lock().unwrap();
        let told = book.values().filter_map(|(_, told)| *told);
        told.filter(|told| *told <= moment).count()
    }

    /// Panics unless the ledger is what it can have been at the cut. The cut's time is known to the
    /// millisecond, and everything stood still for longer.
    pub fn check(&self, ledger: &Ledger, cut: Timestamp, what: &str) {
        let mut balances = vec![BALANCE; ACCOUNTS];
        for transfer in &ledger.transfers {
            assert_eq!(*transfer, Transfer::numbered(transfer.number), "{what}");
            balances[transfer.from] -= transfer.amount;
            balances[transfer.to] += transfer.amount;
        }
        let there: HashSet<u64> = ledger.transfers.iter().map(|one| one.number).collect();
        assert_eq!(there.len(), ledger.transfers.len(), "{what}: twice");
        let sum: i64 = ledger.balances.iter().sum();
        assert_eq!(sum, BALANCE * ACCOUNTS as i64, "{what}: the sum");
        assert_eq!(ledger.balances, balances, "{what}: transfers by halves");
        let end = cut + SignedDuration::from_millis(1);
        for (number, (sent, told)) in self.0.lock().unwrap().iter() {
            let must = told.is_some_and(|told| told <= cut);
            assert!(
                !must || there.contains(number),
                "{what}: transfer {number}, acknowledged at {told:?}, is lost; the cut was at {cut}"
            );
            assert!(
                *sent <= end || !there.contains(number),
                "{what}: transfer {number}, of {sent}, is there; the cut was at {cut}"
            );
        }
    }
}

mod tests {
    use super::*;

    fn after(transfers: &[Transfer]) -> Ledger {
        let mut balances = vec![BALANCE; ACCOUNTS];
        for transfer in transfers {
            balances[transfer.from] -= transfer.amount;
            balances[transfer.to] += transfer.amount;
        }
        Ledger {
            balances,
            transfers: transfers.to_vec(),
        }
    }

    fn book(numbers: std::ops::Range<u64>) -> (Book, Timestamp) {
        let book = Book::default();
        for number in numbers {
            book.sent(number);
            book.acknowledged(number);
        }
        (book, Timestamp::now())
    }

    #[test]
    fn a_whole_ledger_passes() {
        let (book, cut) = book(0..100);
        let all: Vec<Transfer> = (0..100).map(Transfer::numbered).collect();
        book.check(&after(&all), cut, "all");
        assert_eq!(book.acknowledged_by(cut), 100);
    }

    #[test]
    #[should_panic(expected = "is lost")]
    fn a_lost_transfer_is_noticed() {
        let (book, cut) = book(0..100);
        let all: Vec<Transfer> = (0..99).map(Transfer::numbered).collect();
        book.check(&after(&all), cut, "one lost");
    }

    #[test]
    #[should_panic(expected = "by halves")]
    fn half_a_transfer_is_noticed() {
        let (book, cut) = book(0..100);
        let mut ledger = after(&(0..100).map(Transfer::numbered).collect::<Vec<_>>());
        ledger.balances[3] += 7;
        ledger.balances[4] -= 7;
        book.check(&ledger, cut, "half");
    }

    #[test]
    #[should_panic(expected = "is there")]
    fn a_transfer_of_after_the_cut_is_noticed() {
        let (book, cut) = book(0..100);
        std::thread::sleep(std::time::Duration::from_millis(3));
        book.sent(100);
        let all: Vec<Transfer> = (0..101).map(Transfer::numbered).collect();
        book.check(&after(&all), cut, "too late");
    }
}
