//! The requests of the kernel that are not answered yet. Each is answered once: by whoever has done
//! the work, or with an error when its time is over. A disk that did not answer in time is refused
//! for a while: the kernel asks again for what failed, piece by piece, and each would wait anew.

use crate::sys::locked::LockExt;
use fuser::{Errno, ReplyData, ReplyWrite};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Somebody who waits.
pub(super) enum WaitingReply {
    Read(ReplyData),
    Write(ReplyWrite),
}

impl WaitingReply {
    /// Gives it an error.
    pub(super) fn refuse(self) {
        match self {
            Self::Read(reply) => reply.error(Errno::EIO),
            Self::Write(reply) => reply.error(Errno::EIO),
        }
    }
}

/// The name of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RequestName(u64);

/// For what somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AwaitedFrom {
    pub(super) disk: usize,
    /// To which layer something is to be written.
    pub(super) writes: Option<u32>,
}

struct OpenRequest<R> {
    since: Instant,
    from: AwaitedFrom,
    reply: R,
}

struct Open<R> {
    next: u64,
    waiting: BTreeMap<RequestName, OpenRequest<R>>,
    /// Disks that did not answer, and until when they are not asked.
    hanging: BTreeMap<usize, Instant>,
}

/// What was refused.
pub(super) struct RefusedWaits<R> {
    /// Who has waited too long, and who waits for the same disks.
    pub(super) replies: Vec<R>,
    /// The layers that lack a write.
    pub(super) layers: BTreeSet<u32>,
}

/// All that wait.
pub(super) struct Answers<R = WaitingReply> {
    within: Duration,
    open: Mutex<Open<R>>,
}

impl<R> Answers<R> {
    /// Each is answered within this time; after one that was not, its disk is refused for as long.
    pub(super) fn new(within: Duration) -> Self {
        Self {
            within,
            open: Mutex::new(Open {
                next: 0,
                waiting: BTreeMap::new(),
                hanging: BTreeMap::new(),
            }),
        }
    }

    /// Takes note of one; gives it back if its disk is not asked at the moment.
    pub(super) fn expect(&self, from: AwaitedFrom, reply: R) -> Result<RequestName, R> {
        let mut open = self.open.locked();
        let since = Instant::now();
        if open
            .hanging
            .get(&from.disk)
            .is_some_and(|until| since < *until)
        {
            return Err(reply);
        }
        let name = RequestName(open.next);
        open.next += 1;
        let waiting = OpenRequest { since, from, reply };
        open.waiting.insert(name, waiting);
        Ok(name)
    }

    /// Whether a disk has not answered lately.
    pub(super) fn hangs(&self) -> bool {
        let now = Instant::now();
        self.open
            .locked()
            .hanging
            .values()
            .any(|until| now < *until)
    }

    /// Whether somebody still waits for it.
    pub(super) fn is_expected(&self, name: RequestName) -> bool {
        self.open.locked().waiting.contains_key(&name)
    }

    /// Takes the one who waits, to answer.
    pub(super) fn take(&self, name: RequestName) -> Option<R> {
        let taken = self.open.locked().waiting.remove(&name);
        taken.map(|waiting| waiting.reply)
    }

    /// Takes all whose time is over, and all that wait for the same disks.
    pub(super) fn take_late(&self) -> RefusedWaits<R> {
        let mut open = self.open.locked();
        let late = open.waiting.values();
        let late = late.filter(|waiting| waiting.since.elapsed() >= self.within);
        let disks: BTreeSet<usize> = late.map(|waiting| waiting.from.disk).collect();
        let until = Instant::now() + self.within;
        open.hanging.extend(disks.iter().map(|disk| (*disk, until)));
        open.take(|from| disks.contains(&from.disk))
    }

    /// Takes all: nobody answers any more.
    pub(super) fn take_all(&self) -> RefusedWaits<R> {
        self.open.locked().take(|_| true)
    }
}

impl<R> Open<R> {
    fn take(&mut self, which: impl Fn(AwaitedFrom) -> bool) -> RefusedWaits<R> {
        let taken = self
            .waiting
            .extract_if(.., |_, waiting| which(waiting.from));
        let mut refused = RefusedWaits {
            replies: Vec::new(),
            layers: BTreeSet::new(),
        };
        for (_, waiting) in taken {
            refused.layers.extend(waiting.from.writes);
            refused.replies.push(waiting.reply);
        }
        refused
    }
}

impl Answers {
    /// Refuses one.
    pub(super) fn refuse(&self, name: RequestName) {
        if let Some(waiting) = self.take(name) {
            waiting.refuse();
        }
    }
}

impl RefusedWaits<WaitingReply> {
    /// Gives all of them an error; returns how many.
    pub(super) fn refuse(self) -> usize {
        let count = self.replies.len();
        self.replies.into_iter().for_each(WaitingReply::refuse);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(disk: usize, writes: Option<u32>) -> AwaitedFrom {
        AwaitedFrom { disk, writes }
    }

    #[test]
    fn a_disk_that_is_late_is_refused_for_a_while_and_no_other_one() {
        let within = Duration::from_millis(200);
        let answers = Answers::new(within);
        answers.expect(from(0, None), "first").unwrap();
        answers.expect(from(1, Some(7)), "write elsewhere").unwrap();
        std::thread::sleep(within / 2);
        let other = answers.expect(from(2, None), "another").unwrap();
        answers.expect(from(0, Some(3)), "second").unwrap();
        assert!(answers.take_late().replies.is_empty() && !answers.hangs());
        std::thread::sleep(within / 2);
        let late = answers.take_late();
        // Also what came later for the same disk.
        assert_eq!(late.replies, ["first", "write elsewhere", "second"]);
        assert_eq!(late.layers, BTreeSet::from([3, 7]));
        assert!(answers.hangs() && answers.is_expected(other));
        assert_eq!(answers.expect(from(0, None), "at once"), Err("at once"));
        answers.expect(from(2, None), "not that one").unwrap();
        std::thread::sleep(within);
        assert!(!answers.hangs());
        answers.expect(from(0, None), "asked again").unwrap();
        assert_eq!(answers.take_all().replies.len(), 3);
    }
}
