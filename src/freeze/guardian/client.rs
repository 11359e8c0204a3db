//! The engine's side of the guardian: asking it to freeze and to thaw, and doing its work when it
//! has been killed. Nothing is left frozen when a [`Guardian`] is gone.

use super::wire::{Head, MAX_REPLY, Order, Word};
use super::{errors, handover};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::direct_thaw::{Leftovers, bounded};
use crate::freeze::expedite::undo_expedited;
use crate::freeze::isolation::{MEASURES, shared_group};
use crate::freeze::record::RecordFile;
use crate::freeze::target::FreezeTarget;
use crate::freeze::{DEFAULT_RUN_DIR, GUARDIAN_COMMAND, THAW_GRACE};
use crate::helper::{Helper, Role};
use crate::model::DevNumber;
use crate::sys::process::parent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long the guardian may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How much later than it must answer the guardian is given up.
const SLACK: Duration = Duration::from_secs(3);
/// How long a guardian may take to end; after that a thread waits for it.
const END_WITHIN: Duration = Duration::from_secs(2);

const ROLE: Role = Role {
    command: GUARDIAN_COMMAND,
    name: "freeze-guardian",
};

/// What a guardian needs to know.
#[derive(Clone, Debug)]
pub struct GuardianOptions {
    /// The program to start as the guardian.
    pub program: PathBuf,
    /// Where the record is kept.
    pub run_dir: PathBuf,
    /// What to freeze, in this order; each filesystem once.
    pub targets: Vec<FreezeTarget>,
    /// How long anything may stay frozen, from the order to freeze on: up to 10 minutes.
    pub deadline: Duration,
    /// How long writing everything out before the freeze may take.
    pub sync_within: Duration,
}

impl GuardianOptions {
    /// The usual: this program, `/run/stillpoint`, a minute to write everything out.
    pub fn new(targets: Vec<FreezeTarget>, deadline: Duration) -> Self {
        Self {
            program: "/proc/self/exe".into(),
            run_dir: DEFAULT_RUN_DIR.into(),
            targets,
            deadline,
            sync_within: Duration::from_secs(60),
        }
    }
}

/// What freezing took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FreezeTimes {
    /// From the order until all were frozen.
    pub total: Duration,
    /// Each target's `FIFREEZE`, in the order given.
    pub each: Vec<Duration>,
}

/// What thawing took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThawTimes {
    /// From the order to freeze until all were thawed: no writer waited longer.
    pub frozen_for: Duration,
    /// Each target's `FITHAW`, in the order given.
    pub each: Vec<Duration>,
}

/// How much of the deadline is left; can be copied to whoever reads.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    ends: Instant,
}

impl Watch {
    /// What is left; zero when it has passed.
    pub fn remaining(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing is frozen and nothing was.
    Idle,
    /// The guardian may have frozen something; when it was told to.
    Armed(Instant),
    /// Nothing is frozen any more, or others go on with it.
    Over,
}

enum Heard {
    Reply(Head, usize),
    Silence,
    Gone,
}

/// A guardian that runs and is ready, and with it the duty to thaw.
#[derive(Debug)]
pub struct Guardian {
    targets: Vec<FreezeTarget>,
    fds: Arc<Vec<OwnedFd>>,
    /// Closing it makes the guardian thaw and end.
    socket: Option<OwnedFd>,
    helper: Option<Helper>,
    record: Arc<RecordFile>,
    deadline: Duration,
    sync_within: Duration,
    phase: Phase,
    /// Whether the record has nothing more to tell.
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
        let GuardianOptions {
            program,
            run_dir,
            targets,
            deadline,
            sync_within,
        } = options;
        handover::check(&targets, deadline)?;
        let (to_open, count) = (targets.clone(), targets.len());
        let opened = bounded(sync_within, move || handover::open_all(&to_open))?;
        let fds = opened.ok_or_else(|| errors::too_slow("open", sync_within))??;
        let (helper, socket) = Helper::start(&program, ROLE)?;
        // Without its orders it ends with the socket, having frozen nothing.
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
            phase: Phase::Idle,
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
        let Heard::Reply(head, len) = self.hear(Instant::now() + READY_WITHIN) else {
            let message = "the guardian process did not get ready; nothing has been frozen";
            return Err(Error::new(ErrorKind::Failed, message));
        };
        if head.word != Word::Ready {
            let message = "the guardian process answered out of turn; nothing has been frozen";
            return Err(Error::new(ErrorKind::Failed, message));
        }
        let entries = Head::decode(self.buffer.get(..len).unwrap_or_default());
        for (entry, measure) in entries.into_iter().flat_map(|(_, e)| e).zip(MEASURES) {
            if entry.errno != 0 {
                let why = Errno::from_raw(entry.errno).desc();
                let weakness = format!("the guardian runs without {measure}: {why}");
                self.weaknesses.push(weakness);
            }
        }
        let parent = self.pid().and_then(parent);
        if let Some(parent) = parent.filter(|parent| *parent != 1) {
            let weakness = format!(
                "the guardian was adopted by process {parent} instead of init: whoever kills all \
                 below that kills it too"
            );
            self.weaknesses.push(weakness);
        }
        Ok(())
    }

    /// What the guardian could not arrange for itself; it works all the same.
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// The filesystem, by its device, for which a freeze failed, when it was one of them.
    pub fn blamed(&self) -> Option<DevNumber> {
        self.blamed
    }

    /// Why what ends the engine may end the guardian with it: `stillpoint thaw` is what is left
    /// then. `None` when it stands apart.
    pub fn exposure(&self) -> Option<String> {
        let group = shared_group(self.pid()?)?;
        Some(format!(
            "the guardian could not leave the control group {group}: whoever kills that group \
             while filesystems are frozen leaves them so, until `stillpoint thaw` or the next run"
        ))
    }

    /// The guardian's process id.
    pub fn pid(&self) -> Option<u32> {
        self.helper.as_ref().map(Helper::pid)
    }

    /// Has the guardian write out what the targets hold in memory, so that the freeze need not; how
    /// long it took.
    ///
    /// # Errors
    /// `Inconsistent` when it is not done in the time of the options, and then nothing more can be
    /// done with this guardian; what a filesystem failed to write.
    pub fn sync(&mut self) -> Result<Duration> {
        let (begun, within) = (Instant::now(), self.sync_within);
        self.tell(Order::WriteOut);
        match self.hear(begun + within) {
            Heard::Reply(head, _) if head.word == Word::WrittenOut => {
                if head.errno == 0 {
                    return Ok(begun.elapsed());
                }
                let message = format!("cannot write out {}", self.name(head.index));
                let errno = Errno::from_raw(head.errno);
                Err(Error::new(ErrorKind::Io, message).with_source(errno))
            }
            Heard::Silence => Err(errors::too_slow("write out", within)),
            Heard::Reply(..) | Heard::Gone => Err(self.rescue()),
        }
    }

    /// Whether it is there, has frozen nothing yet, and would freeze these.
    pub fn is_ready_for(&self, targets: &[FreezeTarget]) -> bool {
        let there = |helper: &Helper| !helper.has_ended(Duration::ZERO);
        self.phase == Phase::Idle
            && self.targets == targets
            && self.helper.as_ref().is_some_and(there)
    }

    /// Writes everything out, twice, then has all targets frozen, in order. When it fails, nothing
    /// of ours stays frozen. It allocates nothing after the first target is frozen.
    ///
    /// # Errors
    /// `Busy`: someone else has frozen one, and it was left alone; `Unsupported`: one cannot be
    /// frozen; `Inconsistent`: the deadline passed.
    pub fn freeze(&mut self) -> Result<FreezeTimes> {
        if self.phase != Phase::Idle {
            let message = "a guardian freezes once only";
            return Err(Error::new(ErrorKind::Failed, message));
        }
        // What was written during the first pass is little, so the second is short, and FIFREEZE
        // finds next to nothing to write.
        self.sync()?;
        self.sync()?;
        self.record.arm(self.fds.len(), self.deadline)?;
        let now = Instant::now();
        self.phase = Phase::Armed(now);
        self.tell(Order::Freeze);
        match self.hear(now + self.deadline + THAW_GRACE + SLACK) {
            Heard::Reply(head, len) if head.word == Word::Frozen => {
                let reply = Head::decode(self.buffer.get(..len).unwrap_or_default());
                let entries = reply.into_iter().flat_map(|(_, entries)| entries);
                let mut times = std::mem::take(&mut self.freeze_times);
                times.total = head.since_order;
                let micros = entries.map(|entry| Duration::from_micros(entry.micros.into()));
                times.each.extend(micros);
                Ok(times)
            }
            Heard::Reply(head, _) if head.word == Word::Failed => Err(self.refused(head)),
            Heard::Reply(head, _) if head.word == Word::Expired => Err(self.expired(head)),
            _ => Err(self.rescue()),
        }
    }

    /// How much is left of the deadline; `None` before [`Guardian::freeze`].
    pub fn watch(&self) -> Option<Watch> {
        match self.phase {
            Phase::Armed(since) => Some(Watch {
                ends: since + self.deadline,
            }),
            Phase::Idle | Phase::Over => None,
        }
    }

    /// Whether, as far as can be known at once and without allocating, all is still frozen: false
    /// when the deadline has passed or the guardian has anything to say: it has no good news now.
    pub fn is_holding(&self) -> bool {
        let in_time = self.watch().is_some_and(|w| !w.remaining().is_zero());
        let Some(socket) = &self.socket else {
            return false;
        };
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        in_time && poll(&mut ready, PollTimeout::ZERO) == Ok(0)
    }

    /// Has everything thawed, and ends the guardian. Only when this succeeds was everything frozen
    /// from the end of [`Guardian::freeze`] until now.
    ///
    /// # Errors
    /// `Inconsistent`: the deadline passed, someone else thawed a target, or the guardian died:
    /// what was read must be thrown away. `Failed`: a target could not be thawed.
    pub fn thaw(mut self) -> Result<ThawTimes> {
        self.release()
    }

    fn release(&mut self) -> Result<ThawTimes> {
        let Phase::Armed(since) = self.phase else {
            let message = "nothing is frozen";
            return Err(Error::new(ErrorKind::Failed, message));
        };
        self.tell(Order::Thaw);
        let latest = Instant::now().max(since + self.deadline) + THAW_GRACE + SLACK;
        loop {
            match self.hear(latest) {
                Heard::Reply(head, len) => match head.word {
                    Word::Thawed => return self.thawed(head, len),
                    Word::Expired => return Err(self.expired(head)),
                    Word::Failed => return Err(self.refused(head)),
                    // Said before it had heard of the thaw.
                    Word::Frozen | Word::Ready | Word::WrittenOut => {}
                },
                Heard::Silence | Heard::Gone => return Err(self.rescue()),
            }
        }
    }

    fn thawed(&mut self, head: Head, len: usize) -> Result<ThawTimes> {
        self.phase = Phase::Over;
        if head.left > 0 {
            return Err(self.still_at_it(head));
        }
        let mut times = std::mem::take(&mut self.thaw_times);
        times.frozen_for = head.since_order;
        let reply = Head::decode(self.buffer.get(..len).unwrap_or_default());
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

    fn refused(&mut self, head: Head) -> Error {
        self.phase = Phase::Over;
        if head.left > 0 {
            return self.still_at_it(head);
        }
        let target = self.targets.get(head.index);
        self.blamed = target.map(|target| target.dev);
        errors::refused(target, Errno::from_raw(head.errno))
    }

    fn expired(&mut self, head: Head) -> Error {
        self.phase = Phase::Over;
        self.clean = head.left == 0;
        let stuck = (head.left > 0).then(|| self.name(head.index));
        let target = self.targets.get(head.index).filter(|_| head.left > 0);
        self.blamed = target.map(|target| target.dev);
        errors::expired(self.deadline, stuck)
    }

    fn still_at_it(&mut self, head: Head) -> Error {
        self.clean = false;
        let guardian = self.pid().unwrap_or(0);
        errors::still_at_it(head.left, &self.name(head.index), guardian)
    }

    fn name(&self, index: usize) -> String {
        let target = self.targets.get(index);
        target.map_or("an unknown filesystem".into(), FreezeTarget::name)
    }

    fn tell(&self, order: Order) {
        if let Some(socket) = &self.socket {
            // A guardian that is gone is noticed by listening to it.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(socket.as_raw_fd(), &order.encode(), flags);
        }
    }

    fn hear(&mut self, until: Instant) -> Heard {
        let Some(socket) = &self.socket else {
            return Heard::Gone;
        };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Silence;
            }
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(_) => return Heard::Gone,
            }
            let flags = MsgFlags::MSG_DONTWAIT;
            match recv(socket.as_raw_fd(), self.buffer.as_mut_slice(), flags) {
                // A reset comes before what was said last.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNRESET) => {}
                Err(_) | Ok(0) => return Heard::Gone,
                Ok(len) => {
                    let message = self.buffer.get(..len).unwrap_or_default();
                    let head = Head::decode(message).map(|(head, _)| head);
                    return head.map_or(Heard::Gone, |head| Heard::Reply(head, len));
                }
            }
        }
    }

    /// The guardian is dead or does not answer: ends it, and thaws what it may have frozen.
    fn rescue(&mut self) -> Error {
        self.phase = Phase::Over;
        let ended = self.end_guardian(END_WITHIN);
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

    /// Kills the guardian; false when it does not end, as one of its threads is stuck.
    fn end_guardian(&mut self, within: Duration) -> bool {
        if let Some(helper) = &self.helper {
            helper.kill();
        }
        self.await_end(within)
    }

    fn await_end(&mut self, within: Duration) -> bool {
        self.helper.take_if(|helper| helper.has_ended(within));
        self.helper.is_none()
    }
}

impl Drop for Guardian {
    /// Thaws what is still frozen, and lets the guardian end.
    fn drop(&mut self) {
        if matches!(self.phase, Phase::Armed(_)) {
            // Nobody is left to hear of an error.
            let _ = self.release();
        }
        self.socket = None;
        let ended = self.await_end(END_WITHIN);
        if ended {
            // Usually the guardian has done so. What fails is done by the next run.
            let _ = undo_expedited(self.record.run_dir());
        }
        if ended && self.clean {
            // Usually the guardian has done so.
            let _ = std::fs::remove_file(&self.record.path);
        }
        if let Some(helper) = self.helper.take() {
            // It goes on with what is stuck. If it was killed, what comes unstuck then is frozen
            // and still ours to thaw.
            let leftovers = self.leftovers();
            let _ = thread::Builder::new().spawn(move || leftovers.outlive(&helper));
        }
    }
}
