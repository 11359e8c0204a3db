//! Hands over to a new guardian what it needs: the targets, open, and the record. Nothing is frozen
//! here, so both sides may allocate.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::freeze::MAX_TARGETS;
use crate::freeze::record::{Journal, Record, RecordFile};
use crate::freeze::target::FreezeTarget;
use crate::helper::{recv_with_fds, send_with_fds};
use crate::sys::process::MAX_FDS_PER_MESSAGE;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the engine may take to hand everything over.
const SETUP_WITHIN: Duration = Duration::from_secs(30);

/// The first message to a guardian. The journal's descriptor comes with it, those of the targets
/// follow, in freeze order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GuardianSetup {
    deadline_us: u64,
    /// Each target's wave.
    pub(super) waves: Vec<u16>,
    /// The record, which the guardian removes when nothing is frozen any more.
    #[serde(with = "crate::helper::path_bytes")]
    pub(super) record: PathBuf,
}

impl GuardianSetup {
    /// How long anything may stay frozen.
    pub(super) fn deadline(&self) -> Duration {
        Duration::from_micros(self.deadline_us)
    }
}

/// What a guardian has been given.
pub(super) struct TakenOver {
    pub(super) setup: GuardianSetup,
    pub(super) journal: Journal,
    /// All targets, in freeze order.
    pub(super) fds: Vec<OwnedFd>,
}

/// Opens all targets, in order.
pub(super) fn open_all(targets: &[FreezeTarget]) -> Result<Vec<OwnedFd>> {
    targets.iter().map(FreezeTarget::open).collect()
}

/// Writes the record and hands everything over.
pub(super) fn hand_over(
    socket: &OwnedFd,
    guardian: u32,
    run_dir: &Path,
    deadline: Duration,
    targets: &[FreezeTarget],
    fds: &[OwnedFd],
) -> Result<RecordFile> {
    let record = Record::new(guardian, deadline, targets)?;
    let file = RecordFile::create(run_dir, &record)?;
    let setup = GuardianSetup {
        deadline_us: u64::try_from(deadline.as_micros()).unwrap_or(u64::MAX),
        waves: targets.iter().map(|target| target.wave).collect(),
        record: std::path::absolute(&file.path).io_context("name", &file.path)?,
    };
    if let Err(errno) = send_all(socket, &setup, &file.journal, fds) {
        // Nothing has been frozen, so the record is of no use.
        let _ = std::fs::remove_file(&file.path);
        let message = "cannot hand the filesystems over to the guardian";
        return Err(Error::new(ErrorKind::Failed, message).with_source(errno));
    }
    Ok(file)
}

fn send_all(
    socket: &OwnedFd,
    setup: &GuardianSetup,
    journal: &Journal,
    fds: &[OwnedFd],
) -> Result<(), Errno> {
    send_with_fds(socket, setup, &[journal.as_fd()])?;
    fds.chunks(MAX_FDS_PER_MESSAGE).try_for_each(|some| {
        let some: Vec<_> = some.iter().map(AsFd::as_fd).collect();
        send_with_fds(socket, &(), &some)
    })
}

/// Receives everything in the guardian; `None` when the engine is gone, or sends something else.
pub(super) fn take_over(socket: &OwnedFd) -> Option<TakenOver> {
    let (setup, mut journal) = recv_with_fds::<GuardianSetup>(socket, SETUP_WITHIN).ok()?;
    let journal = journal.pop().filter(|_| journal.is_empty())?;
    let count = setup.waves.len();
    if count > MAX_TARGETS {
        return None;
    }
    let mut fds = Vec::with_capacity(count);
    while fds.len() < count {
        let ((), more) = recv_with_fds(socket, SETUP_WITHIN).ok()?;
        if more.is_empty() {
            return None;
        }
        fds.extend(more);
    }
    (fds.len() == count).then(|| TakenOver {
        setup,
        journal: Journal::new(File::from(journal)),
        fds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::thread;

    fn setup(count: usize) -> GuardianSetup {
        GuardianSetup {
            deadline_us: 2_500_000,
            waves: (0..count).map(|wave| wave as u16).collect(),
            record: OsStr::from_bytes(b"/run/still\xffpoint/freeze-1-2.json").into(),
        }
    }

    /// What the guardian is given when the engine hands over so many targets and is gone then.
    fn given(setup: &GuardianSetup, sent: usize) -> Option<TakenOver> {
        let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, flags).unwrap();
        let open = || File::open("/dev/null").unwrap();
        let fds: Vec<OwnedFd> = (0..sent).map(|_| open().into()).collect();
        let journal = Journal::new(open());
        thread::scope(|threads| {
            let guardian = threads.spawn(move || take_over(&theirs));
            // A guardian that refuses closes its end.
            let _ = send_all(&ours, setup, &journal, &fds);
            drop(ours);
            guardian.join().unwrap()
        })
    }

    #[test]
    fn a_guardian_is_given_what_was_handed_over() {
        for count in [0, 1, MAX_FDS_PER_MESSAGE, MAX_FDS_PER_MESSAGE + 1] {
            let taken = given(&setup(count), count).unwrap();
            assert_eq!(taken.setup, setup(count));
            assert_eq!(taken.setup.deadline(), Duration::from_millis(2500));
            assert_eq!(taken.fds.len(), count);
        }
    }

    #[test]
    fn a_setup_is_refused_when_it_is_incomplete_or_asks_for_too_much() {
        assert!(given(&setup(3), 2).is_none(), "a target is missing");
        assert!(given(&setup(2), 3).is_none(), "one target too many");
        assert!(given(&setup(MAX_TARGETS + 1), 0).is_none());
    }
}
