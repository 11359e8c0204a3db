//! The guardian's main thread: it listens to the engine, holds the clock, and orders the thaw. It
//! calls nothing that a filesystem could block, and allocates nothing.

use super::wire::{Entry, Head, MAX_REPLY, Order, Word};
use super::write_out::WriteOut;
use crate::freeze::THAW_GRACE;
use crate::freeze::expedite::{Expedite, Expedited};
use crate::freeze::target_states::Ledger;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why it thaws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Asked,
    Expired,
    Refused { index: usize, errno: i32 },
    Orphaned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Freezing,
    Frozen,
    Thawing(Reason),
    /// The engine knows how it ended, but a target is still stuck.
    Lingering,
}

enum Event {
    Order(Order),
    Gone,
    Rung,
    Time,
}

/// The clock of one run.
pub(super) struct Clock {
    socket: OwnedFd,
    bell: PipeReader,
    ledger: Arc<Ledger>,
    write_out: Arc<WriteOut>,
    deadline: Duration,
    expedite: Expedite,
    /// From the order to freeze until all is thawed.
    expedited: Option<Expedited>,
    phase: Phase,
    ordered: Option<Instant>,
    /// When to wake up next, whatever happens.
    alarm: Option<Instant>,
    listening: bool,
    buffer: Box<[u8; MAX_REPLY]>,
}

impl Clock {
    pub(super) fn new(
        socket: OwnedFd,
        bell: PipeReader,
        (ledger, write_out): (Arc<Ledger>, Arc<WriteOut>),
        (deadline, expedite): (Duration, Expedite),
    ) -> Self {
        Self {
            socket,
            bell,
            ledger,
            write_out,
            deadline,
            expedite,
            expedited: None,
            phase: Phase::Idle,
            ordered: None,
            alarm: None,
            listening: true,
            buffer: Box::new([0; MAX_REPLY]),
        }
    }

    /// Says that everything is in place.
    pub(super) fn report_ready(&mut self, measures: impl Iterator<Item = Entry>) {
        let head = head(Word::Ready, 0, 0, 0, Duration::ZERO);
        deliver(&self.socket, head.encode(measures, &mut self.buffer));
    }

    /// Runs until nothing is frozen any more, or nothing more can be done about it.
    pub(super) fn run(&mut self) {
        loop {
            let event = self.wait();
            if self.step(&event) {
                return;
            }
        }
    }

    fn wait(&mut self) -> Event {
        let left = self
            .alarm
            .map(|alarm| alarm.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Event::Time;
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: waking too early would only mean to wait again.
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let bell = PollFd::new(self.bell.as_fd(), PollFlags::POLLIN);
        let heard = if self.listening {
            let socket = PollFd::new(self.socket.as_fd(), PollFlags::POLLIN);
            let mut both = [bell, socket];
            let result = poll(&mut both, timeout);
            result.map(|_| both.map(|fd| fd.any().unwrap_or(true)))
        } else {
            let mut one = [bell];
            let result = poll(&mut one, timeout);
            result.map(|_| [one.iter().all(|fd| fd.any().unwrap_or(true)), false])
        };
        match heard {
            Ok([true, _]) => {
                // One byte a ring; more of them only make for more looks.
                let _ = self.bell.read(&mut [0]);
                Event::Rung
            }
            Ok([_, true]) => self.listen(),
            Ok(_) | Err(Errno::EINTR) => Event::Rung,
            // Without its ears it cannot do its work: as if the engine were gone.
            Err(_) => Event::Gone,
        }
    }

    fn listen(&self) -> Event {
        let mut message = [0; 8];
        let received = recv(
            self.socket.as_raw_fd(),
            &mut message,
            MsgFlags::MSG_DONTWAIT,
        );
        match received {
            Err(Errno::EAGAIN | Errno::EINTR) => Event::Rung,
            Ok(len) => match message.get(..len).and_then(Order::decode) {
                Some(order) => Event::Order(order),
                None => Event::Gone,
            },
            Err(_) => Event::Gone,
        }
    }

    /// Takes one step; true when all is over.
    fn step(&mut self, event: &Event) -> bool {
        if matches!(event, Event::Gone) {
            self.listening = false;
        }
        match (self.phase, event) {
            (Phase::Idle, Event::Order(Order::WriteOut)) => self.write_out.order(),
            (Phase::Idle, Event::Rung) => self.look_at_writer(),
            (Phase::Idle, Event::Order(Order::Freeze)) => {
                let now = Instant::now();
                self.ordered = Some(now);
                self.alarm = Some(now + self.deadline);
                self.phase = Phase::Freezing;
                self.expedited = self.expedite.begin();
                self.ledger.order_freeze();
            }
            (Phase::Idle | Phase::Freezing | Phase::Frozen, Event::Gone) => {
                self.thaw(Reason::Orphaned);
            }
            (Phase::Idle | Phase::Freezing | Phase::Frozen, Event::Order(Order::Thaw)) => {
                self.thaw(Reason::Asked);
            }
            (Phase::Freezing | Phase::Frozen, Event::Time) => self.thaw(Reason::Expired),
            (Phase::Freezing, Event::Rung) => self.look_at_freezer(),
            (Phase::Thawing(_), Event::Time) => self.report_end(),
            _ => {}
        }
        if !matches!(self.phase, Phase::Thawing(_) | Phase::Lingering) {
            return false;
        }
        let over = self.ledger.unsettled().0 == 0;
        if over {
            self.report_end();
        }
        over
    }

    fn look_at_writer(&mut self) {
        if let Some(outcome) = self.write_out.take() {
            let (index, errno) = outcome.err().map_or((0, 0), |(i, errno)| (i, errno as i32));
            let head = head(Word::WrittenOut, index, errno, 0, Duration::ZERO);
            deliver(
                &self.socket,
                head.encode(std::iter::empty(), &mut self.buffer),
            );
        }
    }

    fn look_at_freezer(&mut self) {
        if let Some((index, errno)) = self.ledger.refused() {
            self.thaw(Reason::Refused { index, errno });
        } else if self.ledger.all_frozen() {
            self.phase = Phase::Frozen;
            let head = head(Word::Frozen, 0, 0, 0, self.since_order());
            let entries = self.ledger.freeze_entries();
            deliver(&self.socket, head.encode(entries, &mut self.buffer));
        }
    }

    fn thaw(&mut self, reason: Reason) {
        self.ledger.order_thaw();
        self.phase = Phase::Thawing(reason);
        self.alarm = Some(Instant::now() + THAW_GRACE);
    }

    /// Tells the engine how it ended, once.
    fn report_end(&mut self) {
        let Phase::Thawing(reason) = self.phase else {
            return;
        };
        self.phase = Phase::Lingering;
        self.alarm = None;
        let (left, stuck) = self.ledger.unsettled();
        let (word, index, errno) = match reason {
            Reason::Asked => (Word::Thawed, stuck, 0),
            Reason::Expired => (Word::Expired, stuck, 0),
            Reason::Refused { index, errno } => (Word::Failed, index, errno),
            Reason::Orphaned => {
                self.expedited = None;
                return;
            }
        };
        let head = head(word, index, errno, left, self.since_order());
        let entries = self.ledger.thaw_entries();
        deliver(&self.socket, head.encode(entries, &mut self.buffer));
        self.expedited = None;
    }

    fn since_order(&self) -> Duration {
        self.ordered
            .map_or(Duration::ZERO, |ordered| ordered.elapsed())
    }
}

impl Drop for Clock {
    /// Whatever ended the clock, a panic among them: nothing stays frozen.
    fn drop(&mut self) {
        self.ledger.order_thaw();
        while self.ledger.unsettled().0 > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn head(word: Word, index: usize, errno: i32, left: u32, since_order: Duration) -> Head {
    Head {
        word,
        index,
        errno,
        left,
        since_order,
    }
}

/// An engine that does not listen is dead or hung: both are dealt with elsewhere.
fn deliver(socket: &OwnedFd, message: &[u8]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(socket.as_raw_fd(), message, flags);
}
