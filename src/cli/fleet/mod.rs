//! `fleet`: many instances from one machine. It needs no vault, and no root here.

mod apply;
mod reach;
mod status;
mod template;

use super::args::{FleetAction, FleetArgs};
use super::progress::ProgressDisplay;
use crate::error::Result;
use crate::report::Report;

pub fn run(args: &FleetArgs, progress: &ProgressDisplay) -> Result<Report> {
    match &args.action {
        FleetAction::Template(args) => template::run(args),
        FleetAction::Apply(args) => apply::run(args, progress),
        FleetAction::Status(args) => status::run(args, progress),
    }
}
