//! What went wrong while clients were answered, on its way to whoever watches the server: each
//! once, and no more than he can read.

use crate::error::{Error, ErrorKind};
use crate::sys::locked::LockExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Most different ones that are told.
const MOST: usize = 100;

/// A request of a client's that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFailure {
    /// What sort of failure it was.
    pub kind: ErrorKind,
    /// What failed, and why.
    pub what: String,
}

/// What went wrong.
#[derive(Default)]
pub struct Troubles(Mutex<Told>);

/// How long clients wait for what they ask.
#[derive(Default)]
struct Waits {
    next: u64,
    begun: BTreeMap<u64, Instant>,
    longest: Duration,
}

#[derive(Default)]
struct Told {
    before: BTreeSet<String>,
    new: Vec<String>,
    /// Of each kind the first one.
    failures: Vec<ServedFailure>,
    waits: Waits,
}

impl Troubles {
    /// Notes one, if it was not told before.
    pub fn tell(&self, what: &str) {
        let mut told = self.0.locked();
        if told.before.len() < MOST && told.before.insert(what.to_owned()) {
            told.new.push(what.to_owned());
            if told.before.len() == MOST {
                told.new
                    .push("what else goes wrong is told to clients alone".into());
            }
        }
    }

    /// Notes that a request failed, and tells it.
    pub fn failed(&self, error: &Error) {
        let (kind, what) = (error.kind(), error.to_string());
        self.tell(&what);
        let mut told = self.0.locked();
        if told.failures.iter().all(|failure| failure.kind != kind) {
            told.failures.push(ServedFailure { kind, what });
        }
    }

    /// Does what a client waits for.
    pub fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let number = {
            let waits = &mut self.0.locked().waits;
            waits.next += 1;
            let number = waits.next;
            waits.begun.insert(number, Instant::now());
            number
        };
        let done = work();
        let waits = &mut self.0.locked().waits;
        if let Some(begun) = waits.begun.remove(&number) {
            waits.longest = waits.longest.max(begun.elapsed());
        }
        done
    }

    /// The longest that a client has waited, those among them who still wait.
    pub fn longest_wait(&self) -> Duration {
        let told = self.0.locked();
        let begun = told.waits.begun.values().map(Instant::elapsed);
        begun.fold(told.waits.longest, Duration::max)
    }

    /// Which requests failed: of each kind the first one.
    pub fn failures(&self) -> Vec<ServedFailure> {
        self.0.locked().failures.clone()
    }

    /// Those that were not taken yet.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.locked().new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_not_without_end() {
        let troubles = Troubles::default();
        for _ in 0..3 {
            troubles.tell("one");
        }
        assert_eq!(troubles.take(), ["one"]);
        (0..1000).for_each(|n| troubles.tell(&n.to_string()));
        assert_eq!(troubles.take().len(), MOST);
        assert!(troubles.take().is_empty());
    }
}
