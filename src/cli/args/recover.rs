//! The arguments of `recover`.

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  stillpoint recover --at 2027-01-31T12:00:00Z --dry-run\n  \
    stillpoint recover --at 2027-01-31T12:00:00Z\n\n\
    Give the time at which the key was stolen, or an earlier one. What snapshots needed then and \
    what was deleted or replaced since comes back as it was: vault.json and keys, segments, index \
    objects, and last the manifests. Snapshots that were deleted rightly since then come back \
    too. \
    What was first put later is left alone: judge it yourself. It takes a bucket that keeps \
    versions. Nothing is deleted."
)]
pub struct RecoverArgs {
    /// Bring back what stood right before this time: a day (its beginning, UTC) or a time, by the
    /// store's clock
    #[arg(long, value_parser = time, value_name = "TIME")]
    pub at: Timestamp,
    /// Say what would be brought back, and put nothing
    #[arg(long)]
    pub dry_run: bool,
}

fn time(text: &str) -> Result<Timestamp, String> {
    // A parser of days takes a time without a zone, too, and leaves the time out.
    let day = || {
        if text.len() != "2027-01-31".len() {
            return None;
        }
        let day: Date = text.parse().ok()?;
        Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let time = text.parse().ok().or_else(day);
    time.ok_or_else(|| "give a day like 2027-01-31, or a time like 2027-01-31T12:00:00Z".into())
}
