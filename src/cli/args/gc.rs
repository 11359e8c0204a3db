//! The arguments of `gc`.

use crate::config::parse_rate;
use crate::model::Bytes;
use clap::Args;
use std::time::Duration;

#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:\n  stillpoint gc --dry-run\n  \
    stillpoint gc")]
pub struct GcArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long a plan stands before a later `gc` carries it out; 1h at least
    #[arg(long, default_value = "24h", value_parser = parse_grace, value_name = "TIME")]
    pub grace: Duration,
    /// Copy what is needed out of segments that are mostly dead; snapshots get other IDs by it
    #[arg(long)]
    pub rewrite: bool,
    /// Most bytes that are copied so [default: a twenty-fifth of what is needed, and 1GiB at least]
    #[arg(long, value_parser = parse_rate, value_name = "SIZE", requires = "rewrite")]
    pub max_rewrite: Option<Bytes>,
    /// Return at once with a job's ID; the job goes on by itself
    #[arg(long)]
    pub detach: bool,
}

/// From an hour to a year.
fn parse_grace(text: &str) -> Result<Duration, String> {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let grace = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (HOUR..=HOUR * 24 * 366).contains(&grace) {
        true => Ok(grace),
        false => Err("give 1h at least, and a year at most".into()),
    }
}
