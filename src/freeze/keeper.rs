//! The guardian process itself: `stillpoint __guardian`, with a socket as its standard input. It
//! never runs for a user, and it never writes, logs or opens anything while something is frozen.

use super::clock::Clock;
use super::isolation::Isolation;
use super::ledger::{FREEZERS, Ledger, State, THAWERS};
use super::record::Journal;
use super::wire::{Hello, MAX_HELLO};
use crate::sys::process::{close_from, receive_with_fds};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long an engine may take to hand everything over.
const HELLO_WITHIN: Duration = Duration::from_secs(30);
/// Stack of a worker, in bytes: all of it is locked.
const WORKER_STACK: usize = 128 << 10;

/// Runs as the guardian, to the end. Exit code 0: nothing is frozen; 1: something may be, and the
/// record tells what; 2: nobody asked for a guardian.
pub fn guardian_main() -> ExitCode {
    let mut isolation = Isolation::begin();
    let Some((socket, hello, fds)) = receive_orders() else {
        isolation.leave_groups();
        return ExitCode::from(2);
    };
    let record = PathBuf::from(std::ffi::OsString::from_vec(hello.record.clone()));
    let Some((mut clock, ledger)) = prepare(socket, &hello, fds) else {
        isolation.leave_groups();
        return ExitCode::from(2);
    };
    isolation.lock_memory();
    clock.report_ready(isolation.entries());
    clock.run();
    drop(clock);
    let lost = ledger.lost_any();
    if !lost {
        // The engine removes it too; whoever comes second finds nothing.
        let _ = std::fs::remove_file(record);
    }
    isolation.leave_groups();
    ExitCode::from(u8::from(lost))
}

/// Everything that the engine hands over: the greeting, then its descriptors, the journal's first.
fn receive_orders() -> Option<(OwnedFd, Hello, Vec<OwnedFd>)> {
    close_from(3).ok()?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .ok()?;
    nix::unistd::dup2_stdin(&null).ok()?;
    nix::unistd::dup2_stdout(&null).ok()?;
    nix::unistd::dup2_stderr(&null).ok()?;
    std::env::set_current_dir("/").ok()?;
    let mut buffer = vec![0; MAX_HELLO];
    let (len, mut fds) = receive(&socket, &mut buffer)?;
    let hello = Hello::decode(buffer.get(..len)?)?;
    let expected = hello.waves.len() + 1;
    while fds.len() < expected {
        let (len, more) = receive(&socket, &mut buffer)?;
        if len == 0 || more.is_empty() {
            return None;
        }
        fds.extend(more);
    }
    (fds.len() == expected).then_some((socket, hello, fds))
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, Vec<OwnedFd>)> {
    let within = PollTimeout::try_from(HELLO_WITHIN).ok()?;
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, within).ok()? == 0 {
        return None;
    }
    receive_with_fds(socket, buffer).ok()
}

/// Makes everything that will be needed, threads among it.
fn prepare(socket: OwnedFd, hello: &Hello, mut fds: Vec<OwnedFd>) -> Option<(Clock, Arc<Ledger>)> {
    let journal = Journal::new(File::from(fds.remove(0)));
    let (bell, ring) = std::io::pipe().ok()?;
    let plan = hello.waves.iter().map(|&wave| (wave, State::Planned));
    let ledger = Ledger::new(Arc::new(fds), plan, Some(journal), ring);
    let ledger = Arc::new(ledger);
    let targets = hello.waves.len();
    for _ in 0..targets.clamp(1, FREEZERS) {
        spawn(&ledger, "freezer", Ledger::run_freezer)?;
    }
    for _ in 0..targets.min(THAWERS) {
        spawn(&ledger, "thawer", Ledger::run_thawer)?;
    }
    let clock = Clock::new(socket, bell, Arc::clone(&ledger), hello.deadline);
    Some((clock, ledger))
}

fn spawn(ledger: &Arc<Ledger>, name: &str, life: fn(&Ledger)) -> Option<()> {
    let ledger = Arc::clone(ledger);
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(WORKER_STACK);
    builder.spawn(move || life(&ledger)).ok().map(drop)
}
