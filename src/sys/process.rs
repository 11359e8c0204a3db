//! What a process does to itself and to the descriptors it was given: signals it no longer hears,
//! descriptors it closes or receives, the session it begins in; and how processes are told apart.
//! It must never touch another process.
#![expect(
    unsafe_code,
    reason = "signal dispositions and raw descriptors have no safe wrapper"
)]

use super::pidfd::PidFd;
use crate::error::Result;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Gid, Uid, fork, setgid, setgroups, setuid};
use std::fs::File;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The most descriptors that one message can carry: `SCM_MAX_FD` in `include/net/scm.h`.
pub const MAX_FDS_PER_MESSAGE: usize = 253;

/// When a process began, in clock ticks since boot: field 22 of `/proc/PID/stat`
/// (proc_pid_stat(5)); and whether it is dead and only not waited for yet. `None` when it is gone.
pub fn start_time(pid: u32) -> Option<(u64, bool)> {
    let stat = stat_fields(pid)?;
    let mut fields = stat.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X" | "x");
    Some((fields.nth(18)?.parse().ok()?, dead))
}

/// The parent of a process: field 4 of `/proc/PID/stat`. `None` when it is gone.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = stat_fields(pid)?;
    stat.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third on.
fn stat_fields(pid: u32) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // Its name may be anything, parentheses and broken letters among it.
    let after = stat.iter().rposition(|&byte| byte == b')')?;
    String::from_utf8(stat.get(after + 1..)?.to_vec()).ok()
}

/// Has the kernel keep the exit of this process's children for it. A starter that ignored SIGCHLD
/// has left that to us through exec, and no child could be waited for (wait(2), NOTES).
pub fn keep_exits_of_children() {
    // SAFETY: SIG_DFL is no function of ours, so there is none that could run at a bad moment.
    let set = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    debug_assert!(set.is_ok(), "SIGCHLD has a default");
}

/// Has a file that may not grow further be an error of the write (`EFBIG`), and not a death by
/// SIGXFSZ in the middle of a run (setrlimit(2), `RLIMIT_FSIZE`).
pub fn survive_file_limits() {
    // SAFETY: ignoring a signal installs no handler, so no code runs in signal context.
    let set = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    debug_assert!(set.is_ok(), "SIGXFSZ may be ignored");
}

/// The process that `command` will start dies of such a limit as any other does.
pub fn die_of_file_limits(command: &mut Command) {
    let begin = || {
        // SAFETY: SIG_DFL is no function of ours, so there is none that could run at a bad moment.
        unsafe { signal(Signal::SIGXFSZ, SigHandler::SigDfl) }?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, which is async-signal-safe, and
    // takes no lock and no memory.
    unsafe { command.pre_exec(begin) };
}

/// Lets the process that `command` will start begin in a session of its own: what is sent to the
/// starter's process group, or comes with the end of its terminal, does not reach it.
pub fn in_own_session(command: &mut Command) {
    let begin = || {
        nix::unistd::setsid()
            .map(drop)
            .map_err(std::io::Error::from)
    };
    // SAFETY: between fork and exec it makes one system call, which is async-signal-safe, and
    // takes no lock and no memory.
    unsafe { command.pre_exec(begin) };
}

/// Has the process that `command` will start killed when this one, or rather this thread, is dead
/// (PR_SET_PDEATHSIG(2const)). What it starts itself is not.
pub fn die_with_starter(command: &mut Command) {
    let starter = nix::unistd::getpid();
    let begin = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // Dead already: no signal will come.
        match nix::unistd::getppid() == starter {
            true => Ok(()),
            false => Err(Errno::ESRCH.into()),
        }
    };
    // SAFETY: between fork and exec it makes two system calls, which are async-signal-safe, and
    // takes no lock and no memory.
    unsafe { command.pre_exec(begin) };
}

/// Starts `command` as the first process of a PID namespace (pid_namespaces(7)): when it ends, all
/// that it has started is killed, also what has left its group or session. It sees no other
/// processes, has no network, and mounts of its own. It is killed when this thread is dead.
///
/// To an init the kernel brings no signal that it does not handle, but SIGKILL from here.
///
/// # Errors
/// `EPERM`: not root. `ENOSPC`: this host allows no such namespaces. Else as clone(2).
pub fn spawn_apart(command: &mut Command) -> std::io::Result<Child> {
    let starter = PidFd::open(std::process::id())?;
    let begin = move || {
        die_with(&starter)?;
        leave_network_and_mounts()
    };
    // SAFETY: between fork and exec it makes system calls alone, which are async-signal-safe, and
    // takes no lock and no memory: its texts are short and go through the stack.
    unsafe { command.pre_exec(begin) };
    spawn_in_pid_namespace(command)
}

/// Who a program is that is not trusted, and what it gets beside its standard streams.
pub struct LoweredProgram {
    /// Its user and its group, a number that nobody else should have.
    pub id: u32,
    /// A group that it has besides.
    pub group: Option<u32>,
    /// What it inherits, under the same numbers as here.
    pub descriptors: Vec<OwnedFd>,
    /// The longest file that it may write.
    pub file_size: u64,
}

/// The same as [`spawn_apart`], but as a user without rights, that can get none, and leaves no
/// image of its memory. It sees this host's mounts, and holds no copy of them: a filesystem that is
/// unmounted meanwhile is gone, however long it runs. The descriptors are closed here.
///
/// # Errors
/// As [`spawn_apart`].
pub fn spawn_lowered(command: &mut Command, lowered: LoweredProgram) -> std::io::Result<Child> {
    let LoweredProgram {
        id,
        group,
        descriptors,
        file_size,
    } = lowered;
    let starter = PidFd::open(std::process::id())?;
    let (user, own_group) = (Uid::from_raw(id), Gid::from_raw(id));
    let groups: Vec<Gid> = group.map(Gid::from_raw).into_iter().collect();
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let begin = move || {
        die_with(&starter)?;
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)?;
        // Before anything else of the host's, should memory run out.
        let score = open(c"/proc/self/oom_score_adj", OFlag::O_WRONLY, Mode::empty())?;
        nix::unistd::write(&score, b"1000")?;
        for fd in &raw {
            // SAFETY: the starter holds them open until it has started this process.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        setrlimit(Resource::RLIMIT_FSIZE, file_size, file_size)?;
        setgroups(&groups)?;
        setgid(own_group)?;
        setuid(user)?;
        set_no_new_privs()?;
        // With another user the kernel forgets it (PR_SET_PDEATHSIG(2const)).
        die_with(&starter)?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls alone, which are async-signal-safe, and
    // takes no lock and no memory: its lists were made before.
    unsafe { command.pre_exec(begin) };
    let child = spawn_in_pid_namespace(command);
    drop(descriptors);
    child
}

/// How long a killed process may take to be gone: it may hang in the kernel.
pub const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How often is looked whether one has ended.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits until a child has ended, for so long at most; `meanwhile` is called again and again.
/// Whether it has: one that cannot be waited for is nobody's child any more.
pub fn await_end(child: &mut Child, within: Duration, meanwhile: &mut dyn FnMut()) -> bool {
    let until = Instant::now() + within;
    loop {
        meanwhile();
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Has this process killed with the thread that has started it.
fn die_with(starter: &PidFd) -> std::io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // Dead already: no signal will come, and a parent outside cannot be seen.
    match starter.await_end(Some(Duration::ZERO)) {
        true => Err(Errno::ESRCH.into()),
        false => Ok(()),
    }
}

fn leave_network_and_mounts() -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        nothing,
    )?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing)?;
    Ok(())
}

fn spawn_in_pid_namespace(command: &mut Command) -> std::io::Result<Child> {
    let own = File::open("/proc/thread-self/ns/pid")?;
    // For the children of this thread alone.
    unshare(CloneFlags::CLONE_NEWPID)?;
    let child = command.spawn();
    let back = setns(&own, CloneFlags::CLONE_NEWPID);
    match (child, back) {
        (Ok(mut child), Err(errno)) => {
            child.kill()?;
            child.wait()?;
            Err(errno.into())
        }
        (child, _) => child,
    }
}

/// Starts `command` with all signals blocked: what is sent to the starter's process group before
/// the new process has left it (`setsid`) waits until that process has said what is to become of
/// such signals. It has to unblock them then: [`hear_signals`].
///
/// # Errors
/// As fork(2) and execve(2).
pub fn spawn_deaf(command: &mut Command) -> std::io::Result<Child> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let child = command.spawn();
    before.thread_set_mask()?;
    child
}

/// Unblocks all signals in this thread: what came in the meantime is delivered now.
///
/// # Errors
/// None that is documented.
pub fn hear_signals() -> Result<(), Errno> {
    SigSet::empty().thread_set_mask()
}

/// Ends this process and goes on in a child of it, which is init's from then on, or that of the
/// nearest subreaper above: whoever walks a tree of processes from the starter down does not find
/// it. To be called before any thread is started.
///
/// # Errors
/// As fork(2): nothing has changed then.
pub fn leave_starter() -> Result<(), Errno> {
    // SAFETY: by the contract above no other thread is there, so the child finds no lock taken and
    // may do all that its parent could.
    match unsafe { fork() }? {
        ForkResult::Child => Ok(()),
        // SAFETY: it ends at once, and runs nothing that the child will run too.
        ForkResult::Parent { .. } => unsafe { nix::libc::_exit(0) },
    }
}

/// Makes the process deaf to `signals`.
///
/// # Errors
/// `EINVAL` for `SIGKILL` and `SIGSTOP`, which nobody can ignore.
pub fn ignore_signals(signals: &[Signal]) -> Result<(), Errno> {
    for &one in signals {
        // SAFETY: ignoring a signal installs no handler, so no code runs in signal context.
        unsafe { signal(one, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Whether the process is deaf to a signal.
pub fn ignores(signal: Signal) -> bool {
    let mut now = std::mem::MaybeUninit::<nix::libc::sigaction>::zeroed();
    let number = signal as nix::libc::c_int;
    // SAFETY: with no new action it changes nothing, and writes the present one to `now`, which is
    // all zeros, a valid action, should it fail.
    let now = unsafe {
        nix::libc::sigaction(number, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.sa_sigaction == nix::libc::SIG_IGN
}

/// Closes every descriptor from `first` on. To be called by a process that has just started and
/// owns none of them yet: what it inherited by mistake must not live as long as it does.
///
/// # Errors
/// What reading `/proc/self/fd` gave, on kernels before 5.9, which have no `close_range`.
pub fn close_from(first: RawFd) -> std::io::Result<()> {
    let from = u32::try_from(first).map_err(|_| Errno::EBADF)?;
    // From include/linux/syscalls.h:
    //   asmlinkage long sys_close_range(unsigned int fd, unsigned int max_fd, unsigned int flags);
    // SAFETY: the caller owns no descriptor from `first` on, so no owner is left with a stale one.
    let done = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, from, u32::MAX, 0) };
    if done == 0 {
        return Ok(());
    }
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|n| n.parse().ok()) {
            open.push(fd);
        }
    }
    for fd in open.into_iter().filter(|fd: &RawFd| *fd >= first) {
        // SAFETY: as above; the one that listed the directory is closed already, giving `EBADF`.
        unsafe { nix::libc::close(fd) };
    }
    Ok(())
}

/// Receives one message and the descriptors that came with it; 0 bytes means that the other end is
/// closed. Received descriptors are not inherited by children.
///
/// # Errors
/// As `recvmsg`; `EMSGSIZE` when the message or its descriptors did not fit.
pub fn receive_with_fds(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = cmsg_space!([RawFd; MAX_FDS_PER_MESSAGE]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for one in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = one {
            // SAFETY: the kernel has just opened these for us, and nobody else knows of them.
            fds.extend(
                raw.into_iter()
                    .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
            );
        }
    }
    let cut = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC;
    if message.flags.intersects(cut) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    /// With another user the kernel forgets that it was to be killed with its starter.
    #[test]
    fn a_lowered_program_dies_with_the_thread_that_has_started_it() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let start = || {
            let mut command = Command::new("/bin/sleep");
            command.arg("600").stdin(Stdio::null());
            let lowered = LoweredProgram {
                id: 61_184,
                group: None,
                descriptors: Vec::new(),
                file_size: 1 << 20,
            };
            spawn_lowered(&mut command, lowered).unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        let has_ended = await_end(&mut child, Duration::from_secs(60), &mut || ());
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(has_ended, "it sleeps on");
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }

    /// The blocked signals in the text of a `/proc/PID/status`.
    fn blocked(status: &str) -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    }

    #[test]
    fn what_is_started_deaf_has_all_signals_blocked_and_its_starter_none() {
        let mut command = Command::new("/bin/cat");
        command.arg("/proc/self/status").stdout(Stdio::piped());
        let before = blocked(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
        let child = spawn_deaf(&mut command).unwrap();
        let status = child.wait_with_output().unwrap().stdout;
        let theirs = blocked(&String::from_utf8(status).unwrap());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            assert_ne!(theirs & (1 << (signal as u32 - 1)), 0, "{signal}");
        }
        let after = blocked(&std::fs::read_to_string("/proc/thread-self/status").unwrap());
        assert_eq!(before, after);
        std::thread::spawn(|| {
            SigSet::all().thread_set_mask().unwrap();
            hear_signals().unwrap();
            let now = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert_eq!(blocked(&now), 0);
        })
        .join()
        .unwrap();
    }
}
