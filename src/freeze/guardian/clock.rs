//! The guardian's main thread: it receives the engine's orders, watches the deadline, and orders
//! the thaw. Once it runs, it calls nothing that a filesystem could block, and allocates nothing.

use super::wire::{MAX_REPLY, Order, ReplyHead, ReplyKind};
use super::write_out::WriteOut;
use crate::freeze::THAW_GRACE;
use crate::freeze::expedite::{Expedite, Expedited};
use crate::freeze::isolation::MeasureResults;
use crate::freeze::target_states::TargetStates;
use crate::helper;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why it thaws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ThawReason {
    Asked,
    /// The deadline has passed.
    Expired,
    /// A target could not be frozen.
    Refused {
        index: usize,
        errno: i32,
    },
    /// The engine is gone.
    Orphaned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockPhase {
    Idle,
    Freezing,
    Frozen,
    Thawing(ThawReason),
    /// The end has been reported to the engine, but a call for a target has not returned.
    Lingering,
}

/// What the main thread waits for.
enum ClockEvent {
    /// The engine sent this.
    Order(Order),
    /// The engine has closed its end of the socket, or is of no use.
    EngineGone,
    /// A worker thread has finished a task; or there was nothing.
    Woken,
    /// The alarm is due.
    Alarm,
}

/// The main thread of one guardian.
pub(super) struct Clock {
    socket: OwnedFd,
    /// The worker threads write to it.
    wake: PipeReader,
    targets: Arc<TargetStates>,
    write_out: Arc<WriteOut>,
    deadline: Duration,
    expedite: Expedite,
    /// Held from the order to freeze until all is thawed.
    expedited: Option<Expedited>,
    phase: ClockPhase,
    /// When the order to freeze came.
    ordered: Option<Instant>,
    /// When to wake up next, whatever happens.
    alarm: Option<Instant>,
    /// Whether the engine can still send orders.
    listening: bool,
    buffer: Box<[u8; MAX_REPLY]>,
}

impl Clock {
    pub(super) fn new(
        socket: OwnedFd,
        wake: PipeReader,
        targets: Arc<TargetStates>,
        write_out: Arc<WriteOut>,
        deadline: Duration,
        expedite: Expedite,
    ) -> Self {
        Self {
            socket,
            wake,
            targets,
            write_out,
            deadline,
            expedite,
            expedited: None,
            phase: ClockPhase::Idle,
            ordered: None,
            alarm: None,
            listening: true,
            buffer: Box::new([0; MAX_REPLY]),
        }
    }

    /// Reports that everything is in place, and the results of the measures of `isolation`. Nothing
    /// is frozen yet, so it may allocate.
    pub(super) fn report_ready(&self, measures: &MeasureResults) {
        // If the engine is gone, the next recv reports it.
        let _ = helper::send(&self.socket, measures);
    }

    /// Runs until nothing is frozen any more, or nothing more can be done about that.
    pub(super) fn run(&mut self) {
        loop {
            let event = self.wait();
            if self.step(&event) {
                return;
            }
        }
    }

    fn wait(&mut self) -> ClockEvent {
        let left = self
            .alarm
            .map(|alarm| alarm.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return ClockEvent::Alarm;
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: it would only wait again if it woke too early.
            PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
        });
        let wake = PollFd::new(self.wake.as_fd(), PollFlags::POLLIN);
        let readable = if self.listening {
            let socket = PollFd::new(self.socket.as_fd(), PollFlags::POLLIN);
            let mut both = [wake, socket];
            let result = poll(&mut both, timeout);
            result.map(|_| both.map(|fd| fd.any().unwrap_or(true)))
        } else {
            let mut one = [wake];
            let result = poll(&mut one, timeout);
            result.map(|_| [one.iter().all(|fd| fd.any().unwrap_or(true)), false])
        };
        match readable {
            Ok([true, _]) => {
                // One byte for each task that was finished. Bytes that remain only wake it again.
                let _ = self.wake.read(&mut [0]);
                ClockEvent::Woken
            }
            Ok([_, true]) => self.receive(),
            Ok(_) | Err(Errno::EINTR) => ClockEvent::Woken,
            // Without orders it cannot do its work: as if the engine were gone.
            Err(_) => ClockEvent::EngineGone,
        }
    }

    fn receive(&self) -> ClockEvent {
        let mut message = [0; 8];
        let received = recv(
            self.socket.as_raw_fd(),
            &mut message,
            MsgFlags::MSG_DONTWAIT,
        );
        match received {
            Err(Errno::EAGAIN | Errno::EINTR) => ClockEvent::Woken,
            Ok(len) => match message.get(..len).and_then(Order::decode) {
                Some(order) => ClockEvent::Order(order),
                None => ClockEvent::EngineGone,
            },
            Err(_) => ClockEvent::EngineGone,
        }
    }

    /// Takes one step; returns true when all is over.
    fn step(&mut self, event: &ClockEvent) -> bool {
        if matches!(event, ClockEvent::EngineGone) {
            self.listening = false;
        }
        match (self.phase, event) {
            (ClockPhase::Idle, ClockEvent::Order(Order::WriteOut)) => self.write_out.order(),
            (ClockPhase::Idle, ClockEvent::Woken) => self.check_write_out(),
            (ClockPhase::Idle, ClockEvent::Order(Order::Freeze)) => {
                let now = Instant::now();
                self.ordered = Some(now);
                self.alarm = Some(now + self.deadline);
                self.phase = ClockPhase::Freezing;
                self.expedited = self.expedite.begin();
                self.targets.order_freeze();
            }
            (
                ClockPhase::Idle | ClockPhase::Freezing | ClockPhase::Frozen,
                ClockEvent::EngineGone,
            ) => {
                self.thaw(ThawReason::Orphaned);
            }
            (
                ClockPhase::Idle | ClockPhase::Freezing | ClockPhase::Frozen,
                ClockEvent::Order(Order::Thaw),
            ) => {
                self.thaw(ThawReason::Asked);
            }
            (ClockPhase::Freezing | ClockPhase::Frozen, ClockEvent::Alarm) => {
                self.thaw(ThawReason::Expired)
            }
            (ClockPhase::Freezing, ClockEvent::Woken) => self.check_freeze(),
            (ClockPhase::Thawing(_), ClockEvent::Alarm) => self.report_end(),
            _ => {}
        }
        if !matches!(self.phase, ClockPhase::Thawing(_) | ClockPhase::Lingering) {
            return false;
        }
        let over = self.targets.unsettled().0 == 0;
        if over {
            self.report_end();
        }
        over
    }

    fn check_write_out(&mut self) {
        if let Some(written) = self.write_out.take() {
            let (index, errno) = written.err().map_or((0, 0), |(i, errno)| (i, errno as i32));
            let head = head(ReplyKind::WrittenOut, index, errno, 0, Duration::ZERO);
            deliver(
                &self.socket,
                head.encode(std::iter::empty(), &mut self.buffer),
            );
        }
    }

    fn check_freeze(&mut self) {
        if let Some((index, errno)) = self.targets.refused() {
            self.thaw(ThawReason::Refused { index, errno });
        } else if self.targets.all_frozen() {
            self.phase = ClockPhase::Frozen;
            let head = head(ReplyKind::Frozen, 0, 0, 0, self.since_order());
            let entries = self.targets.freeze_results();
            deliver(&self.socket, head.encode(entries, &mut self.buffer));
        }
    }

    fn thaw(&mut self, reason: ThawReason) {
        self.targets.order_thaw();
        self.phase = ClockPhase::Thawing(reason);
        self.alarm = Some(Instant::now() + THAW_GRACE);
    }

    /// Reports to the engine how the freeze ended, once.
    fn report_end(&mut self) {
        let ClockPhase::Thawing(reason) = self.phase else {
            return;
        };
        self.phase = ClockPhase::Lingering;
        self.alarm = None;
        let (left, stuck) = self.targets.unsettled();
        let (kind, index, errno) = match reason {
            ThawReason::Asked => (ReplyKind::Thawed, stuck, 0),
            ThawReason::Expired => (ReplyKind::Expired, stuck, 0),
            ThawReason::Refused { index, errno } => (ReplyKind::Failed, index, errno),
            ThawReason::Orphaned => {
                self.expedited = None;
                return;
            }
        };
        let head = head(kind, index, errno, left, self.since_order());
        let entries = self.targets.thaw_results();
        deliver(&self.socket, head.encode(entries, &mut self.buffer));
        self.expedited = None;
    }

    fn since_order(&self) -> Duration {
        self.ordered
            .map_or(Duration::ZERO, |ordered| ordered.elapsed())
    }
}

impl Drop for Clock {
    /// Whatever ended this thread, a panic included, nothing stays frozen.
    fn drop(&mut self) {
        self.targets.order_thaw();
        while self.targets.unsettled().0 > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn head(kind: ReplyKind, index: usize, errno: i32, left: u32, since_order: Duration) -> ReplyHead {
    ReplyHead {
        kind,
        index,
        errno,
        left,
        since_order,
    }
}

/// An engine that does not read is dead, which closes the socket, or hung, which the deadline ends.
fn deliver(socket: &OwnedFd, message: &[u8]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(socket.as_raw_fd(), message, flags);
}
