//! The arguments of `keep`.

use super::time::moment;
use crate::format::{MAX_HOLD, MAX_KEEP_SECONDS};
use clap::{ArgGroup, Args};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("change"))]
#[command(after_help = "Example:\n  stillpoint keep 01KA --for 90d\n  \
    stillpoint keep 01KA --hold audit-2026\n  \
    stillpoint keep 01KA --release audit-2026\n\n\
    Neither delete nor prune takes a snapshot as long as anything keeps it. Keeps add up: none \
    makes another one shorter. Without an option it tells what keeps the snapshot now.")]
pub struct KeepArgs {
    /// A snapshot: its ID, the start of it, or latest
    pub id: String,
    /// Until then: a day (its beginning, UTC) or a time like 2027-01-31T12:00:00Z
    #[arg(long, group = "change", value_parser = until, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// For so long from now on, like 30d; 3650 days at most
    #[arg(long = "for", group = "change", value_parser = keep_time, value_name = "TIME")]
    pub time: Option<Duration>,
    /// Until the hold of this name is released
    #[arg(long, group = "change", value_parser = hold, value_name = "NAME")]
    pub hold: Option<String>,
    /// Release the hold of this name
    #[arg(long, group = "change", value_parser = hold, value_name = "NAME")]
    pub release: Option<String>,
}

/// How long a snapshot is kept.
pub fn keep_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time.as_secs() {
        1..=MAX_KEEP_SECONDS => Ok(Duration::from_secs(time.as_secs())),
        _ => Err("give from 1 second to 3650 days".into()),
    }
}

fn until(text: &str) -> Result<Timestamp, String> {
    let time = moment(text)?;
    let left = time.duration_since(Timestamp::now());
    let most = SignedDuration::from_secs(MAX_KEEP_SECONDS as i64);
    match left > SignedDuration::ZERO && left <= most {
        true => Ok(time),
        false => Err("that is not within the next 3650 days".into()),
    }
}

fn hold(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_HOLD).contains(&text.len()) && !text.contains(char::is_control);
    match fits {
        true => Ok(text.into()),
        false => Err(format!("a hold has a name of 1 to {MAX_HOLD} bytes")),
    }
}
