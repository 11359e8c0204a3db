//! The arguments of `job`.

use clap::{Args, Subcommand};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint snapshot vda --detach\n  stillpoint job wait latest"
)]
pub struct JobArgs {
    #[command(subcommand)]
    pub action: JobAction,
}

#[derive(Subcommand, Debug)]
pub enum JobAction {
    /// List the jobs of this host, the newest last
    List(JobListArgs),
    /// Show everything about one job
    Status(JobStatusArgs),
    /// Wait until a job has ended, and end as it did
    Wait(JobWaitArgs),
    /// Stop a job; nothing stays frozen or half-done
    Cancel(JobCancelArgs),
    /// Show the end of what a detached job has said
    Logs(JobLogsArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job list")]
pub struct JobListArgs {
    /// All of them; otherwise the newest 20, those that still run first of all
    #[arg(long)]
    pub all: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job status latest")]
pub struct JobStatusArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job wait 01KA --timeout 10m")]
pub struct JobWaitArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
    /// Wait no longer; the job goes on
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub timeout: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job cancel latest")]
pub struct JobCancelArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
    /// How long to wait for its end
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    #[arg(value_name = "TIME")]
    pub timeout: Duration,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job logs latest")]
pub struct JobLogsArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
    /// At most so many bytes, from the end
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes: u64,
}
