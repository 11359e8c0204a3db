//! The arguments of `track`.

use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint track start vda vdb\n  stillpoint track status")]
pub struct TrackArgs {
    pub action: TrackAction,
    /// Disks; none given: all that are tracked
    pub disks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TrackAction {
    /// Begin to note what changes
    Start,
    /// Stop it; the next snapshot has to compare everything
    Stop,
    /// Show what is tracked
    Status,
}
