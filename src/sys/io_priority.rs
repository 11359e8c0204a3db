//! How urgent a thread's reads are where a disk has more to do than it can: `ioprio_set(2)`,
//! `include/uapi/linux/ioprio.h`. It must never set the priority of another thread.
//!
//! A read bears the priority of the thread that submits it: `io_uring/rw.c: io_prep_rw()` takes
//! `get_current_ioprio()` of the thread in `io_uring_enter`, also when a worker of the kernel goes
//! on with it; `pread` that of its own thread. What the block layer makes of it is the disk's
//! scheduler's business: `none` and `kyber` ignore it; `mq-deadline` serves the idle class when
//! nothing else waits, or after 10 s (`prio_aging_expire`); `bfq` the same, after 0.2 s
//! (`BFQ_CL_IDLE_TIMEOUT`).
#![expect(unsafe_code, reason = "neither libc nor nix has these calls")]

use std::io;

/// How urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// When nobody else reads or writes: `IOPRIO_CLASS_IDLE`.
    Idle,
    /// Before all else that is no real-time process's: `IOPRIO_CLASS_BE`, level 0.
    Urgent,
}

const WHO_PROCESS: libc::c_long = 1;
const THIS_THREAD: libc::c_long = 0;
const CLASS_SHIFT: u32 = 13;
const CLASS_NONE: u32 = 0;
const CLASS_BEST_EFFORT: u32 = 2;
const CLASS_IDLE: u32 = 3;

impl IoPriority {
    fn value(self) -> u32 {
        match self {
            Self::Idle => CLASS_IDLE << CLASS_SHIFT,
            Self::Urgent => CLASS_BEST_EFFORT << CLASS_SHIFT,
        }
    }
}

/// This thread's priority until it is dropped; then it is what it was before.
#[derive(Debug)]
pub struct HeldPriority {
    before: u32,
}

impl HeldPriority {
    /// Sets it. `None`: the system does not let it be set, which nothing depends on.
    pub fn set(priority: IoPriority) -> Option<Self> {
        let before = value_of(0).ok()?;
        set(priority.value()).ok()?;
        Some(Self { before })
    }
}

impl Drop for HeldPriority {
    fn drop(&mut self) {
        // A thread without one is said to have level 4 of no class, which cannot be set.
        let before = match self.before >> CLASS_SHIFT {
            CLASS_NONE => CLASS_NONE,
            _ => self.before,
        };
        // It was set a moment ago.
        let _ = set(before);
    }
}

/// A thread's priority, the calling one's where `thread` is 0: `None` where it has none of its own,
/// or another one than those that are set here.
pub fn of(thread: i32) -> io::Result<Option<IoPriority>> {
    let value = value_of(thread)?;
    let known = [IoPriority::Idle, IoPriority::Urgent];
    // The level of the idle class means nothing.
    let is_it = |one: &IoPriority| match one {
        IoPriority::Idle => value >> CLASS_SHIFT == CLASS_IDLE,
        IoPriority::Urgent => value == one.value(),
    };
    Ok(known.into_iter().find(is_it))
}

fn value_of(thread: i32) -> io::Result<u32> {
    let thread = libc::c_long::from(thread);
    // SAFETY: two numbers go in, and no memory is touched.
    let value = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, thread) };
    u32::try_from(value).map_err(|_| io::Error::last_os_error())
}

fn set(value: u32) -> io::Result<()> {
    let value = libc::c_long::from(value);
    // SAFETY: three numbers go in, and no memory is touched.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, value) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_held_and_given_back() {
        let before = value_of(0).unwrap();
        assert_eq!(of(0).unwrap(), None);
        let idle = HeldPriority::set(IoPriority::Idle).unwrap();
        assert_eq!(of(0).unwrap(), Some(IoPriority::Idle));
        // A thread has its starter's, and what it sets is its own.
        let other = std::thread::spawn(|| {
            let inherited = of(0).unwrap();
            let _urgent = HeldPriority::set(IoPriority::Urgent).unwrap();
            (inherited, of(0).unwrap())
        });
        let other = other.join().unwrap();
        assert_eq!(other, (Some(IoPriority::Idle), Some(IoPriority::Urgent)));
        let urgent = HeldPriority::set(IoPriority::Urgent).unwrap();
        assert_eq!(of(0).unwrap(), Some(IoPriority::Urgent));
        drop(urgent);
        assert_eq!(of(0).unwrap(), Some(IoPriority::Idle));
        drop(idle);
        assert_eq!(of(0).unwrap(), None);
        assert_eq!(value_of(0).unwrap(), before);
    }
}
