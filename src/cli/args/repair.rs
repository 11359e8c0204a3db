//! The arguments of `repair`.

use clap::Args;

#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  stillpoint repair --from /mnt/second/vault --dry-run\n  \
    stillpoint repair --from s3://bucket/prefix"
)]
pub struct RepairArgs {
    /// The second place of the vault, from which good copies are taken: a directory,
    /// s3://bucket/prefix, or a name from the configuration
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    #[arg(value_name = "VAULT")]
    pub from: Option<String>,
    /// Read all segments first; otherwise what verify has noted as damaged, and of the others the
    /// ends
    #[arg(long)]
    pub read_all: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}
