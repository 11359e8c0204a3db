//! The errors of a freeze that failed: what happened, what was left alone, what to do next.

use crate::error::{Error, ErrorKind};
use crate::freeze::target::FreezeTarget;
use nix::errno::Errno;
use std::time::Duration;

/// How the sentences begin when the guardian was lost.
pub(super) const KILLED: &str = "the guardian was killed or hung while filesystems were frozen";

/// Something before the freeze took too long.
pub(super) fn too_slow(what: &str, within: Duration) -> Error {
    let message = format!("could not {what} the filesystems within {within:?}; nothing is frozen");
    Error::new(ErrorKind::Inconsistent, message)
        .with_hint("a device does not answer, or there is too much to write: try again later")
}

/// `FIFREEZE` failed; what had been frozen before is thawed again.
pub(super) fn refused(target: Option<&FreezeTarget>, errno: Errno) -> Error {
    let name = target.map_or("a filesystem".into(), FreezeTarget::name);
    let place = target.map_or("MOUNT".into(), |t| t.mount_point.display().to_string());
    match errno {
        Errno::EBUSY => Error::new(
            ErrorKind::Busy,
            format!("{name} is frozen already, by someone else; it was left alone"),
        )
        .with_hint(format!(
            "find out who did it (another backup, fsfreeze, a hypervisor's agent) and let it end; \
             if it is dead: fsfreeze --unfreeze {place}, or stillpoint thaw if it was a run of ours"
        )),
        Errno::EOPNOTSUPP => Error::new(
            ErrorKind::Unsupported,
            format!("{name} cannot be frozen: its type does not support it"),
        ),
        errno => Error::new(ErrorKind::Failed, format!("cannot freeze {name}"))
            .with_kind(match errno {
                Errno::EPERM => ErrorKind::Unsupported,
                Errno::EIO => ErrorKind::Io,
                _ => ErrorKind::Failed,
            })
            .with_source(errno),
    }
}

/// The deadline passed, perhaps while one freeze was stuck.
pub(super) fn expired(deadline: Duration, stuck: Option<String>) -> Error {
    let begin = format!("the freeze deadline of {deadline:?} passed");
    let (message, hint) = match stuck {
        Some(name) => (
            format!(
                "{begin}, with {name} not done yet; all others are thawed, and it will be as soon \
                 as the kernel lets go of it; the snapshot must be thrown away"
            ),
            "a writer in that filesystem is stuck, most likely on a slow or frozen device",
        ),
        None => (
            format!("{begin}; everything was thawed, and the snapshot must be thrown away"),
            "allow a longer freeze, or take the snapshot at a quieter time",
        ),
    };
    Error::new(ErrorKind::Inconsistent, message).with_hint(hint)
}

/// The guardian was asked to thaw and has not thawed everything yet.
pub(super) fn not_done(count: u32, name: &str, guardian: u32) -> Error {
    let message = format!(
        "{count} filesystems are not thawed yet, {name} among them; the guardian (process \
         {guardian}) goes on"
    );
    Error::new(ErrorKind::Failed, message)
        .with_hint("if it lasts, its device does not answer: look at the kernel log")
}

/// Somebody else thawed what we had frozen.
pub(super) fn thawed_by_another(name: &str) -> Error {
    let message = format!("{name} was thawed by someone else; the snapshot must be thrown away");
    Error::new(ErrorKind::Inconsistent, message)
}

/// `FITHAW` failed at each try.
pub(super) fn not_thawed(name: &str, errno: Errno) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("cannot thaw {name}: it is still frozen"),
    )
    .with_source(errno)
    .with_hint("stillpoint thaw tries it again")
}

/// The guardian was lost, and the engine has thawed. `exited`: none of its calls is stuck.
pub(super) fn killed(exited: bool) -> Error {
    if exited {
        let message = format!("{KILLED}; they are thawed, and the snapshot must be thrown away");
        return Error::new(ErrorKind::Inconsistent, message);
    }
    let message = format!("{KILLED}, and one of its calls is stuck in the kernel");
    Error::new(ErrorKind::Failed, message)
        .with_hint("stillpoint thaw thaws it, once the kernel lets go of it")
}

/// The guardian was lost, and the engine could not thaw everything.
pub(super) fn killed_and_lost(name: &str) -> Error {
    let message = format!("{KILLED}; {name} could not be thawed");
    Error::new(ErrorKind::Failed, message).with_hint("stillpoint thaw tries it again")
}
