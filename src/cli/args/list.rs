//! The arguments of `list`.

use super::time::moment;
use clap::Args;
use jiff::Timestamp;
use std::num::NonZeroUsize;

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  stillpoint list --disk vda --tag why=upgrade\n  \
    stillpoint list --last 5"
)]
pub struct ListArgs {
    /// Only snapshots with this disk (name, or serial number)
    #[arg(long)]
    pub disk: Option<String>,
    /// Only snapshots of this host
    #[arg(long)]
    pub host: Option<String>,
    /// Only snapshots with this label
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// Only so many of them: the newest, by the time of their cuts
    #[arg(long, value_name = "N")]
    pub last: Option<NonZeroUsize>,
    /// Only snapshots cut then or later: a day (its beginning, UTC) or a time like
    /// 2027-01-31T12:00:00Z
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub since: Option<Timestamp>,
}
