//! The engine's side of the guardian: it asks the process to freeze and to thaw, and thaws in its
//! place when it has been killed. When a [`Guardian`] is dropped, nothing stays frozen.

use super::leftovers::Leftovers;
use super::options::GuardianOptions;
use super::times::{FreezeTimes, ThawTimes, Watch};
use super::wire::{MAX_REPLY, Order, ReplyHead, ReplyKind};
use super::{errors, handover};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::direct_thaw::bounded;
use crate::freeze::expedite::undo_expedited;
use crate::freeze::isolation::{MEASURES, MeasureResults, shared_group};
use crate::freeze::record::RecordFile;
use crate::freeze::target::FreezeTarget;
use crate::freeze::{GUARDIAN_COMMAND, THAW_GRACE};
use crate::helper::{Helper, Role, recv};
use crate::model::DevNumber;
use crate::sys::process::parent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, MsgFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the guardian may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How much later than it must reply the guardian is given up.
const SLACK: Duration = Duration::from_secs(3);
/// How long a guardian may take to exit; after that a thread waits for it.
const EXIT_WITHIN: Duration = Duration::from_secs(2);

const ROLE: Role = Role {
    command: GUARDIAN_COMMAND,
    name: "freeze-guardian",
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardianPhase {
    /// Nothing is frozen and nothing was.
    Idle,
    /// The guardian may have frozen something since this order.
    Armed(Instant),
    /// Nothing is frozen any more, or others go on with it.
    Over,
}

/// What waiting for a reply came to.
enum Received {
    /// A reply of this length, in the buffer.
    Reply(ReplyHead, usize),
    TimedOut,
    /// The guardian has closed the socket, or sent what is no reply.
    Gone,
}

/// A guardian that runs and is ready, and the duty to thaw.
#[derive(Debug)]
pub struct Guardian {
    targets: Vec<FreezeTarget>,
    fds: Arc<Vec<OwnedFd>>,
    /// Closing it makes the guardian thaw and exit.
    socket: Option<OwnedFd>,
    helper: Option<Helper>,
    record: Arc<RecordFile>,
    deadline: Duration,
    sync_within: Duration,
    phase: GuardianPhase,
    /// Whether the record is of no more use.
    clean: bool,
    weaknesses: Vec<String>,
    /// The target that kept the others from being frozen.
    blamed: Option<DevNumber>,
    buffer: Box<[u8; MAX_REPLY]>,
    freeze_times: FreezeTimes,
    thaw_times: ThawTimes,
}

impl Guardian {
    /// Opens every target, starts the guardian, and waits until it is ready. Freezes nothing.
    ///
    /// # Errors
    /// `NotFound` when a target is not (or no longer) the filesystem that was meant.
    pub fn start(options: GuardianOptions) -> Result<Self> {
        options.check()?;
        let GuardianOptions {
            program,
            run_dir,
            targets,
            deadline,
            sync_within,
        } = options;
        let (to_open, count) = (targets.clone(), targets.len());
        let opened = bounded(sync_within, move || handover::open_all(&to_open))?;
        let fds = opened.ok_or_else(|| errors::too_slow("open", sync_within))??;
        let (helper, socket) = Helper::start(&program, ROLE)?;
        // If this fails the guardian exits as the socket is closed, having frozen nothing.
        let record =
            handover::hand_over(&socket, helper.pid(), &run_dir, deadline, &targets, &fds)?;
        let mut guardian = Self {
            targets,
            fds: Arc::new(fds),
            socket: Some(socket),
            helper: Some(helper),
            record: Arc::new(record),
            deadline,
            sync_within,
            phase: GuardianPhase::Idle,
            clean: true,
            weaknesses: Vec::new(),
            blamed: None,
            buffer: Box::new([0; MAX_REPLY]),
            freeze_times: FreezeTimes::default(),
            thaw_times: ThawTimes::default(),
        };
        guardian.freeze_times.each.reserve_exact(count);
        guardian.thaw_times.each.reserve_exact(count);
        guardian.await_ready()?;
        Ok(guardian)
    }

    fn await_ready(&mut self) -> Result<()> {
        let socket = self.socket.as_ref();
        let ready = socket.and_then(|socket| recv::<MeasureResults>(socket, READY_WITHIN).ok());
        let results = ready.ok_or_else(|| {
            let message = "the guardian process did not get ready; nothing has been frozen";
            Error::new(ErrorKind::Failed, message)
        })?;
        for (errno, measure) in results.into_iter().zip(MEASURES) {
            if errno != 0 {
                let why = Errno::from_raw(errno).desc();
                let weakness = format!("the guardian runs without {measure}: {why}");
                self.weaknesses.push(weakness);
            }
        }
        let parent = self.pid().and_then(parent);
        if let Some(parent) = parent.filter(|parent| *parent != 1) {
            let weakness = format!(
                "the guardian was adopted by process {parent} instead of init: a program that \
                 kills all below that kills it too"
            );
            self.weaknesses.push(weakness);
        }
        Ok(())
    }

    /// What the guardian could not arrange for itself; it works all the same.
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// The device of the filesystem that a freeze failed for, if it failed for one of them.
    pub fn blamed(&self) -> Option<DevNumber> {
        self.blamed
    }

    /// Why a program that kills the engine may kill the guardian with it; then only `stillpoint
    /// thaw` or the next run thaws. `None` when they share no control group.
    pub fn exposure(&self) -> Option<String> {
        let group = shared_group(self.pid()?)?;
        Some(format!(
            "the guardian could not leave the control group {group}: a program that kills that \
             group while filesystems are frozen leaves them so, until `stillpoint thaw` or the \
             next run"
        ))
    }

    /// The guardian's process id.
    pub fn pid(&self) -> Option<u32> {
        self.helper.as_ref().map(Helper::pid)
    }

    /// Has the guardian write out what the targets hold in memory, so that the freeze need not;
    /// returns how long it took.
    ///
    /// # Errors
    /// `Inconsistent` when it takes longer than the options allow, and then this guardian is of no
    /// more use; `Io` when a filesystem failed to write.
    pub fn sync(&mut self) -> Result<Duration> {
        let (begun, within) = (Instant::now(), self.sync_within);
        self.send(Order::WriteOut);
        match self.recv(begun + within) {
            Received::Reply(head, _) if head.kind == ReplyKind::WrittenOut => {
                if head.errno == 0 {
                    return Ok(begun.elapsed());
                }
                let message = format!("cannot write out {}", self.name(head.index));
                let errno = Errno::from_raw(head.errno);
                Err(Error::new(ErrorKind::Io, message).with_source(errno))
            }
            Received::TimedOut => Err(errors::too_slow("write out", within)),
            Received::Reply(..) | Received::Gone => Err(self.thaw_in_its_place()),
        }
    }

    /// Whether it is alive, has frozen nothing yet, and would freeze these.
    pub fn is_ready_for(&self, targets: &[FreezeTarget]) -> bool {
        let is_alive = |helper: &Helper| !helper.has_ended(Duration::ZERO);
        self.phase == GuardianPhase::Idle
            && self.targets == targets
            && self.helper.as_ref().is_some_and(is_alive)
    }

    /// Writes everything out, twice, then has all targets frozen, in order. When it fails, nothing
    /// that we froze stays frozen. It allocates nothing after the first target is frozen.
    ///
    /// # Errors
    /// `Busy`: someone else has frozen a target, which was left alone; `Unsupported`: a target
    /// cannot be frozen; `Inconsistent`: the deadline passed.
    pub fn freeze(&mut self) -> Result<FreezeTimes> {
        if self.phase != GuardianPhase::Idle {
            let message = "a guardian freezes once only";
            return Err(Error::new(ErrorKind::Failed, message));
        }
        // What was written during the first pass is little, so the second is short, and FIFREEZE
        // finds next to nothing to write.
        self.sync()?;
        self.sync()?;
        self.record.arm(self.fds.len(), self.deadline)?;
        let now = Instant::now();
        self.phase = GuardianPhase::Armed(now);
        self.send(Order::Freeze);
        match self.recv(now + self.deadline + THAW_GRACE + SLACK) {
            Received::Reply(head, len) if head.kind == ReplyKind::Frozen => {
                let reply = ReplyHead::decode(self.buffer.get(..len).unwrap_or_default());
                let entries = reply.into_iter().flat_map(|(_, entries)| entries);
                let mut times = std::mem::take(&mut self.freeze_times);
                times.total = head.since_order;
                let micros = entries.map(|entry| Duration::from_micros(entry.micros.into()));
                times.each.extend(micros);
                Ok(times)
            }
            Received::Reply(head, _) if head.kind == ReplyKind::Failed => Err(self.refused(head)),
            Received::Reply(head, _) if head.kind == ReplyKind::Expired => Err(self.expired(head)),
            _ => Err(self.thaw_in_its_place()),
        }
    }

    /// How much is left of the deadline; `None` before [`Guardian::freeze`].
    pub fn watch(&self) -> Option<Watch> {
        match self.phase {
            GuardianPhase::Armed(since) => Some(Watch::new(since + self.deadline)),
            GuardianPhase::Idle | GuardianPhase::Over => None,
        }
    }

    /// Whether all is still frozen, as far as can be known at once and without allocating: false
    /// when the deadline has passed, or the guardian has sent anything, as only failures are
    /// reported now.
    pub fn is_holding(&self) -> bool {
        let in_time = self.watch().is_some_and(|w| !w.remaining().is_zero());
        let Some(socket) = &self.socket else {
            return false;
        };
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        in_time && poll(&mut ready, PollTimeout::ZERO) == Ok(0)
    }

    /// Has everything thawed, and ends the guardian. Only if this succeeds has everything been
    /// frozen from the end of [`Guardian::freeze`] until now.
    ///
    /// # Errors
    /// `Inconsistent`: the deadline passed, someone else thawed a target, or the guardian died;
    /// what was read must be thrown away. `Failed`: a target could not be thawed.
    pub fn thaw(mut self) -> Result<ThawTimes> {
        self.release()
    }

    fn release(&mut self) -> Result<ThawTimes> {
        let GuardianPhase::Armed(since) = self.phase else {
            let message = "nothing is frozen";
            return Err(Error::new(ErrorKind::Failed, message));
        };
        self.send(Order::Thaw);
        let latest = Instant::now().max(since + self.deadline) + THAW_GRACE + SLACK;
        loop {
            match self.recv(latest) {
                Received::Reply(head, len) => match head.kind {
                    ReplyKind::Thawed => return self.thawed(head, len),
                    ReplyKind::Expired => return Err(self.expired(head)),
                    ReplyKind::Failed => return Err(self.refused(head)),
                    // Sent before it had received the order.
                    ReplyKind::Frozen | ReplyKind::WrittenOut => {}
                },
                Received::TimedOut | Received::Gone => return Err(self.thaw_in_its_place()),
            }
        }
    }

    fn thawed(&mut self, head: ReplyHead, len: usize) -> Result<ThawTimes> {
        self.phase = GuardianPhase::Over;
        if head.left > 0 {
            return Err(self.not_done(head));
        }
        let mut times = std::mem::take(&mut self.thaw_times);
        times.frozen_for = head.since_order;
        let reply = ReplyHead::decode(self.buffer.get(..len).unwrap_or_default());
        let entries = reply.into_iter().flat_map(|(_, entries)| entries);
        let mut wrong = None;
        for (index, entry) in entries.enumerate() {
            let took = Duration::from_micros(entry.micros.into());
            times.each.push(took);
            if entry.errno != 0 && wrong.is_none_or(|(_, errno)| errno == Errno::EINVAL) {
                wrong = Some((index, Errno::from_raw(entry.errno)));
            }
        }
        match wrong {
            None => Ok(times),
            Some((index, Errno::EINVAL)) => Err(errors::thawed_by_another(&self.name(index))),
            Some((index, errno)) => {
                self.clean = false;
                Err(errors::not_thawed(&self.name(index), errno))
            }
        }
    }

    fn refused(&mut self, head: ReplyHead) -> Error {
        self.phase = GuardianPhase::Over;
        if head.left > 0 {
            return self.not_done(head);
        }
        let target = self.targets.get(head.index);
        self.blamed = target.map(|target| target.dev);
        errors::refused(target, Errno::from_raw(head.errno))
    }

    fn expired(&mut self, head: ReplyHead) -> Error {
        self.phase = GuardianPhase::Over;
        self.clean = head.left == 0;
        let stuck = (head.left > 0).then(|| self.name(head.index));
        let target = self.targets.get(head.index).filter(|_| head.left > 0);
        self.blamed = target.map(|target| target.dev);
        errors::expired(self.deadline, stuck)
    }

    fn not_done(&mut self, head: ReplyHead) -> Error {
        self.clean = false;
        let guardian = self.pid().unwrap_or(0);
        errors::not_done(head.left, &self.name(head.index), guardian)
    }

    fn name(&self, index: usize) -> String {
        let target = self.targets.get(index);
        target.map_or("an unknown filesystem".into(), FreezeTarget::name)
    }

    fn send(&self, order: Order) {
        if let Some(socket) = &self.socket {
            // If the guardian is gone, the next recv reports it.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = socket::send(socket.as_raw_fd(), &order.encode(), flags);
        }
    }

    fn recv(&mut self, until: Instant) -> Received {
        let Some(socket) = &self.socket else {
            return Received::Gone;
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Received::TimedOut;
            }
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return Received::Gone,
            }
            let flags = MsgFlags::MSG_DONTWAIT;
            match socket::recv(socket.as_raw_fd(), self.buffer.as_mut_slice(), flags) {
                // A reset is reported before the last reply is.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNRESET) => {}
                Err(_) | Ok(0) => return Received::Gone,
                Ok(len) => {
                    let message = self.buffer.get(..len).unwrap_or_default();
                    let head = ReplyHead::decode(message).map(|(head, _)| head);
                    return head.map_or(Received::Gone, |head| Received::Reply(head, len));
                }
            }
        }
    }

    /// The guardian is dead or does not reply: kills it, and thaws what it may have frozen.
    fn thaw_in_its_place(&mut self) -> Error {
        self.phase = GuardianPhase::Over;
        let ended = self.kill_guardian(EXIT_WITHIN);
        let left = self.leftovers().thaw();
        self.clean = ended && matches!(left, Ok(None));
        match left {
            Ok(None) => errors::killed(ended),
            Ok(Some(index)) => errors::killed_and_lost(&self.name(index)),
            Err(error) => error.context(errors::KILLED).with_hint("stillpoint thaw"),
        }
    }

    fn leftovers(&self) -> Leftovers {
        Leftovers {
            fds: Arc::clone(&self.fds),
            record: Arc::clone(&self.record),
        }
    }

    /// Kills the guardian; returns false when it does not exit, as one of its threads is stuck.
    fn kill_guardian(&mut self, within: Duration) -> bool {
        if let Some(helper) = &self.helper {
            helper.kill();
        }
        self.await_exit(within)
    }

    fn await_exit(&mut self, within: Duration) -> bool {
        self.helper.take_if(|helper| helper.has_ended(within));
        self.helper.is_none()
    }
}

impl Drop for Guardian {
    /// Thaws what is still frozen, and lets the guardian exit.
    fn drop(&mut self) {
        if matches!(self.phase, GuardianPhase::Armed(_)) {
            // There is nobody to report an error to.
            let _ = self.release();
        }
        self.socket = None;
        let ended = self.await_exit(EXIT_WITHIN);
        if ended {
            // As a rule the guardian has done so. If it fails, the next run does it.
            let _ = undo_expedited(self.record.run_dir());
        }
        if ended && self.clean {
            // As a rule the guardian has done so.
            let _ = std::fs::remove_file(&self.record.path);
        }
        if let Some(helper) = self.helper.take() {
            // It waits for calls that are stuck. If it was killed, a call that returns late may
            // have frozen a target, and only this process is left to thaw it.
            let leftovers = self.leftovers();
            let _ = thread::Builder::new().spawn(move || leftovers.outlive(&helper));
        }
    }
}
