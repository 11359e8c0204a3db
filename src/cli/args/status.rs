//! The arguments of `status`.

use clap::Args;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint status\n  stillpoint status --max-age 26h\n\n\
    It ends with 3 when a plan is overdue or has failed, when a disk's last good snapshot is older \
    than --max-age, and when that cannot be told."
)]
pub struct StatusArgs {
    /// Call each disk overdue that --all would take, and whose last good snapshot is older
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub max_age: Option<Duration>,
    /// Not this disk: it is neither called overdue nor missed
    #[arg(long, value_name = "DISK")]
    pub exclude: Vec<String>,
    /// Tell how plans stand, as `[notify]` of the configuration says, and send what could not be
    /// sent yet
    #[arg(long)]
    pub notify: bool,
    /// Send everybody who is told a test message
    #[arg(long, conflicts_with = "notify")]
    pub notify_test: bool,
}
