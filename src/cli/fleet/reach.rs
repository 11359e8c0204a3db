//! How the instances of a list are reached, and what is told of each as it goes.

use super::super::args::FleetReachArgs;
use super::super::progress::ProgressDisplay;
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::fleet::{BatchOptions, EnterOptions, FleetWork, HostFile, HostResult};
use crate::report;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// What only asks how an instance stands.
pub fn asking<'a>(
    args: &FleetReachArgs,
    within: Duration,
    go_on: &'a ProgressDisplay,
) -> Result<FleetWork<'a>> {
    let zero = |option: &str| {
        let what = format!("{option}: no time at all: nothing was done");
        Error::new(ErrorKind::Usage, what).with_hint(format!("as in {option} 5m"))
    };
    if within.is_zero() {
        return Err(zero("--timeout"));
    }
    if args.deadline.is_some_and(|time| time.is_zero()) {
        return Err(zero("--deadline"));
    }
    Ok(FleetWork {
        runner: args.runner.parse()?,
        enter: EnterOptions {
            sudo: args.sudo,
            remote_token_file: None,
        },
        package: None,
        token: None,
        within,
        go_on,
    })
}

pub fn batch<'a>(args: &FleetReachArgs, go_on: &'a ProgressDisplay) -> BatchOptions<'a> {
    BatchOptions {
        at_once: NonZeroUsize::new(args.at_once.into()).unwrap_or(NonZeroUsize::MIN),
        go_on,
        // One that no clock reaches is none.
        until: args
            .deadline
            .and_then(|time| Instant::now().checked_add(time)),
    }
}

/// Tells of each instance as soon as something is known of it.
pub fn teller<'a>(list: &HostFile, progress: &'a ProgressDisplay) -> impl FnMut(&HostResult) + 'a {
    let (mut known, all) = (0, list.hosts.len());
    move |result| {
        known += 1;
        let line = report::fleet::line(result);
        progress.tell(Event::Said(format!("[{known}/{all}] {line}")));
    }
}
