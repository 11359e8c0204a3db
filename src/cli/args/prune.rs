//! The arguments of `prune`.

use crate::engine::RetentionRules;
use clap::Args;
use jiff::SignedDuration;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    stillpoint prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run\n  \
    stillpoint prune --keep-within 30d --host web1\n\n\
    Each disk of each host is judged by itself, and a snapshot stays if one of its disks needs it. \
    Hours, days, weeks (from Monday), months and years are those of UTC; of each the newest \
    snapshot stays. `stillpoint help retention` says what nobody can push out with false times.")]
pub struct PruneArgs {
    /// Keep the newest N
    #[arg(long, value_name = "N", value_parser = some)]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of N hours that have any
    #[arg(long, value_name = "N", value_parser = some)]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of N days
    #[arg(long, value_name = "N", value_parser = some)]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of N weeks
    #[arg(long, value_name = "N", value_parser = some)]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of N months
    #[arg(long, value_name = "N", value_parser = some)]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of N years
    #[arg(long, value_name = "N", value_parser = some)]
    pub keep_yearly: Option<u32>,
    /// Keep all that are no older than this, like 30d, than the newest one of the disk
    #[arg(long, value_name = "TIME", value_parser = within)]
    pub keep_within: Option<SignedDuration>,
    /// Judge only snapshots of this host
    #[arg(long)]
    pub host: Option<String>,
    /// Judge only snapshots with this disk (name, or serial number)
    #[arg(long)]
    pub disk: Option<String>,
    /// Judge only snapshots with this label
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<String>,
    /// Take the last good snapshot of a disk too, where no rule keeps it
    #[arg(long)]
    pub take_last_good: bool,
    /// Say what would go and why the rest stays, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
}

impl PruneArgs {
    /// The rules that were given.
    pub fn rules(&self) -> RetentionRules {
        RetentionRules {
            last: self.keep_last.unwrap_or(0),
            hourly: self.keep_hourly.unwrap_or(0),
            daily: self.keep_daily.unwrap_or(0),
            weekly: self.keep_weekly.unwrap_or(0),
            monthly: self.keep_monthly.unwrap_or(0),
            yearly: self.keep_yearly.unwrap_or(0),
            within: self.keep_within,
        }
    }
}

/// 0 would read like "keep none", and means "no such rule".
fn some(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number from 1 on".into()),
        Ok(number) => Ok(number),
    }
}

fn within(text: &str) -> Result<SignedDuration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    SignedDuration::try_from(time).map_err(|error| error.to_string())
}
