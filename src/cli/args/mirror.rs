//! The arguments of `mirror`.

use clap::Args;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  stillpoint mirror --to s3://bucket/prefix\n  \
    stillpoint mirror --to /mnt/second/vault latest --dry-run"
)]
pub struct MirrorArgs {
    /// The second place: where nothing is yet, or what was mirrored to before; a directory,
    /// s3://bucket/prefix, or a name from the configuration
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    #[arg(value_name = "VAULT")]
    pub to: String,
    /// Snapshots [default: all of the vault]
    pub ids: Vec<String>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return at once with a job's ID; the job goes on by itself
    #[arg(long)]
    pub detach: bool,
}
