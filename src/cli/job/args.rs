//! What can be said to `job`.

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
    List(ListArgs),
    /// Show everything about one job
    Status(StatusArgs),
    /// Wait until a job has ended, and end as it did
    Wait(WaitArgs),
    /// Stop a job; nothing stays frozen or half-done
    Cancel(CancelArgs),
    /// Show the end of what a detached job has said
    Logs(LogsArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job list")]
pub struct ListArgs {
    /// All of them; otherwise the newest 20, those that still run first of all
    #[arg(long)]
    pub all: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job status latest")]
pub struct StatusArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job wait 01KA --timeout 10m")]
pub struct WaitArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
    /// Wait no longer; the job goes on
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub timeout: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job cancel latest")]
pub struct CancelArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
    /// How long to wait for its end
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    #[arg(value_name = "TIME")]
    pub timeout: Duration,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint job logs latest")]
pub struct LogsArgs {
    /// A job: its ID, the start of it, or latest
    pub id: String,
    /// At most so many bytes, from the end
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes: u64,
}
