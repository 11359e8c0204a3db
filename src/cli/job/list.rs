//! `job list`: the jobs of this host.

use super::super::args::{Command, CommandLine, Common, JobListArgs};
use super::super::signals;
use super::directory::directory_path;
use crate::error::{ErrorKind, Result};
use crate::job::JobDirectory;
use crate::report::Report;
use crate::report::jobs::{JobList, JobListOptions};
use clap::Parser;

pub fn run(args: &JobListArgs, common: &Common) -> Result<Report> {
    let path = directory_path(common)?;
    let directory = match JobDirectory::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        other => Some(other?),
    };
    let mut list = JobList::default();
    if let Some(directory) = &directory {
        for id in directory.jobs()? {
            signals::check()?;
            match directory.look(id) {
                Ok(record) => list.add(record),
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => list.add_unreadable(id, &error),
            }
        }
    }
    Ok(list.report(JobListOptions {
        directory: &path,
        all: args.all,
        asked_for: &asked_for,
    }))
}

/// The disks that a job's arguments name, as far as they can be parsed.
fn asked_for(args: &[String]) -> Vec<String> {
    let words = ["stillpoint"]
        .into_iter()
        .chain(args.iter().map(String::as_str));
    match CommandLine::try_parse_from(words).map(|line| line.command) {
        Ok(Command::Snapshot(args)) => args.disks,
        Ok(Command::Restore(args)) => args.disk.into_iter().collect(),
        _ => Vec::new(),
    }
}
