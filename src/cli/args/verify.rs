//! The arguments of `verify`.

use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stillpoint verify --all --sample 5%")]
pub struct VerifyArgs {
    /// Snapshots
    #[arg(required_unless_present_any = ["all", "against_disk"], conflicts_with = "all")]
    pub ids: Vec<String>,
    /// Every snapshot of the vault
    #[arg(long)]
    pub all: bool,
    /// Compare one snapshot (latest, if none is named) with the disks it was taken of, in use or
    /// not: what differs must have been written since, or be free space
    #[arg(long, conflicts_with_all = ["all", "sample"])]
    pub against_disk: bool,
    /// With --against-disk: this disk of the snapshot alone
    #[arg(long, requires = "against_disk", value_name = "DISK")]
    pub disk: Option<String>,
    /// Read no data: only whether all is there with its length, and fits together
    #[arg(long, conflicts_with_all = ["sample", "against_disk"])]
    pub fast: bool,
    /// Read only this part of the segments, those first that samples have not read for longest; the
    /// vault remembers which
    #[arg(long, value_parser = percent, value_name = "PERCENT")]
    pub sample: Option<f64>,
    /// Of damaged snapshots, name the files that have lost bytes: their trees are walked through
    /// for that, by the kernel's drivers
    #[arg(long, conflicts_with = "against_disk")]
    pub files: bool,
    /// Return at once with a job's ID; the job goes on by itself
    #[arg(long)]
    pub detach: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .ok_or_else(|| "give a percentage above 0% and up to 100%".into())
}
