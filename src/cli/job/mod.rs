//! `job`, and the commands that run as jobs.

mod cancel;
mod detach;
mod directory;
mod list;
mod logs;
mod run;
mod status;
mod wait;

pub use detach::{detach, detach_as, settle};
pub use directory::open as directory_of_jobs;
pub use run::run_as_job;

use super::args::{Common, JobAction, JobArgs};
use crate::error::Result;
use crate::report::Report;

/// `job`.
pub fn run(args: &JobArgs, common: &Common) -> Result<Report> {
    match &args.action {
        JobAction::List(args) => list::run(args, common),
        JobAction::Status(args) => status::run(args, common),
        JobAction::Wait(args) => wait::run(args, common),
        JobAction::Cancel(args) => cancel::run(args, common),
        JobAction::Logs(args) => logs::run(args, common),
    }
}
