//! The main function of the guardian: `stillpoint __guardian`, with a socket as its standard input.
//! Only the engine starts it. It never writes, logs or opens anything while something is frozen.

use super::clock::Clock;
use super::handover::{TakenOver, take_over};
use super::write_out::WriteOut;
use crate::freeze::expedite::Expedite;
use crate::freeze::isolation::Isolation;
use crate::freeze::state::TargetState;
use crate::freeze::target_states::{FREEZERS, THAWERS, TargetStates};
use crate::helper;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;

/// Stack of a worker, in bytes: all of it is locked.
const WORKER_STACK: usize = 128 << 10;

/// Runs as the guardian until it exits. Exit code 0: nothing is frozen; 1: something may be, and
/// the record says what; 2: nobody has started it as a guardian.
pub fn guardian_main() -> ExitCode {
    let Some(socket) = helper::begin() else {
        return ExitCode::from(2);
    };
    let mut isolation = Isolation::begin();
    let Some(taken) = take_over(&socket) else {
        return ExitCode::from(2);
    };
    let record = taken.setup.record.clone();
    let expedite = record.parent().map(Expedite::find).unwrap_or_default();
    let expedited = expedite.begin();
    isolation.join_group();
    drop(expedited);
    let Some((mut clock, targets)) = prepare(socket, taken, expedite.clone()) else {
        isolation.leave_groups();
        return ExitCode::from(2);
    };
    isolation.lock_memory();
    clock.report_ready(isolation.results());
    clock.run();
    drop(clock);
    let lost = targets.lost_any();
    if !lost {
        // The engine removes it too; the second of the two finds nothing.
        let _ = std::fs::remove_file(record);
    }
    // The engine waits for the exit.
    let _expedited = expedite.begin();
    isolation.leave_groups();
    ExitCode::from(u8::from(lost))
}

/// Makes everything that will be needed, threads included.
fn prepare(
    socket: OwnedFd,
    taken: TakenOver,
    expedite: Expedite,
) -> Option<(Clock, Arc<TargetStates>)> {
    let TakenOver {
        setup,
        journal,
        fds,
    } = taken;
    let (wake, waker) = std::io::pipe().ok()?;
    let plan = setup.waves.iter().map(|&wave| (wave, TargetState::Planned));
    let fds = Arc::new(fds);
    let write_out = Arc::new(WriteOut::new(Arc::clone(&fds), waker.try_clone().ok()?));
    let targets = Arc::new(TargetStates::new(fds, plan, Some(journal), waker));
    spawn(&write_out, "writer", WriteOut::run)?;
    let count = setup.waves.len();
    for _ in 0..count.clamp(1, FREEZERS) {
        spawn(&targets, "freezer", TargetStates::run_freezer)?;
    }
    for _ in 0..count.min(THAWERS) {
        spawn(&targets, "thawer", TargetStates::run_thawer)?;
    }
    let clock = Clock::new(
        socket,
        wake,
        Arc::clone(&targets),
        write_out,
        setup.deadline(),
        expedite,
    );
    Some((clock, targets))
}

fn spawn<T>(work: &Arc<T>, name: &str, life: fn(&T)) -> Option<()>
where
    T: Send + Sync + 'static,
{
    let work = Arc::clone(work);
    let builder = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(WORKER_STACK);
    builder.spawn(move || life(&work)).ok().map(drop)
}
