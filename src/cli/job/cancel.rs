//! `job cancel`: asks a job to stop. The job thaws, and takes back what it has done.

use super::super::args::{Common, JobCancelArgs};
use super::directory::open;
use super::wait::until_it_ends;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{self, Report};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::time::Instant;

pub fn run(args: &JobCancelArgs, common: &Common) -> Result<Report> {
    let directory = open(common)?;
    let id = directory.find(&args.id)?;
    let before = directory.look(id)?;
    // If it exits between the two calls, its record says how it ended.
    if let Some(running) = before.process.hold().filter(|_| !before.state.is_end()) {
        match running.send(Signal::SIGTERM) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                let what = format!("cannot stop job {id}");
                return Err(Error::new(ErrorKind::Unsupported, what)
                    .with_source(errno)
                    .with_hint("it can be stopped by root, or by the user who started it"));
            }
        }
    }
    let until = Instant::now().checked_add(args.timeout);
    let record = until_it_ends(&directory, id, until)?;
    if !record.state.is_end() {
        let what = format!("job {id} was asked to stop and has not yet");
        return Err(Error::new(ErrorKind::Busy, what)
            .with_hint(format!("wait for it: stillpoint job wait {id}")));
    }
    let had_ended = before.state.is_end();
    Ok(report::job::cancelled(&record, directory.path(), had_ended))
}
