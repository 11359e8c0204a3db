//! The requests of the kernel that are not answered yet. Each is answered once: by whoever has done
//! the work, or with an error when its time is over. A vault that hangs hangs nobody who reads.

use crate::sys::locked::LockExt;
use fuser::{Errno, ReplyData, ReplyWrite};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Somebody who waits.
pub(super) enum WaitingReply {
    Read(ReplyData),
    Write(ReplyWrite),
}

impl WaitingReply {
    fn refuse(self) {
        match self {
            Self::Read(reply) => reply.error(Errno::EIO),
            Self::Write(reply) => reply.error(Errno::EIO),
        }
    }
}

/// The name of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RequestName(u64);

#[derive(Default)]
struct Open {
    next: u64,
    waiting: BTreeMap<RequestName, (Instant, WaitingReply)>,
}

/// All that wait.
pub(super) struct Answers {
    within: Duration,
    open: Mutex<Open>,
}

impl Answers {
    /// Each is answered within this time.
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            open: Mutex::default(),
        }
    }

    /// Takes note of one.
    pub(super) fn expect(&self, waiting: WaitingReply) -> RequestName {
        let mut open = self.open.locked();
        let name = RequestName(open.next);
        open.next += 1;
        open.waiting.insert(name, (Instant::now(), waiting));
        name
    }

    /// Whether somebody still waits for it.
    pub(super) fn is_expected(&self, name: RequestName) -> bool {
        self.open.locked().waiting.contains_key(&name)
    }

    /// Takes the one who waits, to answer.
    pub(super) fn take(&self, name: RequestName) -> Option<WaitingReply> {
        let taken = self.open.locked().waiting.remove(&name);
        taken.map(|(_, waiting)| waiting)
    }

    /// Refuses one.
    pub(super) fn refuse(&self, name: RequestName) {
        if let Some(waiting) = self.take(name) {
            waiting.refuse();
        }
    }

    /// Refuses all whose time is over; returns how many.
    pub(super) fn refuse_late(&self) -> usize {
        let mut late = Vec::new();
        {
            let mut open = self.open.locked();
            // They came in this order.
            while let Some(first) = open.waiting.first_entry() {
                if first.get().0.elapsed() < self.within {
                    break;
                }
                late.push(first.remove().1);
            }
        }
        let count = late.len();
        late.into_iter().for_each(WaitingReply::refuse);
        count
    }
}
