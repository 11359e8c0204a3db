//! The arguments of `mirror`.

use clap::Args;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  stillpoint mirror --to s3://bucket/prefix --init\n  \
    stillpoint mirror --to /mnt/second/vault latest --dry-run"
)]
pub struct MirrorArgs {
    /// The second place: what was mirrored to before, or with --init an empty one; a directory,
    /// s3://bucket/prefix, or a name from the configuration
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    #[arg(value_name = "VAULT")]
    pub to: String,
    /// Make the second place a vault, if it is none yet
    #[arg(long)]
    pub init: bool,
    /// Snapshots [default: all of the vault]
    pub ids: Vec<String>,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Return at once with a job's ID; the job goes on by itself
    #[arg(long)]
    pub detach: bool,
}
